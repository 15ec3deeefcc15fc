"""A first generation that begins with hand-made networks, and with the best of other runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Candidate, Genome, Proposal, Strategy, Told


@dataclass
class Ancestral:
    """Another strategy, whose first proposals are hand-made networks.

    They take places of its first generation; to the strategy they are members like others, which it
    breeds from where they are good. What is banned is left out.

    Args:
        strategy: proposes everything after them; one that was told nothing yet.
        ancestors: the networks by name, in the order of their turns.
        banned: whether a genome may not be proposed now; None: all may.
        recalled: the names of those that are no hand-made networks, but found by other runs.
    """

    strategy: Strategy
    ancestors: Mapping[str, Genome]
    banned: Callable[[Genome], bool] | None = None
    recalled: Collection[str] = ()
    _tried: set[Genome] = field(default_factory=set, repr=False)

    def needs(self, number: int) -> int:
        return self.strategy.needs(number)

    def generation(self, number: int) -> int:
        return self.strategy.generation(number)

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        if self.strategy.generation(number) == 0:
            tried = self._tried | {candidate.proposal.genome for candidate in pending}
            for name, genome in self.ancestors.items():
                if genome not in tried and not (self.banned and self.banned(genome)):
                    if name in self.recalled:
                        return Proposal(genome, recalled=True)
                    return Proposal(genome, ancestor=name)
        return self.strategy.ask(number, rng, pending)

    def tell(self, told: Told) -> None:
        self._tried.add(told.candidate.proposal.genome)
        self.strategy.tell(told)

    def may_need(self) -> frozenset[int] | None:
        return self.strategy.may_need()

    @property
    def most_needed(self) -> int | None:
        return self.strategy.most_needed
