"""The final training of a network, as the command line and a search's end do it; of several, how
the time is shared out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.engine.storage.lock import writing
from nanonas.files import sweep
from nanonas.networks.network import Network
from nanonas.runs.backbones import keep_backbone
from nanonas.runs.genome import GenomeFile
from nanonas.session.listener import Listener
from nanonas.session.setup import Setup, located

if TYPE_CHECKING:
    from nanonas.training.final import Elsewhere, FinalResult, FinalTraining


def final_training(
    network: Network,
    setup: Setup,
    folder: Path,
    opened: Callable[[], None],
    elsewhere: Elsewhere | None = None,
) -> FinalTraining:
    """The final training of a network on the configured images, with the configured recipe and
    seed, and with the weights that all trainings of the setup begin with.

    Args:
        opened: called when the test set is opened.
        elsewhere: as of `FinalTraining`.
    """
    from nanonas.training.final import FinalTraining
    from nanonas.training.pictures import Pictures, final_pictures, held_out_pictures

    def test() -> Pictures:
        opened()
        return held_out_pictures(setup.data, setup.device)

    return FinalTraining(
        network,
        final_pictures(setup.data, setup.device),
        test,
        setup.recipe,
        setup.config.search.seed,
        folder,
        {"data": setup.images.fingerprint},
        device=setup.device,
        about={"preprocessing": json.dumps(setup.images.preprocessing.to_json())},
        elsewhere=elsewhere,
        pretrained=setup.pretrained,
    )


def train(
    genome: GenomeFile,
    folder: Path,
    setup: Setup,
    *,
    epochs: int | None,
    deadline: float | None = None,
    again: bool = False,
    label: str = "training",
    listener: Listener,
    opened: Callable[[], None],
    elsewhere: Elsewhere | None = None,
) -> FinalResult:
    """Trains a genome's network on all but the test images and tests it once; gives `folder` a
    genome.json, too.

    See `training.final.FinalTraining` for `folder`, `epochs`, `deadline`, `again` and `elsewhere`.

    Args:
        opened: called when the test set is opened.

    Raises:
        RunError: as `FinalTraining.run`; also where another process trains in the folder.
    """
    training = final_training(genome.network(), setup, folder, opened, elsewhere)
    with alone_in(folder):
        result = run_training(training, label, listener, epochs, deadline, again)
        known = {**genome.known, "test_accuracy": result.test_accuracy, "epochs": result.epochs}
        replace(
            genome,
            class_names=setup.images.class_names,
            data=located(setup.config.search.data.data),
            known=known,
            preprocessing=setup.images.preprocessing,
        ).write(folder / "genome.json")
        keep_backbone(setup.images, folder)
    return result


def time_shares(setup: Setup, genomes: Sequence[GenomeFile]) -> list[float]:
    """How the time of several final trainings is shared out: in proportion to these numbers, the
    square roots of what training an image costs, predicted where that was measured, else by MACs.

    A network of four times the cost is trained for twice as long, and sees half as many images.
    That lies between equal images, which would leave a small network next to nothing, and equal
    times. Where what a network still lacks falls with the inverse of the images that it has seen,
    it makes the sum of that over the networks the least (the rule of Neyman 1934 for sharing out a
    sample, https://doi.org/10.2307/2342192).
    """
    networks = [genome.network() for genome in genomes]
    cost = setup.cost
    costs = [network.macs if cost is None else cost.seconds(network) for network in networks]
    return [math.sqrt(max(1e-12, each)) for each in costs]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in a folder. Raises `RunError` where one does."""
    with writing(folder / "model.safetensors"):
        sweep(folder, all_of_them=True)  # what a killed training was writing
        yield


def run_training(
    training: FinalTraining,
    label: str,
    listener: Listener,
    epochs: int | None,
    deadline: float | None,
    again: bool = False,
) -> FinalResult:
    """Runs a final training, and tells the listener of its begin, its epochs and its end."""
    listener.training(label)
    result: FinalResult | None = None
    try:
        result = training.run(epochs, deadline, listener.epoch, again)
    finally:
        listener.trained(result)
    return result
