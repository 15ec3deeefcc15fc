"""A run's folder, and the networks in it.

outputs/best_genome.json      of the newest run
outputs/NAME/
    config.yaml               as resolved
    study.db                  every candidate, evaluation and event
    weights/NUMBER.safetensors  of the best candidates; of all where weights are inherited or gone on with
    best_genome.json  log.txt
    requests/*.json           what people have asked for and the search has not heard of yet
    report.html  figures/*.png  what was found, see nanonas.report
    finalists/NUMBER.safetensors  with inheritance: the best few, trained from scratch
    front/NUMBER.json         with several objectives: the genomes of the best trade-offs
    final/                    the winner, trained for good: model.safetensors, genome.json, result.json
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from nanonas.config import Config, SearchConfig, load_images, read_yaml, validated
from nanonas.core import Shape
from nanonas.engine.store import RunStore
from nanonas.errors import GenomeError, RunError
from nanonas.genome import GenomeFile, read_genome
from nanonas.results.record import searching

if TYPE_CHECKING:
    from nanonas.training.build import NetworkModule


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
    def front(self) -> Path:
        return self.path / "front"

    @property
    def final(self) -> Path:
        return self.path / "final"

    @property
    def finalists(self) -> Path:
        return self.path / "finalists"

    @property
    def requests(self) -> Path:
        return self.path / "requests"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def remove(self) -> None:
        """Removes the files of a run that came to nothing, and the folder if nothing else is in it."""
        for path in (*self.path.glob("study.db*"), self.path / ".study.db.lock", self.config, self.log):
            path.unlink(missing_ok=True)
        for folder in (self.weights, self.requests, self.path):
            with contextlib.suppress(OSError):  # not there, or not empty
                folder.rmdir()


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
    """When a run was begun; when its store was last changed, where that cannot be read."""
    store = RunFolder(path).store
    try:
        with RunStore.read(store) as opened:
            return opened.created
    except RunError:
        return store.stat().st_mtime if store.exists() else 0.0


def read_config(folder: RunFolder) -> Config:
    """The run's configuration: config.yaml, or what the store holds where that is gone. Raises `NanonasError`."""
    if folder.config.exists():
        return read_yaml(folder.config)
    with RunStore.read(folder.store) as store:
        return validated(store.config, str(folder.store))


@dataclass(frozen=True)
class Source:
    """A network to train, show or compare: a run's best, or a genome's file."""

    genome: GenomeFile
    config: SearchConfig  # the run's, or the default with the genome's data and space
    folder: Path  # where results go
    run: RunFolder | None

    def opened(self, what: str) -> None:
        """Records with the run, if there is one, that the test set was opened, and what for."""
        if self.run is not None:
            try:
                with RunStore.resume(self.run.store) as store:
                    store.event("test set opened", {"for": what})
            except RunError as error:  # its search is going on, or the folder is read-only: no reason to lose a result
                logger.warning("that the test set was opened for {} is not recorded: {}", what, error)


def fitting(source: Source) -> Source:
    """The source with its images scaled to the size that its network was made for.

    Raises:
        GenomeError: the images have other channels or another number of classes than the network.
    """
    images, genome = load_images(source.config), source.genome
    shape = genome.input_shape
    if images.input_shape != shape and images.input_shape[0] == shape[0] and shape[1] == shape[2]:
        source = replace(source, config=replace(source.config, image_size=shape[1]))
        images = load_images(source.config)
    if (images.input_shape, images.classes) != (shape, len(genome.class_names)):
        raise GenomeError(
            f"the genome is of a network for {len(genome.class_names)} classes of images {_shape(shape)}, but "
            f"{images.name} has {images.classes} classes of images {_shape(images.input_shape)}; name its own data "
            "with --data, or search anew"
        )
    return source


def _shape(shape: Shape) -> str:
    return f"{shape[1]}×{shape[2]}×{shape[0]}"


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
    genome, config = best_genome(run), read_config(run).search
    return Source(genome, replace(config, data=data or config.data), run.path, run)


def best_genome(run: RunFolder) -> GenomeFile:
    """The genome of a run's best network. Raises `RunError` where none is evaluated yet."""
    if not run.best_genome.exists():
        raise RunError(f"the run {str(run.path)!r} has no evaluated network yet; `nanonas resume {run.path}` goes on")
    return read_genome(run.best_genome)


def search_seconds(run: RunFolder) -> float:
    """Wall-clock seconds that a run's search took, over all its sessions, its pauses left out."""
    with RunStore.read(run.store) as store:
        return searching(store.events(), store.arrival_times())[1]


def best_module(folder: RunFolder) -> NetworkModule:
    """The best candidate's module, with the weights it was evaluated with, in eval mode, on the CPU.

    Raises:
        RunError: none is evaluated yet, or its weights are gone.
    """
    genome = best_genome(folder)
    weights = genome.known.get("weights", f"{folder.weights.name}/{genome.known.get('candidate')}.safetensors")
    return _module(genome, folder.path / str(weights))


def trained_module(source: Path) -> NetworkModule:
    """The finally trained network of a run where there is one, else `best_module`. Raises `RunError`."""
    folder = find(source)
    if (folder.final / "model.safetensors").exists():
        return _module(read_genome(folder.final / "genome.json"), folder.final / "model.safetensors")
    return best_module(folder)


def _module(genome: GenomeFile, weights: Path) -> NetworkModule:
    from nanonas.training.build import build_module
    from nanonas.training.trial import load_weights

    module = build_module(genome.network(), seed=0)
    load_weights(module, weights)
    return module.eval()
