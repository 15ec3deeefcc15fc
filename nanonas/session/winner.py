"""One network, trained for good, as the command line and a search's end do it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.config.parts import load_images, make_data
from nanonas.config.schema import SearchConfig
from nanonas.networks.network import Network
from nanonas.report.terminal.progress import TrainingProgress
from nanonas.runs.genome import GenomeFile
from nanonas.session.setup import make_recipe

if TYPE_CHECKING:
    from nanonas.training.final import FinalResult, FinalTraining


def final_training(
    network: Network, config: SearchConfig, folder: Path, device: str, opened: Callable[[], None]
) -> FinalTraining:
    """The final training of a network on the configured images, with the configured recipe and
    seed.

    Args:
        opened: called when the test set is opened.
    """
    from nanonas.training.device import resolve_device
    from nanonas.training.final import FinalTraining
    from nanonas.training.pictures import Pictures, final_pictures, held_out_pictures

    device, data, images = resolve_device(device), make_data(config), load_images(config)

    def test() -> Pictures:
        opened()
        return held_out_pictures(data, device)

    return FinalTraining(
        network,
        final_pictures(data, device),
        test,
        make_recipe(config, images, device),
        config.seed,
        folder,
        {"data": images.fingerprint},
    )


def train(
    genome: GenomeFile,
    folder: Path,
    config: SearchConfig,
    *,
    device: str,
    epochs: int | None,
    deadline: float | None = None,
    again: bool = False,
    progress: TrainingProgress,
    opened: Callable[[], None],
) -> FinalResult:
    """Trains a genome's network on all but the test images and tests it once; gives `folder` a
    genome.json, too.

    See `training.final.FinalTraining` for `folder`, `epochs`, `deadline` and `again`.

    Args:
        opened: called when the test set is opened.
    """
    training = final_training(genome.network(), config, folder, device, opened)
    result = training.run(epochs, deadline, progress.epoch, again)
    known = {**genome.known, "test_accuracy": result.test_accuracy, "epochs": result.epochs}
    replace(genome, data=config.data, known=known).write(folder / "genome.json")
    return result
