"""A trained network that trainings begin with, wherever it lies: in a run, in the folder of a
training, in a bundle, or, as a copy, in the run that begins with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.config.trainings import images_of, load_images
from nanonas.data.images import changed_message
from nanonas.engine.storage.events import ANCESTOR, noted
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError, Unwritten
from nanonas.files import digest
from nanonas.runs.backbones import backbone_of
from nanonas.runs.folder import RunFolder, find
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.runs.models import GENOME, WEIGHTS, final_at, is_bundle, trained
from nanonas.runs.source import Source, backbone_weights, open_source, source_at
from nanonas.text import command

if TYPE_CHECKING:
    from torch import Tensor

    from nanonas.data.images import Images
    from nanonas.training.joined import TunedBackbone
    from nanonas.training.pretrained import Pretrained

_NAME = "name"  # in the metadata of a copy's weights: what they were called where they came from


@dataclass(frozen=True)
class Origin:
    """A trained network to begin with."""

    place: Path  # where it lies, as it was named
    name: str  # what it is called: as its run or folder
    genome: GenomeFile
    weights: Mapping[str, Tensor]  # as they lie there: norms may be folded into the layers before
    folder: Path  # that they lie in

    @property
    def tuned(self) -> bool:
        """Whether it has a backbone that has learnt with it."""
        rule = self.genome.preprocessing
        return rule is not None and rule.backbone is not None and rule.backbone.tuned

    @cached_property
    def _unfolded(self) -> tuple[Mapping[str, Tensor], frozenset[str]]:
        """The tensors of its network, and the norms that had been folded."""
        from nanonas.training.folded import unfolded

        return unfolded(self.genome.network(), self.weights)

    def source(self, data: str | None, skip_broken: bool) -> Source:
        """It as a network to train: on `data`, or on the images that it was trained on before.

        Raises as `open_source`.
        """
        if is_bundle(self.place):
            source = open_source(self.place / GENOME, data, skip_broken)
        else:
            source = source_at(self.place, data, skip_broken)
        # a training on other images is none of its run's
        run = source.run if data is None else None
        return replace(source, genome=self.genome, run=run)

    def pretrained(self, channels: int, class_names: Sequence[str]) -> Pretrained:
        """What trainings on other images begin with.

        Args:
            channels: of these images.
            class_names: of their classes.
        """
        from nanonas.training.pretrained import Pretrained, with_channels

        own, (tensors, unmeasured) = self.genome, self._unfolded
        shape = (channels, *own.input_shape[1:])
        network = own.network()
        remade = network if shape == own.input_shape else replace(own, input_shape=shape).network()
        parent = with_channels(network, tensors, remade)
        same_classes = own.class_names == tuple(class_names)
        return Pretrained(parent, self.name, same_classes, unmeasured)

    def tuned_backbone(self, images: Images) -> TunedBackbone:
        """Its backbone as the beginning of a training in which that learns with it.

        Args:
            images: of this training, as maps of the backbone.

        Raises:
            ConfigError: it has none; and as `backbone_of`.
            RunError: as `backbone_of`.
        """
        from nanonas.training.joined import TunedBackbone

        rule = self.genome.preprocessing
        backbone = None if rule is None else backbone_of(rule, self.folder)
        if rule is None or backbone is None:
            raise ConfigError(
                f"{str(self.place)!r} was not found behind a backbone, so that there is none to "
                "tune; leave --tune-backbone out"
            )
        rule = replace(rule, class_names=images.class_names, depth=images.depth)
        return TunedBackbone(backbone, rule)

    def require_whole(self) -> Origin:
        """It. Raises `RunError` where its tensors are not those of its network."""
        from nanonas.training.inheritance.parents import Parent, check_parent

        check_parent(Parent(self.genome.network(), self._unfolded[0]), repr(str(self.place)))
        return self


def origin_at(place: Path, tunes: bool = False) -> Origin:
    """The trained network at a place.

    Args:
        place: a run's folder (its winner after its final training, else its best candidate), a
            folder of runs (its newest), the folder of a final training or a file in it, or a
            bundle.
        tunes: whether its backbone, if it has one, goes on learning.

    Raises:
        RunError: no trained network there, or its weights are gone or damaged.
        GenomeError: a damaged genome.
        ConfigError: its backbone has learnt with it, so that without that it is worth nothing.
    """
    from nanonas.training.weights import read_weights

    if place.is_file() and final_at(place.parent) == place.parent:  # its weights, its checkpoint
        place = place.parent
    if is_bundle(place):
        return _of_bundle(place)
    if final_at(place) is None:
        place = _run_at(place)
    found, here = trained(place), place.resolve()
    tensors, about = read_weights(found.weights)
    name = about.get(_NAME) or (here.parent.name if here.name == "final" else here.name)
    origin = Origin(place, name, found.genome, tensors, found.weights.parent).require_whole()
    if origin.tuned and not tunes:
        raise ConfigError(
            f"the backbone of {str(place)!r} has learnt with it, so that the network is no "
            "beginning behind a frozen one; train both on with `nanonas train --init-from` and "
            "--tune-backbone, or begin with the run that it was found by"
        )
    return origin


def _run_at(place: Path) -> Path:
    """The folder of the run there. Raises `RunError` for what is nothing to begin with."""
    try:
        return find(place).path
    except RunError:
        what = "is no trained network" if place.exists() else "does not exist"
        raise RunError(
            f"{str(place)!r} {what}; name a run's folder, the folder that `nanonas train` has "
            "written, or a bundle of `nanonas export`"
        ) from None


def _of_bundle(place: Path) -> Origin:
    """That of a bundle. Raises `RunError` where it does not have all that it takes."""
    from nanonas.training.weights import read_weights

    again = f"export it again with `{command('nanonas export', 'RUN', '--to', place)}`"
    for name in (GENOME, WEIGHTS):
        if not (place / name).exists():
            raise RunError(
                f"the bundle {str(place)!r} has no {name}, which a training that begins with its "
                f"weights needs; {again}"
            )
    genome = read_genome(place / GENOME)
    named, _ = read_weights(place / WEIGHTS, again)
    tensors = {name.partition(".")[2]: tensor for name, tensor in named.items()}  # STAGE.NODE.…
    return Origin(place, place.resolve().name, genome, tensors, place).require_whole()


def remade(source: Source, image_size: int | None = None) -> Source:
    """A source with its genome decoded anew for its images: for their channels and their classes.

    Args:
        image_size: height and width that the images are scaled to; None: those that the network
            was made for.

    Raises:
        RunError: they are others than those that the run was begun with, and not named by a user.
        DataError: as `load_images`.
    """
    data, (_, height, width) = source.config.data, source.genome.input_shape
    kept = backbone_weights(source)
    known = source.fingerprint
    if known is not None and images_of(data, kept_backbone=kept).fingerprint != known:
        raise RunError(changed_message(data.data, source.folder))
    if data.backbone is not None:
        if image_size not in (None, data.image_size):
            raise ConfigError(
                f"--image-size {image_size} is given, but the backbone {data.backbone} sees images "
                f"of {data.image_size}; leave it out"
            )
    elif image_size is not None or height == width:
        data = replace(data, image_size=image_size or height)
    images = load_images(data, kept_backbone=kept)
    genome = replace(
        source.genome,
        input_shape=images.input_shape,
        class_names=images.class_names,
        preprocessing=images.preprocessing,
        known={},
    )
    return replace(source, genome=genome, config=replace(source.config, data=data), images=images)


# --- the copy in the run that begins with it ------------------------------------------------------


def keep_copy(folder: RunFolder, origin: Origin) -> str:
    """Writes what a run begins with into its folder. Returns the digest of what was written, for
    its store.

    Raises:
        Unwritten: it cannot be written.
    """
    from nanonas.training.weights import save_tensors

    place = folder.ancestor
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise Unwritten(
            f"{str(place)!r} cannot be written: {error.strerror}; free space or permissions, then "
            "search again"
        ) from None
    save_tensors(origin.weights, place / WEIGHTS, {_NAME: origin.name})
    origin.genome.write(place / GENOME)
    return _digest(place)


def begun_with(folder: RunFolder, store: RunStore) -> Origin | None:
    """The trained network that all trainings of a run begin with; None where there is none.

    Raises:
        RunError: its copy is gone, or is another one.
    """
    search = store.config.get("search", {})
    if not isinstance(search, Mapping) or search.get("ancestor") is None:
        return None
    begun = noted(store.events(), ANCESTOR)
    place = folder.ancestor
    there = all((place / name).exists() for name in (GENOME, WEIGHTS))
    if begun is None or not there or _digest(place) != begun["digest"]:
        what = "was changed" if there else "is gone"
        raise RunError(
            f"the trained network that the run begins with, {str(place)!r}, {what}; bring it back "
            "from a copy of the run, since without it nothing can be trained as it was"
        )
    return origin_at(place)


def origin_of(run: RunFolder | None) -> Origin | None:
    """As `begun_with`; None also where there is no run."""
    if run is None:
        return None
    with RunStore.read(run.store) as store:
        return begun_with(run, store)


def _digest(place: Path) -> str:
    """Of a copy: that of its genome, then that of its weights. Raises `RunError`."""
    return f"{digest(place / GENOME)}{digest(place / WEIGHTS)}"
