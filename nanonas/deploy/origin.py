"""A trained network that another training begins with, wherever it lies: in a run, in the folder of
a training, or in a bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.data.images import changed_message
from nanonas.deploy.bundle import GENOME, is_bundle
from nanonas.deploy.folding import unfolded
from nanonas.deploy.subject import source_at
from nanonas.errors import ConfigError, RunError
from nanonas.runs.folder import find
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.runs.models import final_at, trained
from nanonas.runs.source import Source, images_of, open_source
from nanonas.text import command
from nanonas.training.inheritance.parents import Parent, check_parent
from nanonas.training.pretrained import Pretrained, with_channels
from nanonas.training.weights import read_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Origin:
    """A trained network to begin with."""

    place: Path  # where it lies, as it was named
    genome: GenomeFile
    tensors: Mapping[str, Tensor]  # of its network, by name
    unmeasured: frozenset[str]  # as of `Pretrained`
    folder: Path  # that its weights lie in

    @property
    def name(self) -> str:
        """What it is called: as its run or folder."""
        place = self.place.resolve()
        return place.parent.name if place.name == "final" else place.name

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

    def pretrained(self, genome: GenomeFile) -> Pretrained:
        """What a training of another genome begins with."""
        own = self.genome
        shape = (genome.input_shape[0], *own.input_shape[1:])
        network = own.network()
        remade = network if shape == own.input_shape else replace(own, input_shape=shape).network()
        parent = with_channels(network, self.tensors, remade)
        same_classes = own.class_names == genome.class_names
        return Pretrained(parent, self.name, same_classes, self.unmeasured)


def origin_at(place: Path) -> Origin:
    """The trained network at a place.

    Args:
        place: a run's folder (its winner after its final training, else its best candidate), a
            folder of runs (its newest), the folder of a final training or a file in it, or a
            bundle.

    Raises:
        RunError: no trained network there, or its weights are gone or damaged.
        GenomeError: a damaged genome.
    """
    if place.is_file() and final_at(place.parent) == place.parent:  # its weights, its checkpoint
        place = place.parent
    if is_bundle(place):
        return _of_bundle(place)
    if final_at(place) is None:
        place = _run_at(place)
    found = trained(place)
    tensors, _ = read_weights(found.weights)
    return _checked(Origin(place, found.genome, tensors, frozenset(), found.weights.parent))


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
    again = f"export it again with `{command('nanonas export', 'RUN', '--to', place)}`"
    for name in (GENOME, _WEIGHTS):
        if not (place / name).exists():
            raise RunError(
                f"the bundle {str(place)!r} has no {name}, which a training that begins with its "
                f"weights needs; {again}"
            )
    genome = read_genome(place / GENOME)
    named, _ = read_weights(place / _WEIGHTS)
    tensors = {name.partition(".")[2]: tensor for name, tensor in named.items()}  # STAGE.NODE.…
    return _checked(Origin(place, genome, *unfolded(genome.network(), tensors), place))


def _checked(origin: Origin) -> Origin:
    """It, if its tensors are those of its network. Raises `RunError` where they are not."""
    check_parent(Parent(origin.genome.network(), origin.tensors), repr(str(origin.place)))
    return origin


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
    if source.fingerprint not in (None, images_of(source).fingerprint):
        raise RunError(changed_message(data.data, source.folder))
    if data.backbone is not None:
        if image_size not in (None, data.image_size):
            raise ConfigError(
                f"--image-size {image_size} is given, but the backbone {data.backbone} sees images "
                f"of {data.image_size}; leave it out"
            )
    elif image_size is not None or height == width:
        data = replace(data, image_size=image_size or height)
    source = replace(source, config=replace(source.config, data=data))
    images = images_of(source)
    genome = replace(
        source.genome,
        input_shape=images.input_shape,
        class_names=images.class_names,
        preprocessing=images.preprocessing,
        known={},
    )
    return replace(source, genome=genome, images=images)
