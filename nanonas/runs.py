"""One configured run, from its first candidate to the trained winner: begin it, go on with it, read it.

outputs/best_genome.json      of the newest run
outputs/NAME/
    config.yaml               as resolved
    study.db                  every candidate, evaluation and event
    weights/NUMBER.safetensors  of the best candidates
    best_genome.json  log.txt
    final/                    the winner, trained for good: model.safetensors, genome.json, result.json
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
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
    SearchConfig,
    make_budget,
    make_space,
    make_strategy,
    read_yaml,
    seconds,
    to_values,
    to_yaml,
    validated,
)
from nanonas.core import Candidate, Evaluation, SearchSpace, Shape, Strategy
from nanonas.engine.store import RunStore
from nanonas.engine.study import End, Limits, Progress, Study, ranking
from nanonas.engine.workers import WorkerPool
from nanonas.errors import Exhausted, GenomeError, RunError
from nanonas.files import write_text
from nanonas.genome import GenomeFile, read_genome, space_options
from nanonas.results.progress import SearchProgress, TrainingProgress, count, duration

if TYPE_CHECKING:
    from nanonas.training.build import NetworkModule
    from nanonas.training.data import DataSpec, Images
    from nanonas.training.final import FinalResult
    from nanonas.training.train import Recipe


@dataclass(frozen=True)
class RunFolder:
    """Where everything of one run lies."""

    path: Path

    @property
    def store(self) -> Path:
        return self.path / "study.db"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def weights(self) -> Path:
        return self.path / "weights"

    @property
    def best_genome(self) -> Path:
        return self.path / "best_genome.json"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"


def find(source: Path) -> RunFolder:
    """The run at `source`: its folder, or, for a folder of runs, its newest.

    Raises:
        RunError: there is none.
    """
    if RunFolder(source).store.exists():
        return RunFolder(source)
    runs = [path.parent for path in source.glob("*/study.db")] if source.is_dir() else []
    if not runs:
        if source.is_file():
            raise RunError(f"{str(source)!r} is a file; name a run's folder, a folder of runs or a genome's .json")
        what = "holds no run" if source.exists() else "does not exist"
        raise RunError(f"{str(source)!r} {what}; begin a run with `nanonas search --out {source}`")
    return RunFolder(max(runs, key=lambda path: (_created(path), path.name)))


def _created(path: Path) -> float:
    with RunStore.read(RunFolder(path).store) as store:
        return store.created


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
    session.images  # noqa: B018 - the images are looked at before a folder is made
    session.strategy  # noqa: B018
    folder = RunFolder(config.run.out / (config.run.name or _name(config.search.data)))
    try:
        with RunStore.begin(folder.store, to_values(config)) as store:
            write_text(folder.config, to_yaml(config))
            return session.carry_on(store, folder, final)
    except Exhausted:  # before a single candidate: nothing is worth keeping
        shutil.rmtree(folder.path, ignore_errors=True)
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
        return images_of(self.config.search)

    @cached_property
    def space(self) -> SearchSpace:
        return make_space(self.config.search, self.images.input_shape, self.images.classes)

    @cached_property
    def strategy(self) -> Strategy:
        return make_strategy(self.config.search, self.space)

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
                data_spec(search),
                recipe_of(search, self.images, self.device),
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


def train(
    genome: GenomeFile,
    folder: Path,
    config: SearchConfig,
    *,
    device: str,
    epochs: int | None,
    deadline: float | None = None,
    progress: TrainingProgress | None = None,
) -> FinalResult:
    """Trains a genome's network on all but the test images and tests it once; see `training.final.FinalTraining`.

    An unfinished training of the same kind in `folder` is continued; any other that is there is kept beside it, as
    FOLDER-1, FOLDER-2, … Gives `folder` a genome.json, too.
    """
    from nanonas.training.data import final_pictures
    from nanonas.training.device import resolve_device
    from nanonas.training.final import FinalTraining

    device = resolve_device(device)
    images = images_of(config)
    check_images(genome, images)
    network = genome.network()
    training = FinalTraining(
        network,
        *final_pictures(data_spec(config), device),
        recipe_of(config, images, device),
        config.seed,
        folder,
        {"data": images.fingerprint},
    )
    if not training.continues(epochs):
        move_aside(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{str(folder)!r} cannot be made: {error.strerror}; choose another folder with --out") from None
    result = training.run(epochs, deadline, progress.epoch if progress else lambda done, of, loss: None)
    known = {**genome.known, "test_accuracy": result.test_accuracy, "epochs": result.epochs, "test_of": images.name}
    replace(genome, known=known).write(folder / "genome.json")
    return result


def move_aside(folder: Path) -> None:
    """Keeps what is in `folder` under the next free name FOLDER-1, FOLDER-2, …; does nothing where nothing is."""
    if folder.exists() and any(folder.iterdir()):
        number = 1
        while folder.with_name(f"{folder.name}-{number}").exists():
            number += 1
        folder.rename(folder.with_name(f"{folder.name}-{number}"))


def check_images(genome: GenomeFile, images: Images) -> None:
    """Raises `GenomeError` when a genome's network was made for images of another shape or number of classes."""
    ours, theirs = (genome.input_shape, len(genome.class_names)), (images.input_shape, images.classes)
    if ours != theirs:
        raise GenomeError(
            f"the genome is of a network for {ours[1]} classes of images {_shape(ours[0])}, but {images.name} has "
            f"{theirs[1]} classes of images {_shape(theirs[0])}; name its own data with --data, or search anew"
        )


