"""Was it worth it? The found network against ResNet-18, a plain CNN and random networks, on the
same data with one recipe.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.config.parts import make_limits, make_search_space
from nanonas.config.schema import Config, RunConfig
from nanonas.config.trainings import load_images
from nanonas.core import rng_for
from nanonas.data.backbone import WEIGHTS
from nanonas.errors import ConfigError, Exhausted
from nanonas.files import json_in, write_text
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.networks.reference import REFERENCES
from nanonas.runs.folder import search_seconds
from nanonas.runs.source import Source
from nanonas.session.listener import Listener
from nanonas.session.setup import Setup, located_data
from nanonas.session.winner import alone_in, final_training, run_training
from nanonas.spaces.base import Space
from nanonas.typed import finite, fitting, many, mapping, whole

if TYPE_CHECKING:
    import numpy as np

    from nanonas.training.final import FinalResult, FinalTraining

# candidate numbers that no search gets to: random networks that no search has seen
RANDOM_STREAM = 1_000_000_000
LINEAR = "linear classifier"  # of what a backbone makes of images: what it is worth by itself


@dataclass(frozen=True)
class Contender:
    """A network that takes part."""

    name: str
    network: Network
    epochs: float  # passes over the images; below 1, that part of them once
    seconds: float  # of one training, as estimated
    threads: int


def _planned(values: object) -> tuple[float, float, int]:
    """Epochs, seconds and threads of a contender, out of a file. Raises `ValueError`."""
    epochs, seconds, threads = many(finite)(values, "a plan")
    return epochs, seconds, whole(threads, "threads", 0, 1024)


@dataclass(frozen=True)
class Row:
    """What came of a contender: means over its trainings."""

    network: str
    test_accuracy: float  # in [0, 1], by `metric`
    spread: float | None  # standard deviation of it; None for one training
    params: int
    macs: int
    latency_ms: float
    epochs: float
    search_seconds: float | None  # None where nothing was searched
    train_seconds: float
    trainings: list[FinalResult]
    metric: str  # of the run: "accuracy" or "balanced_accuracy"


def random_network(space: Space, limits: Limits, rng: np.random.Generator, instead: str) -> Network:
    """A random network of the space within the limits on counts.

    Args:
        instead: what a user can do where there is none.

    Raises:
        Exhausted: 10,000 draws find none.
    """
    drawn = (space.decode(space.sample(rng)) for _ in range(10_000))
    network = next((network for network in drawn if limits.excess(network) <= 1), None)
    if network is None:
        raise Exhausted(
            f"10,000 random networks of the space {space.name!r} all exceed {limits}; use {instead}"
        )
    return network


def trained_alike(
    source: Source, network: Network, seed: int, device: str, folder: Path, opened: str
) -> FinalTraining:
    """The training of any network as the source's run trains its winner.

    Args:
        folder: of the training.
        opened: what the test set is opened for, as the run records it.
    """
    config = Config(replace(source.config, seed=seed), RunConfig(device=device))
    setup = Setup(config, source.images)
    return final_training(network, setup, folder, lambda: source.opened(opened))


@dataclass
class Comparison:
    """Trains each contender `seeds` times on all training images and tests each once.

    Args:
        epochs: of each training, unless `seconds_per_network` allows less.
        seconds_per_network: the longest that one training may take: plans its epochs, and cuts them
            if it is slower.
        random: how many random networks of the space, within the run's limits, take part.
        backbone: behind which a linear classifier takes part, as of the configuration; None: none
            does, unless the run's own networks are behind one.
        listener: hears of each training.

    What was trained is kept below the source's folder, so that an interrupted comparison continues
    where it was.
    """

    source: Source
    epochs: int
    seconds_per_network: float | None
    seeds: int
    random: int
    device: str
    listener: Listener = field(default_factory=Listener)
    backbone: str | None = None

    @property
    def table(self) -> Path:
        """Where `run` writes its rows."""
        return self._folder / "table.json"

    def run(self, contenders: list[Contender]) -> list[Row]:
        """Trains the `contenders()`, and writes the table."""
        rows = [self._row(contender, self._trained(contender)) for contender in contenders]
        write_text(self.table, json.dumps([asdict(row) for row in rows], indent=1) + "\n")
        return rows

    @property
    def _folder(self) -> Path:
        return self.source.folder / "compare"

    def _networks(self) -> dict[str, Network]:
        genome = self.source.genome
        shape, classes = genome.input_shape, len(genome.class_names)
        networks = {"found": genome.network()}
        for name in ("resnet18", "baseline"):
            networks[name] = REFERENCES[name](shape, classes)
        if self._behind is not None:
            assert self._behind.images is not None
            networks[LINEAR] = REFERENCES["linear"](self._behind.images.input_shape, classes)
        limits = make_limits(self.source.config)
        space = make_search_space(self.source.config, shape, classes)
        for number in range(self.random):
            rng = rng_for(self.source.config.seed, RANDOM_STREAM + number)
            networks[f"random {number + 1}"] = random_network(space, limits, rng, "--random 0")
        return networks

    @cached_property
    def _behind(self) -> Source | None:
        """The source with what a backbone makes of its images; None: no backbone takes part."""
        own, config = self.source.images, self.source.config
        if own is not None and own.backbone is not None:
            if self.backbone is not None:
                raise ConfigError(
                    f"all networks of this run are behind the backbone {own.backbone.name}; leave "
                    "--backbone out"
                )
            return self.source
        if self.backbone is None:
            return None
        from nanonas.training.device import resolve_device

        data = located_data(replace(config.data, backbone=self.backbone, image_size=None))
        images = load_images(data, resolve_device(self.device))
        return replace(self.source, config=replace(config, data=data), images=images)

    def _costs(self, contender: Contender, results: list[FinalResult]) -> tuple[int, int, float]:
        """Parameters, MACs and milliseconds of a contender: with those of a backbone that the
        found network does without.
        """
        network, behind = contender.network, self._behind
        latency = statistics.median(result.latency_ms for result in results)
        if contender.name != LINEAR or behind is None or behind is self.source:
            return network.params, network.macs, latency
        from nanonas.training.backbone import opened
        from nanonas.training.device import resolve_device
        from nanonas.training.measuring.latency import latency_ms

        images = behind.images
        assert images is not None
        assert images.backbone is not None
        assert images.folder is not None
        about = images.backbone
        frozen = opened(about, images.folder / WEIGHTS)
        latency += latency_ms(frozen, about.image_shape, resolve_device(self.device))
        return network.params + about.params, network.macs + about.macs, latency

    def _training(
        self, name: str, network: Network, seed: int, share: float = 1.0, threads: int = 0
    ) -> FinalTraining:
        from nanonas.training.pictures import part

        label = f"{re.sub(r'[^a-z0-9]+', '-', name)}-seed{seed}"
        source = self._behind if name == LINEAR and self._behind is not None else self.source
        training = trained_alike(
            source, network, seed, self.device, self._folder / label, f"compare: {label}"
        )
        if name == LINEAR:  # logistic regression, which smoothed labels cost six points
            training = replace(training, recipe=replace(training.recipe, label_smoothing=0.0))
        if share < 1:
            identity = {**training.identity, "share": share}
            training = replace(training, train=part(training.train, share, seed), identity=identity)
        return replace(training, threads=threads or None)

    def contenders(self) -> list[Contender]:
        """The networks that take part, with their epochs: as planned before, where the same
        comparison continues.
        """
        networks = self._networks()
        asked = [
            self.epochs,
            self.seconds_per_network,
            self.device,
            {name: n.key for name, n in networks.items()},
        ]
        path = self._folder / "plan.json"
        try:
            plan = fitting(json_in(path), "a plan", {"planned": mapping}, ("asked", "planned"))
            if plan["asked"] == asked:
                return [
                    Contender(name, networks[name], *_planned(planned))
                    for name, planned in plan["planned"].items()
                ]
        except (OSError, ValueError, KeyError):
            pass  # the first time, or damaged
        contenders = [self._contender(name, network) for name, network in networks.items()]
        planned = {c.name: (c.epochs, c.seconds, c.threads) for c in contenders}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"asked": asked, "planned": planned}, indent=1) + "\n")
        return contenders

    def _contender(self, name: str, network: Network) -> Contender:
        """Measures a few steps, and says how long the training will be."""
        threads, pace = self._training(name, network, 0).crews.fastest_threads()
        seconds = pace.mean
        epochs = float(self.epochs)
        if self.seconds_per_network is not None and seconds * epochs > self.seconds_per_network:
            fitting = self.seconds_per_network / seconds
            epochs = float(int(fitting)) if fitting >= 1 else fitting
        return Contender(name, network, epochs, seconds * epochs, threads)

    def _trained(self, contender: Contender) -> list[FinalResult]:
        results = []
        for seed in range(self.seeds):
            share = min(1.0, contender.epochs)
            training = self._training(
                contender.name, contender.network, seed, share, contender.threads
            )
            limit = self.seconds_per_network
            deadline = None if limit is None else time.monotonic() + limit
            label = f"{contender.name}, training {seed + 1} of {self.seeds}"
            epochs = max(1, int(contender.epochs))
            with alone_in(training.folder):
                results.append(run_training(training, label, self.listener, epochs, deadline))
        return results

    def _row(self, contender: Contender, results: list[FinalResult]) -> Row:
        metric = self.source.config.strategy.metric
        accuracies = [result.accuracy_by(metric) for result in results]
        searched = self.source.run if contender.name == "found" else None
        params, macs, latency = self._costs(contender, results)
        return Row(
            contender.name,
            statistics.mean(accuracies),
            statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            params,
            macs,
            latency,
            statistics.mean(result.epochs for result in results) * min(1.0, contender.epochs),
            None if searched is None else search_seconds(searched),
            statistics.mean(result.seconds for result in results),
            results,
            metric,
        )
