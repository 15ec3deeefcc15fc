"""What a session tells while it works. It prints nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # all of it: a command that only listens starts without the engine
    from nanonas.core import Budget, Candidate, Evaluation, Told
    from nanonas.engine.storage.store import RunStore
    from nanonas.engine.study import End, Progress, Study
    from nanonas.maths.ranks import Correlation
    from nanonas.runs.folder import RunFolder
    from nanonas.session.setup import Setup
    from nanonas.training.final import FinalResult


@dataclass(frozen=True)
class Begun:
    """A search that begins, or is continued."""

    setup: Setup
    folder: RunFolder
    store: RunStore  # open; to read from
    study: Study  # of which `paused` and `paused_seconds` change
    told: Sequence[Told]  # what earlier sessions evaluated
    evaluations: int | None  # after which it ends, where that is known
    generations: int | None  # after which it ends, where that is known
    deadline: float | None  # as of `time.monotonic()`, without pauses
    # how the experience that it began with orders what was measured; None: too little, or without
    worth: Callable[[], Correlation | None] = lambda: None


class Listener:
    """Hears what happens in a session; a subclass takes the methods that it needs.

    Methods are called in the session's own thread, and an exception in a method ends the session.
    """

    def begun(self, search: Begun) -> None:
        """The search begins."""

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        """An evaluation was stored.

        Args:
            front: the best trade-offs as they are now, the most accurate first; without several
                objectives it is empty.
        """

    def answered(self, sentence: str) -> None:
        """A request of the user was answered, or the search has decided something that it says."""

    def ended(self, end: End | None) -> None:
        """The search is over; None: an exception ends it, which is on its way to the caller."""

    def finals_begun(self, finalists: int, budget: Budget) -> None:
        """So many of the best are trained from scratch now, each under this budget."""

    def finalist(self, candidate: Candidate, searched: Evaluation, scratch: Evaluation) -> None:
        """A finalist was trained.

        Args:
            searched: its evaluation in the search.
            scratch: its evaluation from scratch.
        """

    def training(self, label: str) -> None:
        """A final training begins; the label says of what."""

    def epoch(self, done: int, of: int, loss: float) -> None:
        """`done` of `of` epochs of the final training are over, the last with this mean loss."""

    def trained(self, result: FinalResult | None) -> None:
        """The final training is over; None: an exception ends it."""


class Listeners(Listener):
    """Several listeners as one: each hears everything, in the order given."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def begun(self, search: Begun) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.begun(search)

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.evaluated(progress, front)

    def answered(self, sentence: str) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.answered(sentence)

    def ended(self, end: End | None) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.ended(end)

    def finals_begun(self, finalists: int, budget: Budget) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.finals_begun(finalists, budget)

    def finalist(self, candidate: Candidate, searched: Evaluation, scratch: Evaluation) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.finalist(candidate, searched, scratch)

    def training(self, label: str) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.training(label)

    def epoch(self, done: int, of: int, loss: float) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.epoch(done, of, loss)

    def trained(self, result: FinalResult | None) -> None:
        """Hands it on."""
        for listener in self.listeners:
            listener.trained(result)
