"""nanonas plan"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from nanonas.commands.arguments import Configured, Verb, configured
from nanonas.text import (
    by_number,
    count,
    duration,
    mebibytes,
    milliseconds,
    number_of,
    share_in_words,
)

if TYPE_CHECKING:
    from nanonas.session.plan import Forecast


@dataclass(frozen=True)
class Plan(Configured):
    """Says what a search will take here: time, memory, disk. Times three networks; takes what
    search takes.
    """


def plan(arguments: Sequence[str]) -> None:
    """nanonas plan"""
    config = configured(Plan, "plan", arguments)

    from nanonas.session.plan import forecast

    Console().print(in_words(forecast(config)))


def in_words(forecast: Forecast) -> Group:
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
    sizes = ("small (10 %)", "middle (50 %)", "large (90 %)")
    for size, timed in zip(sizes, forecast.networks, strict=True):
        networks.add_row(
            size,
            count(timed.network.params),
            count(timed.network.macs),
            _span(timed.epoch_seconds + timed.valid_seconds),
            milliseconds(timed.latency),
            mebibytes(timed.memory),
            mebibytes(timed.step_memory),
        )
    lines = Table.grid(padding=(0, 2))
    if forecast.schedule is not None:
        lines.add_row(Text("the plan", style="bold"), Text(str(forecast.schedule)))
    for name, words in _lines(forecast):
        lines.add_row(Text(name, style="bold"), Text(words))
    parts: list[Table | Text] = [networks, Text(), lines]
    for sentence in forecast.advice:
        parts += [Text(), Text(sentence, style="yellow")]
    return Group(*parts)


def _lines(forecast: Forecast) -> list[tuple[str, str]]:
    from nanonas.session.ancestor import beginning_in_words

    total = "" if forecast.machine_memory is None else f" of {mebibytes(forecast.machine_memory)}"
    workers = number_of(forecast.workers, "worker")
    more = "more than " if forecast.endless else ""
    candidates, seconds = forecast.large
    lines = [
        (
            "a candidate",
            f"about {_span(forecast.candidate_seconds)}: {_trained(forecast)}, judged by "
            f"{forecast.valid_images:,}; {forecast.precision} on {forecast.device}",
        ),
        (
            "speed",
            f"{number_of(forecast.per_hour, 'candidate', form=',.0f')} an hour with {workers}, "
            "measured with all of them busy",
        ),
        (
            "the search",
            f"{more}{number_of(forecast.candidates, 'candidate')} in "
            f"{_span(forecast.search_seconds)}",
        ),
        ("", f"{candidates:,} in {_span(seconds)}, should they all be as large as the large one"),
    ]
    if forecast.finalists_seconds:
        lines.append(("finalists", f"{_span(forecast.finalists_seconds)}, from scratch"))
    if forecast.final_epochs:
        several = forecast.final_networks > 1
        name = f"{forecast.final_networks} of the front" if several else "the winner"
        words = number_of(forecast.final_epochs, "epoch")
        if several:
            words += " each, the larger the longer,"
        lines.append((name, f"{words} in about {_span(forecast.final_seconds)}"))
    lines += [
        ("all of it", f"{_span(forecast.seconds)}"),
        ("memory", f"{mebibytes(forecast.memory)}{total}, for {workers}"),
        *_images(forecast),
        (
            "disk",
            f"{mebibytes(forecast.disk)} at most, of the {mebibytes(forecast.free_disk)} that are "
            "free",
        ),
        (
            "",
            f"the weights of {number_of(forecast.weights, 'network')}, "
            f"{mebibytes(forecast.weights_each)} each, the winner's, and the store",
        ),
    ]
    if forecast.ancestor is not None:
        lines.append(("the ancestor", beginning_in_words(*forecast.ancestor)))
    if forecast.limits != "no limits":
        lines.append(
            (
                "limits",
                f"{share_in_words(forecast.within)} of random networks have {forecast.limits}",
            )
        )
    if forecast.measured_on is not None:
        device, seconds = forecast.measured_on
        waits = f"{_span(seconds)} a candidate, with {workers} in its queue; on {device}"
        lines.append(("latency", waits))
    if forecast.within_measured is not None:
        met = f"{forecast.within_measured} of the {len(forecast.networks)} above"
        meet = by_number(forecast.within_measured, "meets", "meet")
        lines.append(("measured limits", f"{met} {meet} those on latency and memory"))
    return lines


def _images(forecast: Forecast) -> list[tuple[str, str]]:
    """Where the images are while networks train, if that is not the memory."""
    if forecast.read_from_disk is None:
        return []
    decoded, memory = map(mebibytes, forecast.read_from_disk)
    words = (
        f"{decoded} decoded, {memory} of memory here: they are read from the disk while training"
    )
    return [("images", words)]


def _trained(forecast: Forecast) -> str:
    """What a candidate trains."""
    if forecast.schedule is not None:
        seconds = forecast.schedule.candidate_seconds
        return f"{seconds:.3g} s of training on some of {forecast.images:,} images"
    epochs = number_of(forecast.epochs, "epoch", form=".3g")
    return f"{epochs} of {number_of(forecast.images, 'image')}"


def _span(seconds: float) -> str:
    """As `duration`, with more digits below ten seconds."""
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g}s"


VERB = Verb(Plan, plan)
