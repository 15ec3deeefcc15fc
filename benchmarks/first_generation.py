"""Does a search begin better than with random networks? The first generation of a search with the
defaults, hand-made networks and random ones that fill the limits, against that of a search as it
was: random networks of `layers`, a tenth to a half as large as the limits allow.

Both have the same limits, number of networks, recipe and seconds: every network is trained for the
same CPU seconds of one core, and the best of each first generation once more, for longer and from
scratch, because the best of many short trainings is the luckiest as well. Differences are paired by
seed, with 95 % intervals by Student's t.

    python benchmarks/first_generation.py --data cifar10                # 35 minutes of one core
    python benchmarks/first_generation.py --max-params 50k --seeds 1

A seed that is in --out already is not measured again. Four fifths of the training images are
trained on, the others judge; the test set is never opened.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kept import Results, with_interval
from loguru import logger
from recipe import trained

from nanonas.config.files import configure
from nanonas.core import Candidate, training_seed
from nanonas.engine.breeding import Breeding
from nanonas.session.setup import Setup
from nanonas.training.device import prepare
from nanonas.training.pictures import pictures

RESULT = Path(__file__).parent / "results" / "first_generation.json"
# What each contender changes of the defaults.
CONTENDERS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "random layers": {"space": "layers", "fill": False, "strategy": "evolution"},
}


def setup_of(contender: str, source: str, max_params: str, seed: int) -> Setup:
    """The search of a contender, before it begins."""
    config = configure(
        **CONTENDERS[contender],
        data=source,
        max_params=max_params,
        seed=seed,
        valid_share=0.2,
        device="cpu",
        workers=1,
    )
    return Setup(config)


def first_generation(setup: Setup, number: int) -> list[Candidate]:
    """The first candidates of a search, none of which knows how another one came out."""
    breeding = Breeding(
        setup.space,
        setup.strategy,
        setup.limits,
        setup.bans,
        setup.budget,
        setup.budget,
        setup.config.search.seed,
    )
    candidates: list[Candidate] = []
    for place in range(number):
        candidates.append(breeding.breed(place, 0, candidates))
        breeding.take(candidates[-1])
    return candidates


def measured(setup: Setup, number: int, seconds: float, long: float) -> dict[str, Any]:
    """The networks of a first generation with their accuracies, and the best of them after a longer
    training.
    """
    train, valid = pictures(setup.data, "cpu")
    rows: list[dict[str, Any]] = []
    for candidate in first_generation(setup, number):
        network = setup.space.decode(candidate.proposal.genome)
        seed = training_seed(setup.config.search.seed, candidate.number)
        result = trained(network, setup.recipe, seed, seconds, train, valid)
        about = {"made": candidate.proposal.ancestor, "params": network.params}
        rows.append({**about, "macs": network.macs, "accuracy": result["accuracy"]})
    best = max(range(number), key=lambda place: rows[place]["accuracy"])
    genome = first_generation(setup, best + 1)[best].proposal.genome
    seed = training_seed(setup.config.search.seed, number)
    after = trained(setup.space.decode(genome), setup.recipe, seed, long, train, valid)
    return {"networks": rows, "best": rows[best], "after": after["accuracy"]}


def gains(seeds: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Points of the defaults' best above that of random layers, by seed: after the short training,
    and after the long one.
    """
    ours, theirs = CONTENDERS
    return {
        "short": [
            100 * (row[ours]["best"]["accuracy"] - row[theirs]["best"]["accuracy"]) for row in seeds
        ],
        "long": [100 * (row[ours]["after"] - row[theirs]["after"]) for row in seeds],
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--max-params", default="250k")
    parser.add_argument("--networks", type=int, default=20, help="of a first generation")
    parser.add_argument("--seconds", type=float, default=10.0, help="of CPU, for each network")
    parser.add_argument("--long", type=float, default=120.0, help="of CPU, for the best of them")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--label", help="in the result; by default the data and the limit")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    logger.remove()
    prepare(1)
    images = setup_of("defaults", given.data, given.max_params, 0).images
    settings = {
        "data": images.fingerprint,
        **{key: getattr(given, key) for key in ("max_params", "networks", "seconds", "long")},
    }
    results = Results(given.out)
    command = shlex.join(["python", "benchmarks/first_generation.py", *arguments])
    label = given.label or f"{Path(given.data).stem}, {given.max_params}"
    entry = results.entry(label, settings, "seeds", command=command)
    for seed in range(len(entry["seeds"]), given.seeds):
        row: dict[str, Any] = {}
        for contender in CONTENDERS:
            setup = setup_of(contender, given.data, given.max_params, seed)
            row[contender] = measured(setup, given.networks, given.seconds, given.long)
            best = row[contender]["best"]
            print(
                f"seed {seed}, {contender}: {100 * best['accuracy']:.2f} % after {given.seconds:g} "
                f"s ({best['made'] or 'random'}, {best['params']:,} parameters), "
                f"{100 * row[contender]['after']:.2f} % after {given.long:g} s",
                flush=True,
            )
        entry["seeds"].append(row)
        results.keep()
    for length, values in gains(entry["seeds"]).items():
        gain = with_interval(values, "+.2f")
        print(f"{label}: the best of the first generation, {length}: {gain} points")


if __name__ == "__main__":
    main(sys.argv[1:])
