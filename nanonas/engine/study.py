"""The loop: tell, ask, write down, submit; collect, write down.

Candidate `n` is bred after exactly the first `strategy.needs(n)` evaluations were told, in number
order. So what a run finds follows from its strategy and its seed alone: not from how many workers
there are, which of them was faster, or how often the run was interrupted. A deadline decides only
where the sequence is cut, never what is in it. A request that a user makes on the way is recorded
with the first number that it applies to, before that candidate is bred.
"""

from __future__ import annotations

import enum
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from nanonas.core import (
    DEVICE_LOST,
    Budget,
    Candidate,
    Evaluation,
    Evaluator,
    State,
    Strategy,
    Told,
)
from nanonas.engine.breeding import Breeding
from nanonas.engine.controls import Controls
from nanonas.engine.evaluators.attempt import Unkept
from nanonas.engine.needed import needed
from nanonas.engine.ranking import ranking
from nanonas.engine.requests import Inbox
from nanonas.engine.storage.events import ENDED, GIVEN_UP, INTERRUPTED, STARTED
from nanonas.engine.storage.store import RunStore
from nanonas.errors import Exhausted, RunError
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.base import Bans, Space
from nanonas.text import by_number, number_of

_POLL = 0.5  # seconds within which a request is heard
# When so many first candidates all fail for one reason, the run ends: a thousand more would too.
_HOPELESS = 10


