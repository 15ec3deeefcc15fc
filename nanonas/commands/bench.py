"""nanonas bench"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nanonas.commands.arguments import Verb, at_least, parse


@dataclass(frozen=True)
class Bench:
    """Compares strategies on a table of trained networks.

    How many queries until the best one, and at what regret.
    """

    table: Path | None = None
    """An .npz of benchmarks/make_table.py, or NAS-Bench-201 as parquet; by default 1,000 small
    networks on digits."""
    strategies: tuple[str, ...] = ()
    """Which ones; by default all, and optuna-tpe and optuna-random where Optuna is installed."""
    seeds: int = 10
    """Runs of each strategy."""
    queries: int = 150
    """Networks that a run may ask for."""
    objective: str | None = None
    """What a query answers: val_acc, val_acc_trial (one training, at random); val_acc_200ep,
    val_acc_200ep_trial or val_acc_12ep of NAS-Bench-201; by default the first that the table
    has."""
    workers: int | None = None
    """Processes; by default one a core."""
    population: int = 30
    """Members of a generation."""
    out: Path = Path("bench")
    """The folder for bench.json and regret.png."""


def bench(arguments: Sequence[str]) -> None:
    """nanonas bench"""
    given = parse(Bench, "bench", arguments)
    at_least(1, seeds=given.seeds, queries=given.queries)
    at_least(2, population=given.population)
    if given.workers is not None:
        at_least(1, workers=given.workers)

    from nanonas.bench.bench import Bench as Benchmark

    Benchmark(**vars(given), console=Console()).run()


VERB = Verb(Bench, bench)
