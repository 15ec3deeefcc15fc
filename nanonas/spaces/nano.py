"""Lists of operations, as in ``[0, 1, 2, 3]``: stem, layer 1, reduction, layer 2, classifier.

    image → conv3x3, norm, relu (C channels) → first half of the list
          → conv3x3 of stride 2, norm, relu (2C channels) → second half of the list
          → global average pooling → dense

Each number of the list is one operation of `OPERATIONS`, with a residual around it:
``x ← relu(x + operation(x))``. Where a list has an odd length the second half is the longer one. An
operation is one line of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import Genome, Integers
from nanonas.errors import ConfigError, GenomeError
from nanonas.networks.network import Draft, Network, classifier, conv_norm, depthwise, relu
from nanonas.spaces.base import Space, check_options, integers
from nanonas.spaces.choices import one_point_crossover, point_mutation


def _same_conv(draft: Draft, x: str, kernel: int) -> str:
    return conv_norm(draft, x, draft.shape(x)[0], kernel)


def _separable(draft: Draft, x: str, kernel: int) -> str:
    """Depthwise, then 1×1, then norm."""
    return _same_conv(draft, depthwise(draft, x, kernel), 1)


def _pool(draft: Draft, x: str, op: str) -> str:
    """3×3 of stride 1, then norm: without it the residual sums grow from pool to pool."""
    return draft.add("norm", draft.add(op, x, kernel=3, stride=1))


Operation = Callable[[Draft, str], "str | None"]
"""Draws an operation on a map and returns its output, of the same shape; None for what contributes
nothing."""

OPERATIONS: dict[str, Operation] = {  # a genome's numbers are positions in this table
    "conv3x3": lambda draft, x: _same_conv(draft, x, 3),
    "conv1x1": lambda draft, x: _same_conv(draft, x, 1),
    "sep_conv3x3": lambda draft, x: _separable(draft, x, 3),
    "sep_conv5x5": lambda draft, x: _separable(draft, x, 5),
    "maxpool": lambda draft, x: _pool(draft, x, "maxpool"),
    "avgpool": lambda draft, x: _pool(draft, x, "avgpool"),
    # taken at its word: the identity, with a residual around it, doubles x
    "skip": lambda draft, x: x,
    "zero": lambda draft, x: None,  # x + 0: no node
}
NAMES = tuple(OPERATIONS)


@dataclass(frozen=True)
class NanoSpace(Space):
    """Lists of operations for one input shape (C, H, W) and number of classes.

    `channels` is the width C of layer 1, half that of layer 2. With the defaults a random network
    has about 90 thousand parameters, one of 3×3 convolutions alone 356 thousand. `length` is that
    of the lists that are sampled; lists of any length from 2 decode, and keep it when they mutate.
    """

    channels: int = 48
    length: int = 6
    name = "nano"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels < 1:
            raise ConfigError(f"channels must be 1 or more, but is {self.channels}.")
        if self.length < 2:
            raise ConfigError(
                f"length must be 2 or more, one operation a layer, but is {self.length}."
            )

    def options(self) -> dict[str, tuple[str, ...]]:
        """The decision at every position of a list, and its options."""
        return {"operation": NAMES}

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The operations that can be banned."""
        return NAMES

    def operations(self, genome: Sequence[int]) -> frozenset[str]:
        """Those in the list; stem and reduction, which all networks have, do not count.

        Raises `GenomeError`.
        """
        return frozenset(NAMES[number] for number in self._checked(genome))

    def sample(self, rng: np.random.Generator) -> Genome:
        """`length` operations, each as likely as the others."""
        return tuple(int(number) for number in rng.integers(len(NAMES), size=self.length))

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """One operation replaced by another; that always changes the network.

        Raises `GenomeError`.
        """
        return point_mutation(self._checked(genome), len(NAMES), rng)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """The beginning of `a` and, from the same position on, the end of `b`. As long as `b`."""
        return one_point_crossover(a, b, rng)

    def decode(self, genome: Sequence[int]) -> Network:
        """The network. Raises `GenomeError` for what is no genome of this space."""
        genome = self._checked(genome)
        draft = Draft(self.input_shape, self.classes)
        half = len(genome) // 2
        x = relu(draft, conv_norm(draft, "input", self.channels, 3))
        x = _layer(draft, x, genome[:half])
        x = relu(draft, conv_norm(draft, x, 2 * self.channels, 3, stride=2))
        x = _layer(draft, x, genome[half:])
        return classifier(draft, x)

    def tokens(self, genome: Sequence[int]) -> Integers:
        """The list itself: shape (length, 1). Raises `GenomeError`."""
        return super().tokens(self._checked(genome))

    def describe(self, genome: Sequence[int]) -> list[str]:
        """One line an operation, as in "layer 1, 48 channels: conv3x3". Raises `GenomeError`."""
        genome = self._checked(genome)
        half = len(genome) // 2
        layers = [(1, self.channels)] * half + [(2, 2 * self.channels)] * (len(genome) - half)
        return [
            f"layer {layer}, {channels} channels: {NAMES[number]}"
            for (layer, channels), number in zip(layers, genome, strict=True)
        ]

    def _checked(self, genome: Sequence[int]) -> Genome:
        genome = integers(genome)
        if len(genome) < 2:
            raise GenomeError(
                "a genome of the space 'nano' must have 2 operations or more, one a layer, but "
                f"has {len(genome)}."
            )
        check_options("nano", genome, NAMES)
        return genome


def _layer(draft: Draft, x: str, numbers: Sequence[int]) -> str:
    """The operations on a map, one after the other, each with its residual."""
    for number in numbers:
        y = OPERATIONS[NAMES[number]](draft, x)
        if y is not None:
            x = relu(draft, draft.add("add", x, y))
    return x
