"""Does the cost model know how long a network trains? Random networks that it was not calibrated
with are trained for a few steps each; what it foretells is compared with what they took, and so are
multiply-accumulates, parameters, and multiply-accumulates plus 240 for each value that is written.

    python benchmarks/cost.py
    python benchmarks/cost.py --precision float32

Some minutes each. Everything is one thread's processor time, so that other work on the machine
disturbs little: only caches and memory are shared. The images are random. Each space and precision
is an entry of the result file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from throughput import surroundings

from nanonas.core import Floats, rng_for
from nanonas.machine import described
from nanonas.maths.ranks import spearman
from nanonas.networks.cost import DEFAULTS, CostModel
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.augment import Augment
from nanonas.training.device import resolve_precision
from nanonas.training.measuring.speed import calibrate, probes, step_seconds
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

RESULT = Path(__file__).parent / "results" / "cost.json"
BAR = 0.95  # of the rank correlation, to be worth anything for comparing networks
SPACES: dict[str, Callable[[Limits], Space]] = {
    "stages": lambda limits: StagesSpace(limits=limits),
    "layers": lambda limits: LayersSpace(),
}


def random_pictures(number: int) -> Pictures:
    """As large as CIFAR-10's: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (number, 3, 32, 32), dtype=torch.uint8, generator=generator)
    y = torch.randint(0, 10, (number,), generator=generator)
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.25)
    return Pictures(x.contiguous(memory_format=torch.channels_last), y, mean, std)


def strangers(space: Space, limits: Limits, number: int, known: Sequence[Network]) -> list[Network]:
    """Random networks within the limits, other than those that are known."""
    rng, seen = rng_for(2, 0), {network.key for network in known}
    found: list[Network] = []
    while len(found) < number:
        network = space.decode(space.sample(rng))
        if limits.excess(network) <= 1 and network.key not in seen:
            seen.add(network.key)
            found.append(network)
    return found


def measured(
    networks: Sequence[Network], pictures: Pictures, recipe: Recipe, rounds: int
) -> Floats:
    """Seconds of one thread's time for an image, of each network: the fastest of so many rounds, in
    each of which every network has its turn, with a step that does not count and two that do.
    """
    fastest = np.full(len(networks), math.inf)
    for _ in range(rounds):
        for place, network in enumerate(networks):
            training = Training(build_module(network, seed=0), pictures, recipe, 1_000_000, seed=0)
            took = [step_seconds(training, time.thread_time) for _ in range(3)]
            seconds = min(took[1:]) * training.steps / len(pictures)
            fastest[place] = min(fastest[place], seconds)
    return fastest


def written(network: Network) -> int:
    """Values that all operations write."""
    return sum(math.prod(node.shape) for node in network.nodes)


def judged(predicted: Sequence[float], seconds: Floats) -> dict[str, float]:
    """Rank correlation, and the median relative error."""
    errors = np.abs(np.array(predicted) / seconds - 1)
    return {
        "spearman": round(spearman(np.array(predicted), seconds), 3),
        "median_error": round(float(np.median(errors)), 3),
    }


def compared(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One space: what the model and simpler counts say of networks that it does not know."""
    limits = Limits(max_params=given.max_params, max_macs=given.max_macs)
    space, precision = SPACES[name](limits), resolve_precision(given.precision, "cpu")
    recipe = Recipe(
        batch_size=given.batch_size, augment=Augment(crop=4, flip=True), precision=precision
    )
    pictures = random_pictures(4 * given.batch_size)
    model = calibrate(space, pictures, recipe, seconds=given.seconds)
    prior = DEFAULTS[precision]
    networks = strangers(space, limits, given.networks, probes(space, given.batch_size, prior))
    seconds = measured(networks, pictures, recipe, given.rounds)
    counts = {
        "MACs": [float(each.macs) for each in networks],
        "parameters": [float(each.params) for each in networks],
        "MACs + 240 × values": [float(each.macs + 240 * written(each)) for each in networks],
    }
    default = CostModel(prior, given.batch_size)
    return {
        **surroundings(),
        "settings": {key: value for key, value in vars(given).items() if key != "out"},
        "precision": precision,
        "networks": len(networks),
        "microseconds": [round(1e6 * value, 1) for value in seconds],
        "predicted": [round(1e6 * model.seconds(each), 1) for each in networks],
        "calibrated": judged([model.seconds(each) for each in networks], seconds),
        "not calibrated": judged([default.seconds(each) for each in networks], seconds),
        # their errors would need a unit, which only a measurement has
        **{
            key: {"spearman": judged(values, seconds)["spearman"]} for key, values in counts.items()
        },
    }


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3, help="of all networks")
    parser.add_argument("--seconds", type=float, default=20.0, help="to calibrate for")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--max-params", type=int, default=250_000)
    parser.add_argument("--max-macs", type=int, default=60_000_000)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    results = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    print(", ".join(f"{key} {value}" for key, value in described().items()))
    for name in given.spaces:
        entry = compared(name, given)
        results[f"{name}, {entry['precision']}"] = entry
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"\n{name}, {entry['precision']}, {entry['networks']} networks; ρ is Spearman's")
        for way in ("calibrated", "not calibrated", "MACs + 240 × values", "MACs", "parameters"):
            error = entry[way].get("median_error")
            beside = "" if error is None else f"   median error {error:.1%}"
            print(f"  {way:<20} ρ {entry[way]['spearman']:+.3f}{beside}")
        reached = entry["calibrated"]["spearman"] >= BAR
        print(f"  the bar of {BAR} is {'reached' if reached else 'MISSED'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
