"""The loop: tell, ask, write down, submit; collect, write down.

Candidate `n` is bred after exactly the first `strategy.needs(n)` evaluations were told, in number
order. So what a run finds follows from its strategy and its seed alone: not from how many workers
there are, which of them was faster, or how often the run was interrupted. A deadline decides only
where the sequence is cut, never what is in it. What people ask of it on the way is recorded with
the first number that it applies to, before that candidate is bred.
"""

from __future__ import annotations

import enum
import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from nanonas.core import (
    Budget,
    Candidate,
    Evaluation,
    Evaluator,
    Genome,
    Proposal,
    State,
    Strategy,
    Told,
    rng_for,
)
from nanonas.engine.breeding import RANDOM_DRAWS, REDRAWS, REDRAWS_UNDER_BANS, Refused
from nanonas.engine.controls import Controls
from nanonas.engine.ranking import ranking
from nanonas.engine.requests import Inbox
from nanonas.engine.storage.events import ENDED, GIVEN_UP, INTERRUPTED, STARTED
from nanonas.engine.storage.store import RunStore
from nanonas.errors import Exhausted, InvalidInput, RunError
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.base import Bans, Space

_POLL = 0.5  # seconds within which a request is heard
_HOPELESS = (
    10  # first candidates that all fail for one reason end a run: nobody wants a thousand of them
)


class Why(str, enum.Enum):
    """Why a run ended."""

    EVALUATIONS = "evaluations"  # as many as were asked for
    GENERATIONS = "generations"  # as many as were asked for
    DEADLINE = "deadline"
    EXHAUSTED = "exhausted"  # no network left to try within the space and its limits


@dataclass(frozen=True)
class End:
    """How a run ended."""

    why: Why
    message: str  # one sentence


@dataclass(frozen=True)
class Progress:
    """What an observer sees each time an evaluation has been stored."""

    told: Told  # the candidate, and the evaluation that has arrived
    asked: int  # candidates, earlier sessions included
    evaluated: int  # of them with an evaluation that is not CUT
    running: int  # of them at work now
    best: Told | None  # so far


