"""nanonas plan"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from tyro.conf import OmitArgPrefixes

from nanonas.commands.arguments import configured
from nanonas.config.schema import RunConfig, SearchConfig
from nanonas.text import count, duration, mebibytes, milliseconds, share_in_words

if TYPE_CHECKING:
    from nanonas.session.plan import Forecast


@dataclass(frozen=True)
class Plan:
    """Says what a search will take here: time, memory, disk. Times three networks; takes what
    search takes.
    """

    config: Path | None = None
    """A YAML file with any of the values below; flags win over it. See configs/."""
    search: OmitArgPrefixes[SearchConfig] = field(default_factory=SearchConfig)
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


def plan(arguments: Sequence[str]) -> None:
    """nanonas plan"""
    config = configured(Plan, "plan", arguments)

    from nanonas.session.plan import forecast

    Console().print(in_words(forecast(config)))


def in_words(found: Forecast) -> Group:
    """A plan for people, 80 columns wide."""
    networks = Table(
        "random network",
        "parameters",
        "MACs",
        "an epoch",
        "latency",
        "memory",
        "training",
        box=None,
    )
    networks.pad_edge = False
    for name, one in zip(
        ("small (10 %)", "middle (50 %)", "large (90 %)"), found.networks, strict=True
    ):
        networks.add_row(
            name,
            count(one.network.params),
            count(one.network.macs),
            _span(one.epoch_seconds + one.valid_seconds),
            milliseconds(one.latency),
            mebibytes(one.memory),
            mebibytes(one.step_memory),
        )
    lines = Table.grid(padding=(0, 2))
    for name, words in _lines(found):
        lines.add_row(Text(name, style="bold"), Text(words))
    parts: list[Table | Text] = [networks, Text(), lines]
    for sentence in found.advice:
        parts += [Text(), Text(sentence, style="yellow")]
    return Group(*parts)


def _lines(found: Forecast) -> list[tuple[str, str]]:
    total = "" if found.machine_memory is None else f" of {mebibytes(found.machine_memory)}"
    workers = f"{found.workers} worker{'s' if found.workers > 1 else ''}"
    more, (candidates, seconds) = "more than " if found.endless else "", found.large
    lines = [
        (
            "a candidate",
            f"about {_span(found.candidate_seconds)}: {found.epochs:.3g} epochs of "
            f"{found.images:,} images, judged by "
            f"{found.valid_images:,}; {found.precision} on {found.device}",
        ),
        (
            "speed",
            (
                f"{found.per_hour:,.0f} candidates an hour with {workers}, measured with all of "
                "them "
                "busy"
            ),
        ),
        ("the search", f"{more}{found.candidates:,} candidates in {_span(found.search_seconds)}"),
        ("", f"{candidates:,} in {_span(seconds)}, should they all be as large as the large one"),
    ]
    if found.finalists_seconds:
        lines.append(("finalists", f"{_span(found.finalists_seconds)}, from scratch"))
    if found.final_epochs:
        lines.append(
            ("the winner", f"{found.final_epochs:,} epochs in about {_span(found.final_seconds)}")
        )
    lines += [
        ("all of it", f"{_span(found.seconds)}"),
        ("memory", f"{mebibytes(found.memory)}{total}, for {workers}"),
        ("disk", f"{mebibytes(found.disk)} of the {mebibytes(found.free_disk)} that are free"),
    ]
    if found.limits != "no limits":
        lines.append(
            ("limits", f"{share_in_words(found.within)} of random networks have {found.limits}")
        )
    if found.within_measured is not None:
        said = f"{found.within_measured} of the {len(found.networks)} above meet those on latency and memory"
        lines.append(("measured limits", said))
    return lines


def _span(seconds: float) -> str:
    """As `duration`, with more digits below ten seconds."""
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g}s"
