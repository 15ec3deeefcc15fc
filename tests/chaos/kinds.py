"""What can happen to a search."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from chaos.accident import Accident, members


def _by_signal(number: signal.Signals, everybody: bool = False) -> Callable[[Accident], None]:
    """A signal to the coordinator, or to all processes at once."""

    def happen(accident: Accident) -> None:
        accident.begin()
        accident.happened = accident.watch()
        accident.strike(number, members(accident.session) if everybody else ())
        accident.wait()

    return happen


def _to_workers(accident: Accident) -> None:
    """One of the workers is killed, or all are; the search goes on."""
    accident.begin()
    accident.happened = accident.watch()
    workers = accident.workers()
    chosen = workers if accident.rng.random() < 0.5 else workers[:1]
    if chosen:
        accident.strike(signal.SIGKILL, chosen)
    code = accident.wait()
    assert code == 0, f"{accident}: it ended with {code}\n{accident.printed}"


def _fated(kinds: Sequence[str], most: int, of_workers: bool = False) -> Callable[[Accident], None]:
    """Death at one of the places, at up to the `most`-th time that a process comes there."""

    def happen(accident: Accident) -> None:
        fate = accident.fate(accident.rng.choice(kinds), accident.rng.randint(1, most))
        accident.begin(*((None, fate) if of_workers else (fate, None)))
        accident.read_until_it_ends()
        accident.happened = fate.begun

    return happen


def _while_the_log_grows(accident: Accident) -> None:
    """SIGKILL as the store's log becomes longer: within a commit, if the moment is right."""
    log, growths = Path(f"{accident.run / 'study.db'}-wal"), accident.rng.randint(1, 60)
    accident.begin()
    size = 0
    while growths and accident.nursery.ended(0) is None:
        with suppress(OSError):
            if (now := log.stat().st_size) != size:
                size, growths = now, growths - 1
    accident.happened = growths == 0
    accident.strike(signal.SIGKILL)
    accident.wait()


def _no_space(accident: Accident) -> None:
    """From some moment on nothing can be written; then there is space again."""
    fate = accident.fate("no space")
    accident.disk = "pretended"
    accident.begin(fate, fate)
    accident.happened = accident.watch()
    fate.mark.touch()
    _ends_with_a_sentence(accident)
    fate.mark.unlink()


def _full_disk(accident: Accident) -> None:
    """The run lies on a small disk, which becomes larger when it is full."""
    disk = accident.run.parent
    disk.mkdir(parents=True)
    if not mounted(disk, f"size={accident.rng.randint(30, 600)}k"):
        _no_space(accident)  # only root may
        return
    accident.disk = "a small tmpfs"
    accident.begin()
    code = accident.read_until_it_ends()
    assert code in (0, 2), f"{accident}: it ended with {code}\n{accident.printed}"
    accident.happened = code == 2
    mounted(disk, "remount,size=64m")


def _ends_with_a_sentence(accident: Accident) -> None:
    code = accident.wait()
    assert code in (0, 2), f"{accident}: it ended with {code}\n{accident.printed}"


def mounted(folder: Path, options: str) -> bool:
    """Mounts a disk in memory, if that is allowed here."""
    command = ["mount", "-t", "tmpfs", "-o", options, "chaos", str(folder)]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


def _cut_off(*patterns: str) -> Callable[[Accident], None]:
    """A file is cut off after the search was killed."""

    def happen(accident: Accident) -> None:
        accident.begin()
        accident.watch()
        accident.strike(signal.SIGKILL)
        accident.wait()
        accident.gone()
        files = sorted(path for one in patterns for path in accident.run.glob(one))
        accident.happened = bool(files)
        if files:
            path = accident.rng.choice(files)
            os.truncate(path, int(path.stat().st_size * accident.rng.choice((0, 0.3, 0.7, 0.99))))
            accident.kind += f" {path.name}"

    return happen


def _set_clock(accident: Accident) -> None:
    """The wall's clock jumps, by hours or years; then the search is killed."""
    seconds = accident.rng.choice((-1e9, -1e5, 1e5, 1e9)) * accident.rng.random()
    accident.begin(accident.fate("clock", seconds=seconds))
    accident.happened = accident.watch()
    accident.mark.touch()
    accident.nursery.ended(accident.rng.uniform(0, 0.2))
    accident.strike(signal.SIGKILL)
    accident.wait()


def _twice(accident: Accident) -> None:
    """Killed, resumed, and killed again."""
    accident.begin()
    accident.happened = accident.watch()
    accident.strike(signal.SIGKILL)
    accident.wait()
    accident.gone()
    accident.call(["resume", str(accident.run)])
    accident.nursery.ended(accident.rng.uniform(0, 0.6))
    accident.strike(signal.SIGKILL)
    accident.wait()


def _stopped(accident: Accident) -> None:
    """All processes stand still for a while, and go on."""
    accident.begin()
    accident.happened = accident.watch()
    everybody = members(accident.session)
    accident.strike(signal.SIGSTOP, everybody)
    time.sleep(0.3)
    accident.strike(signal.SIGCONT, everybody)
    _ends_with_a_sentence(accident)


OUTSIDE: dict[str, Callable[[Accident], None]] = {  # also for searches that train
    "killed": _by_signal(signal.SIGKILL),
    "all killed at once": _by_signal(signal.SIGKILL, everybody=True),
    "terminated": _by_signal(signal.SIGTERM),
    "hung up": _by_signal(signal.SIGHUP, everybody=True),
    "Ctrl-C": _by_signal(signal.SIGINT, everybody=True),
    "workers killed": _to_workers,
    "killed while the log grows": _while_the_log_grows,
    "killed twice": _twice,
    "stopped for a while": _stopped,
    "a full disk": _full_disk,
    "weights cut off": _cut_off("weights/*.safetensors"),
    "store cut off": _cut_off("study.db", "study.db-wal"),
    "another file cut off": _cut_off("*.yaml", "*.json", "front/*", "log.txt", ".study.db.lock"),
}
KINDS: dict[str, Callable[[Accident], None]] = {
    **OUTSIDE,
    "death about a rename": _fated(("before a rename", "after a rename"), 8),
    "death within a file": _fated(("within a file",), 8),
    "death about a commit": _fated(
        ("before a commit", "within a commit", "within a commit", "after a commit"), 45
    ),
    "a worker's death about a rename": _fated(
        ("before a rename", "after a rename"), 5, of_workers=True
    ),
    "a worker's death within a file": _fated(("within a file",), 5, of_workers=True),
    "no space": _no_space,
    "the clock is set": _set_clock,
}
