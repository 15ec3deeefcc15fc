"""Chains of 3 to 20 layers with skips: Conv2D, MaxPool, AvgPool, BatchNorm, Dropout, Dense.

A genome holds one integer for each decision of each layer, a position in the options of
`DECISIONS`, layer after layer; adding, removing and swapping segments are slices. Every such list
of integers decodes to a valid network by these rules:

- A BatchNorm right after a Conv2D or Dense goes between it and its activation, the field's usual
  order: the two layers are one unit. A BatchNorm right after another has no effect.
- Strides and pools halve the map, rounded up, and stop where a side is 1: a convolution's stride
  becomes 1 there, a pool vanishes. A pool of window 2 takes window 3 where a side is odd, so that
  all halvings agree.
- Global average pooling comes before the first Dense; Conv2D and pools behind it have no effect,
  BatchNorm and Dropout act on the vector. The classifier, a Dense of as many units as there are
  classes, is always appended.
- Place 0 is the image, place n the end of layer n. A skip joins the end of its layer with the place
  `skip` layers before it (1: the layer's own input; beyond the start: the image). Inside a unit of
  two layers there is no place: a skip from there starts at the unit's input, and the skips of both
  layers join at the unit's end.
- Where shapes differ a 1×1 convolution (strided where the map shrank) and a norm project the
  source; concat needs that for the size of the map only. Into a vector the source is pooled
  globally, then projected by a Dense. A concat that would exceed 512 channels is an add.
- A layer without effect has a skip without effect, and a skip from where its layer stands already
  is none.

Where counts are limited, what is sampled, mutated or crossed has the filters of its
convolutions scaled so that the network fills the limits, as far as the options go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from nanonas.core import Genome, Integers
from nanonas.errors import ConfigError
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import Attribute
from nanonas.spaces.base import Space, integers
from nanonas.spaces.choices import draw
from nanonas.spaces.layers.drawing import drawn
from nanonas.spaces.layers.edits import ANOTHER_EDIT, EDITS, RATES, clipped
from nanonas.spaces.layers.filling import filled
from nanonas.spaces.layers.genes import (
    DECISIONS,
    MAX_LAYERS,
    MIN_LAYERS,
    OPERATIONS,
    WIDTH,
    Chain,
    Layer,
    described,
    joined,
    read_layers,
    split,
    unit_end,
)
from nanonas.spaces.layers.prior import random_chain


@dataclass(frozen=True)
class LayersSpace(Space):
    """Chains of layers for one input shape (C, H, W) and number of classes; the rules are above.

    `rates` are the relative rates of the kinds of edit that mutation makes: a layer added, a layer
    removed, another option for one decision, a skip connection toggled. `limits` are what a network
    may cost: those on counts are filled, unless `fill` is False.
    """

    rates: tuple[float, float, float, float] = RATES
    limits: Limits = field(default_factory=Limits)
    fill: bool = True
    name = "layers"

    def __post_init__(self) -> None:
        super().__post_init__()
        possible = all(0 <= rate < math.inf for rate in self.rates) and any(self.rates)
        if len(self.rates) != len(RATES) or not possible:
            raise ConfigError(
                "the four mutation rates (add, remove, change, skip) must be 0 or more and not "
                f"all be 0, but are {self.rates}; the default is {RATES}."
            )

    def options(self) -> dict[str, tuple[Attribute, ...]]:
        """The decisions of every layer and their options."""
        return dict(DECISIONS)

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The operations that can be banned."""
        return OPERATIONS

    def operations(self, genome: Sequence[int]) -> frozenset[str]:
        """Of the layers that have an effect; projections and the classifier do not count.

        Raises `GenomeError`.
        """
        layers = read_layers(integers(genome))
        _, effects = self._drawn(layers)
        living = [layer for layer, effect in zip(layers, effects, strict=True) if effect]
        skips = {f"skip_{layer.join}" for layer in living if layer.skip}
        return frozenset(skips | {layer.operation for layer in living})

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random chain that leans towards sensible CNNs: convolutions with norms, wider as the
        map shrinks.
        """
        return self._sized(random_chain(self.input_shape, rng))

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child with one or more edits that decodes to another network. Without limits that it
        fills, every genome can be reached.

        Draws that change nothing are repeated; after a hundred of them, as when the rates leave
        only edits that cannot be made (no room to add, nothing to remove), with the default rates.
        Raises `GenomeError`.
        """
        key = self.decode(genome).key
        attempt = 0
        while True:
            rates = self.rates if attempt < 100 else RATES
            chain = EDITS[draw(rates, rng)](split(genome), rng)
            while rng.random() < ANOTHER_EDIT:
                chain = EDITS[draw(rates, rng)](chain, rng)
            child = self._sized(chain)
            if child != genome and self.decode(child).key != key:
                return child
            attempt += 1

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """The beginning of `a` and the end of `b`, both cut at the same relative depth, between
        units if they can.

        The skips of b's layers reach as far back as they did, at most to the image.
        """
        first, second = split(a), split(b)
        cut = int(rng.integers(1, len(first)))
        i = unit_end(first, cut)
        j = unit_end(second, round(cut / len(first) * len(second)))
        # 3 to 20 layers
        j = min(max(j, i + len(second) - MAX_LAYERS), i + len(second) - MIN_LAYERS)
        return self._sized(clipped(first[:i] + second[j:]))

    def _sized(self, chain: Chain) -> Genome:
        """A chain's genome, of the limits' size."""
        if self.fill and self.limits.on_counts:
            chain = filled(chain, self.limits, lambda layers: self.decode(joined(layers)))
        return joined(chain)

    def decode(self, genome: Sequence[int]) -> Network:
        """The network, by the rules above.

        Raises `GenomeError` for what is no genome of this space.
        """
        return _network(self, integers(genome))

    def tokens(self, genome: Sequence[int]) -> Integers:
        """The genome, a layer a step: shape (layers, 11), in the order of `DECISIONS`.

        Raises `GenomeError`.
        """
        read_layers(integers(genome))
        return np.array(genome, dtype=np.int64).reshape(-1, WIDTH)

    def describe(self, genome: Sequence[int]) -> list[str]:
        """One line a layer, as in "Conv2D 64 3×3 /2 relu separable, + skip from layer 2".

        Raises `GenomeError`.
        """
        layers = read_layers(integers(genome))
        _, effects = self._drawn(layers)
        numbered = enumerate(zip(layers, effects, strict=True), 1)
        return [described(number, layer, effect) for number, (layer, effect) in numbered]

    def _drawn(self, layers: Sequence[Layer]) -> tuple[Network, list[bool]]:
        """The network, and of each layer whether it has an effect."""
        return drawn(Draft(self.input_shape, self.classes), layers)


# some 10 KB each: `mutate` decodes parent and child, and the study decodes the child again
@lru_cache(maxsize=512)
def _network(space: LayersSpace, genome: Genome) -> Network:
    return space._drawn(read_layers(genome))[0]