class Why(str, enum.Enum):
    """Why a run ended."""

    EVALUATIONS = "evaluations"  # as many as were asked for
    GENERATIONS = "generations"  # as many as were asked for
    DEADLINE = "deadline"
    EXHAUSTED = "exhausted"  # no network left to try within the space and its limits
    LOST = "lost"  # the device that measures networks is gone


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
    """One run of a search over its store. A store that already holds a run is continued.

    After `run` has raised, the study cannot be used again: resume the store with new objects.
    """

    space: Space
    strategy: Strategy  # fresh: the study tells it what the store holds
    # The caller closes it; the study does where `run` raises or gives candidates up.
    evaluator: Evaluator
    store: RunStore
    budget: Budget  # for proposals that come without one
    seed: int = 0
    limits: Limits = field(default_factory=Limits)
    grace: float = 60.0  # seconds after the deadline within which what runs may still arrive
    inbox: Inbox | None = None  # where requests come from while it runs
    planted_budget: Budget | None = None  # of a genome that a user plants; None: `budget`
    bans: Bans | None = None  # the object that the strategy reads, where it reads bans
    # metrics that follow from the network alone, besides "params" and "macs"
    counts: Mapping[str, Callable[[Network], float]] = field(default_factory=dict)
    _told: int = field(default=0, init=False, repr=False)  # evaluations that the strategy has

    def __post_init__(self) -> None:
        self._candidates = self.store.candidates()
        self._latest = self.store.latest()
        self._best = next(iter(ranking(map(self._as_told, self._latest))), None)
        self._finished = sum(map(self._evaluated, self._latest))
        self._breeding = Breeding(
            self.space,
            self.strategy,
            self.limits,
            self.bans or Bans(self.space),
            self.budget,
            self.planted_budget or self.budget,
            self.seed,
        )
        for candidate in self._candidates:
            self._breeding.take(candidate)
        self._controls = Controls(
            self.store,
            self.space,
            self._breeding.require_plantable,
            self.inbox,
            planted=sum(candidate.proposal.planted for candidate in self._candidates),
        )

    def run(
        self,
        evaluations: int | None = None,
        generations: int | None = None,
        deadline: float | None = None,
        observe: Callable[[Progress], None] | None = None,
        answered: Callable[[str], None] | None = None,
    ) -> End:
        """Searches until the first of the budgets is spent; without a budget, until the space is
        exhausted.

        Args:
            evaluations: so many candidates, the first by number, are evaluated, counting those
                already in the store.
            generations: the strategy's generations 0 … generations - 1 are evaluated, counting
                likewise.
            deadline: as of `time.monotonic()`. Nothing is begun after it; what runs then is
                validated and stored as CUT. While the search is paused, it moves on with the clock.
            observe: called after each evaluation was stored.
            answered: called with a sentence about each request, after it was recorded.

        Raises:
            Exhausted: there was no candidate at all; the message holds the network that was
                nearest to the limits.
            RunError: candidates 0 … 9 all failed for the same reason, or the store or a candidate's
                weights could not be written.
            KeyboardInterrupt: Ctrl-C; the evaluator is closed and the store can be resumed.
        """
        goal = _Goal(evaluations, generations, deadline, self._controls)
        self._controls.begin()
        # as much as it knew when it was asked last, so that `needed` is what it was then
        self._tell(max((candidate.asked_after for candidate in self._candidates), default=0))
        seconds = None if deadline is None else deadline - time.monotonic()
        self.store.event(
            STARTED,
            {"evaluations": evaluations, "generations": generations, "seconds": seconds},
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
        return self._best

    def needed(self) -> frozenset[int] | None:
        """The numbers of the candidates whose weights may be needed to go on; None: of any."""
        return needed(self.strategy, self._candidates[self._told :], self._evaluated)

    @property
    def told(self) -> list[Told]:
        """As `RunStore.told`, of the objects that the study has: a long run fills memory once."""
        return [self._as_told(number) for number in sorted(self._latest)]

    def _as_told(self, number: int) -> Told:
        candidate = self._candidates[number]
        return Told(candidate, self._latest[number], candidate.asked_after)

    @property
    def paused(self) -> bool:
        """Whether the search is paused."""
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
            candidate
            for candidate in self._candidates
            if not self._evaluated(candidate.number) and self._wanted(candidate.number, goal)
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
            patience = goal.patience(self.grace, polls=self.inbox is not None)
            evaluation = self.evaluator.result(patience)
            if evaluation is None:
                if time.monotonic() < goal.end + self.grace:
                    continue
                self.evaluator.close()
                self.store.event(GIVEN_UP, {"numbers": sorted(running)})
                return _past_deadline(len(running))
            if isinstance(evaluation, Unkept):
                raise RunError(evaluation.reason)
            evaluation = self._arrive(evaluation)
            running.discard(evaluation.number)
            if DEVICE_LOST in evaluation.metrics:
                end = End(Why.LOST, f"{evaluation.reason}; resume the run when it is there again")
            elif evaluation.state is State.CUT:
                deadline_moved = self._controls.paused_seconds > 0 and time.monotonic() < goal.end
                if deadline_moved:  # since the candidate was submitted with it
                    waiting.append(self._candidates[evaluation.number])
                else:
                    end = _past_deadline()
            if observe is not None:
                observe(self._progress(evaluation, len(running)))
            self._require_hope(evaluation.number)

    def _fill(self, waiting: deque[Candidate], running: set[int], goal: _Goal) -> End | None:
        """Submits candidates while slots are free. Returns why there will be no more; None where
        there may be more.
        """
        while len(running) < self.evaluator.slots:
            number = len(self._candidates)
            if time.monotonic() >= goal.end:
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
        if number < len(self._candidates):
            return self._candidates[number].generation < goal.generations
        return self.strategy.generation(number) < goal.generations

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
        pending = self._candidates[self._told :]
        banned, planted = self._controls.banned(number), self._controls.plant(number)
        candidate = self._breeding.breed(number, self._told, pending, banned, planted)
        self.store.asked(candidate)
        self._candidates.append(candidate)
        self._breeding.take(candidate)
        if candidate.proposal.planted:
            self._controls.planted()
        return candidate

    def _arrive(self, evaluation: Evaluation) -> Evaluation:
        """Adds the counts, and commits the evaluation before anything else is done with it."""
        network = self.space.decode(self._candidates[evaluation.number].proposal.genome)
        metrics = dict(evaluation.metrics)
        metrics |= {name: count(network) for name, count in self.counts.items()}
        metrics |= {"params": network.params, "macs": network.macs}
        evaluation = replace(evaluation, metrics=metrics)
        self.store.arrived(evaluation)
        self._latest[evaluation.number] = evaluation
        self._finished += self._evaluated(evaluation.number)
        self._best = next(iter(ranking(self._contenders(evaluation.number))), None)
        return evaluation

    def _contenders(self, number: int) -> Iterable[Told]:
        """Among which the best is, after an evaluation: all that there are only where the best was
        cut, and is evaluated anew.
        """
        if self._best is None:
            return [self._as_told(number)]
        if self._best.number == number:
            return map(self._as_told, self._latest)
        return [self._best, self._as_told(number)]

    def _progress(self, evaluation: Evaluation, running: int) -> Progress:
        return Progress(
            told=self._as_told(evaluation.number),
            asked=len(self._candidates),
            evaluated=self._finished,
            running=running,
            best=self.best(),
        )

    def _require_hope(self, number: int) -> None:
        """Ends a run whose first candidates all failed for one reason.

        By number, so that it does not depend on which worker was faster; checked only when one of
        them arrives, so that a user who has removed the reason, or does not mind, can resume the
        run.
        """
        if number >= _HOPELESS:
            return
        first = [self._latest[n] for n in range(_HOPELESS) if n in self._latest]
        failed = [evaluation for evaluation in first if evaluation.state is State.FAILED]
        if len(failed) < _HOPELESS:
            return
        reasons = [evaluation.reason or "" for evaluation in failed]
        without_numbers = {re.sub(r"\d+", "", reason) for reason in reasons}  # which may differ
        if len(without_numbers) == 1:
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
        left = max(0.0, self.end + grace - time.monotonic())
        if polls:
            left = min(left, _POLL)
        return None if left == math.inf else left

    def reached(self, number: int) -> End:
        """Why candidate `number` is not wanted any more."""
        if self.evaluations is not None and number >= self.evaluations:
            return End(Why.EVALUATIONS, _evaluated(self.evaluations, "candidate"))
        assert self.generations is not None  # else nothing was reached
        return End(Why.GENERATIONS, _evaluated(self.generations, "generation"))


def _evaluated(number: int, what: str) -> str:
    return f"{number_of(number, what)} {by_number(number, 'is', 'are')} evaluated"


def _past_deadline(given_up: int = 0) -> End:
    lost = ""
    if given_up:
        were = by_number(given_up, "was", "were")
        lost = f"; {number_of(given_up, 'candidate')} did not stop in time and {were} given up"
    return End(Why.DEADLINE, f"the time is over{lost}")
