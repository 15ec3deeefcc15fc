"""Chains of 3 to 20 layers with skip connections: Conv2D, MaxPool, AvgPool, BatchNorm, Dropout,
Dense.

A genome holds one integer a decision and layer, an index into the options of `DECISIONS`, layer
after layer; adding, removing and swapping segments are slices. Every such list of integers decodes
to a valid network by these rules:

- A BatchNorm right after a Conv2D or Dense goes between it and its activation, the field's usual
order: the two
  layers are one unit. A BatchNorm right after another has no effect.
- Strides and pools halve the map, rounded up, and stop where a side is 1: a convolution's stride
becomes 1 there, a
  pool vanishes. A pool of window 2 takes window 3 where a side is odd, so that all halvings agree.
- Global average pooling comes before the first Dense; Conv2D and pools behind it have no effect,
BatchNorm and
  Dropout act on the vector. The classifier, a Dense of as many units as there are classes, is
  always appended.
- Place 0 is the image, place n the end of layer n. A skip joins the end of its layer with the place
`skip` layers
  before it (1: the layer's own input; beyond the start: the image). Inside a unit of two layers
  there is no place: a skip from there starts at the unit's input, and the skips of both layers join
  at the unit's end.
- Where shapes differ a 1×1 convolution (strided where the map shrank) and a norm project the
source; concat needs
  that for the size of the map only. Into a vector the source is pooled globally, then projected by
  a Dense. A concat that would exceed 512 channels is an add.
- A layer without effect has a skip without effect, and a skip from where its layer stands already
is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from nanonas.core import Floats, Genome, Integers, Shape
from nanonas.errors import ConfigError, GenomeError
from nanonas.networks.features import GROUPS, features
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import Attribute
from nanonas.spaces.choices import check_problem, draw, integers
from nanonas.spaces.layers.drawing import ChainDrawing
from nanonas.spaces.layers.edits import ANOTHER_EDIT, EDITS, RATES, clipped
from nanonas.spaces.layers.genes import (
    AVGPOOL,
    DECISIONS,
    DENSE,
    DROPOUT,
    FILTERS,
    MAX_LAYERS,
    MAXPOOL,
    MIN_LAYERS,
    OPERATIONS,
    WIDTH,
    Chain,
    Layer,
    changed,
    is_unit,
    joined,
    line,
    operation_of,
    read_layer,
    split_genes,
    unit_end,
)
from nanonas.spaces.layers.prior import (
    DENSE_END,
    DEPTH_MODE,
    DROPPED,
    FINAL_SIZE,
    FIRST_WIDTH,
    HALVED_BY,
    ONE_HALVING_LESS,
    OWN_ACTIVATION,
    PRIOR,
    SKIPPED,
    WIDER,
    random_layer,
    random_unit,
)


@dataclass(frozen=True)
class LayersSpace:
    """Chains of layers for one input shape (C, H, W) and number of classes; the rules are above.

    `rates` are the relative rates of the kinds of edit that mutation makes: a layer added, a layer
    removed, another option for one decision, a skip connection toggled.
    """

    input_shape: Shape = (3, 32, 32)
    classes: int = 10
    rates: tuple[float, float, float, float] = RATES
    name: str = field(default="layers", init=False)

    def __post_init__(self) -> None:
        check_problem(self.input_shape, self.classes)
        if (
            len(self.rates) != len(RATES)
            or not all(0 <= rate < math.inf for rate in self.rates)
            or not any(self.rates)
        ):
            raise ConfigError(
                "the four mutation rates (add, remove, change, skip) must be 0 or more and not "
                "all be 0, "
                f"but are {self.rates}; the default is {RATES}."
            )

    def options(self) -> dict[str, tuple[Attribute, ...]]:
        """The decisions of every layer and their options."""
        return dict(DECISIONS)

    @property
    def operation_names(self) -> tuple[str, ...]:
        """What people may ban."""
        return OPERATIONS

    def operations(self, genome: Sequence[int]) -> frozenset[str]:
        """Of the layers that have an effect; projections and the classifier do not count.

        Raises `GenomeError`.
        """
        layers = self._layers(genome)
        _, effects = self._drawn(layers)
        living = [layer for layer, effect in zip(layers, effects, strict=True) if effect]
        skips = {f"skip_{layer.join}" for layer in living if layer.skip}
        return frozenset(skips | {operation_of(layer) for layer in living})

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random chain that leans towards sensible CNNs: convolutions with norms, wider as the
        map shrinks.
        """
        depth = int(rng.triangular(MIN_LAYERS, DEPTH_MODE, MAX_LAYERS + 1))
        halvings = max(0, int(math.log2(min(self.input_shape[1:]) / FINAL_SIZE)))
        halvings -= halvings > 1 and rng.random() < ONE_HALVING_LESS
        width, activation = draw(FIRST_WIDTH, rng), draw((0, *PRIOR["activation"][1:]), rng)
        chain: Chain = []
        ends = [0]  # the places that skips come from: where units ended
        done = 0  # halvings
        while len(chain) < depth:
            due = done < int((halvings + 1) * len(chain) / depth)
            how = draw(HALVED_BY, rng) if due else -1
            if due:
                done += 1
                width = min(width + draw(WIDER, rng), len(FILTERS) - 1)
            if how > 0:
                chain.append(random_layer(rng, kind=(MAXPOOL, AVGPOOL)[how - 1], skip=0))
                ends.append(len(chain))
            own = {} if rng.random() < OWN_ACTIVATION else {"activation": activation}
            chain += random_unit(rng, filters=width, stride=int(how == 0), **own)
            if rng.random() < SKIPPED:
                source = ends[-1 - int(rng.integers(min(3, len(ends))))]
                chain[-1] = changed(chain[-1], skip=len(chain) - source)
            ends.append(len(chain))
            if rng.random() < DROPPED:
                chain.append(random_layer(rng, kind=DROPOUT, skip=0))
        chain = chain[:depth]
        if rng.random() < DENSE_END:
            chain[-1] = random_layer(rng, kind=DENSE, skip=0)
        return joined(chain)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child with one or more edits that decodes to another network. Every genome can be
        reached.

        Draws that change nothing are repeated; after a hundred of them, as when the rates leave
        only edits that cannot be made (no room to add, nothing to remove), with the default rates.
        Raises `GenomeError`.
        """
        key = self.decode(genome).key
        attempt = 0
        while True:
            rates = self.rates if attempt < 100 else RATES
            chain = EDITS[draw(rates, rng)](split_genes(genome), rng)
            while rng.random() < ANOTHER_EDIT:
                chain = EDITS[draw(rates, rng)](chain, rng)
            child = joined(chain)
            if child != genome and self.decode(child).key != key:
                return child
            attempt += 1

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """The beginning of `a` and the end of `b`, both cut at the same relative depth, between
        units if they can.

        The skips of b's layers reach as far back as they did, at most to the image.
        """
        first, second = split_genes(a), split_genes(b)
        cut = int(rng.integers(1, len(first)))
        i = unit_end(first, cut)
        j = unit_end(second, round(cut / len(first) * len(second)))
        j = min(
            max(j, i + len(second) - MAX_LAYERS), i + len(second) - MIN_LAYERS
        )  # 3 to 20 layers
        return joined(clipped(first[:i] + second[j:]))

    def decode(self, genome: Sequence[int]) -> Network:
        """The network, by the rules above.

        Raises `GenomeError` for what is no genome of this space.
        """
        return _network(self, integers(genome))

    @property
    def groups(self) -> tuple[int, ...]:
        """Of the features."""
        return tuple(GROUPS.values())

    def encode(self, genome: Sequence[int]) -> Floats:
        """`features` of the network: shape (sum of groups,). Raises `GenomeError`."""
        return features(self.decode(genome))

    def tokens(self, genome: Sequence[int]) -> Integers:
        """The genome, a layer a step: shape (layers, 11), in the order of `DECISIONS`.

        Raises `GenomeError`.
        """
        self._layers(genome)
        return np.array(genome, dtype=np.int64).reshape(-1, WIDTH)

    def describe(self, genome: Sequence[int]) -> list[str]:
        """One line a layer, as in "Conv2D 64 3×3 /2 relu separable, + skip from layer 2".

        Raises `GenomeError`.
        """
        layers = self._layers(genome)
        _, effects = self._drawn(layers)
        return [
            line(n, layer, effect)
            for n, (layer, effect) in enumerate(zip(layers, effects, strict=True), 1)
        ]

    def _layers(self, genome: Sequence[int]) -> list[Layer]:
        chain = split_genes(integers(genome))
        if not MIN_LAYERS <= len(chain) <= MAX_LAYERS or len(chain[-1]) != WIDTH:
            raise GenomeError(
                f"a genome of the space 'layers' has {WIDTH} integers a layer and {MIN_LAYERS} to "
                f"{MAX_LAYERS} layers, "
                f"{MIN_LAYERS * WIDTH} to {MAX_LAYERS * WIDTH} integers in steps of {WIDTH}, but "
                f"has {len(genome)}."
            )
        return [read_layer(number, genes) for number, genes in enumerate(chain)]

    def _drawn(self, layers: list[Layer]) -> tuple[Network, list[bool]]:
        """The network, and of each layer whether it has an effect."""
        drawing = ChainDrawing(Draft(self.input_shape, self.classes))
        effects: list[bool] = []
        for n, layer in enumerate(layers):
            if n < len(effects):  # the norm of a unit that is drawn already
                continue
            x = drawing.x
            unit = layers[n : n + 2] if is_unit(layers, n) and drawing.takes(layer) else [layer]
            drawing.add(layer, normed=len(unit) == 2)
            if drawing.x == x:
                effects.append(False)
                drawing.places.append(x)
                continue
            for member in unit:
                effects.append(True)
                if member.skip:
                    drawing.join(drawing.places[max(0, len(effects) - member.skip)], member.join)
                drawing.places.append(x)
            drawing.places[-1] = drawing.x
        return drawing.finish(), effects


@lru_cache(
    maxsize=512
)  # some 10 KB each: `mutate` decodes parent and child, and whoever takes the child decodes again
def _network(space: LayersSpace, genome: Genome) -> Network:
    return space._drawn(space._layers(genome))[0]
