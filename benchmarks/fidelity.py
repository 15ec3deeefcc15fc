"""Candidates per hour at equal ranking: cheap ways to judge networks, against training each of them
from scratch.

Random networks of a space are each trained for long (`full`, what the others are to foretell), for
E epochs from scratch (`scratch`, with another seed: what everybody does), and in ways that cost
less: on smaller images, for fewer epochs, and by successive halving, where most of them stay on the
lowest rung. A way is judged by Kendall's tau of its order of the networks with the order of `full`,
and by the CPU seconds that a candidate takes.

    python benchmarks/fidelity.py --data cifar10
    python benchmarks/fidelity.py --data cifar10 --space nano

takes about an hour of CPU for 120 networks. Networks that were measured already are not measured
again, so a benchmark that was interrupted goes on. The intervals of differences are by a paired
bootstrap over the networks. The test set is never opened.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kept import Results
from loguru import logger

from nanonas.config.files import configure
from nanonas.config.schema import Config, FidelityOptions
from nanonas.config.trainings import make_budget, make_rungs
from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Floats,
    Genome,
    Proposal,
    State,
    Strategy,
    Told,
    rng_for,
)
from nanonas.maths.ranks import kendall
from nanonas.predictors.gaussian import GaussianProcess
from nanonas.session.setup import Setup
from nanonas.spaces.base import Space
from nanonas.strategies.around.halving import Halving
from nanonas.training.device import resolve_precision

RESULT = Path(__file__).parent / "results" / "fidelity.json"
DRAWS = 2000  # of the bootstrap
ETAS = (4, 8)  # one of so many is promoted; the first decides what is trained
FULL, SCRATCH, HALVED, LOWEST = (
    "full",
    "scratch",
    "successive halving",
    "small images, half the epochs",
)


def ways(config: Config, space: Space) -> dict[str, Budget]:
    """What each network is trained for."""
    epochs = make_budget(config.search.training, space.classes).epochs
    small = min(space.input_shape[1:]) // 2
    return {
        FULL: Budget(2 * epochs),
        SCRATCH: Budget(epochs),
        "a quarter of the epochs": Budget(epochs // 4),
        "small images": Budget(epochs, image_size=small),
        LOWEST: rungs(config, space)[0],
    }


def rungs(config: Config, space: Space) -> tuple[Budget, ...]:
    """Successive halving: half the epochs on small images for all, and for the best all of them on
    whole ones.
    """
    fidelity = FidelityOptions(
        halving=ETAS[0],
        rungs=2,
        rung_epochs=make_budget(config.search.training, space.classes).epochs // 2,
        rung_image_size=min(space.input_shape[1:]) // 2,
    )
    return make_rungs(replace(config.search, fidelity=fidelity), space)


def drawn(setup: Setup, number: int) -> list[Genome]:
    """Random networks within the limits, each once."""
    space, limits = setup.space, setup.limits
    rng = rng_for(setup.config.search.seed, 0)
    found: dict[str, Genome] = {}
    while len(found) < number:
        genome = space.sample(rng)
        network = space.decode(genome)
        if limits.excess(network) <= 1:
            found.setdefault(network.key, genome)
    return list(found.values())


@dataclass(frozen=True)
class Measurement:
    """One network, trained in one process with one thread.

    Args:
        names: the ways that are wanted; for `HALVED` the lowest rung is trained, too.
    """

    config: Config
    number: int
    genome: Genome
    names: tuple[str, ...]

    def __call__(self) -> dict[str, Any]:
        logger.remove()
        torch.set_num_threads(1)
        setup = Setup(self.config)
        space, network = setup.space, setup.space.decode(self.genome)
        found: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            [trial] = setup.trials(Path(folder))
            known = ways(self.config, space)
            todo = {name: budget for name, budget in known.items() if name in self.names}
            if HALVED in self.names:
                todo = {
                    LOWEST: known[LOWEST],
                    HALVED: rungs(self.config, space)[1],
                }
            for name, budget in todo.items():
                number = 10 * self.number + (
                    list(known).index(name) if name in known else len(known)
                )
                proposal = Proposal(
                    self.genome, budget=budget, resumes=number - 1 if name == HALVED else None
                )
                start = time.process_time()
                evaluation = trial(Candidate(number, proposal, network.key), lambda: True)
                curve = [
                    [round(epoch.train_loss, 4), round(epoch.accuracy, 5)]
                    for epoch in evaluation.curve
                ]
                spent = round(time.process_time() - start, 2)
                found[name] = {"state": evaluation.state.value, "curve": curve, "cpu": spent}
        counts = {"params": network.params, "macs": network.macs}
        return {"number": self.number, "genome": list(self.genome), **counts, "ways": found}


# --- judging --------------------------------------------------------------------------------------


def outcomes(networks: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """The last validation accuracy of each network; 0 where its training failed. Shape (n,)."""
    rows = [network["ways"][name] for network in networks]
    return np.array(
        [
            row["curve"][-1][1] if row["curve"] and row["state"] == "complete" else 0.0
            for row in rows
        ]
    )


def seconds(networks: Sequence[Mapping[str, Any]], name: str) -> Floats:
    """CPU seconds of each network's training, validation included. Shape (n,)."""
    return np.array([network["ways"][name]["cpu"] for network in networks])


