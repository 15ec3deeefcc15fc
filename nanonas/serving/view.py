"""What a dashboard shows at a moment: the run so far, whether anybody works on it, and what was
asked of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nanonas.analysis.record import Record
from nanonas.engine.storage.events import SESSION, STARTED


@dataclass(frozen=True)
class Asked:
    """A request, and what became of it."""

    words: str
    state: Literal["waits", "taken", "refused"]
    time: float = 0.0  # seconds since 1970; 0: not yet


@dataclass(frozen=True)
class View:
    """A run at a moment."""

    record: Record
    version: str  # another one whenever anything but the clock is
    alive: bool = False  # whether a process works on the run
    searching: bool = False  # whether what it does is searching, not training the winner
    paused: bool = False
    banned: tuple[str, ...] = ()
    asked: tuple[
        Asked, ...
    ] = ()  # those that wait, then those that were answered, the newest first
    now: float = 0.0  # seconds since 1970
    last: float = 0.0  # when something was stored

    @property
    def status(self) -> Literal["searching", "paused", "at work", "stopped"]:
        """In a word."""
        if self.paused:
            return "paused"
        return "searching" if self.searching else "at work" if self.alive else "stopped"

    @property
    def said(self) -> str:
        """What goes on, as a sentence."""
        training = sum(entry.evaluation is None for entry in self.record.entries)
        networks = "1 network is" if training == 1 else f"{training} networks are"
        if self.status == "paused":
            return (
                f"Paused; {networks} finishing."
                if training
                else "Paused: nothing is begun until you resume."
            )
        if self.status == "searching":
            return f"Searching: {networks} training."
        if self.status == "at work":
            return f"The search has ended: {self._end}. What it has found is being trained."
        return f"Nobody searches: {self._end}. What you ask for waits until the run is resumed."

    @property
    def _end(self) -> str:
        """How the last session ended."""
        last = next(
            (event for event in reversed(self.record.events) if event.kind in SESSION), None
        )
        if last is None or last.kind == STARTED:
            return "it was stopped from outside"
        return str(last.details.get("message", f"it was {last.kind}"))
