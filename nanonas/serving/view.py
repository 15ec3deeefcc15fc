"""A run at a moment, as the dashboard shows it: what was found so far, how far the search is,
whether a process works on it, and what was asked of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.engine.storage.events import SESSION, STARTED
from nanonas.text import by_number, duration, number_of

_RECENT = 50  # evaluations that say how fast a search is
_NAMED = 4  # candidates that are named while they train


@dataclass(frozen=True)
class Asked:
    """A request, and what became of it."""

    words: str
    state: Literal["waits", "taken", "refused"]
    time: float = 0.0  # seconds since 1970; 0: not yet

    @property
    def at(self) -> str:
        """When, and what: "14:03:12 taken"."""
        if not self.time:
            return self.state
        return f"{time.strftime('%H:%M:%S', time.localtime(self.time))} {self.state}"


@dataclass(frozen=True)
class Goal:
    """When a search ends: with the first of these that is given.

    Attributes:
        seconds: of searching, in one session.
    """

    evaluations: int | None = None
    generations: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class View:
    """A run at a moment.

    Attributes:
        version: another one whenever anything but the clock is.
        config: the text of config.yaml.
        goal: when its search ends.
        earlier: seconds that were searched before this session.
        alive: whether a process works on the run.
        searching: whether what it does is searching, not training the winner.
        asked: requests: those that wait, then those that were answered, the newest first.
        now: seconds since 1970.
        last: when something was stored, in seconds since 1970.
    """

    findings: Findings
    version: str
    config: str = ""
    goal: Goal = field(default_factory=Goal)
    earlier: float = 0.0
    alive: bool = False
    searching: bool = False
    paused: bool = False
    banned: tuple[str, ...] = ()
    asked: tuple[Asked, ...] = ()
    now: float = 0.0
    last: float = 0.0

    @property
    def record(self) -> Record:
        """The run so far."""
        return self.findings.record

    # --- what goes on -----------------------------------------------------------------------------

    @property
    def status(self) -> Literal["searching", "paused", "at work", "stopped"]:
        """In a word."""
        if self.paused:
            return "paused"
        if self.searching:
            return "searching"
        return "at work" if self.alive else "stopped"

    @property
    def said(self) -> str:
        """What goes on, as a sentence."""
        training = len(self._training)
        networks = f"{number_of(training, 'network')} {by_number(training, 'is', 'are')}"
        if self.status == "paused":
            if training:
                return f"Paused; {networks} finishing."
            return "Paused: nothing is begun until you resume."
        if self.status == "searching":
            return f"Searching: {networks} training."
        if self.status == "at work":
            return f"The search has ended: {self._end}. What it has found is being trained."
        return (
            f"No search is running: {self._end}. What you ask for waits until the run is resumed."
        )

    @property
    def _end(self) -> str:
        """How the last session ended."""
        sessions = (event for event in reversed(self.record.events) if event.kind in SESSION)
        last = next(sessions, None)
        if last is None or last.kind == STARTED:
            return "it was stopped from outside"
        return str(last.details.get("message", f"it was {last.kind}"))

    @property
    def _training(self) -> list[int]:
        """The numbers of the candidates without an evaluation: they train, or are lost."""
        return [entry.number for entry in self.record.entries if entry.evaluation is None]

    @property
    def asked_title(self) -> str:
        """How many requests there are, and how many wait."""
        waits = sum(request.state == "waits" for request in self.asked)
        number = number_of(len(self.asked), "request")
        return f"{number}, {waits} of them waiting" if waits else number

    # --- how far it is ----------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds of searching, pauses left out."""
        running = self.searching and not self.paused
        return self.record.seconds + (max(0.0, self.now - self.last) if running else 0.0)

    @property
    def rate(self) -> float | None:
        """Evaluations a minute, of the last ones; None before the first."""
        arrivals = sorted(one.elapsed for one in self.record.entries if one.elapsed is not None)
        recent = arrivals[-_RECENT:]
        begin = arrivals[-_RECENT - 1] if len(arrivals) > _RECENT else 0.0
        if not recent or self.elapsed <= begin:
            return None
        return 60 * len(recent) / (self.elapsed - begin)

    @property
    def share(self) -> float | None:
        """How far the search is, in [0, 1]; None where nothing says when it ends."""
        return max((min(1.0, done / whole) for done, whole in self._ways), default=None)

    @property
    def seconds_left(self) -> float | None:
        """Until the search ends, at its speed so far; None where that is not known."""
        left = []
        for done, whole in self._ways:
            if whole == self.goal.seconds:
                left.append(whole - done)
            elif done:
                left.append(self.elapsed * (whole - done) / done)
        return max(0.0, min(left)) if left else None

    @property
    def _ways(self) -> list[tuple[float, float]]:
        """How much is done, and of how much, for each thing that ends the search."""
        goal, ways = self.goal, []
        if goal.evaluations:
            ways.append((float(len(self.record.trained)), float(goal.evaluations)))
        if goal.generations:
            ways.append((float(self._generation), float(goal.generations)))
        if goal.seconds:
            ways.append((self.elapsed - self.earlier, goal.seconds))
        return ways

    @property
    def _generation(self) -> int:
        """Generations that are done."""
        entries = self.record.entries
        return entries[-1].generation if entries else 0

    @property
    def progress(self) -> str:
        """How far it is, in a line."""
        trained = len(self.record.trained)
        of = f" of {self.goal.evaluations:,}" if self.goal.evaluations else ""
        words = [f"{trained:,}{of} evaluated in {duration(self.elapsed)}"]
        generations = f" of {self.goal.generations:,}" if self.goal.generations else ""
        words.append(f"generation {self._generation + 1:,}{generations}")
        if self.searching and self._training:
            named = " ".join(f"#{number}" for number in self._training[:_NAMED])
            more = len(self._training) - _NAMED
            words.append(f"training {named}{f' and {more:,} more' if more > 0 else ''}")
        for name, correlation in self.findings.predictors.items():
            words.append(f"{name} {correlation}{' (aside)' if correlation.worthless else ''}")
        if self.searching and not self.paused:
            if self.rate is not None:
                words.append(f"{self.rate:.1f} a minute")
            if self.seconds_left is not None:
                words.append(f"about {duration(self.seconds_left)} left")
        return " · ".join(words)
