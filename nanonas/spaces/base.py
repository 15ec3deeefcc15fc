"""What can be built: the contract of a search space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from nanonas.core import Floats, Genome, Integers, Shape

if TYPE_CHECKING:
    from nanonas.networks.network import Network


class Space(Protocol):
    """What can be built, for one input shape and one number of classes. Frozen and picklable."""

    @property
    def name(self) -> str: ...

    @property
    def input_shape(self) -> Shape:
        """(channels, height, width)."""

    @property
    def classes(self) -> int: ...

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random genome."""

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child whose network differs from the genome's, one edit away."""

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """A child of both."""

    def decode(self, genome: Genome) -> Network:
        """The network. Raises `GenomeError` for what is no genome of this space."""

    @property
    def groups(self) -> tuple[int, ...]:
        """How many features belong to each group of features, in the order of `encode`."""

    def encode(self, genome: Genome) -> Floats:
        """What predictors read: shape (sum of groups,), the same features in the same places for
        every genome.
        """

    def tokens(self, genome: Genome) -> Integers:
        """What sequence models read: shape (steps, fields), whole numbers of 0 or more; steps may
        differ by genome.
        """
