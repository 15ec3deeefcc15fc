"""What befalls a process at a chosen place: it dies while it writes, renames or commits, its disk
has no space left, its wall's clock is set.

Each is brought about by functions of Python's that are replaced in that process alone; the product
knows nothing of it.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MET: list[Fate] = []  # by this process


@dataclass(frozen=True)
class Fate:
    """An accident of one process.

    Attributes:
        kind: a key of `_KINDS`.
        nth: at which of the calls it strikes, from 1.
        mark: a file. Of a death: made as it strikes, for it strikes once, in whichever process
            comes there first. Else made by whoever wants it to begin.
        seconds: by which a clock is set.
    """

    kind: str
    mark: Path
    nth: int = 1
    seconds: float = 0.0

    def strike(self) -> None:
        """Ends this process, if it is the first to come here."""
        try:
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    @property
    def begun(self) -> bool:
        """Whether it was brought about."""
        return self.mark.exists()


def meet(fate: Fate | None) -> None:
    """Lets a fate befall this process from now on."""
    if fate is not None and not _MET:
        _MET.append(fate)
        _KINDS[fate.kind](fate)


def _before_a_rename(fate: Fate) -> None:
    rename, counted = Path.replace, _Counter(fate.nth)

    def replace(self: Path, target: Path) -> Path:
        if counted():
            fate.strike()
        return rename(self, target)

    _put(Path, "replace", replace)


def _after_a_rename(fate: Fate) -> None:
    rename, counted = Path.replace, _Counter(fate.nth)

    def replace(self: Path, target: Path) -> Path:
        renamed = rename(self, target)
        if counted():
            fate.strike()
        return renamed

    _put(Path, "replace", replace)


def _within_a_file(fate: Fate) -> None:
    counted = _Counter(fate.nth)

    def half_written(path: Path, content: bytes) -> None:
        if counted():
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
            fate.strike()

    _before_writing(half_written)


def _before_a_commit(fate: Fate) -> None:
    counted = _Counter(fate.nth)

    def execute(db: sqlite3.Connection, run: Callable[[], Any]) -> Any:
        if counted():
            fate.strike()
        return run()

    _around_commits(execute)


def _within_a_commit(fate: Fate) -> None:
    counted = _Counter(fate.nth)

    def execute(db: sqlite3.Connection, run: Callable[[], Any]) -> Any:
        if counted():
            steps = _Counter(5 + fate.nth)  # of SQLite's machine, which has some 30 for a row
            db.set_progress_handler(lambda: fate.strike() if steps() else None, 1)
        return run()

    _around_commits(execute)


def _after_a_commit(fate: Fate) -> None:
    counted = _Counter(fate.nth)

    def execute(db: sqlite3.Connection, run: Callable[[], Any]) -> Any:
        done = run()
        if counted():
            fate.strike()
        return done

    _around_commits(execute)


def _no_space(fate: Fate) -> None:
    def refused(path: Path, content: bytes) -> None:
        if fate.begun:
            with path.open("wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    def execute(db: sqlite3.Connection, run: Callable[[], Any]) -> Any:
        if fate.begun:
            raise sqlite3.OperationalError("database or disk is full")
        return run()

    _before_writing(refused)
    _around_commits(execute)


def _clock(fate: Fate) -> None:
    now = time.time
    _put(time, "time", lambda: now() + (fate.seconds if fate.begun else 0.0))


_KINDS: dict[str, Callable[[Fate], None]] = {
    "before a rename": _before_a_rename,
    "after a rename": _after_a_rename,
    "within a file": _within_a_file,
    "before a commit": _before_a_commit,
    "within a commit": _within_a_commit,
    "after a commit": _after_a_commit,
    "no space": _no_space,
    "clock": _clock,
}


class _Counter:
    """True at the n-th call."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


def _put(place: object, name: str, value: object) -> None:
    setattr(place, name, value)


def _before_writing(act: Callable[[Path, bytes], None]) -> None:
    """Whole files are written by these two."""
    write_bytes, write_text = Path.write_bytes, Path.write_text

    def of_bytes(self: Path, data: bytes) -> int:
        act(self, bytes(data))
        return write_bytes(self, data)

    def of_text(self: Path, data: str, **more: Any) -> int:
        act(self, data.encode("utf-8", "replace"))
        return write_text(self, data, **more)

    _put(Path, "write_bytes", of_bytes)
    _put(Path, "write_text", of_text)


def _around_commits(act: Callable[[sqlite3.Connection, Callable[[], Any]], Any]) -> None:
    """Without a transaction each row that is put in is a commit."""

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *values: Any) -> Any:
            def run() -> Any:
                return super(Connection, self).execute(sql, *values)

            writes = re.match(r"\s*(INSERT|COMMIT)", sql) is not None
            return act(self, run) if writes else run()

    connect = sqlite3.connect
    _put(
        sqlite3,
        "connect",
        lambda *words, **more: connect(*words, **{"factory": Connection, **more}),
    )
