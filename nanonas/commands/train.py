"""nanonas train"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.errors import ConfigError
from nanonas.files import in_full
from nanonas.text import number_of

_EPOCHS, _TUNED_EPOCHS = 100, 20  # where none are given; with a backbone each takes long
_TUNED_LR = 0.1  # of a backbone, where none is given: faster, it forgets what it has learnt before


@dataclass(frozen=True)
class Train:
    """The final training of a network, on training and validation images; it is tested once.

    Interrupted, it continues.
    """

    source: Positional[Path | None] = None
    """A run's folder (its best network), a folder of runs (its newest), or a genome's JSON file; by
    default the newest in outputs, or what --init-from names."""
    epochs: int | None = None
    """Passes over the images; by default 100, with --tune-backbone 20."""
    seed: int = 0
    """Of weights, order and augmentation."""
    lr: float | None = None
    """Learning rate at the top of its cycle; by default the search's."""
    data: str | None = None
    """The images; by default those that the network was found on."""
    skip_broken: bool = False
    """Go on without images that cannot be read, as a run whose search did so does."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    out: Path | None = None
    """The folder for the result; by default RUN/final, or beside the genome's file."""
    init_from: Path | None = None
    """Begin with the weights of a trained network: a run, the folder of a training, or a bundle."""
    body_lr: float | None = None
    """With --init-from: a factor of its learning rates, up to 1 (0.3; for a backbone 0.1)."""
    freeze_body: bool = False
    """With --init-from: what begins with its weights keeps them."""
    tune_backbone: bool = False
    """With --init-from: its backbone is trained, too."""
    image_size: int | None = None
    """With --init-from: height and width of images; by default the network's own."""


def train(arguments: Sequence[str]) -> None:
    """nanonas train"""
    given = parse(Train, "train", arguments)
    epochs = given.epochs
    if epochs is None:
        epochs = _TUNED_EPOCHS if given.tune_backbone else _EPOCHS
    at_least(1, epochs=epochs)
    at_least(0, seed=given.seed)
    if given.lr is not None and not 0 < given.lr <= 100:
        raise ConfigError(f"--lr must be above 0 and at most 100, but is {given.lr}")

    _check_beginning(given)

    from nanonas.config.schema import Config, RunConfig
    from nanonas.runs.origin import origin_at, origin_of, remade
    from nanonas.runs.source import fitting, open_source
    from nanonas.session import winner
    from nanonas.session.setup import Setup
    from nanonas.terminal.progress import TrainingProgress
    from nanonas.terminal.results import say_final

    if given.init_from is None:
        named = given.source or Path("outputs")
        source = fitting(open_source(named, given.data, given.skip_broken))
        origin = origin_of(source.run)
    else:
        origin = origin_at(given.init_from, given.tune_backbone)
        if given.source is None:
            source = origin.source(given.data, given.skip_broken)
        else:
            source = open_source(given.source, given.data, given.skip_broken)
        source = remade(source, given.image_size)
    fidelity = source.config.fidelity
    usual = _TUNED_LR if given.tune_backbone else fidelity.body_lr
    body_lr = 0.0 if given.freeze_body else given.body_lr or usual
    fidelity = replace(fidelity, body_lr=body_lr)
    search = replace(source.config, seed=given.seed, fidelity=fidelity)
    if given.lr is not None:
        search = replace(search, training=replace(search.training, lr=given.lr))
    folder = source.folder / "final" if given.out is None else in_full(given.out)
    if origin is not None and folder.resolve() == origin.folder.resolve():
        raise ConfigError(
            f"the training begins with what lies in {str(folder)!r}, where its result would go; "
            "name another folder with --out"
        )
    setup = Setup(Config(search, RunConfig(device=given.device)), source.images, origin=origin)
    backbone = None
    if given.tune_backbone and origin is not None:
        backbone = origin.tuned_backbone(setup.images)
    console, length = Console(), number_of(epochs, "epoch")
    result = winner.train(
        source.genome,
        folder,
        setup,
        epochs=epochs,
        listener=TrainingProgress(console),
        opened=lambda: source.opened(f"train, {length}, seed {given.seed}"),
        backbone=backbone,
    )
    say_final(console, result, folder, search.strategy.metric)


def _check_beginning(given: Train) -> None:
    """Raises `ConfigError` for flags that make no sense together."""
    asked = {
        "--body-lr": given.body_lr is not None,
        "--freeze-body": given.freeze_body,
        "--tune-backbone": given.tune_backbone,
        "--image-size": given.image_size is not None,
    }
    if given.init_from is None:
        if alone := [flag for flag, is_given in asked.items() if is_given]:
            raise ConfigError(
                f"{alone[0]} is of a training that begins with the weights of another network, but "
                "none is named; name it with --init-from"
            )
        return
    if given.source is None and given.out is None:
        raise ConfigError(
            "--init-from without a network of its own to train needs a folder for the result; name "
            "it with --out"
        )
    if given.body_lr is not None and not 0 < given.body_lr <= 1:
        raise ConfigError(
            f"--body-lr must be above 0 and at most 1, but is {given.body_lr}; --freeze-body keeps "
            "the weights as they are"
        )
    if given.body_lr is not None and given.freeze_body:
        raise ConfigError(
            "--body-lr says how fast the body learns, but --freeze-body that it does not; take one "
            "of them"
        )
    if given.tune_backbone and given.freeze_body:
        raise ConfigError(
            "--tune-backbone trains the backbone as a part of the body, but --freeze-body keeps "
            "that as it is; take one of them"
        )
    if given.image_size is not None and not 8 <= given.image_size <= 224:
        raise ConfigError(f"--image-size must be from 8 to 224, but is {given.image_size}")


VERB = Verb(Train, train)
