"""nanonas compare"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.config.duration import seconds
from nanonas.session.listener import Listener, Listeners
from nanonas.text import count, duration

if TYPE_CHECKING:
    from nanonas.session.compare import Contender, Row
    from nanonas.training.final import FinalResult


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
    skip_broken: bool = False
    """Go on without images that cannot be read; a run whose search did so needs no flag."""
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
    from nanonas.terminal.progress import TrainingProgress

    console = Console()
    comparison = Comparison(
        fitting(open_source(given.source, given.data, given.skip_broken)),
        epochs=given.epochs,
        seconds_per_network=limit,
        seeds=given.seeds,
        random=given.random,
        device=given.device,
        listener=Listeners(TrainingProgress(console), _Results(console)),
    )
    contenders = comparison.contenders()
    console.print(_plan(contenders))
    total = given.seeds * sum(contender.seconds for contender in contenders)
    console.print(
        f"about {duration(total)} for {given.seeds} trainings of each; --time-per-network, "
        "--epochs and --seeds make it shorter; Ctrl-C keeps what is done, the same command "
        "continues\n",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_table(comparison.run(contenders), given.seeds))
    console.print(str(comparison.table), style="dim", markup=False, highlight=False, soft_wrap=True)


class _Results(Listener):
    """Prints the test accuracy of each training."""

    def __init__(self, console: Console) -> None:
        self.console, self.label = console, ""

    def training(self, label: str) -> None:
        self.label = label

    def trained(self, result: FinalResult | None) -> None:
        if result is not None:
            accuracy = f"test accuracy {result.test_accuracy:.2%}"
            self.console.print(f"  {self.label}: {accuracy}", markup=False, highlight=False)


def _plan(contenders: Sequence[Contender]) -> Table:
    """What is going to be trained."""
    table = Table("network", "parameters", "MACs", "epochs", "one training", box=None)
    for contender in contenders:
        table.add_row(
            contender.name,
            count(contender.network.params),
            count(contender.network.macs),
            f"{contender.epochs:.3g}",
            duration(contender.seconds),
        )
    return table


def _table(rows: Sequence[Row], seeds: int) -> Table:
    """What came of it."""
    columns = (
        "network",
        "test accuracy",
        "params",
        "MACs",
        "latency",
        "epochs",
        "search",
        "training",
    )
    table = Table(*columns, box=None, title=f"{seeds} trainings each: mean ± standard deviation")
    for row in rows:
        spread = "" if row.spread is None else f" ± {100 * row.spread:.2f}"
        table.add_row(
            row.network,
            f"{row.test_accuracy:.2%}{spread}",
            count(row.params),
            count(row.macs),
            f"{row.latency_ms:.2f} ms",
            f"{row.epochs:.3g}",
            "–" if row.search_seconds is None else duration(row.search_seconds),
            duration(row.train_seconds),
        )
    return table


VERB = Verb(Compare, compare)
