"""One configured run, from its first candidate to the trained winner: begin it, or go on with it."""

from __future__ import annotations

import bisect
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from loguru import logger
from rich.console import Console
from rich.markup import escape

from nanonas.analysis import record as records
from nanonas.analysis.record import Entry
from nanonas.config.parts import (
    load_images,
    make_budget,
    make_data,
    make_objectives,
    make_rungs,
    make_space,
    make_strategy,
)
from nanonas.config.schema import Config
from nanonas.core import Candidate, Evaluation, State, Strategy
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.engine.limits import Limits
from nanonas.engine.requests import RequestFiles
from nanonas.engine.storage.events import ENDED, IMAGES, MACHINE, TEST_SET_OPENED
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import End, Progress, Study, Why
from nanonas.errors import RunError
from nanonas.machine import described
from nanonas.report.terminal.progress import SearchProgress, TrainingProgress
from nanonas.report.words.narration import Narrator
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile, read_genome, space_options
from nanonas.session.finalists import finalists, from_scratch, train_finalists
from nanonas.session.keeper import Keeper, write_best
from nanonas.session.setup import budget_seconds, make_costs, make_generations, make_recipe
from nanonas.session.winner import train
from nanonas.spaces.base import Space
from nanonas.spaces.operations import Bans
from nanonas.text import costs, duration

if TYPE_CHECKING:
    from nanonas.data.images import Images
    from nanonas.training.final import FinalResult

