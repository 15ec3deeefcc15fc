"""What a search and a training show while they run: a live panel on a terminal, a line now and then
elsewhere.
"""

from __future__ import annotations

import abc
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nanonas.core import Budget, Candidate, Evaluation, State, Told
from nanonas.engine.study import End, Progress
from nanonas.maths.ranks import Correlation
from nanonas.predictors.audit import Audit
from nanonas.predictors.experience import useless
from nanonas.session.listener import Begun, Listener
from nanonas.text import by_number, costs, duration, finalists_begin

if TYPE_CHECKING:
    from nanonas.training.final import FinalResult


class _Panel(abc.ABC):
    """A live panel below whatever is printed, on a terminal; nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live: Live | None = None

    def _open(self) -> None:
        if self.console.is_terminal:
            self._live = Live(
                get_renderable=self._panel,
                console=self.console,
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _panel(self) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            ProgressBar(total=1.0, completed=self._share(), width=24),
            Text(self._line(), no_wrap=True, overflow="ellipsis"),
        )
        return grid

    @abc.abstractmethod
    def _share(self) -> float:
        """How much is done, in [0, 1]."""

    @abc.abstractmethod
    def _line(self) -> str:
        """What there is to say."""


class SearchProgress(_Panel, Listener):
    """Follows a search: generation, done/pruned/failed, best so far, evaluations per minute, time
    left; then its finalists.

    Where a predictor chooses, also how its predictions come out, and whether it stands aside
    because of that; where the search began with experience, likewise.

    Args:
        terse: nothing but the panel, because another listener tells what happens.
    """

    def __init__(self, console: Console, *, terse: bool = False) -> None:
        super().__init__(console)
        self.terse = terse
        self.search: Begun | None = None
        self.start = time.monotonic()
        self.states: Counter[State] = Counter()  # of this session
        self.progress: Progress | None = None  # the latest
        self.front = 0  # members, with several objectives
        self._audit = Audit()
        self._worth: Correlation | None = None  # of experience

    def begun(self, search: Begun) -> None:
        """Shows the panel."""
        self.search, self.start = search, time.monotonic()
        self._audit = Audit()
        for told in search.told:
            self._audit.tell(told)
        self._open()

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        """Prints a line for a new best; where there is no panel, also one a generation."""
        earlier, self.progress, self.front = self.progress, progress, len(front)
        candidate, evaluation = progress.told.candidate, progress.told.evaluation
        self._audit.tell(progress.told)
        if self.search is not None:  # here, for the panel asks in a thread of its own
            self._worth = self.search.worth()
        self.states[evaluation.state] += 1
        if self.terse:
            return
        before = None if earlier is None else earlier.told.candidate.generation
        if before is not None and candidate.generation > before and not self.console.is_terminal:
            self.console.print(self._line(), markup=False, highlight=False, soft_wrap=True)
        if progress.best is not None and progress.best.number == candidate.number:
            line = best_line(candidate, evaluation)
            self.console.print(f"  new best: {line}", highlight=False, soft_wrap=True)

    def answered(self, sentence: str) -> None:
        """Prints it."""
        self.console.print(f"  {sentence}", highlight=False, soft_wrap=True, markup=False)

    def ended(self, end: End | None) -> None:
        """Takes the panel away."""
        self._close()

    def finals_begun(self, finalists: int, budget: Budget) -> None:
        """Prints how many there are, and for how long each trains."""
        are = by_number(finalists, "one is", f"{finalists} are")
        line = f"\nthe best {are} trained {self._anew}, for {budget.length} each"
        self.console.print(line, highlight=False)

    def finalist(self, candidate: Candidate, searched: Evaluation, scratch: Evaluation) -> None:
        """Prints what it came to."""
        before = f"[dim]({searched.accuracy:.1%} in the search)[/dim]"
        result = escape(str(scratch.reason))
        if scratch.state is State.COMPLETE and scratch.accuracy is not None:
            result = f"[bold]{scratch.accuracy:.1%}[/bold] {self._anew}"
        line = f"  #{candidate.number}  {result}  {before}"
        self.console.print(line, highlight=False, soft_wrap=True)

    @property
    def _anew(self) -> str:
        """What finalists begin with."""
        return finalists_begin(self.search is not None and self.search.setup.origin is not None)

    @property
    def _pause(self) -> float:
        """Seconds that the search has been paused in this session."""
        return 0.0 if self.search is None else self.search.study.paused_seconds

    @property
    def rate(self) -> float:
        """Evaluations per minute, in this session."""
        return 60 * self.states.total() / max(1e-9, time.monotonic() - self.start - self._pause)

    def seconds_left(self) -> float | None:
        """Until the search ends, by its deadline or at its speed so far; None where that is not
        known.
        """
        left: list[float] = []
        if self.search is None:
            return None
        deadline, evaluations = self.search.deadline, self.search.evaluations
        if deadline is not None:
            left.append(max(0.0, deadline + self._pause - time.monotonic()))
        if evaluations is not None and self.progress is not None and self.states:
            left.append(60 * max(0, evaluations - self.progress.evaluated) / self.rate)
        return min(left, default=None)

    def _trust(self) -> list[str]:
        """How the predictions come out, by predictor, and what experience is worth."""
        words = [
            f"{name} {correlation}{' (aside)' if correlation.worthless else ''}"
            for name, correlation in self._audit.correlations().items()
        ]
        if self._worth is not None:
            out = " (left out)" if useless(self._worth) else ""
            words.append(f"experience {self._worth}{out}")
        return words

    def _share(self) -> float:
        shares, search = [0.0], self.search
        if search is None:
            return 0.0
        if search.deadline is not None:
            searching = time.monotonic() - self.start - self._pause
            shares.append(searching / max(1e-9, search.deadline - self.start))
        if self.progress is not None:
            if search.evaluations:
                shares.append(self.progress.evaluated / search.evaluations)
            if search.generations:
                shares.append(self.progress.told.candidate.generation / search.generations)
        return min(1.0, max(shares))

    def _line(self) -> str:
        left = self.seconds_left()
        time_left = [] if left is None else [f"{duration(left)} left"]
        pause = ["paused"] if self.search is not None and self.search.study.paused else []
        if self.progress is None:
            return " · ".join([*(pause or ["the first networks are training"]), *time_left])
        s, best = self.states, self.progress.best
        generations = None if self.search is None else self.search.generations
        of = f"/{generations}" if generations else ""
        words = [
            *pause,
            f"generation {self.progress.told.candidate.generation + 1}{of}",
            f"{s[State.COMPLETE]} done",
            f"{s[State.PRUNED]} pruned",
            f"{s[State.FAILED]} failed",
            *([f"{s[State.INFEASIBLE]} over a limit"] if s[State.INFEASIBLE] else []),
            f"best {best.evaluation.accuracy:.1%}" if best else "no result yet",
            *([f"front of {self.front}"] if self.front else []),
            *self._trust(),
            f"{self.rate:.1f}/min",
        ]
        if s[State.CUT]:
            words.append(f"{s[State.CUT]} cut by the deadline")
        return " · ".join([*words, *time_left])


class TrainingProgress(_Panel, Listener):
    """Follows a network's final training: epochs, loss, time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.label = "training"
        self.start: float | None = None
        self.first = 0  # epochs that an earlier session had done
        self.done, self.of, self.loss = 0, 0, 0.0

    def training(self, label: str) -> None:
        """Shows the panel."""
        self.label, self.start, self.first = label, None, 0
        self.done, self.of, self.loss = 0, 0, 0.0
        self._open()

    def trained(self, result: FinalResult | None) -> None:
        """Takes the panel away."""
        self._close()

    def epoch(self, done: int, of: int, loss: float) -> None:
        """Prints a line now and then where there is no panel."""
        if self.start is None:
            self.start, self.first = time.monotonic(), done
        self.done, self.of, self.loss = done, of, loss
        if not self.console.is_terminal and (done == of or done % max(1, of // 5) == 0):
            self.console.print(f"  {self._line()}", markup=False, highlight=False, soft_wrap=True)

    def _line(self) -> str:
        if self.start is None:
            return f"{self.label}: measuring the speed"
        words = f"{self.label}: epoch {self.done}/{self.of} · loss {self.loss:.3f}"
        if self.done == self.first or self.done == self.of:
            return words
        left = (self.of - self.done) * (time.monotonic() - self.start) / (self.done - self.first)
        return f"{words} · {duration(left)} left"

    def _share(self) -> float:
        return self.done / max(1, self.of)


def best_line(candidate: Candidate, evaluation: Evaluation) -> str:
    """One line about a new best."""
    parents, ancestor = candidate.proposal.parents, candidate.proposal.ancestor
    begun = "found by another run" if candidate.proposal.recalled else "random"
    begun = f"hand-made: {ancestor}" if ancestor else begun
    bred = f"from {' and '.join(f'#{p}' for p in parents)}" if parents else begun
    accuracy = f"[bold]{evaluation.accuracy:.1%}[/bold]"
    return f"{accuracy}  #{candidate.number}  {costs(evaluation.metrics)}  [dim]({bred})[/dim]"
