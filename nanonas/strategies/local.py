"""Local search: from one network to the first better neighbour; where there is none, elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from nanonas.core import Candidate, Genome, Objective, Proposal, Told, steady
from nanonas.errors import ConfigError
from nanonas.spaces.base import Space

# Mutants that are drawn until the neighbourhood counts as exhausted, if all were tried before. One
# neighbour of 24 is overlooked in 1.4 % of the cases.
_DRAWS = 100


@dataclass
class LocalSearch:
    """First-improvement local search with restarts, steady state: the strongest simple baseline of
    the field.

    Mutants of the incumbent are tried until one is better; it becomes the incumbent. After
    `patience` mutants that were no better, or when no untried one is found, the next climb begins
    at a random genome. While several candidates are in flight, those drawn at random before the
    first of them is told are the climb's start together, and the best of them goes on. White et al.
    2020, https://arxiv.org/abs/2005.02960; Ottelander et al. 2020,
    https://arxiv.org/abs/2004.08996.

    Args:
        population_size: what counts as a "generation"; the algorithm has none.
        patience: how many mutants of one incumbent may be no better before the search begins
            elsewhere; 1 or more.
        lag: how many candidates may be in flight, the one that is asked for included.

    Raises:
        ConfigError: `patience` is below 1.
    """

    space: Space
    objective: Objective = field(default_factory=Objective)
    population_size: int = 30
    patience: int = 50
    lag: int = 1
    _tried: set[Genome] = field(default_factory=set, repr=False)  # everything told, failures too
    _incumbent: Candidate | None = field(default=None, repr=False)
    _loss: float = field(default=float("inf"), repr=False)  # the incumbent's
    _began: int = 0  # number of the candidate that this climb began with
    _since: int = 0  # evaluations that were told when the incumbent became known
    _misses: int = 0  # mutants of the incumbent that were no better

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(
                f"patience must be 1 or more for local search, but is {self.patience}"
            )

    def needs(self, number: int) -> int:
        return steady(number, self.lag)

    def generation(self, number: int) -> int:
        return number // self.population_size

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        if self._incumbent is not None and self._misses < self.patience:
            waiting = {candidate.proposal.genome for candidate in pending}
            for _ in range(_DRAWS):
                mutant = self.space.mutate(self._incumbent.proposal.genome, rng)
                if mutant not in self._tried and mutant not in waiting:
                    return Proposal(mutant, (self._incumbent.number,))
        return Proposal(self.space.sample(rng))

    def tell(self, told: Told) -> None:
        candidate, parents = told.candidate, told.candidate.proposal.parents
        self._tried.add(candidate.proposal.genome)
        loss = float("inf") if told.lost else self.objective.loss(told.evaluation)
        climb_had_ended = not parents and told.informed_by >= self._since
        of_this_climb = not parents or parents[0] >= self._began
        if isfinite(loss) and climb_had_ended:
            self._began = candidate.number
            self._adopt(candidate, loss)
        elif loss < self._loss and of_this_climb:
            self._adopt(candidate, loss)
        elif self._incumbent is not None and parents == (self._incumbent.number,):
            self._misses += 1

    def may_need(self) -> frozenset[int]:
        return frozenset() if self._incumbent is None else frozenset((self._incumbent.number,))

    @property
    def most_needed(self) -> int:
        return 1

    def _adopt(self, candidate: Candidate, loss: float) -> None:
        self._incumbent, self._loss, self._misses = candidate, loss, 0
        self._since = candidate.number + 1