FINALS_SHARE = 0.15  # of the search's time, for the finalists


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
    """One process' work on a run.

    Args:
        start: when the time budget began, as of `time.time()`.
        more_time: a search that its deadline ended goes on, and a finished winner is trained again.
    """

    def __init__(
        self, config: Config, *, quiet: bool, start: float, more_time: bool = True
    ) -> None:
        self.config, self.start, self.more_time = config, start, more_time
        self.trains_winner = False
        self.console = Console(quiet=quiet)

    @cached_property
    def device(self) -> str:
        from nanonas.training.device import resolve_device

        return resolve_device(self.config.run.device)

    @cached_property
    def images(self) -> Images:
        return load_images(self.config.search)

    @cached_property
    def space(self) -> Space:
        return make_space(self.config.search, self.images.input_shape, self.images.classes)

    @cached_property
    def bans(self) -> Bans:
        return Bans(self.space)

    @cached_property
    def strategy(self) -> Strategy:
        return make_strategy(self.config.search, self.space, self.bans)

    def check(self) -> None:
        """Raises what is wrong with the images, their split, the space or the strategy, before
        anything is made.
        """
        from nanonas.data.split import split

        search = self.config.search
        split(self.images, search.seed, search.valid_share, search.train_images)
        make_recipe(search, self.images, self.device)
        _ = self.strategy

    def noted(self) -> dict[str, Any]:
        """What a run's store keeps of its images, so that it can be read without them."""
        from nanonas.data.split import split

        search, images = self.config.search, self.images
        parts = split(images, search.seed, search.valid_share, search.train_images)
        return {
            "fingerprint": images.fingerprint,
            "input_shape": list(images.input_shape),
            "class_names": list(images.class_names),
            "train": len(parts.train),
            "valid": len(parts.valid),
        }

    def check_images(self, store: RunStore, folder: RunFolder) -> None:
        """Raises `RunError` when the images are others than those that the run was begun with."""
        begun = [event.details["fingerprint"] for event in store.events() if event.kind == IMAGES]
        if begun and begun[0] != self.images.fingerprint:
            raise RunError(
                f"the images in {self.config.search.data!r} have changed since the run in "
                f"{folder.path} was begun; "
                "bring back the old ones, or begin a new run"
            )

    def carry_on(self, store: RunStore, folder: RunFolder, final: bool) -> Outcome:
        """The search, then the winner's training. A KeyboardInterrupt says how to go on."""
        with _logged(folder), _resumable(folder):
            logger.info("{} with {}", folder.path, self.config)
            store.event(MACHINE, described())
            run = self.config.run
            self.trains_winner = final and (
                run.final_share > 0 if run.time else run.final_epochs > 0
            )
            best, evaluation, end = self._search(store, folder)
            if self.has_finals:
                best, evaluation = self._finals(store, folder) or (best, evaluation)
            logger.info(
                "search ended: {}; best is #{} with {}",
                end.message,
                best.number,
                evaluation.accuracy,
            )
            result = self._train_winner(store, folder) if self.trains_winner else None
            return Outcome(folder, best, evaluation, self.space, end, result)

    def _deadline(self) -> float | None:
        """When the search and what belongs to it has to end; what comes then is the winner's."""
        total = budget_seconds(self.config.run)
        kept = self.config.run.final_share if self.trains_winner else 0.0
        return None if total is None else self.start + total * (1 - kept)

    # --- searching --------------------------------------------------------------------------------

    def _search(self, store: RunStore, folder: RunFolder) -> tuple[Candidate, Evaluation, End]:
        search, run = self.config.search, self.config.run
        deadline = self._deadline()
        if deadline is not None and self.has_finals:
            deadline -= FINALS_SHARE * (deadline - self.start)
        ends = [event.details.get("why") for event in store.events() if event.kind == ENDED]
        if deadline is not None and ends[-1:] == [Why.DEADLINE.value] and not self.more_time:
            deadline = time.time()  # the search has had its time; what is left is the winner's
        generations = make_generations(run)
        folder.weights.mkdir(exist_ok=True)
        heard = store.told()
        kept = None if search.inherit or search.halving else run.keep_weights
        keeper = Keeper(folder, self.genome_file, kept, heard, make_objectives(search))
        wanted = self._evaluations(run.evaluations, generations)
        live = SearchProgress(self.console, wanted, deadline, generations, heard, terse=run.explain)
        narrator = self._narrator(store, folder) if run.explain else None
        pool = WorkerPool(
            self.trials(folder), hang_seconds=run.hang_seconds, log=folder.log, notice=store.event
        )
        with pool, live:

            def observe(progress: Progress) -> None:
                told = progress.told
                keeper.hear(told)
                live.show(progress, keeper.front)
                _log_evaluation(told.candidate, told.evaluation)
                if narrator is not None:
                    self._tell(narrator.hear(Entry(told.candidate, told.evaluation)))

            def answered(sentence: str) -> None:
                self.console.print(f"  {sentence}", highlight=False, soft_wrap=True, markup=False)
                logger.info("request: {}", sentence)

            study = self._study(store, folder, pool)
            live.follow(study)
            end = study.run(run.evaluations, generations, deadline, observe, answered)
            self.start += (
                study.paused_seconds
            )  # a budget of time does not run while the search is paused
            found = study.best()
        if narrator is not None:
            self._tell(narrator.end())
        if found is None:
            over = [e.reason for e in store.latest().values() if e.state is State.INFEASIBLE]
            if over:
                raise RunError(
                    f"no candidate met the limits ({end.message}); of the last one {over[-1]}: "
                    "raise it"
                )
            raise RunError(
                f"no candidate got far enough to be judged ({end.message}); give it more time "
                "with `nanonas resume "
                f"{folder.path} --time …`, or see {folder.log}"
            )
        return found.candidate, found.evaluation, end

    def _narrator(self, store: RunStore, folder: RunFolder) -> Narrator:
        objectives = make_objectives(self.config.search)
        known = records.read(store, folder.path.name, self.space, objectives=objectives)
        return Narrator(known, partial(_size, self.strategy.generation))

    def _tell(self, told: Iterable[tuple[int | None, list[str]]]) -> None:
        """Prints what the narrator has to say."""
        for generation, paragraphs in told:
            title = "Looking back" if generation is None else f"Generation {generation + 1}"
            self.console.print(f"\n[bold]{title}[/bold]", highlight=False)
            for words in paragraphs:
                # only these two keep a figure and its sign together: rich breaks lines at every
                # kind of space
                for line in wrap(
                    words.replace(" %", "\N{NO-BREAK SPACE}%"), self.console.width - 2
                ):
                    self.console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    def _study(self, store: RunStore, folder: RunFolder, pool: WorkerPool) -> Study:
        search = self.config.search
        return Study(
            self.space,
            self.strategy,
            pool,
            store,
            make_budget(search, self.images.classes),
            search.seed,
            Limits(search.max_params, search.max_macs),
            inbox=RequestFiles(folder.requests),
            planted_budget=make_rungs(search, self.space)[0],
            bans=self.bans,
        )

    def _evaluations(self, evaluations: int | None, generations: int | None) -> int | None:
        """How many candidates the search ends after, by either budget."""
        limits = [] if evaluations is None else [evaluations]
        if generations is not None:
            limits.append(_size(self.strategy.generation, generations - 1))
        return min(limits, default=None)

    def trials(self, folder: RunFolder) -> list[Any]:
        """What each worker measures candidates with."""
        from nanonas.training.device import default_workers, slots
        from nanonas.training.trial import Trial

        search = self.config.search
        workers = self.config.run.workers or default_workers(self.device)
        return [
            Trial(
                self.space,
                make_data(search),
                make_recipe(search, self.images, self.device),
                search.seed,
                device,
                weights=folder.weights,
                costs=make_costs(search),
            )
            for device in slots(self.device, workers)
        ]

    def genome_file(self, candidate: Candidate, known: Mapping[str, Any]) -> GenomeFile:
        """What a genome file says of a candidate."""
        return GenomeFile(
            self.config.search.space,
            candidate.proposal.genome,
            self.images.input_shape,
            self.images.class_names,
            space_options(self.config.search),
            self.config.search.data,
            {"candidate": candidate.number, **known},
        )

    # --- the finalists ----------------------------------------------------------------------------

    @property
    def has_finals(self) -> bool:
        """Whether the best are trained from scratch at the end: where inherited weights have
        ordered them.
        """
        return self.config.search.inherit and self.config.search.finalists > 0

    def _finals(self, store: RunStore, folder: RunFolder) -> tuple[Candidate, Evaluation] | None:
        """Trains the best few from scratch and returns the best of them; None where the time was up
        before.
        """
        search, run = self.config.search, self.config.run
        chosen, budget = (
            finalists(store.told(), search.finalists),
            make_budget(search, self.images.classes),
        )
        self.console.print(f"\nthe best {len(chosen)} are trained from scratch", highlight=False)
        measured = replace(
            make_costs(search), max_latency_ms=None, max_memory_mb=None
        )  # they have met the limits
        trials = [
            replace(trial, weights=folder.finalists, costs=measured)
            for trial in self.trials(folder)
        ]
        folder.finalists.mkdir(exist_ok=True)
        with WorkerPool(
            trials, hang_seconds=run.hang_seconds, log=folder.log, notice=store.event
        ) as pool:
            results = train_finalists(
                chosen, budget, pool, store, self._deadline(), self._say_finalist
            )
        if not results:
            return None
        best, evaluation = results[0].candidate, results[0].evaluation
        own = any(told.candidate == best and from_scratch(told, budget) for told in chosen)
        place = folder.weights if own else folder.finalists
        known = {**evaluation.metrics, "weights": f"{place.name}/{best.number}.safetensors"}
        write_best(folder, self.genome_file(best, known))
        return best, evaluation

    def _say_finalist(
        self, candidate: Candidate, inherited: Evaluation, scratch: Evaluation
    ) -> None:
        whole = scratch.state is State.COMPLETE and scratch.accuracy is not None
        came_to = f"{scratch.accuracy:.1%}" if whole else f"{scratch.reason}"
        before = f"[dim]({inherited.accuracy:.1%} in the search)[/dim]"
        line = f"  #{candidate.number}  [bold]{escape(came_to)}[/bold]{' from scratch' if whole else ''}  {before}"
        self.console.print(line, highlight=False, soft_wrap=True)

    # --- the winner -------------------------------------------------------------------------------

    def _train_winner(self, store: RunStore, folder: RunFolder) -> FinalResult:
        """Trains the best for good, in the time that is left, or for the epochs that the
        configuration says.
        """
        run, total = self.config.run, budget_seconds(self.config.run)
        with TrainingProgress(self.console, "training the winner") as progress:
            result = train(
                read_genome(folder.best_genome),
                folder.final,
                self.config.search,
                device=self.device,
                epochs=None if total is not None else run.final_epochs,
                deadline=None if total is None else self.start + total,
                again=self.more_time,
                progress=progress,
                opened=lambda: store.event(TEST_SET_OPENED, {"for": "the winner"}),
            )
        logger.info("final training: {}", result)
        return result


