"""The networks of a front, trained by the run that found them, against hand-made ones of their
sizes that had the same time in all.

A search of --time, final trainings included, gives --networks networks of the front of accuracy and
parameters. For each of them every style has a network that is as wide as fits its parameters; those
of a style share --time as the networks of the front share theirs, and train by the same recipe. A
hand-made network is ahead where none of the front within its limit is as accurate.

    python benchmarks/front.py --data cifar10             # an hour of two idle cores a seed
    python benchmarks/front.py --data cifar10 --seed 1

What is done is kept in the folder of the runs and not done again. Cores must be idle: equal seconds
are compared.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from kept import Results
from loguru import logger
from trained import at_its_end, trained_for

from nanonas.config.duration import seconds
from nanonas.config.files import configure
from nanonas.networks.limits import Limits
from nanonas.runs.folder import RunFolder, read_config
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.runs.source import fitting, open_source
from nanonas.session.setup import Setup
from nanonas.session.winner import time_shares
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.final import FinalResult, read_result

RESULT = Path(__file__).parent / "results" / "front.json"
FOUND = "nanonas"
STYLES = ("residual", "plain")


def members(run: RunFolder) -> dict[Path, GenomeFile]:
    """The genomes of the trained networks of a front, by the folders of their trainings."""
    others = {run.front / f"{n}.json": folder for n, folder in run.finals_of_front.items()}
    return {
        folder: read_genome(path) for path, folder in {run.best_genome: run.final, **others}.items()
    }


def row(contender: str, network: GenomeFile, result: FinalResult, limit: int) -> dict[str, Any]:
    """What came of one training; `limit` are the parameters that the network may have."""
    counted = network.network()
    return {
        "contender": contender,
        "limit": limit,
        "params": counted.params,
        "macs": counted.macs,
        "epochs": round(result.epochs, 1),
        "seconds": round(result.seconds, 1),
        "test_accuracy": result.test_accuracy,
    }


def in_style(style: str, like: GenomeFile) -> GenomeFile:
    """A hand-made network as wide as fits the parameters of another."""
    network = like.network()
    space = StagesSpace(network.input_shape, network.classes, limits=Limits(network.params))
    return replace(like, space=space.name, genome=space.ancestors()[style], options={}, known={})


def compared(given: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """The rows of one seed: of the front's networks, then of each style's."""
    run = at_its_end(
        configure(
            data=given.data,
            time=given.time,
            front=given.networks,
            max_params=given.max_params,
            seed=seed,
            out=given.runs,
            name=f"{Path(given.data).stem}-{given.time}-seed{seed}",
        )
    )
    found = members(run)
    rows = []
    for folder, genome in found.items():
        result = read_result(folder)
        assert result is not None
        rows.append(row(FOUND, genome, result, genome.network().params))
    source = fitting(open_source(run.path))
    setup = Setup(read_config(run), source.images)
    for style in given.styles:
        genomes = [in_style(style, genome) for genome in found.values()]
        shares = time_shares(setup, genomes)
        for like, genome, share in zip(found.values(), genomes, shares, strict=True):
            network = genome.network()
            result = trained_for(
                seconds(given.time) * share / sum(shares),
                network,
                source,
                seed,
                run.path / "compare" / f"{style}-{network.params}",
                f"{style} of {network.params:,} parameters",
            )
            rows.append(row(style, genome, result, like.network().params))
    return rows


def reached(yardstick: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of the front within the same limit is as accurate."""
    return any(
        one["params"] <= yardstick["limit"] and one["test_accuracy"] >= yardstick["test_accuracy"]
        for one in rows
        if one["contender"] == FOUND
    )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--label", help="in the result; by default the data's name and the time")
    parser.add_argument("--time", default="20m", help="of the run, and of each style")
    parser.add_argument("--max-params", default="250k")
    parser.add_argument("--networks", type=int, default=3, help="of the front")
    parser.add_argument("--styles", nargs="+", default=STYLES, help="hand-made networks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("outputs/front"), help="their folder")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    logger.remove()
    label = given.label or f"{Path(given.data).stem}, {given.time}, {given.max_params}"
    settings = {key: getattr(given, key) for key in ("time", "max_params", "networks")}
    results = Results(given.out)
    entry = results.entry(label, settings, "seeds")
    rows = compared(given, given.seed)
    entry["seeds"] = [one for one in entry["seeds"] if one["seed"] != given.seed]
    entry["seeds"].append({"seed": given.seed, "networks": rows})
    entry["seeds"].sort(key=itemgetter("seed"))
    results.keep()
    for one in rows:
        ahead = one["contender"] != FOUND and not reached(one, rows)
        print(
            "{contender}: {test_accuracy:.2%}, {params:,} parameters, {macs:,} MACs, {epochs} "
            "epochs in {seconds:.0f} s".format(**one),
            ", ahead of the front" * ahead,
            sep="",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
