"""Should a hand-made network halve its map sooner where the limit on MACs leaves it thin? Each
network at each limit twice: as it is written down, and with a stem that has a stride and one
halving more; widths fill the limit both times.

    python benchmarks/halvings.py --data cifar10                    # 12 minutes of one core
    python benchmarks/halvings.py --max-macs 1m --seconds 150 --label long

Each is trained for the same CPU seconds of one core with the default recipe. A row that is in --out
already is not measured again. A tenth of the training images judges; the test set is never opened.
The one that a search begins with, `StagesSpace.ancestors`, is marked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from kept import Results
from loguru import logger
from recipe import trained

from nanonas.config.files import configure
from nanonas.core import Genome
from nanonas.session.setup import Setup
from nanonas.spaces.stages.ancestors import ANCESTORS, halved_sooner, suited
from nanonas.spaces.stages.filling import filled
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.device import prepare
from nanonas.training.pictures import pictures

RESULT = Path(__file__).parent / "results" / "halvings.json"


def variants(space: StagesSpace, name: str) -> Iterator[tuple[str, Genome]]:
    """A hand-made network with its halvings as written and sooner, each filling the limits."""
    genes = suited(ANCESTORS[name], space.input_shape)
    both = {"as written": genes, "sooner": halved_sooner(genes, space.input_shape)}
    for kind, one in both.items():
        yield kind, filled(one, space.limits, lambda made: space.decode(made.joined)).joined


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--max-macs", nargs="+", default=["150k", "1m", "4m", "8m"])
    parser.add_argument("--only", nargs="+", default=["residual", "plain", "double"])
    parser.add_argument("--seconds", type=float, default=30.0, help="of CPU, for each network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--label", help="in the result; by default the data's name")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    if unknown := [name for name in given.only if name not in ANCESTORS]:
        parser.error(f"--only {unknown[0]} is none of the hand-made networks: {list(ANCESTORS)}")
    logger.remove()
    prepare(1)
    results = Results(given.out)
    settings = {"seconds": given.seconds, "seed": given.seed}
    entry = results.entry(given.label or Path(given.data).stem, settings, "networks")
    known = {(row["max_macs"], row["name"], row["halvings"]) for row in entry["networks"]}
    for limit in given.max_macs:
        setup = Setup(configure(data=given.data, max_macs=limit, device="cpu", workers=1))
        train, valid = pictures(setup.data, "cpu")
        space, most = setup.space, setup.limits.max_macs
        assert isinstance(space, StagesSpace)
        for name in given.only:
            begun = space.ancestors()[name]
            for kind, genome in variants(space, name):
                if (most, name, kind) in known:
                    continue
                network = space.decode(genome)
                result = trained(network, setup.recipe, given.seed, given.seconds, train, valid)
                row = {"max_macs": most, "name": name, "halvings": kind, "params": network.params}
                row |= {"macs": network.macs, "epochs": result["epochs"]}
                row |= {"accuracy": result["accuracy"], "begins": genome == begun}
                entry["networks"].append(row)
                results.keep()
                mark = ", what a search begins with" if row["begins"] else ""
                print(
                    f"{most:,} MACs, {name}, {kind}: {100 * row['accuracy']:.2f} % with "
                    f"{network.params:,} parameters after {result['epochs']:.1f} epochs{mark}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