def _size(generation: Callable[[int], int], last: int) -> int:
    """How many candidates there are up to the end of a generation, 0-based."""
    return bisect.bisect_left(range(10**9), last + 1, key=generation)


@contextlib.contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"everything so far is kept: `nanonas resume {folder.path}` goes on"
        ) from None


# --- the log --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """Sends the log of this process to the run's own file while the run goes on."""
    with contextlib.suppress(ValueError):
        logger.remove(
            0
            # loguru's own handler, if the program has left it there, would write into the live progress
        )
    handler = logger.add(
        folder.log,
        filter="nanonas",
        format="{time:YYYY-MM-DD HH:mm:ss} {level: <7} {message}",
        level="DEBUG",
    )
    try:
        yield
    except BaseException as error:
        logger.info("stopped: {}", repr(error))
        raise
    finally:
        logger.remove(handler)


def _log_evaluation(candidate: Candidate, evaluation: Evaluation) -> None:
    accuracy = "" if evaluation.accuracy is None else f" {evaluation.accuracy:.4f}"
    logger.debug(
        "#{} {}{}, {}, {}{}",
        candidate.number,
        evaluation.state.value,
        accuracy,
        costs(evaluation.metrics),
        duration(evaluation.seconds),
        f": {evaluation.reason}" if evaluation.reason else "",
    )
    if evaluation.traceback:
        logger.debug("#{} {}", candidate.number, evaluation.traceback)
