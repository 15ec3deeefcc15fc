"""What a child gains by its parent's weights: half the epochs with them, against all of them from
scratch.

Random networks of a space are trained for E epochs, and a mutant of each, one edit away, in three
ways: from scratch for E epochs and for half of them, and with its parent's weights for half of
them, as `nanonas search --inherit` does. Differences are paired, with 95 % intervals by Student's
t; Kendall's tau says whether the children that inherit are in the order that they have from
scratch.

    python benchmarks/inheritance.py --data cifar10

takes about half an hour of CPU. Pairs that were measured already are not measured again, so a
benchmark that was interrupted goes on. The test set is never opened.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import Results
from loguru import logger

from nanonas.config.files import configure
from nanonas.config.schema import Config
from nanonas.core import Budget, Candidate, Genome, Proposal, rng_for
from nanonas.maths.intervals import mean_interval
from nanonas.maths.ranks import kendall
from nanonas.session.setup import Setup
from nanonas.training.device import resolve_precision

RESULT = Path(__file__).parent / "results" / "inheritance.json"
PARENT, SCRATCH, HALF, INHERITED = "parent", "scratch", "scratch, half", "inherited, half"


@dataclass(frozen=True)
class Pair:
    """A random parent within the limits and a mutant of it, trained in one process with one
    thread.
    """

    config: Config
    number: int

    def __call__(self) -> dict[str, Any]:
        logger.remove()
        torch.set_num_threads(1)
        setup = Setup(self.config)
        space, epochs = setup.space, setup.budget.epochs
        rng = rng_for(self.config.search.seed, self.number)

        def fits(genome: Genome) -> bool:
            return setup.limits.excess(space.decode(genome)) <= 1

        parent = next(genome for genome in iter(lambda: space.sample(rng), None) if fits(genome))
        child = next(
            genome for genome in iter(lambda: space.mutate(parent, rng), None) if fits(genome)
        )
        half = -(-epochs // 2)
        ways = {
            PARENT: Proposal(parent, budget=Budget(epochs)),
            SCRATCH: Proposal(child, budget=Budget(epochs)),
            HALF: Proposal(child, budget=Budget(half)),
            INHERITED: Proposal(child, budget=Budget(half), inherits=(4 * self.number,)),
        }
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            [trial] = setup.trials(Path(folder))
            for place, (name, proposal) in enumerate(ways.items()):
                key, start = space.decode(proposal.genome).key, time.process_time()
                evaluation = trial(Candidate(4 * self.number + place, proposal, key), lambda: True)
                found[name] = {
                    "accuracy": evaluation.accuracy
                    if evaluation.state.value == "complete"
                    else None,
                    "first_epoch": evaluation.curve[0].accuracy if evaluation.curve else None,
                    "inherited_share": evaluation.metrics.get("inherited_share"),
                    "cpu": round(time.process_time() - start, 2),
                    "reason": evaluation.reason,
                }
        networks = {"parent": list(parent), "child": list(child)}
        return {
            "number": self.number,
            **networks,
            "params": space.decode(child).params,
            "ways": found,
        }


def summed_up(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means, paired differences from the children that are trained from scratch, and the two
    orders' correlation.
    """
    whole = [
        pair for pair in pairs if all(way["accuracy"] is not None for way in pair["ways"].values())
    ]
    values = {
        name: np.array([pair["ways"][name]["accuracy"] for pair in whole])
        for name in whole[0]["ways"]
    }
    spent = {name: np.mean([pair["ways"][name]["cpu"] for pair in whole]) for name in values}
    return {
        "pairs": len(whole),
        "failed": len(pairs) - len(whole),
        "accuracy": {name: mean_interval(list(accuracies)) for name, accuracies in values.items()},
        "against_scratch": {
            name: mean_interval(list(values[name] - values[SCRATCH]))
            for name in (INHERITED, HALF, PARENT)
        },
        "tau_with_scratch": {
            name: str(kendall(-values[name], -values[SCRATCH])) for name in (INHERITED, HALF)
        },
        "after_one_epoch": {
            name: mean_interval([pair["ways"][name]["first_epoch"] for pair in whole])
            for name in (SCRATCH, INHERITED)
        },
        "inherited_share": mean_interval(
            [pair["ways"][INHERITED]["inherited_share"] for pair in whole]
        ),
        "cpu_seconds": {name: round(float(seconds), 2) for name, seconds in spent.items()},
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument(
        "--label", help="what the data are called in the result; by default the source"
    )
    parser.add_argument("--spaces", nargs="+", default=["layers", "nano"])
    parser.add_argument("--channels", type=int, default=8, help="nano only")
    parser.add_argument("--train-images", type=int, default=5000)
    parser.add_argument(
        "--valid-share", type=float, default=0.1, help="of the training images, to judge by"
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-macs", type=int, default=2_000_000)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="pairs at once, one core each")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    names = ("channels", "train_images", "valid_share", "epochs", "batch_size", "max_macs", "seed")
    settings = {name: getattr(given, name) for name in names}
    fixed = {
        "data": given.data,
        "stop_epoch": 0,
        "precision": resolve_precision("auto", "cpu"),
        "device": "cpu",
        "workers": 1,
    }
    results, command = (
        Results(given.out),
        shlex.join(["python", "benchmarks/inheritance.py", *arguments]),
    )
    _ = Setup(configure(**fixed, **settings)).images  # into the cache, once
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for space in given.spaces:
            label = f"{space}, {given.label or given.data}"
            entry = results.entry(label, settings, "pairs", command=command)
            done = {pair["number"] for pair in entry["pairs"]}
            config = configure(**fixed, **settings, space=space)
            todo = [pool.submit(Pair(config, n)) for n in range(given.pairs) if n not in done]
            for future in as_completed(todo):
                entry["pairs"].append(future.result())
                entry["pairs"].sort(key=lambda pair: pair["number"])
                entry["summary"] = summed_up(entry["pairs"])
                results.keep()
                print(f"{label}: {len(entry['pairs'])} of {given.pairs}", flush=True)
            print_summary(label, entry["summary"])


def print_summary(label: str, summary: Mapping[str, Any]) -> None:
    print(
        f"\n{label}: {summary['pairs']} pairs, {summary['inherited_share'][0]:.0%} of the "
        "parameters inherited"
    )
    for name, (mean, half) in summary["accuracy"].items():
        spent = summary["cpu_seconds"][name]
        line = f"  {name:<16} {100 * mean:5.1f} ± {100 * half:.1f} %   {spent:6.1f} s"
        if name in summary["against_scratch"]:
            gain, error = summary["against_scratch"][name]
            line += f"   {100 * gain:+.1f} ± {100 * error:.1f} points against scratch"
        print(f"{line}   {summary['tau_with_scratch'].get(name, '')}")


if __name__ == "__main__":
    main(sys.argv[1:])
