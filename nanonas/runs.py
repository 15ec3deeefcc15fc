"""One configured run, from its first candidate to the trained winner: begin it, or go on with it."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger
from rich.console import Console

from nanonas.config import (
    Config,
    RunConfig,
    load_images,
    make_budget,
    make_data,
    make_recipe,
    make_space,
    make_strategy,
    read_yaml,
    seconds,
    to_values,
    to_yaml,
    validated,
)
from nanonas.core import Candidate, Evaluation, SearchSpace, Strategy
from nanonas.engine.store import RunStore
from nanonas.engine.study import End, Limits, Progress, Study, ranking
from nanonas.engine.workers import WorkerPool
from nanonas.errors import Exhausted, RunError
from nanonas.files import write_text
from nanonas.folder import RunFolder, find
from nanonas.genome import GenomeFile, read_genome, space_options
from nanonas.results.progress import SearchProgress, TrainingProgress, count, duration
from nanonas.winner import train

if TYPE_CHECKING:
    from nanonas.training.data import Images
    from nanonas.training.final import FinalResult


def halves(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings by name, sorted into the two halves of a configuration; unknown ones land in the first."""
    run = {field.name for field in dataclasses.fields(RunConfig)}
    return {
        "search": {name: value for name, value in settings.items() if name not in run},
        "run": {name: value for name, value in settings.items() if name in run},
    }


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    folder: RunFolder
    best: Candidate
    evaluation: Evaluation  # of the best
    space: SearchSpace
    end: End  # of the search
    final: FinalResult | None


def begin(config: Config, *, quiet: bool = False, final: bool = True) -> Outcome:
    """Begins a run and sees it through.

    Args:
        final: whether to train the winner for good at the end, as far as the configuration asks for it.

    Raises:
        NanonasError: what cannot be done, in one sentence. KeyboardInterrupt goes through; the folder can be resumed.
    """
    start = time.time()
    budget_seconds(config.run)
    config = resolved(config)
    session = Session(config, quiet=quiet, start=start)
    session.check()
    folder = RunFolder(config.run.out / (config.run.name or _name(config.search.data)))
    try:
        with RunStore.begin(folder.store, to_values(config)) as store:
            write_text(folder.config, to_yaml(config))
            return session.carry_on(store, folder, final)
    except Exhausted:  # before a single candidate: nothing is worth keeping
        folder.remove()
        raise


def resume(source: Path, run: RunConfig | None = None, *, quiet: bool = False, final: bool = True) -> Outcome:
    """Goes on with the run at `source` (see `find`), with another "run" half of the configuration if one is given.

    A time budget counts from here.

    Raises:
        NanonasError: as `begin`; also when config.yaml says another "search" half than the run was begun with.
    """
    start = time.time()
    folder = find(source)
    config = read_yaml(folder.config)
    if run is not None:
        config = replace(config, run=run)
    budget_seconds(config.run)
    config = replace(config, run=replace(config.run, out=folder.path.parent, name=folder.path.name))
    with RunStore.resume(folder.store, to_values(config)) as store:
        return Session(config, quiet=quiet, start=start).carry_on(store, folder, final)


def budget_seconds(run: RunConfig) -> float | None:
    """The whole time budget in seconds. Raises `ConfigError` when it is no duration."""
    return None if run.time is None else seconds(run.time)


def resolved(config: Config) -> Config:
    """The configuration with everything filled in that depends on this machine and belongs to the run's identity."""
    from nanonas.training.device import default_workers, resolve_device, resolve_precision

    device = resolve_device(config.run.device)
    values = to_values(config)
    data = Path(config.search.data)
    values["search"]["precision"] = resolve_precision(config.search.precision, device)
    values["search"]["lag"] = config.search.lag or 2 * (config.run.workers or default_workers(device))
    values["search"]["data"] = str(data.resolve()) if data.exists() else config.search.data  # found from anywhere
    return validated(values)


def _name(data: str) -> str:
    words = re.sub(r"[^a-zA-Z0-9]+", "-", Path(data).stem).strip("-") or "run"
    return f"{datetime.now():%Y-%m-%d_%H%M%S}_{words}"


