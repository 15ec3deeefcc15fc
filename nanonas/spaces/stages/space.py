"""Networks of 2 to 5 stages: the space that a search begins with.

    image → stem → stage 1 → … → stage n → head → dense

A genome holds one integer for each decision of the whole (`WHOLE`: stem and its width, activation,
norm, head), then for each decision of each stage (`STAGE`), a position in its options. Every such
list of integers decodes to a valid network by these rules:

- The stem is a 3×3 convolution, norm and activation; it may halve the map. Of a map, which has
  more than 16 channels, it is a 1×1 convolution four times as wide.
- A stage begins with a convolution to its width, which may halve the map: a 2×2 max pool between
  convolution and norm; a 3×3 convolution of stride 2; or blocks of 2×2 pixels that become channels.
  Then come `depth` blocks of one kind, all of the same width.
- The map is halved, rounded up, where a side is more than 1.
- `expansion` is of the blocks' inner width and without effect on blocks that have none; without
  blocks, so is all that describes them.
- The head is a global mean, a global maximum, or a 1×1 convolution to twice the width and a mean.

Widths are multiples of four. What is sampled, mutated or crossed has its widths scaled so that the
network fills what it may cost: so proportions compete, not sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from nanonas.core import Floats, Genome, Integers, Shape
from nanonas.networks.features import GROUPS, features
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import Attribute
from nanonas.spaces.base import Space, integers
from nanonas.spaces.stages.ancestors import ANCESTORS, STARVED, halved_sooner, suited
from nanonas.spaces.stages.drawing import drawn, stem
from nanonas.spaces.stages.edits import edited
from nanonas.spaces.stages.filling import filled
from nanonas.spaces.stages.genes import (
    MAX_STAGES,
    MIN_STAGES,
    STAGE,
    WHOLE,
    Genes,
    WholeGenes,
    deployable,
    read,
    split,
)
from nanonas.spaces.stages.prior import random_network

SIZES = (20_000, 1_000_000)  # parameters of random networks where nothing limits them
SMALLEST_SHARE = 1 / 16  # of the limits, where networks need not fill them
MORE = 1.25  # times the parameters: less is no reason to halve a map sooner
STEP = 0.3  # std of a mutation's step in the logarithm of the MACs, where nothing limits them
# what predictors read besides what all networks have: how many of each
EXTRAS = (
    "group_norm",
    "layer_norm",
    "space_to_depth",
    "slice",
    "squeeze_excite",
    "channel_attention",
    "spatial_attention",
    "globalmaxpool",
)
_ATTENTION = {
    "squeeze_excite": "squeeze_excite",
    "channel": "channel_attention",
    "spatial": "spatial_attention",
}
_KERNELS = ("conv5x5", "conv7x7")  # that can be banned; every network has the smaller ones


@dataclass(frozen=True)
class StagesSpace(Space):
    """Networks of stages for one input shape (C, H, W) and number of classes; the rules are above.

    `limits` are what a network may cost: those on counts are filled. With `fill` False sizes below
    them are drawn, too, as a search for trade-offs needs them; so they are without limits, from 20
    thousand to a million parameters. Where they ask for networks that microcontrollers can run,
    norms are batch norms and there is no attention.
    """

    limits: Limits = field(default_factory=Limits)
    fill: bool = True
    name = "stages"

    def options(self) -> dict[str, tuple[Attribute, ...]]:
        """The decisions of the whole and of every stage, and their options."""
        return {**WHOLE, **STAGE}

    def ancestors(self) -> dict[str, Genome]:
        """Hand-made networks by name, with halvings for these images and widths to the limits.

        Where limits on anything but parameters would leave them thin, their maps are halved sooner,
        as far as that makes them larger (`STARVED`).
        """
        return {
            name: self._not_starved(suited(genes, self.input_shape))
            for name, genes in ANCESTORS.items()
        }

    def _not_starved(self, genes: Genes) -> Genome:
        """The genes within the limits; with halvings as late as leaves them enough parameters."""
        limits = self._counted
        as_written = self._filled(genes, limits)
        network = self.decode(as_written)
        if network.params >= STARVED * self._network(genes).params:
            return as_written
        sooner = self._filled(halved_sooner(genes, self.input_shape), limits)
        larger = self.decode(sooner).params > MORE * network.params
        return sooner if larger or limits.excess(network) > 1 else as_written

    def adopted(self, genome: Sequence[int], drawn_for: Shape) -> Genome:
        """The genome with halvings for these images and widths to the limits, as `ancestors`.

        Raises `GenomeError`.
        """
        read(integers(genome))
        genes = suited(split(integers(genome)), self.input_shape, drawn_for)
        return self._filled(genes, self._counted)

    @property
    def _counted(self) -> Limits:
        """The limits, or usual ones where there are none on counts."""
        if self.limits.on_counts:
            return self.limits
        return replace(self.limits, max_params=250_000)

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The operations that can be banned: blocks, attention, activations, large kernels."""
        return (
            *map(str, STAGE["block"]),
            *_ATTENTION.values(),
            *map(str, WHOLE["activation"]),
            *_KERNELS,
        )

    def operations(self, genome: Sequence[int]) -> frozenset[str]:
        """Of the blocks that there are, and the network's activation. Raises `GenomeError`."""
        whole, stages = read(integers(genome))
        blocks = [stage for stage in stages if stage.depth]
        kernels = {node.operation for node in self.decode(genome).nodes} & set(_KERNELS)
        attention = {_ATTENTION[s.attention] for s in blocks if s.attention in _ATTENTION}
        return frozenset({whole.activation, *(s.block for s in blocks)} | kernels | attention)

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random network that leans towards sensible CNNs, as large as it may be."""
        genes = random_network(self.input_shape, rng)
        if self.limits.on_counts:
            room = 1.0
            if not self.fill:
                room = math.exp(rng.uniform(math.log(SMALLEST_SHARE), 0.0))
            limits = self.limits.times(room)
        else:
            size = math.exp(rng.uniform(math.log(SIZES[0]), math.log(SIZES[1])))
            limits = replace(self.limits, max_params=int(size))
        return self._filled(genes, limits)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child with one or more edits that decodes to another network, of the limits' size.

        Where networks need not fill limits, its MACs are the parent's, times a factor near 1. Draws
        that change nothing are repeated. Raises `GenomeError`.
        """
        parent = self.decode(genome)
        while True:
            genes = edited(split(integers(genome)), rng)
            child = self._sized(genes, parent.macs, rng)
            if child != genome and self.decode(child).key != parent.key:
                return child

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """Each decision of the whole from either; the first stages of `a` and the last ones of `b`,
        both cut at the same relative depth; then of a parent's size, as `mutate` has it.
        """
        first, second = split(integers(a)), split(integers(b))
        chosen = rng.integers(2, size=len(WHOLE))
        pairs = zip(first.whole, second.whole, chosen, strict=True)
        whole = WholeGenes._make((x, y)[pick] for x, y, pick in pairs)
        cut = int(rng.integers(1, len(first.stages)))
        other = round(cut / len(first.stages) * len(second.stages))
        # 2 to 5 stages
        least, most = cut + len(second.stages) - MAX_STAGES, cut + len(second.stages) - MIN_STAGES
        stages = first.stages[:cut] + second.stages[min(max(other, least), most) :]
        return self._sized(Genes(whole, stages), self.decode(a).macs, rng)

    def _sized(self, genes: Genes, macs: int, rng: np.random.Generator) -> Genome:
        """Genes of the limits' size; where they need not fill them, of so many MACs, about."""
        if not self.fill or not self.limits.on_counts:
            about = max(1, int(macs * math.exp(rng.normal(0.0, STEP))))
            most = min(about, self.limits.max_macs or about)
            return self._filled(genes, replace(self.limits, max_macs=most))
        return self._filled(genes, self.limits)

    def _filled(self, genes: Genes, limits: Limits) -> Genome:
        """Genes with widths that fill the limits, and without what the target does not allow."""
        allowed = deployable(genes) if limits.deployable else genes
        return filled(allowed, limits, self._network).joined

    def decode(self, genome: Sequence[int]) -> Network:
        """The network, by the rules above.

        Raises `GenomeError` for what is no genome of this space.
        """
        return _decoded(self.input_shape, self.classes, integers(genome))

    def _network(self, genes: Genes) -> Network:
        return self.decode(genes.joined)

    @property
    def groups(self) -> tuple[int, ...]:
        """Those of all networks, and one for the operations that few have."""
        return (*GROUPS.values(), len(EXTRAS))

    def encode(self, genome: Sequence[int]) -> Floats:
        """The features of all networks, then log(1 + count) of what few have. Raises
        `GenomeError`.
        """
        network = self.decode(genome)
        counts = [sum(node.op == op for node in network.nodes) for op in EXTRAS]
        return np.concatenate([features(network), np.log1p(counts)])

    def tokens(self, genome: Sequence[int]) -> Integers:
        """The whole, then a stage a step: shape (1 + stages, 8). Raises `GenomeError`."""
        genome = integers(genome)
        read(genome)
        genes = split(genome)
        padded = (*genes.whole, *(0,) * (len(STAGE) - len(WHOLE)))
        return np.array([padded, *genes.stages], dtype=np.int64)

    def describe(self, genome: Sequence[int]) -> list[str]:
        """One line for the whole and one a stage, as in "3×3 to 64, pooled, 2 residual 3×3".

        Raises `GenomeError`.
        """
        whole, stages = read(integers(genome))
        width, kernel = stem(self.input_shape[0], whole)
        small = "1×1 " if kernel == 1 else ""
        reads = f"{whole.stem} {small}stem of {width}, {whole.activation}, {whole.norm} norm"
        return [f"{reads}, {whole.head} head", *map(str, stages)]


# some 10 KB each; a filling draws up to nine, and the study draws the child again
@lru_cache(maxsize=512)
def _decoded(input_shape: tuple[int, ...], classes: int, genome: Genome) -> Network:
    whole, stages = read(genome)
    return drawn(Draft(input_shape, classes), whole, stages)