def _shape(shape: Shape) -> str:
    return f"{shape[1]}×{shape[2]}×{shape[0]}"


@dataclass(frozen=True)
class Source:
    """A network to train, show or compare: a run's best, or a genome's file."""

    genome: GenomeFile
    config: SearchConfig  # the run's, or the default with the genome's data and space
    folder: Path  # where results go
    run: RunFolder | None

    def note(self, kind: str, details: Mapping[str, Any]) -> None:
        """Stores an event with the run, if there is one."""
        if self.run is not None:
            with RunStore.resume(self.run.store) as store:
                store.event(kind, details)


def fitting(source: Source) -> Source:
    """The source with its images scaled to the size that its network was made for."""
    images, shape = images_of(source.config), source.genome.input_shape
    if images.input_shape != shape and shape[1] == shape[2]:
        return replace(source, config=replace(source.config, image_size=shape[1]))
    return source


def open_source(path: Path, data: str | None = None) -> Source:
    """What a command line's RUN or GENOME.json means. `data` replaces the images that it was found on.

    Raises:
        RunError: no run there, or nothing in it yet.
        GenomeError: no genome file, or a damaged one.
    """
    if path.suffix == ".json":
        genome = read_genome(path)
        values = {"space": genome.space, "data": data or genome.data, **genome.options}
        config = validated({"search": values}, str(path)).search
        return Source(genome, config, path.parent / path.stem, None)
    run = find(path)
    if not run.best_genome.exists():
        raise RunError(f"the run {str(run.path)!r} has no evaluated network yet; `nanonas resume {run.path}` goes on")
    config = read_yaml(run.config).search
    return Source(read_genome(run.best_genome), replace(config, data=data or config.data), run.path, run)


def search_seconds(source: Source) -> float | None:
    """Wall-clock seconds that the search behind a source took, over all its sessions; None for a genome's file."""
    if source.run is None:
        return None
    with RunStore.read(source.run.store) as store:
        moments = [(event.time, event.kind) for event in store.events()]
        moments = sorted([*moments, *((arrival, "") for arrival in store.arrival_times())])
    total, begun, last = 0.0, None, 0.0
    for moment, kind in moments:
        if kind == "started":
            total += last - begun if begun is not None else 0.0  # that session was killed after its last sign of life
            begun = last = moment
        elif begun is not None and kind in ("ended", "interrupted", "given up", ""):
            last = moment
    return total + (last - begun if begun is not None else 0.0)