@dataclass
class Listed(Strategy):
    """A strategy that proposes given networks one after the other."""

    genomes: Sequence[Genome]
    _next: int = 0

    def needs(self, number: int) -> int:
        return number

    def generation(self, number: int) -> int:
        return 0

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        return Proposal(self.genomes[min(self._next, len(self.genomes) - 1)])

    def tell(self, told: Told) -> None:
        self._next += told.candidate.proposal.resumes is None


class Unknown(Exception):
    """A network is promoted and has not been trained on the upper rung yet: its place."""


def halved(
    networks: Sequence[Mapping[str, Any]], rungs: Sequence[Budget], eta: int
) -> tuple[Floats, float]:
    """What successive halving knows of each network when all have been on the lowest rung, and its
    CPU seconds.

    The score is the rung that a network got to and its accuracy there. The real strategy decides
    who is promoted.
    """
    genomes = [tuple(network["genome"]) for network in networks]
    places = {genome: place for place, genome in enumerate(genomes)}
    strategy = Halving(Listed(genomes), rungs, eta)
    scores, spent = np.zeros(len(networks)), 0.0
    for number in range(2 * len(networks)):
        proposal = strategy.ask(number, rng_for(0, number), [])
        place, rung = places[proposal.genome], 0 if proposal.resumes is None else 1
        if rung == 0 and scores[place]:
            break  # all were asked, and none is left to be promoted
        row = networks[place]["ways"].get((LOWEST, HALVED)[rung])
        if row is None:
            raise Unknown(place)
        curve = tuple(Epoch(*point) for point in row["curve"])
        accuracy = curve[-1].accuracy if curve else 0.0
        evaluation = Evaluation(number, State(row["state"]), {"accuracy": accuracy}, curve)
        strategy.tell(Told(Candidate(number, proposal, str(place)), evaluation))
        scores[place] = rung + max(1e-6, accuracy)
        spent += row["cpu"]
    return scores, spent


def smoothed(networks: Sequence[Mapping[str, Any]], space: Space, values: Floats) -> Floats:
    """Measured accuracies as the default predictor sees them: a network is judged by similar ones,
    too.
    """
    rng = np.random.default_rng(0)
    reference = np.array([space.encode(space.sample(rng)) for _ in range(200)])
    features = np.array([space.encode(tuple(network["genome"])) for network in networks])
    predictor = GaussianProcess(space.groups, reference)
    predictor.fit(features, -values)
    return -predictor.predict(features)[0]


