"""What zero-cost scores know: how well each orders random networks as their training does.

For each space `--networks` random networks are scored on one minibatch and then trained for
`--epochs` on half of the training images of digits; the other half judges them. Kendall's tau-b
says how far a score's order is that of the
accuracies: 1 is the same order, 0 none, -1 the reverse. Parameters, MACs and depth cost nothing and
are scores too. The combinations are mean ranks, as `WarmStart` chooses by; `top` is the mean
accuracy of a score's best quarter, to be compared with that of all.

    python benchmarks/scores.py

takes about 5 minutes on one core and writes benchmarks/results/scores.json: hardware, versions,
settings, the figures, and each network's own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from throughput import surroundings

from nanonas.config.parts import make_data, make_space
from nanonas.config.schema import SearchConfig
from nanonas.core import Budget, Candidate, Proposal, rng_for
from nanonas.maths.ranks import kendall, mean_ranks
from nanonas.session.setup import make_recipe
from nanonas.strategies.around.warm import SCORES
from nanonas.training.trial import Trial
from nanonas.training.untrained import SCORES as MEASURED

RESULT = Path(__file__).parent / "results" / "scores.json"
FREE = ("params", "macs", "depth")
NAMES = (*MEASURED, *FREE)


def measured(config: SearchConfig, networks: int) -> list[dict[str, float]]:
    """`networks` random networks of the space: scores, costs, accuracy, and the seconds that both
    took.
    """
    images = make_data(config).load()
    space = make_space(config, images.input_shape, images.classes)
    trial = Trial(space, make_data(config), make_recipe(config, images, "cpu"), config.seed)
    seen: dict[str, dict[str, float]] = {}
    number = 0
    while len(seen) < networks:
        genome = space.sample(rng_for(config.seed, number))
        network = space.decode(genome)
        if network.key not in seen:
            row = {name: float(getattr(network, name)) for name in FREE}
            for what, budget in (("score", Budget(0)), ("train", Budget(config.epochs))):
                evaluation = trial(
                    Candidate(number, Proposal(genome, budget=budget), network.key), lambda: True
                )
                row |= {**evaluation.metrics, f"{what}_seconds": evaluation.seconds}
            seen[network.key] = row
            print(
                f"{config.space} {len(seen)} of {networks}: "
                f"{row.get('accuracy', float('nan')):.3f}",
                flush=True,
            )
        number += 1
    return list(seen.values())


def compared(rows: Sequence[dict[str, float]], seed: int) -> dict[str, Any]:
    """Each score's tau with its standard error by bootstrap, and the mean accuracy of its best
    quarter.
    """
    accuracy = np.array(
        [row.get("accuracy", 0.0) for row in rows]
    )  # a training that diverged has none
    columns = {name: np.array([row.get(name, -np.inf) for row in rows]) for name in NAMES}
    draws = np.random.default_rng(seed).integers(len(rows), size=(200, len(rows)))

    def figures(chosen: Sequence[str]) -> dict[str, Any]:
        score = -mean_ranks(np.stack([columns[name] for name in chosen], axis=1))
        best = np.argsort(-score, kind="stable")[: max(1, len(rows) // 4)]
        error = float(np.std([kendall(score[draw], accuracy[draw]).tau for draw in draws]))
        top = float(accuracy[best].mean())
        return {
            "tau": round(kendall(score, accuracy).tau, 3),
            "error": round(error, 3),
            "top": round(top, 4),
        }

    some = [chosen for size in range(1, len(NAMES) + 1) for chosen in combinations(NAMES, size)]
    found = {"+".join(chosen): figures(chosen) for chosen in some}
    return {
        "networks": len(rows),
        "accuracy": {
            name: round(float(getattr(accuracy, name)()), 4) for name in ("mean", "std", "max")
        },
        "seconds": {
            what: round(fmean(row[f"{what}_seconds"] for row in rows), 3)
            for what in ("score", "train")
        },
        "left_out": {name: sum(name not in row for row in rows) for name in MEASURED},
        "scores": found,
        "each": rows,
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="digits", help="a data source as for `nanonas search`")
    parser.add_argument(
        "--spaces", nargs="+", default=["nano", "layers"], help="names of search spaces"
    )
    parser.add_argument("--networks", type=int, default=60, help="of each space")
    parser.add_argument("--epochs", type=int, default=4, help="of each network's training")
    parser.add_argument("--seed", type=int, default=0, help="of everything random")
    parser.add_argument("--out", type=Path, default=RESULT, help="where the figures go, as JSON")
    given = parser.parse_args(arguments)
    start = time.time()
    about = {
        "command": shlex.join(["python", "benchmarks/scores.py", *arguments]),
        **surroundings(),
    }
    torch.set_num_threads(1)
    results = {}
    for space in given.spaces:
        config = SearchConfig(
            data=given.data,
            space=space,
            epochs=given.epochs,
            seed=given.seed,
            batch_size=32,
            valid_share=0.5,
        )
        results[space] = compared(measured(config, given.networks), given.seed)
    settings = {
        "epochs": given.epochs,
        "batch_size": 32,
        "valid_share": 0.5,
        "data": given.data,
        "seed": given.seed,
    }
    result = {
        **about,
        "minutes": round((time.time() - start) / 60, 1),
        "settings": settings,
        "spaces": results,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for space, one in results.items():
        about_all = f"accuracy {one['accuracy']['mean']:.3f} ± {one['accuracy']['std']:.3f}"
        print(f"\n{space}: {one['networks']} networks, {about_all}, seconds {one['seconds']}")
        shown = [*NAMES, "+".join(name for name in NAMES if name in SCORES), "+".join(NAMES)]
        for name in dict.fromkeys(shown):
            figures = one["scores"][name]
            print(
                f"  {name:<50} tau {figures['tau']:+.2f} ± {figures['error']:.2f}   top "
                f"{figures['top']:.3f}"
            )
    print(f"written to {given.out}")


if __name__ == "__main__":
    main(sys.argv[1:])