def final_result(run: RunFolder) -> FinalResult | None:
    """What came of the winner's training; None where it was not trained."""
    from nanonas.training.final import FinalResult

    path = run.final / "result.json"
    return FinalResult(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


# --- from the configuration to what trains ----------------------------------------------------------------------------


def images_of(config: SearchConfig) -> Images:
    """The configured images, from the cache or decoded into it. Raises `DataError`."""
    from nanonas.training.data import load

    return load(config.data, config.image_size)


def data_spec(config: SearchConfig) -> DataSpec:
    """Which images the workers train on and judge by."""
    from nanonas.training.data import DataSpec

    return DataSpec(config.data, config.image_size, config.valid_share, config.train_images, config.seed)


def recipe_of(config: SearchConfig, images: Images, device: str) -> Recipe:
    """How networks are trained: the configuration, with what the images themselves suggest filled in."""
    from nanonas.training.augment import Augment
    from nanonas.training.device import resolve_precision
    from nanonas.training.train import Recipe

    height = images.input_shape[1]
    augment = Augment(
        crop=height // 8 if config.crop is None else config.crop,
        flip=images.flip if config.flip is None else config.flip,
        cutout=config.cutout,
        fill=tuple(round(255 * mean) for mean in images.mean),
    )
    return Recipe(
        config.batch_size,
        config.lr,
        config.warmup,
        config.momentum,
        config.weight_decay,
        config.label_smoothing,
        config.clip_norm,
        augment,
        resolve_precision(config.precision, device),
    )


# --- what a run leaves ------------------------------------------------------------------------------------------------


class Keeper:
    """Keeps best_genome.json up to date, and the weights of the best candidates only."""

    def __init__(self, folder: RunFolder, describe: Callable[..., GenomeFile], number: int) -> None:
        self.folder, self.describe, self.number = folder, describe, number
        self._kept: dict[int, tuple[float, int]] = {}  # by candidate: what to sort by, larger is better

    def hear(self, candidate: Candidate, evaluation: Evaluation) -> None:
        """Hears of an evaluation, new or stored. A later one of the same candidate replaces the earlier."""
        if not ranking([evaluation]):
            return
        self._kept[candidate.number] = (evaluation.metrics["accuracy"], -candidate.number)
        if max(self._kept, key=self._kept.__getitem__) == candidate.number:
            file = self.describe(candidate, dict(evaluation.metrics))
            file.write(self.folder.best_genome)
            file.write(self.folder.path.parent / "best_genome.json")
        if len(self._kept) > self.number:
            worst = min(self._kept, key=self._kept.__getitem__)
            del self._kept[worst]
            (self.folder.weights / f"{worst}.safetensors").unlink(missing_ok=True)


def evaluated(store: RunStore) -> list[tuple[Candidate, Evaluation]]:
    """The candidates that have an evaluation, with their latest, by number."""
    latest = store.latest()
    return [(candidate, latest[candidate.number]) for candidate in store.candidates() if candidate.number in latest]


def best_module(folder: RunFolder) -> NetworkModule:
    """The best candidate's module, with the weights it was evaluated with, in eval mode, on the CPU."""
    genome = read_genome(folder.best_genome)
    return _module(genome, folder.weights / f"{genome.known['candidate']}.safetensors")


def trained_module(source: Path) -> NetworkModule:
    """The finally trained network of a run where there is one, else `best_module`. Raises `RunError`."""
    folder = find(source)
    if (folder.final / "model.safetensors").exists():
        return _module(read_genome(folder.final / "genome.json"), folder.final / "model.safetensors")
    if not folder.best_genome.exists():
        raise RunError(f"the run {str(folder.path)!r} has no evaluated network yet; `nanonas resume` goes on with it")
    return best_module(folder)


def _module(genome: GenomeFile, weights: Path) -> NetworkModule:
    from nanonas.training.build import build_module
    from nanonas.training.trial import load_weights

    module = build_module(genome.network())
    load_weights(module, weights)
    return module.eval()


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
