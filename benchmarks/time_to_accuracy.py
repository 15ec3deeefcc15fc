"""How soon does a search with the defaults have a network as accurate as plain evolution's best?

Plain evolution (random networks of `layers`, tournaments and mutation; no hand-made networks, no
widths that fill the limits, no predictor) searches for --time. A search with the defaults then
begins anew with the same images, limits and seed, and is stopped as soon as the best validation
accuracy of a candidate reaches plain evolution's. In both all of the time is the search's, so their
candidates train for as long, from scratch, at the images' own size; and the clock runs from the
command to the evaluation, with loading, calibration and what a predictor takes.

    python benchmarks/time_to_accuracy.py --data cifar10 --max-params 250k     # an hour of one core

A seed that is in --out already is not measured again. The cores must be idle. The test set is never
opened.
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


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--max-params", default="250k")
    parser.add_argument("--time", default="10m", help="of plain evolution")
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
    for seed in range(len(entry["seeds"]), given.seeds):
        plain, ours = CONTENDERS
        first = searched(plain, given, seed, 2.0)
        second = searched(ours, given, seed, first["accuracy"])
        reached = second["accuracy"] >= first["accuracy"]
        print(
            f"seed {seed}: plain evolution {100 * first['accuracy']:.1f} % after {given.time} "
            f"({first['candidates']} networks), the defaults {100 * second['accuracy']:.1f} % "
            f"after {second['seconds']:.0f} s{'' if reached else ', which is less'} "
            f"({second['candidates']} networks)",
            flush=True,
        )
        entry["seeds"].append({"seed": seed, plain: first, ours: second})
        results.keep()
    print(
        f"{label}: {with_interval([row['defaults']['seconds'] for row in entry['seeds']], '.0f')} s"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
