"""A first generation that begins with hand-made networks, and with the best of other runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Candidate, Genome, Proposal, Strategy, Told


@dataclass
class Ancestral:
    """Another strategy, whose first proposals are networks that are known to be good: hand-made
    ones, and those that other runs have found.

    They take places of its first generation; to the strategy they are members like others, which it
    breeds from where they are good. What is banned is left out.

    Args:
        strategy: proposes everything after them; one that was told nothing yet.
        ancestors: proposes these, each a network of its own, in the order of their turns.
        banned: whether a genome may not be proposed now; None: all may.
    """

    strategy: Strategy
    ancestors: Sequence[Proposal]
    banned: Callable[[Genome], bool] | None = None
    _tried: set[Genome] = field(default_factory=set, repr=False)

    def needs(self, number: int) -> int:
        return self.strategy.needs(number)

    def generation(self, number: int) -> int:
        return self.strategy.generation(number)

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        if self.strategy.generation(number) == 0:
            tried = self._tried | {candidate.proposal.genome for candidate in pending}
            for proposal in self.ancestors:
                genome = proposal.genome
                if genome not in tried and not (self.banned and self.banned(genome)):
                    return proposal
        return self.strategy.ask(number, rng, pending)

    def tell(self, told: Told) -> None:
        self._tried.add(told.candidate.proposal.genome)
        self.strategy.tell(told)

    def may_need(self) -> frozenset[int] | None:
        return self.strategy.may_need()

    @property
    def most_needed(self) -> int | None:
        return self.strategy.most_needed
