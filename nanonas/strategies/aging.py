"""Regularized evolution: the oldest dies, whatever its fitness."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Candidate, Objective, Proposal, Told, steady
from nanonas.errors import ConfigError
from nanonas.spaces.base import Space


@dataclass
class AgingEvolution:
    """Ageing evolution, steady state, mutation only. Real et al. 2019,
    https://arxiv.org/abs/1802.01548, Algorithm 1.

    Args:
        population_size: how many are alive at once; the first `population_size` candidates are
            random.
        sample_size: how many of them are drawn, without replacement, to find one parent. None: a
            quarter of the population, as in the paper (16 of 64), at least 2.
        lag: how many candidates may be in flight, the one that is asked for included.

    Raises:
        ConfigError: `sample_size` is not in [1, population_size], or the population is smaller than
            2.
    """

    space: Space
    objective: Objective = field(default_factory=Objective)
    population_size: int = 30
    sample_size: int | None = None
    lag: int = 1
    _alive: deque[Told] = field(default_factory=deque, repr=False)  # the oldest first

    def __post_init__(self) -> None:
        if self.population_size < 2:
            raise ConfigError(
                f"population must be 2 or more for aging evolution, but is {self.population_size}"
            )
        if self.sample_size is None:
            self.sample_size = max(2, self.population_size // 4)
        if not 1 <= self.sample_size <= self.population_size:
            raise ConfigError(
                f"sample_size must lie in [1, population={self.population_size}], but is "
                f"{self.sample_size}"
            )

    def needs(self, number: int) -> int:
        return steady(number, self.lag)

    def generation(self, number: int) -> int:
        return number // self.population_size

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        if number < self.population_size or not self._alive:
            return Proposal(self.space.sample(rng))
        assert self.sample_size is not None  # __post_init__ has set it
        size = min(self.sample_size, len(self._alive))
        drawn = [self._alive[i] for i in rng.choice(len(self._alive), size, replace=False)]
        parent = min(drawn, key=lambda told: self.objective.loss(told.evaluation)).candidate
        return Proposal(self.space.mutate(parent.proposal.genome, rng), (parent.number,))

    def tell(self, told: Told) -> None:
        if told.lost:
            return
        self._alive.append(told)
        if len(self._alive) > self.population_size:
            self._alive.popleft()

    def may_need(self) -> frozenset[int]:
        return frozenset(told.number for told in self._alive)

    @property
    def most_needed(self) -> int:
        return self.population_size
