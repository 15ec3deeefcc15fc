"""Which short training of a network foretells how it does after a long one: what the candidates of
a planned search are compared by.

The networks are hand-made ones of `stages`, and others a few mutations away from them, all filled
up to one limit as those of a search are. Each is trained for long, and in every short way: for so
many CPU seconds of one core, on images of some size. Seconds are those of a network of middling
cost; those of another one grow with a power of its cost (`networks.cost.allowance`). In the long
training, too, which stands for one that is longer still: where a doubling of the time is worth half
as much, dear networks have caught up by so much.

A way is judged by Kendall's tau of its order of the networks with that of the long training, with
an interval by a bootstrap over the networks, and by its regret: by how many points the best of the
three that it puts first is worse after the long training than the best of all.

    python benchmarks/ranking.py --data cifar10             # 16 networks: an hour of two cores
    python benchmarks/ranking.py --long 90                  # 25 minutes
    python benchmarks/ranking.py --max-params 50k --networks 24

Networks that were trained already are not trained again, so a benchmark that was interrupted goes
on. Four fifths of the training images are trained on, the others judge; the test set is never
opened.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from kept import Results
from loguru import logger
from recipe import trained

from nanonas.config.files import configure
from nanonas.core import Floats, Genome, rng_for
from nanonas.maths.ranks import kendall
from nanonas.networks.cost import DEFAULTS, CostModel
from nanonas.session.setup import Setup
from nanonas.training.device import prepare
from nanonas.training.pictures import pictures, shrunk
from nanonas.training.recipe import recipe_at

RESULT = Path(__file__).parent / "results" / "ranking.json"
DRAWS = 2000  # of the bootstrap
FIRST = 3  # of a way, by which its regret is
LONG_POWER = 0.7


@dataclass(frozen=True)
class Way:
    """How long a network trains, and on images of which size."""

    seconds: float  # of one core, of a network of middling cost
    side: float = 1.0  # of the images' own
    power: float = 0.85  # of the cost that the seconds grow with; 0: they do not

    @property
    def name(self) -> str:
        return f"{self.seconds:g} s, power {self.power:g}, sides {self.side:g}"


# What the result was made with; `--ways` takes others.
SHORT = (Way(7, power=0.0), Way(7), Way(7, 0.75), Way(7, 0.5), Way(20), Way(20, 0.75))


def setup_of(source: str, max_params: str) -> Setup:
    """The images, space and recipe of a search with the defaults."""
    config = configure(
        data=source,
        max_params=max_params,
        valid_share=0.2,
        device="cpu",
        workers=1,
    )
    return Setup(config)


def chosen(setup: Setup, made: Sequence[str], number: int) -> dict[str, Genome]:
    """The hand-made networks `made` by name, and mutants of them, each once."""
    space, limits = setup.space, setup.limits
    found: dict[str, Genome] = {}
    keys: set[str] = set()

    def take(name: str, genome: Genome) -> None:
        network = space.decode(genome)
        if limits.excess(network) <= 1 and network.key not in keys:
            keys.add(network.key)
            found[name] = genome

    for name in made:
        take(name, space.ancestors()[name])
    rng = rng_for(0, 0)
    while len(found) < number:
        name = made[int(rng.integers(len(made)))]
        genome = found[name]
        for _ in range(int(rng.integers(1, 5))):
            genome = space.mutate(genome, rng)
        take(f"{name}, mutant {len(found)}", genome)
    return found


@dataclass(frozen=True)
class Measurement:
    """One network, trained in one process with one thread.

    Args:
        cost: of the network, in those of a middling one.
        ways: that are wanted.
    """

    source: str
    max_params: str
    name: str
    genome: Genome
    cost: float
    ways: tuple[Way, ...]

    def __call__(self) -> dict[str, Any]:
        logger.remove()
        prepare(1)
        setup = setup_of(self.source, self.max_params)
        train, valid = pictures(setup.data, "cpu")
        shape, found = setup.space.input_shape, dict[str, Any]()
        for way in self.ways:
            size = None if way.side == 1 else round(way.side * min(shape[1:]))
            parts = (train, valid) if size is None else (shrunk(train, size), shrunk(valid, size))
            network = setup.space.at(size).decode(self.genome)
            recipe = recipe_at(setup.recipe, shape, size)
            seconds = way.seconds * self.cost**way.power
            found[way.name] = trained(network, recipe, 0, seconds, *parts)
        network = setup.space.decode(self.genome)
        counts = {"params": network.params, "macs": network.macs, "cost": round(self.cost, 3)}
        return {"name": self.name, "genome": list(self.genome), **counts, "ways": found}


# --- judging --------------------------------------------------------------------------------------


def outcomes(networks: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """The accuracy of each network on the validation images, (n,)."""
    return np.array([network["ways"][name]["accuracy"] for network in networks])


def judged(networks: Sequence[Mapping[str, Any]], long: Way, ways: Sequence[Way]) -> dict[str, Any]:
    """By way: tau with the long training and its 95 % interval, regret in points, and the CPU
    seconds of a network.
    """
    truth = outcomes(networks, long.name)
    rng, table = np.random.default_rng(0), dict[str, Any]()
    draws = [rng.integers(len(networks), size=len(networks)) for _ in range(DRAWS)]
    for way in ways:
        known = outcomes(networks, way.name)
        taus = [kendall(known[draw], truth[draw]).tau for draw in draws]
        low, high = np.nanquantile(taus, [0.025, 0.975])
        first = np.argsort(-known, kind="stable")[:FIRST]
        table[way.name] = {
            "tau": round(kendall(known, truth).tau, 3),
            "interval": [round(float(low), 3), round(float(high), 3)],
            "regret": round(100 * float(truth.max() - truth[first].max()), 2),
            "cpu_seconds": round(
                float(np.mean([network["ways"][way.name]["cpu_seconds"] for network in networks])),
                2,
            ),
        }
    return table


def printed(
    label: str, networks: Sequence[Mapping[str, Any]], long: Way, short: Sequence[Way]
) -> None:
    """What each network came to, and each way."""
    print(f"\n{label}: {len(networks)} networks, after {long.name}")
    for network in sorted(networks, key=lambda made: -made["ways"][long.name]["accuracy"]):
        ways = network["ways"]
        shorts = " ".join(f"{100 * ways[way.name]['accuracy']:5.1f}" for way in short)
        print(
            f"  {network['name']:<22} {network['macs'] / 1e6:5.1f}M MACs, cost "
            f"{network['cost']:4.2f}: {100 * ways[long.name]['accuracy']:.2f} %   {shorts}"
        )
    for name, row in judged(networks, long, short).items():
        low, high = row["interval"]
        print(
            f"  {name:<32} tau {row['tau']:+.2f} [{low:+.2f}, {high:+.2f}]  regret "
            f"{row['regret']:.2f}  {row['cpu_seconds']:.1f} s"
        )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument("--max-params", default="250k")
    parser.add_argument(
        "--of",
        nargs="+",
        default=["residual", "plain", "double", "resnet", "airbench"],
        help="hand-made networks",
    )
    parser.add_argument("--networks", type=int, default=16, help="mutants included")
    parser.add_argument("--long", type=float, default=300.0, help="CPU seconds")
    parser.add_argument("--long-power", type=float, default=LONG_POWER, help="of the cost")
    parser.add_argument(
        "--ways",
        nargs="+",
        default=[],
        metavar="SECONDS:SIDE:POWER",
        help="in place of the usual ones, such as 7:0.75:0.6",
    )
    parser.add_argument("--workers", type=int, default=2, help="networks at once, one core each")
    parser.add_argument("--label", help="in the result; by default the data and the limit")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    setup = setup_of(given.data, given.max_params)
    settings = {
        "data": setup.images.fingerprint,
        **{key: getattr(given, key) for key in ("max_params", "of", "long")},
    }
    label = given.label or f"{Path(given.data).stem}, {given.max_params}"
    long = Way(given.long, power=given.long_power)
    short = [Way(*map(float, way.split(":"))) for way in given.ways] or SHORT
    model = CostModel(DEFAULTS[setup.recipe.precision], setup.recipe.batch_size)
    genomes = chosen(setup, given.of, given.networks)
    costs = {name: model.seconds(setup.space.decode(genome)) for name, genome in genomes.items()}
    middling = median(costs.values())
    results = Results(given.out)
    command = shlex.join(["python", "benchmarks/ranking.py", *arguments])
    entry = results.entry(label, settings, "networks", command=command)
    by_name: dict[str, dict[str, Any]] = {made["name"]: made for made in entry["networks"]}
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        todo = []
        for way in (long, *short):  # a whole column is worth more than a row
            for name, genome in genomes.items():
                if way.name not in by_name.get(name, {"ways": {}})["ways"]:
                    what = (given.data, given.max_params, name, genome)
                    task = Measurement(*what, costs[name] / middling, (way,))
                    todo.append(pool.submit(task))
        for place, future in enumerate(as_completed(todo), 1):
            result = future.result()
            made = by_name.setdefault(result["name"], {**result, "ways": {}})
            made["ways"].update(result["ways"])
            entry["networks"] = list(by_name.values())
            results.keep()
            [(name, row)] = result["ways"].items()
            print(
                f"{place} of {len(todo)} · {result['name']} · {name} · "
                f"{100 * row['accuracy']:.2f} % after {row['epochs']:.2f} epochs",
                flush=True,
            )
    entry["judged"] = judged(entry["networks"], long, short)
    results.keep()
    printed(label, entry["networks"], long, short)


if __name__ == "__main__":
    main(sys.argv[1:])
