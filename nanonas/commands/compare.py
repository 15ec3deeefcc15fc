"""nanonas compare"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import at_least, parse
from nanonas.config.files import seconds


@dataclass(frozen=True)
class Compare:
    """Trains the found network, ResNet-18, a plain baseline and random networks with one recipe,
    and tests each.
    """

    source: Positional[Path] = Path("outputs")
    """A run's folder (its best network), a folder of runs (its newest), or a genome's JSON file."""
    epochs: int = 20
    """Passes over the images, for every network."""
    time_per_network: str | None = None
    """At most so long for each network and seed: 10m, 1h.

    What would take longer gets fewer epochs.
    """
    seeds: int = 3
    """Trainings of each network."""
    random: int = 3
    """How many random networks of the space take part."""
    data: str | None = None
    """The images; by default those that the network was found on."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""


def compare(arguments: Sequence[str]) -> None:
    """nanonas compare"""
    given = parse(Compare, "compare", arguments)
    at_least(1, epochs=given.epochs, seeds=given.seeds)
    at_least(0, random=given.random)
    limit = (
        None
        if given.time_per_network is None
        else seconds(given.time_per_network, "--time-per-network")
    )

    from nanonas.runs.source import fitting, open_source
    from nanonas.session.compare import Comparison

    Comparison(
        fitting(open_source(given.source, given.data)),
        epochs=given.epochs,
        seconds_per_network=limit,
        seeds=given.seeds,
        random=given.random,
        device=given.device,
        console=Console(),
    ).run()
