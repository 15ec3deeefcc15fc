"""nanonas latency"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console
from rich.table import Column, Table
from tyro.conf import Positional, arg

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.errors import ConfigError
from nanonas.text import mebibytes, milliseconds

if TYPE_CHECKING:
    from nanonas.deploy.verdicts import Timing


@dataclass(frozen=True)
class Latency:
    """Measures how long a trained network takes for an image, here or on another device."""

    source: Positional[Path] = Path("outputs")
    """What `nanonas export` wrote, or a run's folder, a folder of runs (its newest), or the folder
    of a final training."""
    threads: int = 1
    """Threads of each pass; of another device its agent says how many."""
    batch: int = 1
    """Images in a pass."""
    seconds: float = 2.0
    """Of a round; there are up to five, until the median is known to 5 %."""
    agent: Annotated[str | None, arg(name="from")] = None
    """Measure on another device: the address of its `nanonas agent`, http://HOST:PORT, whose token
    is in $NANONAS_AGENT_TOKEN."""


def latency(arguments: Sequence[str]) -> None:
    """nanonas latency"""
    given = parse(Latency, "latency", arguments)
    at_least(1, threads=given.threads, batch=given.batch)
    if not 0 <= given.seconds <= 3600:
        raise ConfigError(f"--seconds must be in [0, 3600], but is {given.seconds:g}")
    if given.agent is None:
        _here(given)
    else:
        _there(given, given.agent)


def _here(given: Latency) -> None:
    from nanonas.deploy.timing import narrow, timings
    from nanonas.machine import described

    measured = timings(
        given.source, threads=given.threads, batch=given.batch, seconds=given.seconds
    )
    table = _table()
    for name, timing in measured.items():
        table.add_row(name, *_row(timing))
    threads = "one thread" if given.threads == 1 else f"{given.threads} threads"
    _say(
        table,
        f"for {_images(given)}, with {threads}, on {described()['hardware']}",
        [name for name, timing in measured.items() if not narrow(timing)],
    )


def _there(given: Latency, address: str) -> None:
    from nanonas.config.address import checked
    from nanonas.deploy.timing import ROUNDS, timings_at
    from nanonas.training.measuring.agent import Agent

    agent = Agent(checked(address, "--from")).met()
    seconds = ROUNDS * given.seconds
    measured = timings_at(agent, given.source, batch=given.batch, seconds=seconds)
    table = _table("memory")
    for name, (timing, took) in measured.items():
        memory = "not known" if took.peak is None else mebibytes(took.peak / 2**20)
        table.add_row(name, *_row(timing), memory)
    _say(
        table,
        f"for {_images(given)}, on {agent.device}",
        [name for name, (_, took) in measured.items() if not took.narrow],
    )


def _table(*more: str) -> Table:
    names = ("median", "95 %", "p95", "passes", *more)
    return Table(Column("file", no_wrap=True), *names, box=None)


def _row(timing: Timing) -> tuple[str, ...]:
    return (
        milliseconds(timing.median),
        f"{timing.low:.3g} to {timing.high:.3g}",
        milliseconds(timing.p95),
        f"{timing.n:,}",
    )


def _images(given: Latency) -> str:
    return "an image" if given.batch == 1 else f"{given.batch} images"


def _say(table: Table, words: str, unsure: Sequence[str]) -> None:
    """Prints what came out; `unsure` are the files whose median is not known well."""
    console = Console()
    console.print(table)
    console.print(words, markup=False, highlight=False, soft_wrap=True)
    for name in unsure:
        console.print(
            f"{name}: the machine does other things; measure again when it is idle, or with more "
            "--seconds",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


VERB = Verb(Latency, latency)