def judged(networks: Sequence[Mapping[str, Any]], config: Config, space: Space) -> dict[str, Any]:
    """By way: tau with `full`, CPU seconds a candidate, and both against `scratch`, with 95 %
    intervals.
    """
    full = outcomes(networks, FULL)
    scores: dict[str, Floats] = {}
    costs: dict[str, float] = {}
    for name in ways(config, space):
        if name != FULL:
            scores[name] = outcomes(networks, name)
            costs[name] = float(seconds(networks, name).mean())
            other = f"{name}, and the predictor"
            scores[other], costs[other] = smoothed(networks, space, scores[name]), costs[name]
    # What is among the best eighth is among the best quarter: no more has to be trained for both.
    for eta in ETAS:
        name = f"{HALVED}, one of {eta}"
        scores[name], spent = halved(networks, rungs(config, space), eta)
        costs[name] = spent / len(networks)
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(networks), size=len(networks)) for _ in range(DRAWS)]
    taus = {
        name: np.array([kendall(-s[d], -full[d]).tau for d in draws]) for name, s in scores.items()
    }
    base = float(seconds(networks, SCRATCH).mean())
    table: dict[str, Any] = {}
    for name, score in scores.items():
        low, high = np.quantile(taus[name] - taus[SCRATCH], [0.025, 0.975])
        table[name] = {
            "tau": round(kendall(-score, -full).tau, 4),
            "against_scratch": round(
                kendall(-score, -full).tau - kendall(-scores[SCRATCH], -full).tau, 4
            ),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "cpu_seconds": round(costs[name], 2),
            "candidates_per_hour_and_core": round(3600 / costs[name], 1),
            "times_as_many": round(base / costs[name], 2),
        }
    return table


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", default="cifar10", help="a data source as for `nanonas search`")
    parser.add_argument(
        "--label", help="what this is called in the result; by default the space and the source"
    )
    parser.add_argument("--space", default="layers")
    parser.add_argument("--channels", type=int, default=16, help="nano only")
    parser.add_argument("--train-images", type=int, default=5000)
    parser.add_argument(
        "--valid-share", type=float, default=0.05, help="of the training images, to judge by"
    )
    parser.add_argument(
        "--epochs", type=int, default=8, help="of `scratch`; `full` has twice as many"
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--max-macs", type=int, default=3_000_000)
    parser.add_argument("--networks", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="networks at once, one core each")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    keys = (
        "space",
        "channels",
        "train_images",
        "valid_share",
        "epochs",
        "batch_size",
        "max_macs",
        "seed",
    )
    settings = {key: getattr(given, key) for key in keys}
    config = configure(
        data=given.data,
        stop_epoch=0,
        precision=resolve_precision("auto", "cpu"),
        device="cpu",
        workers=1,
        **settings,
    )
    setup = Setup(config)
    space = setup.space
    label = given.label or f"{given.space}, {given.data}"
    results = Results(given.out)
    command = shlex.join(["python", "benchmarks/fidelity.py", *arguments])
    entry = results.entry(label, settings, "networks", command=command)
    networks: list[dict[str, Any]] = entry["networks"]
    by_number = {network["number"]: network for network in networks}
    names = tuple(ways(config, space))

    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        todo = []
        for number, genome in enumerate(drawn(setup, given.networks)):
            measured = by_number[number]["ways"] if number in by_number else {}
            missing = tuple(name for name in names if name not in measured)
            if missing:
                todo.append(pool.submit(Measurement(config, number, genome, missing)))
        for place, future in enumerate(as_completed(todo), 1):
            result = future.result()
            network = by_number.setdefault(result["number"], {**result, "ways": {}})
            network["ways"].update(result["ways"])
            networks[:] = sorted(by_number.values(), key=lambda network: int(network["number"]))
            results.keep()
            print(f"{place} of {len(todo)}", flush=True)
        while True:
            try:
                halved(networks, rungs(config, space), ETAS[0])
                break
            except Unknown as unknown:
                network = networks[unknown.args[0]]
                print(f"promoted: {network['number']}", flush=True)
                measurement = Measurement(
                    config, network["number"], tuple(network["genome"]), (HALVED,)
                )
                network["ways"][HALVED] = pool.submit(measurement).result()["ways"][HALVED]
                results.keep()
    entry["judged"] = judged(entry["networks"], config, space)
    results.keep()
    print(f"\n{label}: {len(entry['networks'])} networks")
    for name, row in entry["judged"].items():
        low, high = row["interval"]
        print(
            f"  {name:<48} tau {row['tau']:.3f}  {row['against_scratch']:+.3f} [{low:+.3f}, "
            f"{high:+.3f}]  "
            f"{row['cpu_seconds']:6.1f} s  {row['times_as_many']:.2f} ×"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
