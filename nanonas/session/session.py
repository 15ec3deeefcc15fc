"""One process' work on a run: the search, its finalists, the winner's training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nanonas.core import Candidate, Evaluation, Evaluator, State
from nanonas.engine.evaluators.cluster import ClusterPool
from nanonas.engine.evaluators.joining import Cluster
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.engine.requests import RequestFiles
from nanonas.engine.storage.events import ENDED, MACHINE, TEST_SET_OPENED
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import End, Progress, Why
from nanonas.errors import RunError
from nanonas.machine import described
from nanonas.networks.limits import Limits
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import read_genome
from nanonas.session.finalists import FINALS_GRACE, finalists, from_scratch, train_finalists
from nanonas.session.keeper import Keeper, write_best
from nanonas.session.listener import Begun, Listener, Listeners
from nanonas.session.log import Log, logged
from nanonas.session.mending import damaged_weights, mend
from nanonas.session.setup import Setup, cluster_need
from nanonas.session.winner import train
from nanonas.spaces.base import Space
from nanonas.text import command

if TYPE_CHECKING:
    from nanonas.training.final import FinalResult
    from nanonas.training.trial import Trial


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    folder: RunFolder
    best: Candidate
    evaluation: Evaluation  # of the best
    space: Space
    end: End  # of the search
    final: FinalResult | None


class Session:
    """One process' work on a run whose store is open.

    Args:
        listener: hears what happens.
        start: when the time budget began, as of `time.monotonic()`.
        more_time: a search that its deadline ended is continued, and a finished winner is trained
            again.
        final: whether the winner is trained at the end, as far as the configuration asks for it.
        cluster: that was joined, and trains candidates; None: this machine does.
    """

    def __init__(
        self,
        setup: Setup,
        store: RunStore,
        folder: RunFolder,
        listener: Listener,
        *,
        start: float,
        more_time: bool = True,
        final: bool = True,
        cluster: Cluster | None = None,
    ) -> None:
        self.setup, self.store, self.folder = setup, store, folder
        self.cluster = cluster
        self.listener = Listeners(Log(), listener)
        self.start, self.more_time = start, more_time
        self.trains_winner = final and setup.config.run.trains_winner

    def run(self) -> Outcome:
        """The search, then the winner's training.

        Raises:
            KeyboardInterrupt: Ctrl-C; its message says how to continue.
            NanonasError: what cannot be done.
        """
        with logged(self.folder), _resumable(self.folder), _swept(self.folder):
            self.store.event(MACHINE, described())
            best, evaluation, end = self._search()
            if self.setup.has_finals:
                best, evaluation = self._finals() or (best, evaluation)
            result = self._train_winner() if self.trains_winner else None
            return Outcome(self.folder, best, evaluation, self.setup.space, end, result)

    def _deadline(self) -> float | None:
        """When the search, with its finalists, has to end: the rest of the time is the winner's."""
        run = self.setup.config.run
        if run.time is None:
            return None
        kept = run.kept_share if self.trains_winner else 0.0
        return self.start + run.time * (1 - kept)

    @property
    def _one_candidate(self) -> bool:
        """Whether the time is too short for a search: then the one candidate, which trains for a
        moment, is not given up, for the winner is certain.
        """
        run = self.setup.config.run
        return run.time is not None and run.evaluations == 1

    # --- the search -------------------------------------------------------------------------------

    def _search_deadline(self) -> float | None:
        deadline = self._deadline()
        if deadline is None or self._one_candidate:
            return None
        ends = [event.details.get("why") for event in self.store.events() if event.kind == ENDED]
        if ends[-1:] == [Why.DEADLINE.value] and not self.more_time:
            return time.monotonic()  # the search has had its time; what is left is the winner's
        return self.start + self.setup.search_share * (deadline - self.start)

    def _search(self) -> tuple[Candidate, Evaluation, End]:
        setup, folder, run = self.setup, self.folder, self.setup.config.run
        deadline = self._search_deadline()
        folder.weights.mkdir(exist_ok=True)
        self._mend_weights()
        with self._evaluator(setup.trials(folder.weights)) as evaluator:
            study = setup.study(self.store, evaluator, RequestFiles(folder.requests))
            told = study.told
            keeper = Keeper(folder, setup.genome_file, setup.kept_weights, told, setup.objectives)

            def observe(progress: Progress) -> None:
                keeper.hear(progress.told)
                self.listener.evaluated(progress, keeper.front)

            wanted = (setup.evaluations, setup.generations, deadline)
            end: End | None = None
            try:
                self.listener.begun(Begun(setup, folder, self.store, study, told, *wanted))
                end = study.run(
                    run.evaluations, setup.generations, deadline, observe, self.listener.answered
                )
            finally:
                self.listener.ended(end)
        self.start += study.paused_seconds  # the time budget stands still while a search is paused
        best = study.best()
        if best is None:
            raise RunError(self._nothing_found(end))
        return best.candidate, best.evaluation, end

    def _mend_weights(self) -> None:
        """Trains candidates again whose weights are damaged: others may begin with them."""
        damaged = damaged_weights(self.folder, self.store.told())
        if damaged:
            trial = self.setup.trials(self.folder.weights)[0]
            # it has met the limits, and what is measured differs each time
            with self._pool([replace(trial, limits=Limits(), measured=frozenset())]) as pool:
                mend(damaged, pool)

    def _nothing_found(self, end: End) -> str:
        """A sentence about a search in which no network was judged."""
        latest = self.store.latest().values()
        over = [e.reason for e in latest if e.state is State.INFEASIBLE]
        if over:
            return (
                f"no candidate met the limits ({end.message}); of the last one {over[-1]}: raise it"
            )
        failed = [e for e in latest if e.state is State.FAILED]
        if failed and len(failed) == len(latest):
            return (
                f"every candidate failed ({end.message}), the last one with: {failed[-1].reason}; "
                f"mend that and go on with `{command('nanonas resume', self.folder.path)}`, or see "
                f"{self.folder.log}"
            )
        return (
            f"no candidate got far enough to be judged ({end.message}); give it more time with "
            f"`{command('nanonas resume', self.folder.path, '--time …')}`, or see {self.folder.log}"
        )

    def _evaluator(self, trials: list[Trial]) -> AbstractContextManager[Evaluator]:
        """Workers; but where the time is so short that there is no search, this process: what it
        takes workers to begin is a part of a short time.
        """
        if self._one_candidate:
            return contextlib.closing(SerialEvaluator(trials[0]))
        return self._pool(trials)

    def _pool(self, trials: list[Trial]) -> WorkerPool | ClusterPool:
        run = self.setup.config.run
        if self.cluster is None:
            return WorkerPool(
                trials,
                hang_seconds=run.hang_seconds,
                memory_mb=run.worker_memory_mb,
                log=self.folder.log,
                notice=self.store.event,
            )
        need = cluster_need(self.setup.config)
        return ClusterPool(
            self.cluster,
            replace(trials[0], device="cuda:0" if need.gpus else "cpu"),
            need=need,
            images=self.setup.images,
            weights=trials[0].weights,
            most=run.workers,
            hang_seconds=run.hang_seconds,
            memory_mb=run.worker_memory_mb,
            notice=self.store.event,
        )

    # --- the finalists ----------------------------------------------------------------------------

    def _finals_deadline(self) -> float | None:
        """When the finalists have to end. Those that train for longer may take a part of the
        winner's time, where the machine is slower than it was measured to be: one that is cut
        counts for nothing, and what all of them have cost was for nothing, too.
        """
        deadline, run = self._deadline(), self.setup.config.run
        longer = self.setup.config.search.fidelity.finalist_seconds is not None
        if deadline is None or run.time is None or not (longer and self.trains_winner):
            return deadline
        return deadline + FINALS_GRACE * run.kept_share * run.time

    def _finals(self) -> tuple[Candidate, Evaluation] | None:
        """Trains the best few from scratch and returns the best of them; None where the time was up
        before.
        """
        setup, folder = self.setup, self.folder
        chosen = finalists(self.store.told(), setup.finalists)
        self.listener.finals_begun(len(chosen), setup.finals_budget)
        folder.finalists.mkdir(exist_ok=True)
        # they have met the limits, and what they cost is known
        trials = [
            replace(trial, limits=Limits(), measured=frozenset())
            for trial in setup.trials(folder.finalists)
        ]
        trials = trials[: max(1, len(chosen))]
        with self._pool(trials) as pool:
            results = train_finalists(
                chosen,
                setup.finals_budget,
                pool,
                self.store,
                self._finals_deadline(),
                self.listener.finalist,
            )
        if not results:
            return None
        best, evaluation = results[0].candidate, results[0].evaluation
        in_search = any(
            told.candidate == best and from_scratch(told, setup.finals_budget) for told in chosen
        )
        place = folder.weights if in_search else folder.finalists
        known = {**evaluation.metrics, "weights": f"{place.name}/{best.number}.safetensors"}
        write_best(folder, setup.genome_file(best, known))
        return best, evaluation

    # --- the winner -------------------------------------------------------------------------------

    def _train_winner(self) -> FinalResult:
        """The final training of the best, in the time that is left, or for the epochs that the
        configuration says.
        """
        run = self.setup.config.run
        return train(
            read_genome(self.folder.best_genome),
            self.folder.final,
            self.setup,
            epochs=run.final_epochs if run.time is None else None,
            deadline=None if run.time is None else self.start + run.time,
            again=self.more_time,
            label="training the winner",
            listener=self.listener,
            opened=lambda: self.store.event(TEST_SET_OPENED, {"for": "the winner"}),
        )


@contextlib.contextmanager
def _swept(folder: RunFolder) -> Iterator[None]:
    """Removes what a killed session was writing; at the end once more, for a worker of it may have
    lived for another second.
    """
    folder.sweep()
    try:
        yield
    finally:
        folder.sweep()


@contextlib.contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # the latter is rich's, where nobody reads its lines
        raise KeyboardInterrupt(
            f"everything so far is kept: `{command('nanonas resume', folder.path)}` goes on"
        ) from None
