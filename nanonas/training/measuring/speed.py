"""How fast networks train here: a few are timed, and a cost model is fitted to their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nanonas.core import Floats, rng_for
from nanonas.networks.cost import DEFAULTS, NOISE, SPREAD, CostModel, fitted, per_image
from nanonas.networks.network import Network
from nanonas.spaces.base import Space
from nanonas.training.device import prepare, synchronize
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

PROBES = 16  # networks that are timed, at most
_LEAST = 4  # at least, however slow the machine is
_DRAWN = 60  # random networks that the probes are chosen from
_ROUNDS = 10  # steps of each that are timed, at most
_STREAM = 2_000_000_001  # a candidate's number that no search gets to


def calibrate(
    space: Space, pictures: Pictures, recipe: Recipe, threads: int = 1, seconds: float = 5.0
) -> CostModel:
    """A model of how long networks of a space train on this device, with this recipe.

    Up to 16 networks are trained for a few steps in turns, so that what else the machine does hits
    all alike; the fastest step of each counts. One thread on a CPU is timed by the processor's
    clock, which stands still while another process has the core; everything else by the wall's.
    PyTorch is left with that number of threads.

    Args:
        space: of the networks that are to be compared, with its limits.
        pictures: to train on, as the search does: device and shape count.
        recipe: likewise; batch size, precision and optimizer count.
        threads: of PyTorch.
        seconds: to measure for, about; four networks are timed at least.
    """
    end = time.perf_counter() + seconds
    prepare(threads)
    alone = threads == 1 and pictures.device.type == "cpu"
    clock = time.thread_time if alone else time.perf_counter
    prior = DEFAULTS[recipe.precision]
    work, fastest, batch_size = [], list[float](), recipe.batch_size
    trainings: list[Training] = []
    for network in probes(space, recipe.batch_size, prior):
        if len(trainings) >= _LEAST and time.perf_counter() > end:
            break
        training = Training(build_module(network, seed=0), pictures, recipe, 1_000_000, seed=0)
        step_seconds(training, clock)  # chooses kernels, and fills caches
        trainings.append(training)
        batch_size = round(len(pictures) / training.steps)
        work.append(per_image(network, batch_size))
        fastest.append(step_seconds(training, clock))
    for _ in range(_ROUNDS - 1):
        for place, training in enumerate(trainings):
            if time.perf_counter() > end:
                break
            fastest[place] = min(fastest[place], step_seconds(training, clock))
    return fitted(work, [each / batch_size for each in fastest], batch_size, prior)


def step_seconds(training: Training, clock: Callable[[], float] = time.perf_counter) -> float:
    """How long the first step of the next epoch takes, which does not count as an epoch, unless it
    is all of one.
    """
    ticks: list[float] = []

    def pulse() -> bool:
        synchronize(str(training.device))
        ticks.append(clock())
        return len(ticks) == 1

    if training.run_epoch(pulse) is not None:
        pulse()
    return ticks[1] - ticks[0]


def probes(
    space: Space, batch_size: int, prior: Mapping[str, float], number: int = PROBES
) -> list[Network]:
    """The networks that say most about what each kind of work costs, the most telling first.

    One after the other is chosen out of the space's ancestors and random networks, by how much it
    adds to the logarithm of the determinant of the information matrix, by the root of its own time:
    a Bayesian D-optimal design. Chaloner & Verdinelli 1995, https://doi.org/10.1214/ss/1177009939.

    Args:
        space: to draw from; the same space gives the same networks.
        batch_size: images in one step.
        prior: seconds by kind of work.
        number: of networks, at most.
    """
    rng = rng_for(0, _STREAM)
    genomes = [*space.ancestors().values(), *(space.sample(rng) for _ in range(_DRAWN))]
    networks = list({network.key: network for network in map(space.decode, genomes)}.values())
    return [networks[place] for place in _telling(_times(networks, batch_size, prior), number)]


def _times(networks: Sequence[Network], batch_size: int, prior: Mapping[str, float]) -> Floats:
    """What each network spends on each kind of work, by the prior: seconds, (networks, kinds)."""
    model = CostModel(prior, batch_size)
    parts = [model.by_kind(network) for network in networks]
    kinds = sorted({kind for part in parts for kind in part})
    return np.array([[part.get(kind, 0.0) for kind in kinds] for part in parts])


def _telling(times: Floats, number: int) -> list[int]:
    """The rows that say most about the coefficients, one after the other: (networks, kinds)."""
    seconds = times.sum(axis=1)
    shares = times / seconds[:, None]  # of which a measurement tells the sum, up to its noise
    variance = (SPREAD / NOISE) ** 2 * np.eye(shares.shape[1])  # of the coefficients
    chosen: list[int] = []
    while len(chosen) < min(number, len(shares)):
        gains = np.log1p(np.einsum("nk,kl,nl->n", shares, variance, shares)) / np.sqrt(seconds)
        gains[chosen] = -1.0
        best = shares[place := int(np.argmax(gains))]
        chosen.append(place)
        known = variance @ best  # Sherman & Morrison
        variance -= np.outer(known, known) / (1 + best @ known)
    return chosen
