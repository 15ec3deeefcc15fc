"""How soon do the defaults have a network as accurate as the best of plain evolution?

Plain evolution (random networks of `layers`, tournaments and mutation; no hand-made networks, no
widths that fill the limits, no predictor) searches for --time, and nothing is trained at its end:
what it has is the best validation accuracy of a candidate. Two questions follow, with the same
images, limits and seed:

- Whole runs with the defaults, each with one of the times of --whole for all of it: are they as
  accurate? A run opens the test images once, when its network is trained.
- A search with the defaults alone, whose candidates train for as long as plain evolution's, from
  scratch, at the images' own size: when does a candidate reach that accuracy? It ends there, or
  after --time; --no-alike leaves it out. The clock runs from the command to the evaluation, with
  loading, calibration and what a predictor takes.

    python benchmarks/time_to_accuracy.py --data cifar10               # two hours of one core
    python benchmarks/time_to_accuracy.py --data cifar10 --no-alike    # one hour

What is in --out already is not measured again. The cores must be idle.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kept import Results, with_interval
from loguru import logger

from nanonas.config.files import configure
from nanonas.core import Told
from nanonas.engine.study import Progress
from nanonas.session.listener import Listener
from nanonas.session.start import begin

RESULT = Path(__file__).parent / "results" / "time_to_accuracy.json"
# What each contender changes of the defaults.
CONTENDERS: dict[str, dict[str, Any]] = {
    "plain evolution": {
        "space": "layers",
        "strategy": "evolution",
        "fill": False,
        "ancestors": False,
    },
    "defaults": {},
}


@dataclass
class Watch(Listener):
    """Notes each better network with its seconds, and ends the search at an accuracy."""

    until: float = 2.0  # in [0, 1]; more: to the end of its time
    start: float = field(default_factory=time.monotonic)
    better: list[tuple[float, float]] = field(default_factory=list)  # seconds, accuracy
    candidates: int = 0

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        self.candidates = progress.evaluated
        accuracy = None if progress.best is None else progress.best.evaluation.accuracy
        if accuracy is None:
            return
        if not self.better or accuracy > self.better[-1][1]:
            self.better.append((round(time.monotonic() - self.start, 2), accuracy))
        if accuracy >= self.until:
            raise KeyboardInterrupt


def searched(contender: str, given: argparse.Namespace, seed: int, until: float) -> dict[str, Any]:
    """What came of a search, and when."""
    watch = Watch(until)
    with tempfile.TemporaryDirectory() as folder:
        config = configure(
            **CONTENDERS[contender],
            data=given.data,
            max_params=given.max_params,
            time=given.time,
            final_share=0,
            finalists=0,
            seed=seed,
            workers=given.workers,
            doctor=False,
            out=folder,
        )
        try:
            begin(config, watch)
        except KeyboardInterrupt:
            if watch.better[-1][1] < until:
                raise  # a user's
    seconds, accuracy = watch.better[-1]
    return {
        "accuracy": accuracy,
        "seconds": seconds,
        "candidates": watch.candidates,
        "better": watch.better,
    }


def whole_run(given: argparse.Namespace, seed: int, spell: str) -> float:
    """The test accuracy of a run with the defaults and a time for all of it."""
    with tempfile.TemporaryDirectory() as folder:
        config = configure(
            data=given.data,
            max_params=given.max_params,
            time=spell,
            seed=seed,
            workers=given.workers,
            doctor=False,
            out=folder,
        )
        outcome = begin(config)
    assert outcome.final is not None
    return outcome.final.test_accuracy


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--max-params", default="250k")
    parser.add_argument("--time", default="10m", help="of plain evolution")
    parser.add_argument("--whole", nargs="*", default=["20s", "1m", "3m"], help="of whole runs")
    parser.add_argument("--no-alike", dest="alike", action="store_false", help="no search alone")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--label", help="in the result; by default the data and the limit")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    logger.remove()
    label = given.label or f"{Path(given.data).stem}, {given.max_params}"
    settings = {key: getattr(given, key) for key in ("max_params", "time", "workers")}
    results = Results(given.out)
    command = shlex.join(["python", "benchmarks/time_to_accuracy.py", *arguments])
    entry = results.entry(label, settings, "seeds", command=command)
    plain, ours = CONTENDERS
    rows = {row["seed"]: row for row in entry["seeds"]}
    for seed in range(given.seeds):
        if seed not in rows:
            rows[seed] = {"seed": seed, plain: searched(plain, given, seed, 2.0), "whole": {}}
            entry["seeds"].append(rows[seed])
        row = rows[seed]
        wanted = row[plain]["accuracy"]
        said = f"{100 * wanted:.1f} % after {given.time}, {row[plain]['candidates']} networks"
        print(f"seed {seed}: plain evolution {said}", flush=True)
        for spell in given.whole:
            if spell not in row["whole"]:
                row["whole"][spell] = whole_run(given, seed, spell)
            print(f"  a whole run of {spell}: {100 * row['whole'][spell]:.1f} %", flush=True)
            results.keep()
        if given.alike and ours not in row:
            row[ours] = searched(ours, given, seed, wanted)
        if ours in row:
            best, took = row[ours]["accuracy"], row[ours]["seconds"]
            less = "" if best >= wanted else ", which is less"
            print(f"  candidates trained alike: {100 * best:.1f} % after {took:.0f} s{less}")
        results.keep()
    for spell in given.whole:
        ahead = [100 * (row["whole"][spell] - row[plain]["accuracy"]) for row in rows.values()]
        print(f"{label}: a whole run of {spell} is {with_interval(ahead, '+.1f')} points ahead")


if __name__ == "__main__":
    main(sys.argv[1:])