@dataclass
class Study:
    """One run of a search over its store. A store that holds a run already is gone on with.

    After an exception out of `run` the study is done for: resume the store with new objects.
    """

    space: Space
    strategy: Strategy  # one that was told nothing yet: the study tells it what the store holds
    # closed by whoever made it; by the study when `run` raises or gives candidates up
    evaluator: Evaluator
    store: RunStore
    budget: Budget  # for proposals that come without one
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    grace: float = 60.0  # seconds after the deadline within which what runs may still arrive
    inbox: Inbox | None = None  # where requests come from while it runs
    planted_budget: Budget | None = None  # of a genome that somebody plants; None: `budget`
    bans: Bans | None = None  # one that the strategy reads too, if it does
    # metrics that follow from the network alone, besides "params" and "macs"
    counts: Mapping[str, Callable[[Network], float]] = field(default_factory=dict)
    _told: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        self._candidates = self.store.candidates()
        self._latest = self.store.latest()
        self._seen = {candidate.identity for candidate in self._candidates}
        self._keys = {candidate.proposal.genome: candidate.key for candidate in self._candidates}
        planted = sum(candidate.proposal.planted for candidate in self._candidates)
        self._controls = Controls(
            self.store, self.space, self._require_plantable, self.inbox, planted
        )
        self._bans = self.bans or Bans(self.space)

    def run(
        self,
        evaluations: int | None = None,
        generations: int | None = None,
        deadline: float | None = None,
        observe: Callable[[Progress], None] | None = None,
        answered: Callable[[str], None] | None = None,
    ) -> End:
        """Goes on until the first of the budgets is spent; without one, until the space is
        exhausted.

        Args:
            evaluations: so many candidates, the first by number, are evaluated, counting those
                already in the store.
            generations: the strategy's generations 0 … generations - 1 are evaluated, counting
                likewise.
            deadline: as of `time.time()`. Nothing is begun after it; what runs then is validated
                and stored as CUT. While somebody has paused the search it moves on with the clock.
            observe: called after each evaluation was stored.
            answered: hears a sentence about each request, after it was recorded.

        Raises:
            Exhausted: not one candidate could be found; the message holds the network that was
                nearest to the limits.
            RunError: candidates 0 … 9 all failed for the same reason, or the store could not be
                written.
            KeyboardInterrupt: Ctrl-C; the evaluator is closed and the store can be resumed.
        """
        goal = _Goal(evaluations, generations, deadline, self._controls)
        self._controls.begin()
        self.store.event(
            STARTED,
            {"evaluations": evaluations, "generations": generations, "deadline": deadline},
        )
        try:
            end = self._loop(goal, observe, answered or (lambda sentence: None))
        except BaseException as error:
            self.evaluator.close()
            if isinstance(error, KeyboardInterrupt):
                self.store.event(INTERRUPTED)
            raise
        if end.why is Why.EXHAUSTED and not self._latest:
            raise Exhausted(end.message)
        self.store.event(ENDED, {"why": end.why.value, "message": end.message})
        return end

    def best(self) -> Told | None:
        """The best so far, as `ranking` has it; None when no accuracy was measured."""
        return next(iter(ranking(map(self._as_told, self._latest))), None)

    def _as_told(self, number: int) -> Told:
        candidate = self._candidates[number]
        return Told(candidate, self._latest[number], candidate.asked_after)

    @property
    def paused(self) -> bool:
        """Whether somebody has paused the search."""
        return self._controls.paused

    @property
    def paused_seconds(self) -> float:
        """How long `run` was paused, the last time that it was called."""
        return self._controls.paused_seconds

    def _loop(
        self,
        goal: _Goal,
        observe: Callable[[Progress], None] | None,
        answered: Callable[[str], None],
    ) -> End:
        waiting = deque(
            c
            for c in self._candidates
            if not self._evaluated(c.number) and self._wanted(c.number, goal)
        )
        running: set[int] = set()
        end: End | None = None
        while True:
            for sentence in self._controls.hear(len(self._candidates)):
                answered(sentence)
            end = end or self._fill(waiting, running, goal)
            if not running:
                if end is not None:
                    return end
                if not self._controls.paused:
                    raise RunError(
                        f"{self.strategy!r} needs evaluations of candidates that it was not asked "
                        "for yet"
                    )
                time.sleep(_POLL)
                continue
            evaluation = self.evaluator.result(
                goal.patience(self.grace, polls=self.inbox is not None)
            )
            if evaluation is None:
                if time.time() < goal.end + self.grace:
                    continue
                self.evaluator.close()
                self.store.event(GIVEN_UP, {"numbers": sorted(running)})
                return _past_deadline(len(running))
            evaluation = self._arrive(evaluation)
            running.discard(evaluation.number)
            if (
                evaluation.state is State.CUT
                and self._controls.paused_seconds
                and time.time() < goal.end
            ):
                waiting.append(
                    self._candidates[evaluation.number]
                )  # the deadline that it knew of has moved on
            elif evaluation.state is State.CUT:
                end = _past_deadline()
            if observe is not None:
                observe(self._progress(evaluation, len(running)))
            self._require_hope(evaluation.number)

    def _fill(self, waiting: deque[Candidate], running: set[int], goal: _Goal) -> End | None:
        """Submits candidates while slots are free. Returns why there will be no more; None when
        there may be.
        """
        while len(running) < self.evaluator.slots:
            number = len(self._candidates)
            if time.time() >= goal.end:
                return _past_deadline()
            if self._controls.paused and (waiting or self._wanted(number, goal)):
                return None
            if waiting:
                candidate = waiting.popleft()  # asked in an earlier session, and lost or cut there
            elif not self._wanted(number, goal):
                return goal.reached(number)
            elif not self._tell(self.strategy.needs(number)):
                return None  # waits for a straggler: the price of the same run everywhere
            else:
                try:
                    candidate = self._ask(number)
                except Exhausted as exhausted:
                    return End(Why.EXHAUSTED, str(exhausted))
            self.evaluator.submit(candidate, None if goal.deadline is None else goal.end)
            running.add(candidate.number)
        return None

    def _wanted(self, number: int, goal: _Goal) -> bool:
        if goal.evaluations is not None and number >= goal.evaluations:
            return False
        if goal.generations is None:
            return True
        asked = number < len(self._candidates)
        generation = (
            self._candidates[number].generation if asked else self.strategy.generation(number)
        )
        return generation < goal.generations

    def _evaluated(self, number: int) -> bool:
        return number in self._latest and self._latest[number].state is not State.CUT

    def _tell(self, needs: int) -> bool:
        """Tells the first `needs` evaluations, in number order; False, and tells none, while one of
        them is missing.
        """
        if not all(self._evaluated(number) for number in range(self._told, needs)):
            return False
        for number in range(self._told, needs):
            self.strategy.tell(self._as_told(number))
            self._told = number + 1
        return True

    def _ask(self, number: int) -> Candidate:
        candidate = self._breed(number)
        self.store.asked(candidate)
        self._candidates.append(candidate)
        self._seen.add(candidate.identity)
        self._keys[candidate.proposal.genome] = candidate.key
        if candidate.proposal.planted:
            self._controls.planted()
        return candidate

    def _breed(self, number: int) -> Candidate:
        """The next candidate: within the limits, without what is banned, and not tried before under
        the same budget.
        """
        rng, pending = rng_for(self.seed, number), self._candidates[self._told :]
        self._bans.operations = self._controls.banned(number)
        redraws = REDRAWS_UNDER_BANS if self._bans.operations else REDRAWS
        refused = Refused()
        for draw in range(redraws + RANDOM_DRAWS):
            if draw < redraws:
                asked = self.strategy.ask(number, rng, pending)
            else:
                # whoever inherits may have a shorter budget for it
                asked = Proposal(
                    self.space.sample(rng), budget=asked.budget, inherits=asked.inherits
                )
            planted = self._controls.plant(number)
            if planted is not None:
                return self._planted(number, planted)
            genome = tuple(int(gene) for gene in asked.genome)
            proposal = replace(asked, genome=genome, budget=asked.budget or self.budget)
            candidate = Candidate(
                number,
                proposal,
                self._keys.get(genome, ""),
                asked_after=self._told,
                generation=self.strategy.generation(number),
            )
            if candidate.identity in self._seen and not self._bans.operations:
                continue  # without drawing it
            network = self.space.decode(genome)
            if self.limits.excess(network) > 1:
                refused.too_large += 1
                refused.smallest = min(refused.smallest or network, network, key=self.limits.excess)
                continue
            if self._bans(genome):
                refused.banned += 1
                continue
            candidate = replace(candidate, key=network.key)
            if candidate.identity not in self._seen:
                return candidate
        raise Exhausted(self._what_is_exhausted(redraws + RANDOM_DRAWS, refused))

    def _planted(self, number: int, genome: Genome) -> Candidate:
        """A planted genome as a candidate. The strategy is told, but it did not propose it."""
        proposal = Proposal(genome, budget=self.planted_budget or self.budget, planted=True)
        key, generation = self.space.decode(genome).key, self.strategy.generation(number)
        return Candidate(number, proposal, key, asked_after=0, generation=generation)

    def _require_plantable(self, genome: Genome) -> None:
        """Raises `InvalidInput` for what is no genome of the space, exceeds the limits, or was a
        candidate already.
        """
        network = self.space.decode(genome)
        if self.limits.excess(network) > 1:
            raise InvalidInput(
                f"the network has {network.params:,} parameters and {network.macs:,} MACs, but "
                "the limits are "
                f"{self.limits}; plant a smaller one"
            )
        wanted = Candidate(len(self._candidates), self._planted(0, genome).proposal, network.key)
        if wanted.identity in self._seen:
            same = next(c.number for c in self._candidates if c.identity == wanted.identity)
            raise InvalidInput(
                f"this network is candidate #{same} already; nothing is trained twice"
            )

    def _what_is_exhausted(self, draws: int, refused: Refused) -> str:
        tried = len(self._candidates)
        rest = f"among the {tried:,} candidates asked before"
        too_large, banned, smallest = refused.too_large, refused.banned, refused.smallest
        if banned:
            names = ", ".join(sorted(self._bans.operations))
            over = f", {too_large:,} exceed {self.limits}" if too_large else ""
            rest = f", and the others are {rest}" if too_large + banned < draws else ""
            return (
                f"what is not banned is exhausted: {banned:,} of {draws:,} draws from the space "
                f"{self.space.name!r} "
                f"use {names}{over}{rest}; allow an operation again, or choose a larger space"
            )
        if smallest is None:
            return (
                f"the space {self.space.name!r} is exhausted: all of {draws:,} draws are {rest}; "
                "choose a larger space "
                "for a longer search"
            )
        found = f"{too_large:,} of {draws:,} draws from the space {self.space.name!r} exceed {self.limits}"
        rest = f", and the others are {rest}" if too_large < draws else ""
        return (
            f"the limits are exhausted: {found}{rest}; the smallest network beyond them has "
            f"{smallest.params:,} "
            f"parameters and {smallest.macs:,} MACs, so raise the limits or choose another space"
        )

    def _arrive(self, evaluation: Evaluation) -> Evaluation:
        """Adds the counts, and commits before anybody hears of it."""
        network = self.space.decode(self._candidates[evaluation.number].proposal.genome)
        counts = {name: count(network) for name, count in self.counts.items()}
        counts |= {"params": network.params, "macs": network.macs}
        evaluation = replace(evaluation, metrics={**evaluation.metrics, **counts})
        self.store.arrived(evaluation)
        self._latest[evaluation.number] = evaluation
        return evaluation

    def _progress(self, evaluation: Evaluation, running: int) -> Progress:
        return Progress(
            told=self._as_told(evaluation.number),
            asked=len(self._candidates),
            evaluated=sum(map(self._evaluated, self._latest)),
            running=running,
            best=self.best(),
        )

    def _require_hope(self, number: int) -> None:
        """Ends a run whose first candidates all failed for one reason.

        By number, so that it does not depend on who was faster; looked at only when one of them
        arrives, so that whoever has removed the reason, or does not mind, can resume the run.
        """
        if number >= _HOPELESS or len(self._candidates) < _HOPELESS:
            return
        first = [self._latest.get(n) for n in range(_HOPELESS)]
        if not all(e is not None and e.state is State.FAILED for e in first):
            return
        reasons = [e.reason or "" for e in first if e is not None]
        if (
            len({re.sub(r"\d+", "", reason) for reason in reasons}) == 1
        ):  # numbers and bytes may differ
            raise RunError(
                f"the first {_HOPELESS} candidates all failed with {reasons[0]!r}: remove the "
                "reason and begin again"
            )


@dataclass(frozen=True)
class _Goal:
    """The budgets of one call of `run`."""

    evaluations: int | None
    generations: int | None
    deadline: float | None
    controls: Controls

    @property
    def end(self) -> float:
        """The deadline as it is now, after the pauses; infinite where there is none."""
        return math.inf if self.deadline is None else self.deadline + self.controls.paused_seconds

    def patience(self, grace: float, polls: bool) -> float | None:
        """Seconds to wait for what runs."""
        left = max(0.0, self.end + grace - time.time())
        if polls:
            left = min(left, _POLL)
        return None if left == math.inf else left

    def reached(self, number: int) -> End:
        """Why candidate `number` is not wanted any more."""
        if self.evaluations is not None and number >= self.evaluations:
            return End(Why.EVALUATIONS, f"{self.evaluations} candidates are evaluated")
        return End(Why.GENERATIONS, f"{self.generations} generations are evaluated")


def _past_deadline(given_up: int = 0) -> End:
    lost = f"; {given_up} candidates did not stop in time and were given up" if given_up else ""
    return End(Why.DEADLINE, f"the time is over{lost}")
