"""How many commits a second a run's store makes, by how long it waits for the disk.

SQLite's `synchronous` in write-ahead logging, with the rows that a search stores:

- OFF: the system writes when it likes. A killed process loses nothing, but a power cut may lose
  everything since the system last wrote, and may damage the file.
- NORMAL: the log is waited for before it is copied into the file, so that a power cut never damages
  the file, but loses the last commits.
- FULL: each commit waits until the log is on the disk, so that a power cut loses nothing that was
  acknowledged, unless the disk says so too early.

The three take turns, each in a file of its own. Beside them: a file of weights that is written,
waited for and renamed (`nanonas.files.replacing`); each candidate has one.

    python benchmarks/store.py            # half a minute; --folder DIR measures another disk

prints a table and writes benchmarks/results/store.json.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

import tyro

from nanonas.core import Budget, Candidate, Epoch, Evaluation, Proposal, State
from nanonas.engine.storage import opening
from nanonas.engine.storage.store import RunStore
from nanonas.files import replacing
from nanonas.machine import described

LEVELS = ("OFF", "NORMAL", "FULL")
WEIGHTS = "weights, 1 MB"


@dataclass(frozen=True)
class Options:
    """Measures a store's commits."""

    seconds: float = 2.0
    """Of each measurement."""
    repetitions: int = 3
    """Turns of each contender; the table has the median."""
    folder: Path | None = None
    """On the disk that is measured; by default that of temporary files."""
    out: Path = Path(__file__).parent / "results" / "store.json"
    """The file of the figures."""


def main(options: Options) -> None:
    rates: dict[str, list[float]] = {name: [] for name in (*LEVELS, WEIGHTS)}
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        for turn in range(options.repetitions):
            for level in LEVELS:
                opening.SYNCHRONOUS = level
                with RunStore.begin(Path(place) / f"{level}{turn}" / "study.db", {}) as store:
                    rates[level].append(rate(commits(store), options.seconds))
            rates[WEIGHTS].append(rate(weights(Path(place)), options.seconds))
        system = filesystem(Path(place))
    result = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {**described(), "sqlite": sqlite3.sqlite_version, "disk": system},
        "load": os.getloadavg()[0],  # of other processes, besides this one
        "settings": {"seconds": options.seconds, "repetitions": options.repetitions},
        "per_second": {
            name: {"median": median(turns), "least": min(turns), "most": max(turns)}
            for name, turns in rates.items()
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{'':14} {'a second':>10} {'ms each':>8}   least to most a second")
    for name, turns in rates.items():
        each = median(turns)
        print(f"{name:14} {each:10.0f} {1000 / each:8.2f}   {min(turns):.0f} to {max(turns):.0f}")


def rate(act: Callable[[], None], seconds: float) -> float:
    """How often something can be done in a second."""
    act()
    begin, number = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        act()
        number += 1
    return number / (time.perf_counter() - begin)


def commits(store: RunStore) -> Callable[[], None]:
    """Commits the rows of candidate after candidate: asked, then evaluated."""
    genome, waiting = tuple(range(40)), list[int]()
    curve = tuple(Epoch(1.0 / n, 0.01 * n) for n in range(1, 21))
    metrics = {"accuracy": 0.5, "params": 250_000.0, "macs": 3e7}

    def act() -> None:
        if waiting:
            number = waiting.pop()
            store.arrived(Evaluation(number, State.COMPLETE, metrics, curve, 10.0))
            numbers.append(number)
        else:
            number = len(numbers)
            store.asked(Candidate(number, Proposal(genome, (0,), Budget(20)), "k" * 64, number))
            waiting.append(number)

    numbers = list[int]()
    return act


def weights(folder: Path) -> Callable[[], None]:
    """Writes a candidate's weights."""
    content = os.urandom(2**20)

    def act() -> None:
        with replacing(folder / "0.safetensors") as part:
            part.write_bytes(content)

    return act


def filesystem(folder: Path) -> str:
    """The kind of the file system that a folder lies on, where the system tells."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    lines = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    over = [line for line in lines if folder.resolve().is_relative_to(line[1])]
    return str(max(over, key=lambda line: len(line[1]))[2]) if over else "unknown"


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
