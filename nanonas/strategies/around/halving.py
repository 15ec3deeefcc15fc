"""Asynchronous successive halving: all train for little, the best of them for more, the best of
those for all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nanonas.core import (
    Budget,
    Candidate,
    Objective,
    Proposal,
    State,
    Strategy,
    Told,
    steady,
)
from nanonas.errors import ConfigError
from nanonas.maths.pareto import crowding, ranks


@dataclass
class _Rung:
    """What was told of the candidates under one budget."""

    size: int = 0  # all of them
    # those that may be promoted, and their losses: of one objective the best first, else by number
    candidates: list[Candidate] = field(default_factory=list)
    losses: list[tuple[float, ...]] = field(default_factory=list)

    def take(self, told: Told, objectives: Sequence[Objective]) -> None:
        """Takes in the next evaluation."""
        self.size += 1
        evaluation = told.evaluation
        if evaluation.state is State.COMPLETE and evaluation.curve:
            losses = tuple(objective.loss(evaluation) for objective in objectives)
            place = len(self.losses)
            if len(objectives) == 1:
                place = bisect_right(self.losses, losses)
            self.losses.insert(place, losses)
            self.candidates.insert(place, told.candidate)

    def best(self, number: int, objectives: Sequence[Objective]) -> list[Candidate]:
        """So many of those that may be promoted, the best first."""
        if len(objectives) == 1:
            return self.candidates[:number]
        losses = np.array(self.losses).reshape(-1, len(objectives))
        rank = ranks(losses)
        order = np.lexsort((np.arange(len(losses)), -crowding(losses, rank), rank))
        return [self.candidates[place] for place in order[:number]]


@dataclass
class Halving:
    """Another strategy, whose candidates begin on the lowest rung of a ladder of budgets.

    Whenever the best `1 / eta` of a rung, of those told so far, holds one that was not promoted
    yet, it is: the next candidate goes on with its training under the next rung's budget. Else the
    wrapped strategy is asked. A promotion is a candidate of its own and follows from what was told
    alone, so runs stay the same on any number of workers. The wrapped strategy is told every
    evaluation, when it needs it: a network that was promoted comes again, as good as it has become.
    ASHA: Li et al. 2020, https://arxiv.org/abs/1810.05934, algorithm 2.

    The weights of all that can still be promoted stay, of which there are the more, the longer a
    run goes on: each rung has more places the more it was told, so that the worst of today may be
    promoted one day, when worse ones have come.

    With several objectives the order on a rung is that of NSGA-II, by non-domination and crowding
    (Schmucker et al. 2021, https://arxiv.org/abs/2106.12639). What was pruned or has failed
    counts, and is not promoted.

    Args:
        strategy: proposes new candidates; one that was told nothing yet.
        rungs: the budgets, two or more, the smallest first; each but the first begins where the one
            before ends.
        eta: one of so many is promoted; 2 or more.
        objectives: one or more.
        lag: how many candidates may be in flight, the one that is asked for included; 1 or more.

    Raises:
        ConfigError: too few rungs, rungs that do not follow each other, or `eta` is too small.
    """

    strategy: Strategy
    rungs: Sequence[Budget]
    eta: int = 3
    objectives: Sequence[Objective] = (Objective(),)
    lag: int = 1
    _next: int = 0  # the candidate that will be asked for after what was told
    # what the wrapped strategy is not told yet
    _held: list[Told] = field(default_factory=list, repr=False)
    _rungs: list[_Rung] = field(default_factory=list, repr=False)
    # from which rung, and the network's key
    _promoted: set[tuple[int, str]] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        if len(self.rungs) < 2:
            raise ConfigError(
                f"successive halving needs two rungs or more, but has {len(self.rungs)}"
            )
        for lower, upper in zip(self.rungs, self.rungs[1:], strict=False):
            if not lower.epochs == upper.begin < upper.epochs:
                raise ConfigError(
                    f"each rung begins where the one below ends, but one of {upper.begin} to "
                    f"{upper.epochs} epochs comes after {lower.epochs}"
                )
        if self.eta < 2:
            raise ConfigError(
                f"halving must be 2 or more, one of so many is promoted, but is {self.eta}"
            )
        self._rungs = [_Rung() for _ in self.rungs]

    def needs(self, number: int) -> int:
        return max(self.strategy.needs(number), steady(number, self.lag))

    def generation(self, number: int) -> int:
        return self.strategy.generation(number)

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        promotion = self._promotion(pending)
        if promotion is not None:
            return promotion
        unknown = [*(told.candidate for told in self._held), *pending]  # to the wrapped strategy
        return replace(self.strategy.ask(number, rng, unknown), budget=self.rungs[0])

    def tell(self, told: Told) -> None:
        candidate, budget = told.candidate, told.candidate.proposal.budget
        if budget in self.rungs:
            rung = self.rungs.index(budget)
            self._rungs[rung].take(told, self.objectives)
            if rung:
                self._promoted.add((rung - 1, candidate.key))
        self._held.append(told)
        while self.needs(self._next) <= candidate.number:
            self._next += 1
        told_now = candidate.number + 1
        passed_on = told_now - len(self._held)
        due = min(told_now, self.strategy.needs(self._next)) - passed_on
        for held in self._held[:due]:
            self.strategy.tell(held)
        del self._held[:due]

    def _promotion(self, pending: Sequence[Candidate]) -> Proposal | None:
        """The promotion that is due, from the highest rung that has one."""
        taken = {(candidate.proposal.budget, candidate.key) for candidate in pending}
        for rung in reversed(range(len(self.rungs) - 1)):
            here, above = self._rungs[rung], self.rungs[rung + 1]
            places = here.size // self.eta
            if places == 0:
                continue
            for candidate in here.best(places, self.objectives):
                if (rung, candidate.key) in self._promoted or (above, candidate.key) in taken:
                    continue
                return Proposal(
                    candidate.proposal.genome,
                    (candidate.number,),
                    above,
                    resumes=candidate.number,
                )
        return None

    def may_need(self) -> frozenset[int] | None:
        parents = self.strategy.may_need()
        if parents is None:
            return None
        promotable = (
            candidate.number
            for place, rung in enumerate(self._rungs[:-1])
            for candidate in rung.candidates
            if (place, candidate.key) not in self._promoted
        )
        # what the wrapped strategy is not told yet can become a parent
        return parents.union(promotable, (held.number for held in self._held))

    @property
    def most_needed(self) -> None:
        return None


def ladder(
    top: Budget,
    eta: int,
    number: int,
    first_share: float = 1.0,
    first_image_size: int | None = None,
    side: int = 0,
    first_epochs: int | None = None,
) -> tuple[Budget, ...]:
    """Rungs up to a budget, each of `eta` times the epochs of the one below.

    Args:
        top: the last rung, images as they are.
        number: of rungs, at most; those that would begin below one epoch are left out.
        first_share: of the training images on the first rung, in (0, 1]; it grows geometrically to
            1.
        first_image_size: pixels a side on the first rung, at most `side`; it grows likewise. None:
            as they are.
        side: pixels of the images as they are; needed with `first_image_size`.
        first_epochs: of the first rung, below the top's; epochs grow geometrically from there.
            None: as `eta` has it.

    Raises:
        ConfigError: there are fewer than two rungs, or the image size is larger than the images.
    """
    if first_image_size is not None and first_image_size > side:
        raise ConfigError(
            f"the first rung's images must be {side} pixels a side at most, as large as they are, "
            f"but rung_image_size is {first_image_size}"
        )
    if first_epochs is not None and first_epochs >= top.epochs:
        raise ConfigError(
            f"the first rung must be shorter than epochs = {top.epochs}, but rung_epochs is "
            f"{first_epochs}; lower --rung-epochs or raise --epochs"
        )
    growth = eta if first_epochs is None else (top.epochs / first_epochs) ** (1 / (number - 1))
    epochs = sorted({max(1, round(top.epochs / growth**step)) for step in range(number)})
    if len(epochs) < 2:
        raise ConfigError(
            f"successive halving needs two rungs of different length, but {number} rungs up to "
            f"epochs = {top.epochs} with halving = {eta} make one; raise --epochs or --rungs"
        )
    rungs: list[Budget] = []
    for place, until in enumerate(epochs):
        left = 1 - place / (len(epochs) - 1)  # of the way up: 1 on the first rung, 0 on the top
        size = None
        if first_image_size is not None:
            size = round(side * (first_image_size / side) ** left)
        # only on the first rung: what was promoted is better than chance
        stops = not rungs and 0 < top.stop_epoch < until
        rungs.append(
            Budget(
                until,
                stop_epoch=top.stop_epoch if stops else 0,
                stop_below=top.stop_below if stops else 0.0,
                begin=rungs[-1].epochs if rungs else 0,
                share=first_share**left,
                image_size=None if size == side else size,
            )
        )
    return tuple(rungs)
