"""Random search: the baseline that every other strategy has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import Candidate, Proposal, Told
from nanonas.spaces.base import Space


@dataclass
class RandomSearch:
    """Draws from the space and learns nothing.

    Args:
        population_size: draws that count as a "generation"; the algorithm has none.
    """

    space: Space
    population_size: int = 30

    def needs(self, number: int) -> int:
        return 0

    def generation(self, number: int) -> int:
        return number // self.population_size

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        return Proposal(self.space.sample(rng))

    def tell(self, told: Told) -> None: ...

    def may_need(self) -> frozenset[int]:
        return frozenset()

    @property
    def most_needed(self) -> int:
        return 0
