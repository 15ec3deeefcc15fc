"""One process' work on a run: the search, its finalists, the final trainings."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from nanonas.analysis.hypervolume import chosen
from nanonas.core import Candidate, Evaluation, Evaluator, State, Told
from nanonas.data.found import say
from nanonas.engine.choosing import Expected
from nanonas.engine.evaluators.cluster import ClusterPool
from nanonas.engine.evaluators.joining import Cluster
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.engine.requests import RequestFiles
from nanonas.engine.storage.events import CHOSEN, ENDED, MACHINE, TEST_SET_OPENED
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import End, Progress, Why
from nanonas.errors import NanonasError, RunError
from nanonas.files import weights_in
from nanonas.machine import described
from nanonas.networks.limits import Limits
from nanonas.runs.experience import leave_for
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.session.away import Away
from nanonas.session.finalists import FINALS_GRACE, finalists, from_scratch, train_finalists
from nanonas.session.judge import Judge
from nanonas.session.keeper import Keeper, write_best
from nanonas.session.listener import Begun, Listener, Listeners
from nanonas.session.log import Log, logged
from nanonas.session.mending import Prepared, damaged_weights, lacking, mend
from nanonas.session.setup import Setup, cluster_need
from nanonas.session.winner import time_shares, train
from nanonas.spaces.base import Space
from nanonas.text import by_number, command, number_of

if TYPE_CHECKING:
    from nanonas.training.final import FinalResult
    from nanonas.training.trial import Trial

# What a candidate may take before it is given up: so many times what is predicted, and seconds.
# Predictions are seldom wrong by half, but a machine may have much else to do.
_PATIENCE, _PATIENCE_SECONDS = 10, 60.0


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    folder: RunFolder
    best: Candidate
    evaluation: Evaluation  # of the best
    space: Space
    end: End  # of the search
    final: FinalResult | None  # the best's, whatever else of a front was trained


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
        self._expected: list[Expected] = []  # of the networks of the search, when it has ended

    def run(self) -> Outcome:
        """The search, then the final training of the winner, and of others of the front where they
        are asked for.

        Raises:
            KeyboardInterrupt: Ctrl-C; its message says how to continue.
            NanonasError: what cannot be done.
        """
        with logged(self.folder), _resumable(self.folder), _swept(self.folder):
            self.store.event(MACHINE, described())
            best, evaluation, end = self._search()
            finalist = self._finals() if self.setup.has_finals else None
            best, evaluation = finalist or (best, evaluation)
            if self._expected and finalist is None and not self.trains_winner:
                self._keep_weights(Told(best, evaluation))
            result = self._train(best) if self.trains_winner else None
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
        with self._evaluator(setup.trials(folder.weights)) as evaluator:
            told = self.store.told()
            mend(damaged_weights(folder, told), told, folder, evaluator)

            def prune() -> None:
                keeper.prune(study.needed() if setup.config.search.fidelity.needs_weights else ())

            def prepare(candidate: Candidate) -> list[Evaluation]:
                gone = lacking(folder, candidate)
                if not gone:
                    return []
                # by the same workers: those of a second pool could wait for ever for their room
                known = study.told
                wanted = [one for one in known if one.number in gone]
                others = mend(wanted, known, folder, evaluator)
                keeper.restored(gone)
                return others

            def observe(progress: Progress) -> None:
                keeper.hear(progress.told)
                prune()
                self.listener.evaluated(progress, keeper.front)
                if sentence := judge.heard():
                    self.listener.answered(sentence)

            judge = Judge(setup.strategy, self.store)
            inbox = RequestFiles(folder.requests)
            study = setup.study(self.store, Prepared(evaluator, prepare), inbox)
            told = study.told
            keeper = Keeper(folder, setup.genome_file, setup.kept_weights, told, setup.objectives)
            wanted = (setup.evaluations, setup.generations, deadline)
            end: End | None = None
            try:
                begun = Begun(setup, folder, self.store, study, told, *wanted, judge.worth)
                self.listener.begun(begun)
                end = study.run(
                    run.evaluations, setup.generations, deadline, observe, self.listener.answered
                )
                judge.end()
                prune()  # also where nothing was evaluated, and the configuration has changed
            finally:
                self.listener.ended(end)
        self.start += study.paused_seconds  # the time budget stands still while a search is paused
        best = study.best()
        if best is None:
            raise RunError(self._nothing_found(end))
        best = self._choose(best)
        try:
            leave_for(setup.config.search, self.store)
        except NanonasError as error:  # nothing of this run depends on it
            logger.warning("what was learnt is not left to later runs: {}", error)
        return best.candidate, best.evaluation, end

    def _choose(self, highest: Told) -> Told:
        """The best network of the search: that of which most is expected, where enough was trained
        to expect anything, else that with the highest figure. It is noted, so that readers of the
        run need not fit a process.
        """
        self._expected = self.setup.expected(self.store.told())
        if not self._expected:
            return highest
        best, of = self._expected[0], {one.number: one.accuracy for one in self._expected}
        details = {"number": best.number, "accuracy": best.accuracy}
        self.store.event(CHOSEN, {**details, "of_highest": of.get(highest.number)})
        if best.number != highest.number:
            known = dict(best.told.evaluation.metrics)
            write_best(self.folder, self.setup.genome_file(best.told.candidate, known))
        return best.told

    def _keep_weights(self, best: Told) -> None:
        """Trains the best network again where its weights are gone: while the search went on, those
        with the highest figures were kept.
        """
        if not weights_in(self.folder.weights, best.number).exists():
            with self._pool(self.setup.trials(self.folder.weights)[:1]) as pool:
                mend([best], self.store.told(), self.folder, pool)

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
        return self._pool(trials, self.setup.config.run.candidate_timeout)

    def _pool(self, trials: list[Trial], timeout: float | None = None) -> WorkerPool | ClusterPool:
        """Workers for these trials.

        Args:
            timeout: seconds after which a candidate is given up; None: many times what is
                predicted.
        """
        run, timeouts = self.setup.config.run, partial(self._timeout, trials[0], timeout)
        if self.cluster is None:
            return WorkerPool(
                trials,
                hang_seconds=run.hang_seconds,
                timeout=timeouts,
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
            timeout=timeouts,
            memory_mb=run.worker_memory_mb,
            notice=self.store.event,
        )

    def _timeout(self, trial: Trial, given: float | None, candidate: Candidate) -> float | None:
        """Seconds after which a candidate is given up; None: never."""
        setup = self.setup
        # a candidate may wait long for another device
        if given is not None or setup.agent is not None or setup.cost is None:
            return given
        images = len(setup.split.train), len(setup.split.valid)
        return _PATIENCE * trial.predicted_seconds(candidate, images) + _PATIENCE_SECONDS

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
        most = [one.told for one in self._expected]
        best_few = finalists(self.store.told(), setup.finalists, most)
        self.listener.finals_begun(len(best_few), setup.finals_budget)
        folder.finalists.mkdir(exist_ok=True)
        # they have met the limits, and what they cost is known
        trials = [
            replace(trial, limits=Limits(), measured=frozenset())
            for trial in setup.trials(folder.finalists)
        ]
        trials = trials[: max(1, len(best_few))]
        in_search = {told.number for told in best_few if from_scratch(told, setup.finals_budget)}
        folders = (folder.weights, folder.finalists)
        gone = {n for n in in_search if not any(weights_in(one, n).exists() for one in folders)}
        with self._pool(trials) as pool:
            results = train_finalists(
                best_few,
                setup.finals_budget,
                pool,
                self.store,
                self._finals_deadline(),
                self.listener.finalist,
                gone,
            )
        if not results:
            return None
        best, evaluation = results[0].candidate, results[0].evaluation
        kept = best.number in in_search and weights_in(folder.weights, best.number).exists()
        weights = weights_in(folder.weights if kept else folder.finalists, best.number)
        known = {**evaluation.metrics, "weights": f"{weights.parent.name}/{weights.name}"}
        write_best(folder, setup.genome_file(best, known))
        return best, evaluation

    # --- the final trainings ----------------------------------------------------------------------

    def _train(self, best: Candidate) -> FinalResult:
        """The final training of the best, then of the others of the front where they are asked for:
        in the time that is left, or each for the epochs that the configuration says.

        Returns:
            that of the best.
        """
        run, finals = self.setup.config.run, self._final_trainings(best)
        end = None if run.time is None else self.start + run.time
        shares = time_shares(self.setup, [final.genome for final in finals])
        results = []
        for place, final in enumerate(finals):
            begun, deadline = time.monotonic(), None
            if end is not None:
                deadline = begun + (end - begun) * shares[place] / sum(shares[place:])
            result = self._train_one(final, deadline)
            results.append(result)
            if end is not None and not self.more_time:  # what an earlier session has spent on it
                end -= max(0.0, result.seconds - (time.monotonic() - begun))
        return results[0]

    def _train_one(self, final: _Final, deadline: float | None) -> FinalResult:
        run = self.setup.config.run
        return train(
            final.genome,
            final.folder,
            self.setup,
            epochs=run.final_epochs if run.time is None else None,
            deadline=deadline,
            again=self.more_time,
            label=f"training {final.name}",
            listener=self.listener,
            opened=lambda: self.store.event(TEST_SET_OPENED, {"for": final.purpose}),
            elsewhere=self._away,
        )

    @cached_property
    def _away(self) -> Away | None:
        """What trains on the cluster, if one was joined."""
        if self.cluster is None:
            return None
        gpus = cluster_need(self.setup.config).gpus > 0
        return Away(self.cluster, self.setup.images, gpus, self.store.event)

    def _final_trainings(self, best: Candidate) -> list[_Final]:
        """What is trained at the end, the best first."""
        folder, setup = self.folder, self.setup
        finals = [_Final(read_genome(folder.best_genome), folder.final, "the winner", "the winner")]
        if setup.final_networks == 1:
            return finals
        images, classes = len(setup.split.valid), setup.space.classes
        wanted = (best.number, setup.final_networks, images, classes)
        members = chosen(self.store.told(), setup.objectives, *wanted)
        say(_chosen_in_words([member.number for member in members], setup.final_networks))
        for number in [member.number for member in members[1:]]:
            genome = read_genome(folder.front / f"{number}.json")
            name, purpose = f"#{number} of the front", f"front, #{number}"
            finals.append(_Final(genome, folder.final_of(number), name, purpose))
        return finals


@dataclass(frozen=True)
class _Final:
    """A final training."""

    genome: GenomeFile
    folder: Path
    name: str  # of its network, in words
    purpose: str  # that the test set is opened for, as the run records it


def _chosen_in_words(numbers: Sequence[int], wanted: int) -> str:
    """Which networks of a front are trained."""
    others = ", ".join(f"#{number}" for number in numbers[1:])
    words = f"the winner, #{numbers[0]}"
    words += f", and of the front {others}" if others else ", alone"
    if len(numbers) < wanted:
        there = number_of(len(numbers), "network")
        are = by_number(len(numbers), "is", "are")
        words += f": there {are} no more than {there} of the {wanted} that --front asks for"
    return f"final training of {words}"


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
