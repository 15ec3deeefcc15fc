"""Who meets a run at equal time: the hand-made networks of its space within its limits, a random
network for each seed, ResNet-18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from nanonas.analysis.equal_time import RANDOM_NETWORK, RESNET18
from nanonas.config.parts import make_limits, make_search_space
from nanonas.config.schema import Config, SearchConfig
from nanonas.core import rng_for
from nanonas.errors import Exhausted
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.networks.reference import REFERENCES
from nanonas.runs.source import Source
from nanonas.session.compare import RANDOM_STREAM, random_network
from nanonas.session.setup import Setup
from nanonas.spaces.base import Space

_INSTEAD = "--only, without random-network"


@dataclass(frozen=True)
class Contenders:
    """The networks that can take part in a comparison with a run.

    Attributes:
        config: of the run, on the device that all train on.
        source: the run's best network, with its images.
        search: of a random search, whose space they are of.
    """

    config: Config
    source: Source
    search: SearchConfig

    @property
    def terms(self) -> str:
        """The limits in words; "" without any."""
        limits, words = self._limits, []
        if limits.on_counts or limits.target:
            words.append(str(limits))
        if limits.max_latency_ms is not None:
            words.append(f"at most {limits.max_latency_ms:g} ms an image")
        if limits.max_memory_mb is not None:
            words.append(f"at most {limits.max_memory_mb:g} MiB of memory")
        return ", ".join(words)

    @cached_property
    def hand_made(self) -> Mapping[str, Network]:
        """The hand-made networks of the space within the limits, by name, each network once."""
        return {name: net for name, net in self._ancestors.items() if name not in self.left_out}

    @cached_property
    def left_out(self) -> Mapping[str, str]:
        """Why a hand-made network takes no part, by its name."""
        left_out: dict[str, str] = {}
        first: dict[str, str] = {}  # names by the network's key
        for name, network in self._ancestors.items():
            if reason := self._exceeded(network):
                left_out[name] = f"exceeds the limits: {reason}"
            elif network.key in first:
                left_out[name] = f"is the same network as {first[network.key]} within the limits"
            first.setdefault(network.key, name)
        return left_out

    @cached_property
    def _ancestors(self) -> dict[str, Network]:
        genomes = self._space.ancestors()
        return {name: self._space.decode(genome) for name, genome in genomes.items()}

    @cached_property
    def _space(self) -> Space:
        genome = self.source.genome
        return make_search_space(self.search, genome.input_shape, len(genome.class_names))

    @cached_property
    def _limits(self) -> Limits:
        return make_limits(self.config.search)

    def _exceeded(self, network: Network) -> str | None:
        """What the network breaks a limit by, as the end of a sentence."""
        if self._limits.excess(network) > 1:
            return f"it has {self._limits.costs(network)}, where {self._limits} are allowed"
        if not self._limits.on_measurements:
            return None
        trial = Setup(self.config, self.source.images).trials()[0]
        return self._limits.exceeded(trial.measure(network))

    def network(self, name: str, seed: int) -> Network:
        """The network of a contender that trains one.

        Raises:
            Exhausted: no random network meets the limits.
        """
        genome = self.source.genome
        if name == RESNET18:
            return REFERENCES[RESNET18](genome.input_shape, len(genome.class_names))
        if name != RANDOM_NETWORK:
            return self.hand_made[name]
        rng = rng_for(seed, RANDOM_STREAM)
        for _ in range(1000):
            drawn = random_network(self._space, self._limits, rng, _INSTEAD)
            if self._exceeded(drawn) is None:
                return drawn
        raise Exhausted(
            f"1,000 random networks of the space {self._space.name!r} all exceed a limit that is "
            f"measured; use {_INSTEAD}"
        )
