"""How long the networks of a place take for an image, on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nanonas.deploy.alone.check import milliseconds_of
from nanonas.deploy.classifying import GRAPHS, Classifier, classifier, has_graph, of_graph
from nanonas.deploy.verdicts import Timing
from nanonas.training.measuring.agent import Agent, Measured

NARROW = 0.05  # of the median: what its 95 % interval may reach to either side
ROUNDS = 5  # of measuring, until it does


def timings(source: Path, *, threads: int, batch: int, seconds: float) -> dict[str, Timing]:
    """By file, of a bundle's graphs, or of the own module of a run or a final training: how long a
    batch of random images takes.

    Passes are repeated in rounds, until the interval of their median is `NARROW`, or for `ROUNDS`.

    Args:
        source: as of `classifier`.
        threads: of each pass, 1 or more.
        batch: images in a pass, 1 or more.
        seconds: of a round.

    Raises:
        NanonasError: as `classifier`.
    """
    with _threads(threads):
        networks = _networks(source, threads)
        return {
            name: _timed(network, threads, batch, seconds) for name, network in networks.items()
        }


def timings_at(
    agent: Agent, source: Path, *, batch: int, seconds: float
) -> dict[str, tuple[Timing, Measured]]:
    """As `timings`, by an agent on another device: of a bundle's graphs, or of the graph of a run's
    own network.

    Raises:
        ConfigError: a run's network cannot be exported without the extra "onnx".
        DeviceError: as `Agent.measure`.
        RunError: there is no network.
    """
    found: dict[str, tuple[Timing, Measured]] = {}
    for name, graph in _graphs(source).items():
        took = agent.measure(graph, batch, seconds)
        timing = Timing(
            took.median, took.low, took.high, took.p95, took.runs, took.device.threads, batch
        )
        found[name] = (timing, took)
    return found


def _graphs(source: Path) -> dict[str, bytes]:
    names = [name for name in GRAPHS if (source / name).exists()]
    if names:
        return {name: (source / name).read_bytes() for name in names}
    from nanonas.runs.models import trained_module
    from nanonas.training.graphs import onnx_to_measure

    module = trained_module(source)
    behind = module.preprocessing is not None and module.preprocessing.backbone is not None
    name = "as model.onnx, without the backbone" if behind else "as model.onnx"
    return {name: onnx_to_measure(module)}


def narrow(timing: Timing) -> bool:
    """Whether the median is known well enough."""
    reach = max(timing.high - timing.median, timing.median - timing.low)
    return reach <= NARROW * timing.median


def _networks(source: Path, threads: int) -> dict[str, Classifier]:
    if not has_graph(source):
        return {"in nanonas": classifier(source)}
    names = [name for name in GRAPHS if (source / name).exists()]
    return {name: of_graph(source, name, threads) for name in names}


def _timed(network: Classifier, threads: int, batch: int, seconds: float) -> Timing:
    channels, height, width = network.rule.seen.input_shape
    shape = (batch, height, width, channels)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    times = np.empty(0)
    for _ in range(ROUNDS):
        more = milliseconds_of(lambda _: network.logits(images), images[0], seconds)
        times = np.append(times, more)
        timing = Timing.of(times, threads, batch)
        if narrow(timing):
            break
    return timing


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Has torch compute with so many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
