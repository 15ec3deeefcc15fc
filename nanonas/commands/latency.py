"""nanonas latency"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.errors import ConfigError
from nanonas.text import milliseconds


@dataclass(frozen=True)
class Latency:
    """Measures how long a trained network takes for an image, here."""

    source: Positional[Path] = Path("outputs")
    """What `nanonas export` wrote, or a run's folder, a folder of runs (its newest), or the folder
    of a final training."""
    threads: int = 1
    """Threads of each pass."""
    batch: int = 1
    """Images in a pass."""
    seconds: float = 2.0
    """Of a round; there are up to five, until the median is known to 5 %."""


def latency(arguments: Sequence[str]) -> None:
    """nanonas latency"""
    given = parse(Latency, "latency", arguments)
    at_least(1, threads=given.threads, batch=given.batch)
    if not 0 <= given.seconds <= 3600:
        raise ConfigError(f"--seconds must be in [0, 3600], but is {given.seconds:g}")

    from nanonas.deploy.timing import narrow, timings
    from nanonas.machine import described

    measured = timings(
        given.source, threads=given.threads, batch=given.batch, seconds=given.seconds
    )
    table = Table(Column("file", no_wrap=True), "median", "95 %", "p95", "passes", box=None)
    for name, timing in measured.items():
        table.add_row(
            name,
            milliseconds(timing.median),
            f"{timing.low:.3g} to {timing.high:.3g}",
            milliseconds(timing.p95),
            f"{timing.n:,}",
        )
    console = Console()
    console.print(table)
    images = "an image" if given.batch == 1 else f"{given.batch} images"
    threads = "one thread" if given.threads == 1 else f"{given.threads} threads"
    words = f"for {images}, with {threads}, on {described()['hardware']}"
    console.print(words, markup=False, highlight=False, soft_wrap=True)
    for name, timing in measured.items():
        if not narrow(timing):
            console.print(
                f"{name}: the machine does other things; measure again when it is idle, or with "
                "more --seconds",
                style="yellow",
                highlight=False,
                soft_wrap=True,
            )


VERB = Verb(Latency, latency)
