"""Real training: does a predictor find good networks in fewer trainings than evolution, local and
random search do?

Each strategy searches the space `layers` with the same seeds, budget and limits, one candidate
after the other, so that each hears of all before it. What counts is the best validation accuracy
after each candidate, the mean over the seeds with its 95 % interval (t), and how many candidates a
strategy needs to reach what plain evolution has at its end with the same seed, which also splits
the images; one that never gets there counts with all of its candidates.

    python benchmarks/screening.py --data digits
    python benchmarks/screening.py --data cifar10 --train-images 5000 --epochs 3 --max-macs 4000000

The second takes two hours and more on two cores. Each finished search is one entry of the result
file, and is not run again; so a benchmark that was interrupted goes on, and a strategy can be added
later. The test set is never opened.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import Results
from loguru import logger

from nanonas.config.files import configure
from nanonas.config.schema import Config
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.store import RunStore
from nanonas.maths.intervals import mean_interval
from nanonas.session.setup import Setup

RESULT = Path(__file__).parent / "results" / "screening.json"
STRATEGIES = ("random", "local", "evolution", "screened")


def searched(config: Config, candidates: int) -> dict[str, Any]:
    """One search: the validation accuracy of every candidate, in order; 0 where it failed."""
    logger.remove()
    torch.set_num_threads(1)
    start = time.monotonic()
    setup = Setup(config)
    with (
        tempfile.TemporaryDirectory() as folder,
        RunStore.begin(Path(folder) / "study.db", {"search": {}}) as store,
    ):
        [trial] = setup.trials()
        setup.study(store, SerialEvaluator(trial)).run(candidates)
        told = sorted(store.latest().values(), key=lambda evaluation: evaluation.number)
    return {
        "strategy": config.search.strategy.strategy,
        "seed": config.search.seed,
        "accuracies": [round(evaluation.accuracy or 0.0, 5) for evaluation in told],
        "params": [int(evaluation.metrics["params"]) for evaluation in told],
        "training_seconds": round(sum(evaluation.seconds for evaluation in told), 1),
        "seconds": round(time.monotonic() - start, 1),
    }


def compared(searches: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By strategy: the best accuracy at the end, and the candidates to what evolution has at its
    end.
    """
    best = {
        (search["strategy"], search["seed"]): np.maximum.accumulate(search["accuracies"])
        for search in searches
    }
    goals = {
        seed: float(curve[-1])
        for (strategy, seed), curve in best.items()
        if strategy == "evolution"
    }
    table: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(search["strategy"] for search in searches):
        curves = [curve for (strategy, _), curve in best.items() if strategy == name]
        pairs = []  # a curve, and what evolution reached with the same seed
        for (strategy, seed), curve in best.items():
            if strategy == name and seed in goals:
                pairs.append((curve, goals[seed]))
        reached = []  # candidates to the goal, or all where it was not reached
        for curve, goal in pairs:
            there = curve[-1] >= goal
            reached.append(int(np.argmax(curve >= goal)) + 1 if there else len(curve))
        by_candidates = {}
        if all(len(curve) >= 60 for curve in curves):
            for n in (10, 20, 30, 40, 50, 60):
                by_candidates[n] = float(np.mean([curve[n - 1] for curve in curves]))
        ahead = [float(curve[-1]) - goal for curve, goal in pairs]
        table[name] = {
            "seeds": len(curves),
            "best": mean_interval([float(curve[-1]) for curve in curves]),
            "best_by_candidates": by_candidates,
            "ahead_of_evolution": mean_interval(ahead),
            "candidates_to_evolutions_end": mean_interval([float(n) for n in reached]),
            "seeds_that_got_there": sum(bool(curve[-1] >= goal) for curve, goal in pairs),
            "seconds_of_training": float(
                np.mean([o["training_seconds"] for o in searches if o["strategy"] == name])
            ),
        }
    return table


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="digits", help="a data source as for `nanonas search`")
    parser.add_argument(
        "--label", help="what the data are called in the result; by default the source"
    )
    parser.add_argument("--train-images", type=int, help="by default all")
    parser.add_argument(
        "--valid-share", type=float, default=0.2, help="of the training images, to judge by"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-macs", type=int)
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--population", type=int, default=15)
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="searches at once, one core each")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    fixed = {
        "data": given.data,
        "space": "layers",
        "train_images": given.train_images,
        "valid_share": given.valid_share,
        "epochs": given.epochs,
        "stop_epoch": 0,
        "batch_size": given.batch_size,
        "max_macs": given.max_macs,
        "population": given.population,
        "lag": 1,
        "device": "cpu",
        "workers": 1,
    }
    label = given.label or given.data
    settings = {
        name: getattr(given, name)
        for name in ("epochs", "batch_size", "max_macs", "candidates", "population")
    } | {"train_images": given.train_images, "valid_share": given.valid_share}
    results = Results(given.out)
    entry = results.entry(label, settings, "searches")
    done = {(search["strategy"], search["seed"]) for search in entry["searches"]}
    todo = [
        (name, seed)
        for seed in range(given.seeds)
        for name in given.strategies
        if (name, seed) not in done
    ]
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        futures = [
            pool.submit(searched, configure(**fixed, strategy=name, seed=seed), given.candidates)
            for name, seed in todo
        ]
        for future in as_completed(futures):
            search = future.result()
            entry["searches"].append(search)
            entry["searches"].sort(key=lambda search: (search["strategy"], search["seed"]))
            entry["compared"] = compared(entry["searches"])
            results.keep()
            print(
                f"{search['strategy']} {search['seed']}: {max(search['accuracies']):.4f} in "
                f"{search['seconds']:.0f} s",
                flush=True,
            )
    print(f"\n{label}, {given.candidates} candidates")
    for name, row in entry["compared"].items():
        best, reach = row["best"], row["candidates_to_evolutions_end"]
        seeds = f"{row['seeds_that_got_there']} of {row['seeds']} seeds"
        print(
            f"  {name:<10} best {best[0]:.4f} ± {best[1]:.4f}   candidates to evolution's end "
            f"{reach[0]:.1f} ± {reach[1]:.1f} ({seeds})"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
