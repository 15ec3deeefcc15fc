"""One network, trained for good, as the command line and a search's end do it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.config import SearchConfig, load_images, make_data, make_recipe
from nanonas.core import Shape
from nanonas.errors import GenomeError, RunError
from nanonas.genome import GenomeFile
from nanonas.results.progress import TrainingProgress

if TYPE_CHECKING:
    from nanonas.training.data import Images
    from nanonas.training.final import FinalResult


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
    images = load_images(config)
    check_images(genome, images)
    network = genome.network()
    training = FinalTraining(
        network,
        *final_pictures(make_data(config), device),
        make_recipe(config, images, device),
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
