"""One accident, and what its user does afterwards."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chaos.fate import Fate
from chaos.nursery import Nursery
from chaos.searches import PRETENDED, TOTAL, arguments, other, outcome, reported
from nanonas.errors import RunError

_PATIENCE = 300.0  # seconds for a search, on a machine that is busy
_GOING = 60.0  # seconds until all processes of a search that was killed are gone; a second, if idle
_ATTEMPTS = 4  # to resume it
_PASSING = (".part", ".tmp")
_CACHE = "torchinductor_"  # PyTorch's own, which it keeps among temporary files


@dataclass
class Accident:
    """One of them, while it happens.

    Attributes:
        place: a folder of its own.
        search: a key of `PRETENDED` or `REAL`.
        after: evaluations that are reported before it happens, and `delay` seconds after these.
    """

    number: int
    place: Path
    nursery: Nursery
    kind: str
    search: str
    rng: random.Random  # from which everything else is drawn
    after: int = field(init=False)
    delay: float = field(init=False)
    seen: dict[int, Any] = field(default_factory=dict, init=False)
    when: str = field(default="", init=False)  # in words
    happened: bool = field(default=True, init=False)  # not where the search was faster
    disk: str = field(default="", init=False)  # which one was full: a small tmpfs, or pretended
    session: int = field(default=0, init=False)  # its coordinator's number

    def __post_init__(self) -> None:
        self.after = self.rng.randrange(-1, TOTAL)  # -1: while it begins
        self.delay = self.rng.uniform(0, 0.5 if self.after < 0 else 0.05)

    def __str__(self) -> str:
        missed = "" if self.happened else " (it was over before)"
        return f"#{self.number}: {self.kind}, {self.search}{self.when}{missed}"

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.place / "out" / "run"

    @property
    def mark(self) -> Path:
        """The file of its fate."""
        return self.place / "mark"

    def fate(self, kind: str, nth: int = 1, seconds: float = 0.0) -> Fate:
        """A fate of a process of the search."""
        return Fate(kind, self.mark, nth, seconds)

    def begin(self, fate: Fate | None = None, fate_of_workers: Fate | None = None) -> None:
        """Begins the search, in the background."""
        where = ["--out", str(self.run.parent), "--name", self.run.name]
        self.call(["search", *arguments(self.search), *where], fate, fate_of_workers)

    def call(
        self, words: list[str], fate: Fate | None = None, fate_of_workers: Fate | None = None
    ) -> None:
        """Begins a command, in the background."""
        passing = self.place / "tmp"
        passing.mkdir(parents=True, exist_ok=True)
        self.session = self.nursery.begin(
            words,
            self.place / "printed.txt",
            environment={"TMPDIR": str(passing)},
            pretended=self.search in PRETENDED,
            fate=None if fate is None else asdict(fate),
            fate_of_workers=None if fate_of_workers is None else asdict(fate_of_workers),
        )

    def watch(self) -> bool:
        """Reads the store until it is time. False where the search has ended before."""
        self.when = f", after {self.after}" if self.after >= 0 else ", while it begins"
        end = time.monotonic() + _PATIENCE
        while len(self.seen) < self.after or self.after < 0:
            if self.nursery.ended(0.003) is not None:
                return False
            assert time.monotonic() < end, f"{self}: the search hangs\n{self.printed}"
            self.look()
            if self.after < 0:
                break
        return self.nursery.ended(self.delay) is None

    def read_until_it_ends(self) -> int:
        """Reads the store all the time. Returns the exit code."""
        end = time.monotonic() + _PATIENCE
        while (code := self.nursery.ended(0.01)) is None:
            assert time.monotonic() < end, f"{self}: the search hangs\n{self.printed}"
            self.look()
        return code

    def look(self) -> None:
        """Reads the store."""
        with suppress(RunError):  # not there yet
            self.seen |= reported(self.run)

    def wait(self) -> int:
        """Waits until what was begun has ended, and returns its exit code. Nobody reads the store
        then: SQLite leaves its log behind where a reader is the last to close it.
        """
        code = self.nursery.ended(_PATIENCE)
        assert code is not None, f"{self}: it hangs\n{self.printed}"
        return code

    @property
    def printed(self) -> str:
        """What the search has printed, and its resumptions."""
        return (self.place / "printed.txt").read_text(encoding="utf-8", errors="replace")

    def strike(self, signal_number: int, processes: Sequence[int] = ()) -> None:
        """Sends a signal to some processes; to none: to the coordinator."""
        for process in processes or [self.session]:
            with suppress(ProcessLookupError):
                os.kill(process, signal_number)

    def workers(self) -> list[int]:
        """The processes of its workers."""
        return [process for process in members(self.session) if process != self.session]

    # --- what comes after it ----------------------------------------------------------------------

    def gone(self) -> None:
        """Waits until no process is left of the search."""
        end = time.monotonic() + _GOING
        while left := members(self.session):
            assert time.monotonic() < end, f"{self}: processes {left} are left"
            time.sleep(0.02)

    def recover(self) -> None:
        """Resumes the search as its user would, until it has ended."""
        for _ in range(_ATTEMPTS):
            self.call(["resume", str(self.run)])
            code = self.wait()
            self.gone()
            if code == 0:
                return
            assert code == 2, f"{self}: resume ended with {code}\n{self.printed}"
            self.do_as_told(self.printed.splitlines()[-1])
        raise AssertionError(f"{self}: it cannot be resumed\n{self.printed}")

    def do_as_told(self, said: str) -> None:
        """What a message of `nanonas resume` asks for."""
        if any(words in said for words in ("does not exist", "holds no run", "begin it again")):
            self.begin()
            assert self.wait() == 0, f"{self}: it cannot begin again\n{self.printed}"
            return
        assert "cut off" in self.kind, f"{self}: nothing is damaged\n{self.printed}"
        if "nanonas rescue" in said:
            saved = self.run.with_name("saved")
            self.call(["rescue", str(self.run), "--to", str(saved)])
            assert self.wait() in (0, 1), f"{self}: it cannot be rescued\n{self.printed}"
            shutil.rmtree(self.run)
            saved.rename(self.run)
        elif "nothing of it can be read" in said:
            shutil.rmtree(self.run)
        else:
            assert "config.yaml" in said, f"{self}: it cannot be resumed\n{self.printed}"
            (self.run / "config.yaml").unlink()

    def check(self, expected: Any) -> None:
        """Raises `AssertionError` where anything is lost, changed or left."""
        assert "Traceback" not in self.printed, f"{self}:\n{self.printed}"
        now = outcome(self.run)
        evaluations = {one[0]: one for one in now["evaluations"]}
        for number, one in self.seen.items():
            assert evaluations.get(number) == one, f"{self}: evaluation {number} was lost"
        different = other(now, expected)
        assert not different, f"{self}: other {', '.join(different)}\n{self.printed}"
        left = [path for path in self.place.rglob("*") if path.name.endswith(_PASSING)]
        left += self.run.glob("*-journal")
        passing = (self.place / "tmp").iterdir()
        left += [path for path in passing if not path.name.startswith(_CACHE)]
        # of a log, readers leave the empty file
        left += [path for path in self.run.glob("*-wal") if path.stat().st_size]
        assert not left, f"{self}: files are left: {left}"


def members(session: int) -> list[int]:
    """The processes of a session that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state not in "ZX":
                found.append(int(stat.parent.name))
    return found
