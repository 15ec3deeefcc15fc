"""A network to train, show or compare."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from nanonas.config.files import validated
from nanonas.config.schema import SearchConfig
from nanonas.config.trainings import load_images
from nanonas.core import Shape
from nanonas.data.images import changed_message
from nanonas.data.sources import find_reader
from nanonas.engine.storage.events import TEST_SET_OPENED
from nanonas.engine.storage.store import RunStore
from nanonas.errors import GenomeError, RunError
from nanonas.runs.backbones import kept_backbone
from nanonas.runs.folder import RunFolder, best_genome, find, fingerprint_of, read_config
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.runs.models import GENOME, final_at

if TYPE_CHECKING:
    from nanonas.data.images import Images


@dataclass(frozen=True)
class Source:
    """A network to train, show or compare: a run's best, or a genome's file."""

    genome: GenomeFile
    config: SearchConfig  # the run's, or the default with the genome's data and space
    folder: Path  # where results go
    run: RunFolder | None
    fingerprint: str | None = None  # of the only images that will do; None: any
    images: Images | None = None  # the configured ones, once they are known to fit

    def opened(self, what: str) -> None:
        """Records with the run, where there is one, that the test set was opened, and what for."""
        if self.run is not None:
            try:
                with RunStore.resume(self.run.store) as store:
                    store.event(TEST_SET_OPENED, {"for": what})
            # its search is going on, or the folder is read-only: no reason to lose a result
            except RunError as error:
                logger.warning(
                    "that the test set was opened for {} is not recorded: {}", what, error
                )


def fitting(source: Source) -> Source:
    """The source with its images scaled to the size that its network was made for.

    Raises:
        GenomeError: the images have other channels or another number of classes than the network.
        RunError: they are others than those that the run was begun with, and not named by a user.
    """
    data, genome = source.config.data, source.genome
    images = load_images(data, kept_backbone=backbone_weights(source))
    shape = genome.input_shape
    if source.fingerprint not in (None, images.fingerprint):
        raise RunError(changed_message(data.data, source.folder))
    same = images.backbone is None and images.input_shape[0] == shape[0]  # kind of images
    if images.input_shape != shape and same and shape[1] == shape[2]:
        data = replace(data, image_size=shape[1])
        source = replace(source, config=replace(source.config, data=data))
        images = load_images(data)
    if (images.input_shape, images.classes) != (shape, len(genome.class_names)):
        raise GenomeError(
            f"the genome is of a network for {len(genome.class_names)} classes of images "
            f"{_shape(shape)}, but "
            f"{images.name} has {images.classes} classes of images {_shape(images.input_shape)}; "
            "name its own data "
            "with --data, or search anew"
        )
    return replace(source, images=images)


def backbone_weights(source: Source) -> Path | None:
    """The weights of the backbone whose maps are its images that lie with it, if any: those of its
    run, which are frozen, or where there is none its own, which may have learnt with it.
    """
    rule = source.genome.preprocessing
    if rule is None or rule.backbone is None:
        return None
    if rule.backbone.tuned and source.run is not None:
        return source.run.backbone
    return kept_backbone(source.folder, rule.backbone)


def _shape(shape: Shape) -> str:
    return f"{shape[1]}×{shape[2]}×{shape[0]}"


def open_source(path: Path, data: str | None = None, skip_broken: bool = False) -> Source:
    """What a command line's RUN or GENOME.json means.

    Args:
        data: replaces the images that it was found on.
        skip_broken: whether to go on without images that cannot be read, also where its search did
            not.

    Raises:
        RunError: no run there, or nothing in it yet.
        GenomeError: no genome file, or a damaged one.
        DataError: `data` is no source of images.
    """
    if data is not None:
        find_reader(data)
    if path.suffix == ".json":
        genome = read_genome(path)
        values = {
            **genome.options,
            "space": genome.space,
            "data": data or genome.data,
            "skip_broken": skip_broken,
        }
        if genome.preprocessing is not None and genome.preprocessing.backbone is not None:
            backbone = genome.preprocessing.backbone
            values |= {"backbone": backbone.name, "image_size": backbone.image_shape[1]}
        config = validated({"search": values}, str(path)).search
        return Source(genome, config, path.parent / path.stem, None)
    run = find(path)
    genome, config = best_genome(run), read_config(run).search
    if skip_broken:
        config = replace(config, data=replace(config.data, skip_broken=True))
    if data is not None:
        config = replace(config, data=replace(config.data, data=data))
        return Source(genome, config, run.path, run)
    with RunStore.read(run.store) as store:
        return Source(genome, config, run.path, run, fingerprint_of(store))


def source_at(place: Path, data: str | None, skip_broken: bool) -> Source:
    """Where a trained network comes from: its run, also for the folder of a training in it.

    Raises as `open_source`.
    """
    final = final_at(place)
    if final is None or RunFolder(place).store.exists():
        return open_source(place, data, skip_broken)
    run = final.absolute().parent
    if run.parent.name == RunFolder(run).front.name:  # RUN/front/NUMBER/final
        run = run.parent.parent
    if RunFolder(run).store.exists():
        return open_source(run, data, skip_broken)
    return replace(open_source(final / GENOME, data, skip_broken), folder=final)
