"""The next candidate, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nanonas.core import Budget, Candidate, Genome, Proposal, Strategy, rng_for
from nanonas.errors import Exhausted, InvalidInput
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.base import Bans, Space
from nanonas.text import number_of

# How often a strategy may propose what cannot be taken; then random genomes are drawn.
_REDRAWS = 20
_REDRAWS_UNDER_BANS = 200  # parents that use what is banned have few children that do not
_RANDOM_DRAWS = 10_000


@dataclass
class Breeding:
    """How a strategy's proposals become candidates: within the limits, without banned operations,
    and no network twice under one budget.

    `breed` changes nothing, and `take` adds a candidate to those that were asked. So the candidates
    of a run can be derived again from its store: tell the strategy as many evaluations as each of
    them was `asked_after`, breed it, and take it.

    Args:
        strategy: proposes the genomes; the caller tells it the evaluations.
        bans: set to the banned operations before the strategy is asked, which may read them.
        budget: of proposals that come without one.
        planted_budget: of genomes that a user plants.
        seed: of the run.
    """

    space: Space
    strategy: Strategy
    limits: Limits
    bans: Bans
    budget: Budget
    planted_budget: Budget
    seed: int
    # the number of the first candidate with each identity
    _numbers: dict[tuple[str, Budget | None, bool], int] = field(default_factory=dict, repr=False)
    _keys: dict[Genome, str] = field(default_factory=dict, repr=False)  # of networks, by genome

    def take(self, candidate: Candidate) -> None:
        """Remembers a candidate that was asked, so that nothing is tried twice."""
        self._numbers.setdefault(candidate.identity, candidate.number)
        self._keys[candidate.proposal.genome] = candidate.key

    def breed(
        self,
        number: int,
        told: int,
        pending: Sequence[Candidate],
        banned: frozenset[str] = frozenset(),
        planted: Genome | None = None,
    ) -> Candidate:
        """Candidate `number`, after all candidates before it were taken.

        Args:
            told: how many evaluations the strategy has been told.
            pending: the candidates that were asked and not told yet, in number order.
            banned: operations that the candidate may not use.
            planted: a genome that takes the place of the strategy's proposal.

        Raises:
            Exhausted: all draws exceed the limits, use what is banned, or were tried before.
        """
        if planted is not None:
            return self._planted(number, planted)
        self.bans.operations = banned
        rng = rng_for(self.seed, number)
        redraws = _REDRAWS_UNDER_BANS if banned else _REDRAWS
        refused = _Refused(redraws + _RANDOM_DRAWS)
        generation = self.strategy.generation(number)
        for draw in range(refused.draws):
            if draw < redraws:
                proposal = self.strategy.ask(number, rng, pending)
            else:
                # the budget of a network that inherits may be shorter
                proposal = Proposal(
                    self.space.sample(rng), budget=proposal.budget, inherits=proposal.inherits
                )
            genome = tuple(int(gene) for gene in proposal.genome)
            candidate = Candidate(
                number,
                replace(proposal, genome=genome, budget=proposal.budget or self.budget),
                self._keys.get(genome, ""),
                asked_after=told,
                generation=generation,
            )
            if candidate.identity in self._numbers and not banned:
                continue  # without decoding it
            network = self.space.decode(genome)
            if self.limits.excess(network) > 1:
                refused.exceeds(self.limits, network)
                continue
            if self.bans(genome):
                refused.banned += 1
                continue
            candidate = replace(candidate, key=network.key)
            if candidate.identity not in self._numbers:
                return candidate
        raise Exhausted(self._why_exhausted(number, refused))

    def require_plantable(self, genome: Genome) -> None:
        """Raises `InvalidInput` for what is no genome of the space, exceeds the limits, or was a
        candidate already.
        """
        network = self.space.decode(genome)
        if self.limits.excess(network) > 1:
            raise InvalidInput(
                f"the network has {self.limits.costs(network)}, but the limits are {self.limits}; "
                "plant another one"
            )
        candidate = Candidate(0, self._plant(genome), network.key)
        if candidate.identity in self._numbers:
            raise InvalidInput(
                f"this network is candidate #{self._numbers[candidate.identity]} already; "
                "nothing is trained twice"
            )

    def _planted(self, number: int, genome: Genome) -> Candidate:
        """A planted genome as a candidate. The strategy is told, but it did not propose it."""
        key, generation = self.space.decode(genome).key, self.strategy.generation(number)
        return Candidate(number, self._plant(genome), key, asked_after=0, generation=generation)

    def _plant(self, genome: Genome) -> Proposal:
        return Proposal(genome, budget=self.planted_budget, planted=True)

    def _why_exhausted(self, tried: int, refused: _Refused) -> str:
        """One sentence: which draws were refused for which reason, and the way out."""
        space, draws = f"the space {self.space.name!r}", f"{refused.draws:,} draws"
        before = f"among the {number_of(tried, 'candidate')} asked before"
        others = ""
        if refused.too_large + refused.banned < refused.draws:
            others = f", and the others are {before}"
        if refused.banned:
            operations = ", ".join(sorted(self.bans.operations))
            too_large = ""
            if refused.too_large:
                too_large = f", {refused.too_large:,} exceed {self.limits}"
            return (
                f"what is not banned is exhausted: {refused.banned:,} of {draws} from {space} use "
                f"{operations}{too_large}{others}; allow an operation again, or choose a larger "
                "space"
            )
        if refused.smallest is None:
            return (
                f"{space} is exhausted: all of {draws} are {before}; choose a larger space for a "
                "longer search"
            )
        return (
            f"the limits are exhausted: {refused.too_large:,} of {draws} from {space} exceed "
            f"{self.limits}{others}; the smallest network beyond them has "
            f"{self.limits.costs(refused.smallest)}, so raise the limits or choose another space"
        )


@dataclass
class _Refused:
    """How many of the draws for one candidate were not taken, and why."""

    draws: int  # all that may be made
    too_large: int = 0
    banned: int = 0
    smallest: Network | None = None  # of those that are too large

    def exceeds(self, limits: Limits, network: Network) -> None:
        """Counts a network that is too large."""
        self.too_large += 1
        self.smallest = min(self.smallest or network, network, key=limits.excess)
