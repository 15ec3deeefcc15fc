"""Children that begin with their parents' weights and train for less, and a few twins that show
what this does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import floor

import numpy as np

from nanonas.core import Budget, Candidate, Genome, Proposal, State, Strategy, Told
from nanonas.errors import ConfigError

# Of a child that was tried before: with other parents it would count as a new candidate.
_REDRAWS = 20


@dataclass
class Inheriting:
    """Another strategy, whose children inherit the weights of those parents that have some.

    Which parents have some follows from what was told alone, so the same children inherit the same
    weights in every run. A share of the children that were trained to their end get a twin: the
    same network, from scratch, under the study's own budget, with the child as its parent; but not
    where another genome of that network was trained from scratch before, for a study takes nothing
    twice. `analysis.Findings.head_start` reads from the pairs what inheritance does to the ranking.
    Inherited weights in an evolution: Real et al. 2017, https://arxiv.org/abs/1703.01041.

    Args:
        strategy: proposes the children; one that was told nothing yet.
        budget: of a child that inherits; None: the study's own.
        audit_share: the share of those children that get a twin, in [0, 1].

    Raises:
        ConfigError: `audit_share` is out of its range.
    """

    strategy: Strategy
    budget: Budget | None = None
    audit_share: float = 0.1
    _weights: set[int] = field(default_factory=set, repr=False)  # candidates that have weights
    _trained: set[Genome] = field(default_factory=set, repr=False)
    # keys of the networks that were trained from scratch
    _scratch: set[str] = field(default_factory=set, repr=False)
    _heirs: int = 0  # that were trained to their end
    # heirs that are to have a twin, and have none yet
    _twinless: list[Candidate] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.audit_share <= 1:
            raise ConfigError(f"audit_share must lie in [0, 1], but is {self.audit_share}")

    def needs(self, number: int) -> int:
        return self.strategy.needs(number)

    def generation(self, number: int) -> int:
        return self.strategy.generation(number)

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        from_scratch = {c.key for c in pending if c.proposal.from_scratch}
        for heir in self._twinless:
            if heir.key not in from_scratch:
                return Proposal(heir.proposal.genome, (heir.number,))
        waiting = {candidate.proposal.genome for candidate in pending}
        proposal = self.strategy.ask(number, rng, pending)
        for _ in range(_REDRAWS):
            if proposal.genome not in self._trained and proposal.genome not in waiting:
                break
            proposal = self.strategy.ask(number, rng, pending)
        inherits = tuple(dict.fromkeys(n for n in proposal.parents if n in self._weights))
        return replace(proposal, budget=self.budget, inherits=inherits) if inherits else proposal

    def tell(self, told: Told) -> None:
        candidate, evaluation = told.candidate, told.evaluation
        proposal = candidate.proposal
        self._trained.add(proposal.genome)
        if evaluation.state in (State.COMPLETE, State.PRUNED) and evaluation.accuracy is not None:
            self._weights.add(candidate.number)
        if proposal.inherits and evaluation.state is State.COMPLETE:
            twins_before = floor(self._heirs * self.audit_share)
            self._heirs += 1
            chosen = floor(self._heirs * self.audit_share) > twins_before
            if chosen and candidate.key not in self._scratch:
                self._twinless.append(candidate)
        if proposal.from_scratch:
            self._scratch.add(candidate.key)
            self._twinless = [heir for heir in self._twinless if heir.key != candidate.key]
        self.strategy.tell(told)

    def may_need(self) -> frozenset[int] | None:
        parents = self.strategy.may_need()  # a twin begins without its heir's weights
        return None if parents is None else parents & self._weights

    @property
    def most_needed(self) -> int | None:
        return self.strategy.most_needed
