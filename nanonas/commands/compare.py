"""nanonas compare"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.config.duration import seconds
from nanonas.errors import ConfigError
from nanonas.session.listener import Listener, Listeners
from nanonas.text import by_number, count, duration, number_of, points, tested_by

if TYPE_CHECKING:
    from nanonas.analysis.equal_time import EqualTime
    from nanonas.session.compare import Contender, Row
    from nanonas.training.final import FinalResult


@dataclass(frozen=True)
class Compare:
    """Trains the found network, ResNet-18, a plain CNN and random networks by one recipe.

    Each is tested. With --equal-time, says whether the search was worth its time.
    """

    matter: ClassVar = (
        "source",
        "epochs",
        "time_per_network",
        "seeds",
        "random",
        "equal_time",
        "only",
        "time",
        "device",
    )

    source: Positional[Path] = Path("outputs")
    """A run's folder (its best network), a folder of runs (its newest), or a genome's JSON file."""
    epochs: int | None = None
    """Passes over the images, for every network; by default 20."""
    time_per_network: str | None = None
    """At most so long for each network and seed: 10m, 1h.

    What would take longer gets fewer epochs.
    """
    seeds: int = 3
    """Trainings of each network."""
    random: int | None = None
    """How many random networks of the space take part; by default 3."""
    backbone: str | None = None
    """A linear classifier behind this backbone takes part, too: a name of timm's, or NAME=FILE."""
    equal_time: bool = False
    """Instead: the run, whole, against each hand-made network of its space, a random network and a
    random search; all within its limits, each for the time that the run had."""
    only: tuple[str, ...] = ()
    """With --equal-time: which contenders take part now, of search, the hand-made networks' names,
    random-network, random-search and resnet18; by default all but the last."""
    time: str | None = None
    """With --equal-time: another time for each contender and seed: 30m, 2h."""
    resnet18: bool = False
    """With --equal-time: ResNet-18, too, though it is outside the limits."""
    data: str | None = None
    """The images; by default those that the network was found on."""
    skip_broken: bool = False
    """Go on without images that cannot be read; a run whose search did so needs no flag."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""


def compare(arguments: Sequence[str]) -> None:
    """nanonas compare"""
    given = parse(Compare, "compare", arguments)
    at_least(1, seeds=given.seeds)
    _at_odds(given)
    if given.equal_time:
        _equal_time(given)
        return
    epochs = 20 if given.epochs is None else given.epochs
    random = 3 if given.random is None else given.random
    at_least(1, epochs=epochs)
    at_least(0, random=random)
    limit = (
        None
        if given.time_per_network is None
        else seconds(given.time_per_network, "--time-per-network")
    )

    from nanonas.runs.source import fitting, open_source
    from nanonas.session.compare import Comparison
    from nanonas.terminal.progress import TrainingProgress

    console = Console()
    source = fitting(open_source(given.source, given.data, given.skip_broken))
    metric = source.config.strategy.metric
    comparison = Comparison(
        source,
        epochs=epochs,
        seconds_per_network=limit,
        seeds=given.seeds,
        random=random,
        device=given.device,
        listener=Listeners(TrainingProgress(console), _Results(console, metric)),
        backbone=given.backbone,
    )
    contenders = comparison.contenders()
    console.print(_plan(contenders))
    total = given.seeds * sum(contender.seconds for contender in contenders)
    console.print(
        f"about {duration(total)} for {number_of(given.seeds, 'training')} of each; "
        "--time-per-network, --epochs and --seeds make it shorter; Ctrl-C keeps what is done, the "
        "same command continues\n",
        highlight=False,
        soft_wrap=True,
    )
    console.print(_table(comparison.run(contenders), given.seeds))
    console.print(str(comparison.table), style="dim", markup=False, highlight=False, soft_wrap=True)


def _at_odds(given: Compare) -> None:
    """Raises `ConfigError` for a flag of the other comparison."""
    of_equal_time = ("only", "time", "resnet18")
    of_networks = ("epochs", "time_per_network", "random", "data", "backbone")
    for name in of_networks if given.equal_time else of_equal_time:
        if getattr(given, name) == getattr(Compare, name):  # the default
            continue
        flag = f"--{name.replace('_', '-')}"
        raise ConfigError(
            f"--equal-time gives each contender the run's time and images, so there is no {flag}; "
            "leave one of the two out"
            if given.equal_time
            else f"{flag} belongs to --equal-time; give that, too, or leave {flag} out"
        )


def _equal_time(given: Compare) -> None:
    """Was the search worth its time?"""
    total = None if given.time is None else seconds(given.time)

    from nanonas.runs.source import fitting, open_source
    from nanonas.session.verdict import verdict_of
    from nanonas.terminal.live import live

    console = Console()
    source = fitting(open_source(given.source, skip_broken=given.skip_broken))
    device = None if given.device == "auto" else given.device
    verdict = verdict_of(source, total, device, lambda: live(console))
    names = verdict.names(given.only, given.resnet18)
    seeds = [verdict.config.search.seed + number for number in range(given.seeds)]
    todo = len(verdict.missing(names, seeds))
    console.print(
        f"{number_of(len(names), 'contender')} with {number_of(len(seeds), 'seed')}, "
        f"{duration(verdict.seconds)} each: about {duration(todo * verdict.seconds)} for the "
        f"{todo} that {by_number(todo, 'is', 'are')} not done yet; --only, --seeds and --time make "
        "it shorter; Ctrl-C keeps what is done, the same command continues\n",
        highlight=False,
        soft_wrap=True,
    )
    for one in verdict.trained(names, seeds):
        console.print(
            f"  {one.contender}, seed {one.seed}: {tested_by(one.metric)} "
            f"{one.test_accuracy:.2%} after {duration(one.seconds)}",
            markup=False,
            highlight=False,
        )
    said = verdict.so_far()
    console.print(equal_time_table(said))
    for sentence in (said.sentence, *said.remarks):
        console.print(f"{sentence}.", markup=False, highlight=False, soft_wrap=True)
    console.print(str(verdict.path), style="dim", markup=False, highlight=False, soft_wrap=True)


def equal_time_table(said: EqualTime) -> Table:
    """The contenders, and what the search is ahead of each by."""
    tested = tested_by(said.metric)
    columns = ("contender", tested, "search ahead", "params", "MACs", "epochs", "time")
    title = f"{duration(said.seconds)} each: mean ± standard deviation; ahead: ± 95 % interval"
    table = Table(*columns, box=None, title=title)
    for row in said.rows:
        spread = "" if row.spread is None else f" ± {100 * row.spread:.2f}"
        ahead = "–" if row.ahead is None else points(row.ahead)
        half = "" if row.half is None else f" ± {100 * row.half:.2f}"
        table.add_row(
            row.contender,
            f"{row.test_accuracy:.2%}{spread}",
            f"{ahead}{half}",
            count(row.params),
            count(row.macs),
            f"{row.epochs:.3g}",
            duration(row.seconds),
        )
    return table


class _Results(Listener):
    """Prints the test accuracy of each training, by a run's metric."""

    def __init__(self, console: Console, metric: str) -> None:
        self.console, self.metric, self.label = console, metric, ""

    def training(self, label: str) -> None:
        self.label = label

    def trained(self, result: FinalResult | None) -> None:
        if result is not None:
            accuracy = f"{tested_by(self.metric)} {result.accuracy_by(self.metric):.2%}"
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
        tested_by(rows[0].metric if rows else ""),
        "params",
        "MACs",
        "latency",
        "epochs",
        "search",
        "training",
    )
    trainings = number_of(seeds, "training")
    table = Table(*columns, box=None, title=f"{trainings} each: mean ± standard deviation")
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
