"""A warm start: many networks are only scored, and the most promising become a strategy's first
generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nanonas.core import Budget, Candidate, Evaluation, Proposal, State, Strategy
from nanonas.errors import ConfigError
from nanonas.maths.ranks import mean_ranks
from nanonas.spaces.base import Space

# By benchmarks/scores.py counts order networks as well as any score; naswot is there so that not
# only size counts, and costs nothing in order: tau .22 and .28 with it, .27 and .30 for parameters
# alone, each ± .09.
SCORES = ("naswot", "params", "macs")
"""What the pool is ranked by: metrics of a scored candidate, and "params", "macs" and "depth" of
its network."""

_COSTS = ("params", "macs", "depth")
_UNTRAINED = Budget(epochs=0)


@dataclass
class WarmStart:
    """Another strategy, whose first generation is the best of a larger random pool by what costs
    next to nothing.

    Candidates 0 … pool - 1 are random and only scored. The next `first` ones are some of their
    networks again, those with the best mean rank and a few others, trained. From there on the
    strategy asks, with its own numbering, and hears only of what was trained. The pool belongs to
    its generation 0. A search warmed up by zero-cost scores: Abdelfattah et al. 2021,
    https://arxiv.org/abs/2101.08134, section 5.

    Args:
        strategy: what goes on after the pool, one that was told nothing yet.
        pool: how many are scored, 1 or more.
        first: how many of them are trained, the strategy's first generation.
        by: what they are ranked by; more is better. What a candidate lacks ranks last.
        top_share: the part of the first generation that is the best of the pool, in [0, 1]; the
            others are the pool's first by number, which is a random choice, so that a score that
            misleads here does not lead everywhere.

    Raises:
        ConfigError: a number is out of its range.
    """

    strategy: Strategy
    space: Space
    pool: int
    first: int
    by: Sequence[str] = SCORES
    top_share: float = 0.75
    _scored: list[tuple[Candidate, tuple[float, ...]]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        if min(self.pool, self.first) < 1:
            raise ConfigError(
                f"pool and first must be 1 or more for a warm start, but are {self.pool} and "
                f"{self.first}"
            )
        if not 0 <= self.top_share <= 1:
            raise ConfigError(f"top_share must lie in [0, 1], but is {self.top_share}")

    def needs(self, number: int) -> int:
        return 0 if number < self.pool else self.pool + self.strategy.needs(number - self.pool)

    def generation(self, number: int) -> int:
        return self.strategy.generation(max(0, number - self.pool))

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        if number < self.pool:
            return Proposal(self.space.sample(rng), budget=_UNTRAINED)
        own = number - self.pool
        waiting = [self._own(candidate) for candidate in pending if candidate.number >= self.pool]
        asked = self.strategy.ask(own, rng, waiting)
        chosen = self._chosen() if own < self.first else []
        if own < len(chosen):
            return Proposal(chosen[own].proposal.genome, (chosen[own].number,), asked.budget)
        return _renumbered(asked, self.pool)

    def tell(self, candidate: Candidate, evaluation: Evaluation) -> None:
        if candidate.number >= self.pool:
            self.strategy.tell(
                self._own(candidate), replace(evaluation, number=evaluation.number - self.pool)
            )
        elif evaluation.state is State.COMPLETE and candidate.key not in {
            scored.key for scored, _ in self._scored
        }:
            network = self.space.decode(candidate.proposal.genome)
            known = {
                **evaluation.metrics,
                **{name: float(getattr(network, name)) for name in _COSTS},
            }
            self._scored.append((candidate, tuple(known.get(name, -np.inf) for name in self.by)))

    def _chosen(self) -> list[Candidate]:
        """The first generation, as far as the pool has it: the best, best first, then the others by
        number.
        """
        if not self._scored:
            return []
        ranks = mean_ranks(np.array([values for _, values in self._scored]))
        best = np.argsort(ranks, kind="stable")[: round(self.top_share * self.first)].tolist()
        others = sorted(set(range(len(self._scored))) - set(best))
        return [self._scored[place][0] for place in [*best, *others][: self.first]]

    def _own(self, candidate: Candidate) -> Candidate:
        """A trained candidate as the strategy numbers it; to the strategy those of the pool are
        nobody's parents.
        """
        own = candidate.number - self.pool
        return replace(
            candidate,
            number=own,
            proposal=_renumbered(candidate.proposal, -self.pool),
            # the first generation is one beginning, however late its last was asked for
            asked_after=max(0, candidate.asked_after - self.pool) if own >= self.first else 0,
        )


def _renumbered(proposal: Proposal, by: int) -> Proposal:
    """The proposal with all numbers in it moved; those that would be below 0 are left out."""
    resumes = proposal.resumes
    return replace(
        proposal,
        parents=tuple(parent + by for parent in proposal.parents if parent + by >= 0),
        resumes=None if resumes is None or resumes + by < 0 else resumes + by,
        inherits=tuple(parent + by for parent in proposal.inherits if parent + by >= 0),
    )
