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
    from nanonas.training.joined import TunedBackbone


def final_training(
    network: Network,
    setup: Setup,
    folder: Path,
    opened: Callable[[], None],
    elsewhere: Elsewhere | None = None,
    backbone: TunedBackbone | None = None,
) -> FinalTraining:
    """The final training of a network on the configured images, with the configured recipe and
    seed, and with the weights that all trainings of the setup begin with.

    Args:
        opened: called when the test set is opened.
        elsewhere: as of `FinalTraining`.
        backbone: what learns with it; None: none does.
    """
    from nanonas.training.final import FinalTraining
    from nanonas.training.joined import as_pixels, joint_recipe
    from nanonas.training.pictures import Pictures, final_pictures, held_out_pictures

    seen = setup if backbone is None else setup.seen

    def test() -> Pictures:
        opened()
        held_out = held_out_pictures(seen.data, setup.device)
        return held_out if backbone is None else as_pixels(held_out)

    train, recipe = final_pictures(seen.data, setup.device), setup.recipe
    if backbone is not None:
        train = as_pixels(train)
        recipe = joint_recipe(replace(recipe, augment=seen.recipe.augment))
    return FinalTraining(
        network,
        train,
        test,
        recipe,
        setup.config.search.seed,
        folder,
        {"data": setup.images.fingerprint},
        device=setup.device,
        about={"preprocessing": json.dumps(setup.images.preprocessing.to_json())},
        elsewhere=elsewhere,
        pretrained=setup.pretrained,
        backbone=backbone,
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
    backbone: TunedBackbone | None = None,
) -> FinalResult:
    """Trains a genome's network on all but the test images and tests it once; gives `folder` a
    genome.json, too.

    See `training.final.FinalTraining` for `folder`, `epochs`, `deadline`, `again`, `elsewhere` and
    `backbone`.

    Args:
        opened: called when the test set is opened.

    Raises:
        RunError: as `FinalTraining.run`; also where another process trains in the folder.
    """
    training = final_training(genome.network(), setup, folder, opened, elsewhere, backbone)
    with alone_in(folder):
        result = run_training(training, label, listener, epochs, deadline, again)
        rule = setup.images.preprocessing if backbone is None else backbone.rule_in(folder)
        known = {**genome.known, "test_accuracy": result.test_accuracy, "epochs": result.epochs}
        replace(
            genome,
            class_names=setup.images.class_names,
            data=located(setup.config.search.data.data),
            known=known,
            preprocessing=rule,
        ).write(folder / "genome.json")
        if backbone is None:
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