class Session:
    """One process' work on a run."""

    def __init__(self, config: Config, *, quiet: bool, start: float) -> None:
        self.config, self.start = config, start
        self.console = Console(quiet=quiet)

    @cached_property
    def device(self) -> str:
        from nanonas.training.device import resolve_device

        return resolve_device(self.config.run.device)

    @cached_property
    def images(self) -> Images:
        return load_images(self.config.search)

    @cached_property
    def space(self) -> SearchSpace:
        return make_space(self.config.search, self.images.input_shape, self.images.classes)

    @cached_property
    def strategy(self) -> Strategy:
        return make_strategy(self.config.search, self.space)

    def check(self) -> None:
        """Raises what is wrong with the images, their split, the space or the strategy, before anything is made."""
        from nanonas.training.data import split

        search = self.config.search
        split(self.images, search.seed, search.valid_share, search.train_images)
        _ = self.strategy

    def carry_on(self, store: RunStore, folder: RunFolder, final: bool) -> Outcome:
        """The search, then the winner's training. A KeyboardInterrupt says how to go on."""
        with _logged(folder), _resumable(folder):
            logger.info("{} with {}", folder.path, self.config)
            best, evaluation, end = self._search(store, folder)
            logger.info("search ended: {}; best is #{} with {}", end.message, best.number, evaluation.accuracy)
            run = self.config.run
            wanted = run.final_share > 0 if run.time else run.final_epochs > 0
            result = self._train_winner(store, folder) if final and wanted else None
            return Outcome(folder, best, evaluation, self.space, end, result)

    # --- searching ----------------------------------------------------------------------------------------------------

    def _search(self, store: RunStore, folder: RunFolder) -> tuple[Candidate, Evaluation, End]:
        search, run = self.config.search, self.config.run
        total = budget_seconds(run)
        deadline = None if total is None else self.start + total * (1 - run.final_share)
        folder.weights.mkdir(exist_ok=True)
        keeper = Keeper(folder, self.genome_file, run.keep_weights)
        for candidate, evaluation in evaluated(store):
            keeper.hear(candidate, evaluation)
        pool = WorkerPool(self.trials(folder), hang_seconds=run.hang_seconds, log=folder.log, notice=store.event)
        live = SearchProgress(self.console, run.evaluations, deadline, run.generations)
        with pool, live:

            def observe(progress: Progress) -> None:
                keeper.hear(progress.candidate, progress.evaluation)
                live.show(progress)
                _log_evaluation(progress.candidate, progress.evaluation)

            study = Study(
                self.space,
                self.strategy,
                pool,
                store,
                make_budget(search, self.images.classes),
                search.seed,
                Limits(search.max_params, search.max_macs),
            )
            end = study.run(run.evaluations, run.generations, deadline, observe)
            found = study.best()
        if found is None:
            raise RunError(f"no candidate could be trained; {folder.log} has the reasons")
        return *found, end

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

    # --- the winner ---------------------------------------------------------------------------------------------------

    def _train_winner(self, store: RunStore, folder: RunFolder) -> FinalResult:
        """Trains the best for good, in the time that is left, or for the epochs that the configuration says."""
        run, total = self.config.run, budget_seconds(self.config.run)
        with TrainingProgress(self.console, "training the winner") as progress:
            result = train(
                read_genome(folder.best_genome),
                folder.final,
                self.config.search,
                device=self.device,
                epochs=None if total is not None else run.final_epochs,
                deadline=None if total is None else self.start + total,
                progress=progress,
            )
        store.event("test set opened", {"for": "final training", "epochs": result.epochs})
        logger.info("final training: {}", result)
        return result


class Keeper:
    """Keeps best_genome.json up to date, and the weights of the best candidates only."""

    def __init__(self, folder: RunFolder, describe: Callable[..., GenomeFile], number: int) -> None:
        self.folder, self.describe, self.number = folder, describe, number
        self._kept: dict[int, tuple[Candidate, Evaluation]] = {}  # by candidate
        self._written: Evaluation | None = None  # what best_genome.json says

    def hear(self, candidate: Candidate, evaluation: Evaluation) -> None:
        """Hears of an evaluation, new or stored. A later one of the same candidate replaces the earlier."""
        self._kept[candidate.number] = (candidate, evaluation)
        ranks = ranking(evaluation for _, evaluation in self._kept.values())
        self._kept = {best.number: self._kept[best.number] for best in ranks[: self.number]}
        for worse in ranks[self.number :]:
            (self.folder.weights / f"{worse.number}.safetensors").unlink(missing_ok=True)
        if ranks and ranks[0] != self._written:
            self._written = ranks[0]
            file = self.describe(self._kept[ranks[0].number][0], dict(ranks[0].metrics))
            file.write(self.folder.best_genome)
            file.write(self.folder.path.parent / "best_genome.json")


def evaluated(store: RunStore) -> list[tuple[Candidate, Evaluation]]:
    """The candidates that have an evaluation, with their latest, by number."""
    latest = store.latest()
    return [(candidate, latest[candidate.number]) for candidate in store.candidates() if candidate.number in latest]


@contextlib.contextmanager
def _resumable(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"everything so far is kept: `nanonas resume {folder.path}` goes on") from None


# --- the log ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _logged(folder: RunFolder) -> Iterator[None]:
    """Sends the log of this process to the run's own file while the run goes on."""
    with contextlib.suppress(ValueError):
        logger.remove(0)  # loguru's own handler, if the program has left it there, would write into the live progress
    handler = logger.add(folder.log, format="{time:YYYY-MM-DD HH:mm:ss} {level: <7} {message}", level="DEBUG")
    try:
        yield
    except BaseException as error:
        logger.info("stopped: {}", repr(error))
        raise
    finally:
        logger.remove(handler)


def _log_evaluation(candidate: Candidate, evaluation: Evaluation) -> None:
    accuracy = "" if evaluation.accuracy is None else f" {evaluation.accuracy:.4f}"
    cost = f"{count(evaluation.metrics['params'])} parameters, {count(evaluation.metrics['macs'])} MACs"
    logger.debug(
        "#{} {}{}, {}, {}{}",
        candidate.number,
        evaluation.state.value,
        accuracy,
        cost,
        duration(evaluation.seconds),
        f": {evaluation.reason}" if evaluation.reason else "",
    )
    if evaluation.traceback:
        logger.debug("#{} {}", candidate.number, evaluation.traceback)
