"""NSGA-II: a population that spreads along the front of several objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Candidate, Objective, Proposal, State, Told, steady
from nanonas.errors import ConfigError
from nanonas.maths.pareto import crowding, ranks
from nanonas.spaces.base import Space

OBJECTIVES = (Objective("accuracy"), Objective("params", maximize=False))


@dataclass(frozen=True)
class _Member:
    candidate: Candidate
    losses: tuple[float, ...]  # in the order of the objectives
    pruned: bool


@dataclass
class NSGA2:
    """NSGA-II, steady state: each evaluation joins the population, and the worst of all leaves it.

    Better is the member of lower rank by non-dominated sorting and, of equal rank, with more room
    around it. Pruned candidates rank behind all others, as those that break a constraint do there
    (section VI): no size makes up for guessing. Parents win a binary tournament; a child is bred by
    crossover of two parents and then mutated, or by mutation of one. Deb et al. 2002,
    https://doi.org/10.1109/4235.996017; steady state: Durillo et al. 2009,
    https://doi.org/10.1007/978-3-642-01020-0_18.

    Args:
        objectives: two or more, of different names.
        population_size: how many are alive at once; the first `population_size` candidates are
            random.
        crossover_rate: share of children with two parents, in [0, 1].
        lag: how many candidates may be in flight, the one that is asked for included.

    Raises:
        ConfigError: fewer than two objectives, or a population smaller than 2.
    """

    space: Space
    objectives: Sequence[Objective] = OBJECTIVES
    population_size: int = 30
    crossover_rate: float = 0.5
    lag: int = 1
    _alive: list[_Member] = field(default_factory=list, repr=False)  # best first

    def __post_init__(self) -> None:
        if len({objective.name for objective in self.objectives}) < 2:
            named = " and ".join(objective.name for objective in self.objectives) or "none"
            raise ConfigError(
                f"nsga2 needs two objectives or more, but has {named}; add for instance params"
            )
        if self.population_size < 2:
            raise ConfigError(
                f"population must be 2 or more for nsga2, but is {self.population_size}"
            )

    def needs(self, number: int) -> int:
        return steady(number, self.lag)

    def generation(self, number: int) -> int:
        return number // self.population_size

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        if number < self.population_size or not self._alive:
            return Proposal(self.space.sample(rng))
        a, b = self._winner(rng), self._winner(rng)
        if a.number != b.number and rng.random() < self.crossover_rate:
            child = self.space.crossover(a.proposal.genome, b.proposal.genome, rng)
            return Proposal(self.space.mutate(child, rng), (a.number, b.number))
        return Proposal(self.space.mutate(a.proposal.genome, rng), (a.number,))

    def _winner(self, rng: np.random.Generator) -> Candidate:
        """Of a binary tournament. Members are sorted, so the smaller of the drawn places wins."""
        drawn = rng.integers(len(self._alive), size=2)
        return self._alive[int(drawn.min())].candidate

    def tell(self, told: Told) -> None:
        losses = tuple(objective.loss(told.evaluation) for objective in self.objectives)
        if told.lost or not np.isfinite(losses).all():
            return
        pruned = told.evaluation.state is State.PRUNED
        self._alive.append(_Member(told.candidate, losses, pruned))
        self._sort()
        if len(self._alive) > self.population_size:
            self._alive.pop()
            self._sort()  # its neighbours have more room now

    def may_need(self) -> frozenset[int]:
        return frozenset(member.candidate.number for member in self._alive)

    @property
    def most_needed(self) -> int:
        return self.population_size

    def _sort(self) -> None:
        """Best first: by rank, then by room, then the older."""
        losses = np.array([member.losses for member in self._alive])  # (members, objectives)
        pruned = np.array([member.pruned for member in self._alive])  # (members,)
        rank = np.zeros(len(losses), dtype=np.int64)
        rank[~pruned] = ranks(losses[~pruned])
        rank[pruned] = len(losses) + ranks(losses[pruned])
        room = crowding(losses, rank)
        ages = np.array([member.candidate.number for member in self._alive])
        self._alive = [self._alive[i] for i in np.lexsort((ages, -room, rank))]
