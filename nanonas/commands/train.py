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


@dataclass(frozen=True)
class Train:
    """The final training of a network, on training and validation images; it is tested once.

    Interrupted, it continues.
    """

    source: Positional[Path] = Path("outputs")
    """A run's folder (its best network), a folder of runs (its newest), or a genome's JSON file."""
    epochs: int = 100
    """Passes over the images."""
    seed: int = 0
    """Of weights, order and augmentation."""
    lr: float | None = None
    """Learning rate at the top of its cycle; by default the search's."""
    data: str | None = None
    """The images; by default those that the network was found on."""
    skip_broken: bool = False
    """Go on without images that cannot be read; a run whose search did so needs no flag."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    out: Path | None = None
    """The folder for the trained network; by default RUN/final, or beside the genome's file."""


def train(arguments: Sequence[str]) -> None:
    """nanonas train"""
    given = parse(Train, "train", arguments)
    at_least(1, epochs=given.epochs)
    at_least(0, seed=given.seed)
    if given.lr is not None and not 0 < given.lr <= 100:
        raise ConfigError(f"--lr must be above 0 and at most 100, but is {given.lr}")

    from nanonas.config.schema import Config, RunConfig
    from nanonas.runs.source import fitting, open_source
    from nanonas.session import winner
    from nanonas.session.setup import Setup
    from nanonas.terminal.progress import TrainingProgress
    from nanonas.terminal.results import say_final

    source = fitting(open_source(given.source, given.data, given.skip_broken))
    search = replace(source.config, seed=given.seed)
    if given.lr is not None:
        search = replace(search, training=replace(search.training, lr=given.lr))
    folder = source.folder / "final" if given.out is None else in_full(given.out)
    console, epochs = Console(), number_of(given.epochs, "epoch")
    result = winner.train(
        source.genome,
        folder,
        Setup(Config(search, RunConfig(device=given.device)), source.images),
        epochs=given.epochs,
        listener=TrainingProgress(console),
        opened=lambda: source.opened(f"train, {epochs}, seed {given.seed}"),
    )
    say_final(console, result, folder, search.strategy.metric)


VERB = Verb(Train, train)
