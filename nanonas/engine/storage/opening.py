"""Connections to a store's file, and what SQLite says of it as one sentence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanonas.engine.storage.lock import held
from nanonas.engine.storage.salvage import Salvage, salvaged
from nanonas.errors import RunError
from nanonas.text import command

# What is committed is on the disk. See `benchmarks/store.py` for what that costs, and `RunStore`
# for what the next lower level loses.
SYNCHRONOUS = "FULL"


# What reading a file raises; the latter where a damaged name stands in a message of SQLite's.
FAILURES = (sqlite3.Error, UnicodeDecodeError)


_LENGTH = 0  # SQLITE_LIMIT_LENGTH, which has a name since Python 3.11
_LONGEST = 2**26  # bytes of a value; the names of 100,000 classes, our longest, have 2 million


def _made_safe(db: sqlite3.Connection) -> None:
    """Has SQLite distrust a file that may be a stranger's."""
    if hasattr(db, "setlimit"):  # since Python 3.11
        db.setlimit(_LENGTH, _LONGEST)
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA cell_size_check = ON")


def fetched(cursor: sqlite3.Cursor, path: Path) -> list[tuple[Any, ...]]:
    """All rows of a query. Raises `sqlite3.DatabaseError` where they are more than the file has
    room for: where pages lead to one another, a small one has rows without end.
    """
    rows: list[tuple[Any, ...]] = []
    taken = 0
    while some := cursor.fetchmany(1000):
        rows += some
        taken += sum(len(one) for row in some for one in row if isinstance(one, (str, bytes)))
        if taken + 4 * len(rows) > _room(path):
            raise sqlite3.DatabaseError("malformed: it has more rows than it has room for")
    return rows


_LEAST = 4096  # bytes of a store that is being made


def _room(path: Path) -> int:
    places = (path, Path(f"{path}-wal"))
    return sum(place.stat().st_size for place in places if place.exists()) + _LEAST


def connect(path: Path, durable: bool) -> sqlite3.Connection:
    """A connection that writes; `durable`: and waits for the disk. Raises `FAILURES`."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        _made_safe(db)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute(f"PRAGMA synchronous = {SYNCHRONOUS if durable else 'OFF'}")
        # the first read of the file: raises where it is no database
        db.execute("SELECT COUNT(*) FROM sqlite_master")
    except FAILURES:
        db.close()
        raise
    return db


def connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that only reads. Raises `FAILURES`.

    Without a log it needs no shared memory, and where nobody writes there is none: opened as a file
    that does not change, nothing is left beside it, for a connection that only reads would make an
    empty log and could not take it away. Without write permission it could not make one.
    """
    if Path(f"{path}-wal").exists():
        options = ["mode=ro"]
    else:
        options = ["mode=ro", "immutable=1"] if held(path) else ["immutable=1"]
    for option in options:
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?{option}", uri=True, timeout=30, isolation_level=None
        )
        try:
            _made_safe(db)
            db.execute("SELECT COUNT(*) FROM sqlite_master")
        except sqlite3.OperationalError:
            db.close()
            if option == options[-1]:
                raise
        except FAILURES:
            db.close()
            raise
        else:
            break
    return db


def existing(path: Path | str) -> Path:
    """The path of a run's store. Raises `RunError` where there is none."""
    path = Path(path)
    if not path.is_file():
        raise RunError(
            f"there is no run in {path.parent}, for it has no file {path.name}: give the folder "
            "of a run"
        )
    return path


_LARGE = 2**26  # bytes of a store; what can be saved of a larger one takes seconds to find out


def damaged(path: Path, what: str) -> str:
    """A sentence about a store that is damaged: what can be saved of it, and how."""
    saving = command("nanonas rescue", path.parent, "--to NEW_FOLDER")
    found = _found(path)
    if found is not None and found.empty:
        return f"{path} is damaged ({what}), and nothing of it can be read: restore it from a copy"
    saved = "what can be read of it" if found is None else found.saved
    return (
        f"{path} is damaged ({what}): `{saving}` saves {saved} into a new run, or restore it from "
        "a copy"
    )


def foreign(path: Path, otherwise: str) -> str:
    """A sentence about a file that does not begin as a store does: that it is damaged, where there
    is something of a run in it, or `otherwise`.
    """
    found = _found(path)
    return otherwise if found is None or found.empty else damaged(path, "its header is lost")


def _found(path: Path) -> Salvage | None:
    try:
        return None if path.stat().st_size > _LARGE else salvaged(path)
    except (OSError, RunError):
        return None


_SENTENCES = {  # what SQLite's message contains: what to tell the user
    "disk is full": (
        "no space is left for {path}: free some and resume; all that was stored before is safe"
    ),
    "readonly database": (
        "{path} cannot be written: get write permission on it and its folder, or copy the run"
    ),
    "unable to open": (
        "{path} cannot be opened: it must be a file that you may read, in a folder that you may "
        "write"
    ),
    "locked": "{path} is locked by another program: close what has it open, and resume",
}
# in messages about a file that cannot be read
_DAMAGE = ("malformed", "disk I/O error", "Could not decode", "unsupported file format")
_NONE_OF_OURS = "{path} is not a run's store, or its beginning is damaged: give the folder of a run"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors as one sentence. Raises `RunError`."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise RunError(damaged(path, "a name in it is no text")) from error
    except sqlite3.Error as error:
        message = str(error)
        for words, sentence in _SENTENCES.items():
            if words in message:
                raise RunError(sentence.format(path=path)) from error
        if "not a database" in message:
            raise RunError(foreign(path, _NONE_OF_OURS.format(path=path))) from error
        if any(words in message for words in _DAMAGE):
            raise RunError(damaged(path, message)) from error
        raise RunError(f"{path} could not be used: {error}") from error
