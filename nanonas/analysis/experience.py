"""What a run began with of other runs' experience, and what that was worth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nanonas.core import Shape
from nanonas.engine.storage.events import EXPERIENCE, EXPERIENCE_JUDGED, Event, noted
from nanonas.maths.ranks import Correlation


@dataclass(frozen=True)
class Judged:
    """What it was worth at a time: how it orders networks, and whether it was left out by that."""

    worth: Correlation
    left_out: bool


@dataclass(frozen=True)
class Experience:
    """What a run began with.

    Attributes:
        runs: how many other runs.
        networks: that these have trained, all together.
        tasks: the shape of the images (C, H, W) and the number of classes that the other runs had,
            each once; empty where that was not noted.
        foretold: how each fifth of the networks is ordered by the others; None where they are few,
            where the search has no use for experience, or where that was not noted.
        judged: how it ordered the networks that were measured here, later ones after more of them;
            empty where that was not noted.
    """

    runs: int
    networks: int
    tasks: tuple[tuple[Shape, int], ...]
    foretold: Judged | None
    judged: tuple[Judged, ...]

    @property
    def turns(self) -> list[tuple[int, bool]]:
        """After how many networks it was left out, or heeded again; True: left out."""
        turns: list[tuple[int, bool]] = []
        for one in self.judged:
            if one.left_out != (bool(turns) and turns[-1][1]):
                turns.append((one.worth.n, one.left_out))
        return turns

    @property
    def helps(self) -> bool:
        """Whether its order is certain to be better than chance, and heeded."""
        return bool(self.judged) and not self.judged[-1].left_out and self.judged[-1].worth.low > 0


def experience_of(events: Iterable[Event]) -> Experience | None:
    """What a run began with; None where that was nothing."""
    events = list(events)
    begun = noted(events, EXPERIENCE)
    if begun is None:
        return None
    return Experience(
        runs=begun.get("runs", 0),
        networks=begun.get("networks", 0),
        tasks=tuple(
            (tuple(task["input_shape"]), task["classes"]) for task in begun.get("tasks", ())
        ),
        foretold=_judged(begun.get("foretold")),
        judged=tuple(
            found
            for event in events
            if event.kind == EXPERIENCE_JUDGED and (found := _judged(event.details)) is not None
        ),
    )


def _judged(details: Mapping[str, Any] | None) -> Judged | None:
    """What `runs.experience.judgement` has noted."""
    if details is None:
        return None
    worth = Correlation(details["tau"], details["low"], details["high"], details["n"])
    return Judged(worth, details["left_out"])
