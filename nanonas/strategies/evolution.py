"""The classic: whole generations, an elite, parents by tournament, crossover and mutation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Candidate, Objective, Proposal, Told
from nanonas.errors import ConfigError
from nanonas.spaces.base import Space


@dataclass
class Evolution:
    """Generational evolution.

    Generation 0 is random. The elite, the best of all so far, stays in the population of the next
    generation without being evaluated again; the other places are filled with children. Parents are
    chosen by tournament among the best quarter of the last generation and the elite; a child is
    bred by crossover of two parents and then mutated, or by mutation of one. Tournament selection:
    Goldberg & Deb 1991, https://doi.org/10.1016/B978-0-08-050684-5.50008-2.

    Args:
        population_size: members of a generation, the elite included; 2 or more.
        elite_size: how many are kept; None: a tenth of the population, at least 1.
        parents_share: the part of the last generation, best first, that may become parents, in (0,
            1].
        tournament_size: how many are drawn, with replacement, for one parent; the best of them
            wins.
        crossover_rate: share of children with two parents, in [0, 1].

    Raises:
        ConfigError: the population is smaller than 2, or the elite leaves no place for a child.
    """

    space: Space
    objective: Objective = field(default_factory=Objective)
    population_size: int = 30
    elite_size: int | None = None
    parents_share: float = 0.25
    tournament_size: int = 3
    crossover_rate: float = 0.5
    _elite: list[Told] = field(default_factory=list, repr=False)  # best first, each network once
    _last: list[Told] = field(default_factory=list, repr=False)  # generation, without failures
    _heard: int = 0  # evaluations

    def __post_init__(self) -> None:
        if self.population_size < 2:
            raise ConfigError(
                f"population must be 2 or more for evolution, but is {self.population_size}"
            )
        if self.elite_size is None:
            self.elite_size = max(1, round(self.population_size / 10))
        if not 1 <= self.elite_size < self.population_size:
            raise ConfigError(
                f"elite_size must lie in [1, {self.population_size - 1}] for a population of "
                f"{self.population_size}, but is {self.elite_size}"
            )

    @property
    def _children(self) -> int:
        """New members of each generation but the first."""
        assert self.elite_size is not None  # __post_init__ has set it
        return self.population_size - self.elite_size

    def generation(self, number: int) -> int:
        return max(0, 1 + (number - self.population_size) // self._children)

    def needs(self, number: int) -> int:
        generation = self.generation(number)
        return 0 if generation == 0 else self.population_size + (generation - 1) * self._children

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        pool = self._parents()
        if number < self.population_size or not pool:
            return Proposal(self.space.sample(rng))
        a, b = self._winner(pool, rng), self._winner(pool, rng)
        if a.number != b.number and rng.random() < self.crossover_rate:
            child = self.space.crossover(a.proposal.genome, b.proposal.genome, rng)
            return Proposal(self.space.mutate(child, rng), (a.number, b.number))
        return Proposal(self.space.mutate(a.proposal.genome, rng), (a.number,))

    def _winner(self, pool: Sequence[Told], rng: np.random.Generator) -> Candidate:
        """Of a tournament. The pool is sorted, so the smallest of the drawn places wins."""
        drawn = rng.integers(len(pool), size=self.tournament_size)
        return pool[int(drawn.min())].candidate

    def _parents(self) -> list[Told]:
        """Those that may breed, best first."""
        share = max(2, round(self.parents_share * len(self._last)))
        best = [*self._sorted(self._last)[:share], *self._elite]
        return self._sorted({told.number: told for told in best}.values())

    def tell(self, told: Told) -> None:
        if self.needs(self._heard) == self._heard:  # the first of a generation
            self._last.clear()
        self._heard += 1
        if told.lost:
            return
        self._last.append(told)
        # A network may be there again, trained for longer or from scratch.
        best: dict[str, Told] = {}
        for member in self._sorted([*self._elite, told]):
            best.setdefault(member.candidate.key, member)
        self._elite = list(best.values())[: self.elite_size]

    def may_need(self) -> frozenset[int]:
        return frozenset(told.number for told in (*self._last, *self._elite))

    @property
    def most_needed(self) -> int:
        assert self.elite_size is not None  # __post_init__ has set it
        return self.population_size + self.elite_size

    def _sorted(self, told: Iterable[Told]) -> list[Told]:
        """Best first, the older first among equals."""
        return sorted(told, key=lambda each: (self.objective.loss(each.evaluation), each.number))
