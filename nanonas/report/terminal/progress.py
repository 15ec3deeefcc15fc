"""What a search and a training show while they run: a live panel on a terminal, a line now and then
elsewhere.
"""

from __future__ import annotations

import abc
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from nanonas.core import Candidate, Evaluation, Objective, State, Told
from nanonas.engine.study import Progress, Study
from nanonas.predictors.audit import audited
from nanonas.text import costs, duration


class _Panel(abc.ABC):
    """A live panel below whatever is printed, on a terminal; nothing elsewhere.

    A context manager.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(
            get_renderable=self._panel, console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

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


class SearchProgress(_Panel):
    """Follows a search: generation, done/pruned/failed, best so far, evaluations per minute, time
    left.

    Where a predictor chooses, also how its predictions come out, and whether it stands aside
    because of that.

    Args:
        evaluations: how many the search ends after, where that is known.
        deadline: when it ends, as of `time.time()`, where that is known.
        generations: how many the search ends after, where that is known.
        heard: what earlier sessions evaluated.
        terse: nothing but the panel, because somebody else tells what happens.
    """

    def __init__(
        self,
        console: Console,
        evaluations: int | None,
        deadline: float | None,
        generations: int | None,
        heard: Iterable[Told] = (),
        *,
        terse: bool = False,
    ) -> None:
        self.terse = terse
        self.evaluations, self.deadline, self.generations = evaluations, deadline, generations
        self.start = time.time()
        self.states: Counter[State] = Counter()  # of this session
        self.progress: Progress | None = None  # the latest
        self.front = 0  # members, with several objectives
        self._study: Study | None = None
        self._predicted = {
            told.number: told for told in heard if told.candidate.proposal.predicted is not None
        }
        super().__init__(console)  # last: it asks for the first line at once

    def follow(self, study: Study) -> None:
        """The search that it shows may be paused, and its deadline moves on then."""
        self._study = study

    @property
    def _pause(self) -> float:
        """Seconds that the search has been paused in this session."""
        return 0.0 if self._study is None else self._study.paused_seconds

    def show(self, progress: Progress, front: Sequence[Told] = ()) -> None:
        """Hears of one more evaluation, and of the front as it is now."""
        earlier, self.progress, self.front = self.progress, progress, len(front)
        told = progress.told
        if told.candidate.proposal.predicted is not None:
            self._predicted[told.number] = told
        self.states[told.evaluation.state] += 1
        if self.terse:
            return
        if (
            not self.console.is_terminal
            and earlier is not None
            and told.candidate.generation > earlier.told.candidate.generation
        ):
            self.console.print(self._line(), highlight=False, soft_wrap=True)
        if progress.best is not None and progress.best.number == told.number:
            line = best_line(told.candidate, told.evaluation)
            self.console.print(f"  new best: {line}", highlight=False, soft_wrap=True)

    @property
    def rate(self) -> float:
        """Evaluations per minute, in this session."""
        return 60 * self.states.total() / max(1e-9, time.time() - self.start - self._pause)

    def seconds_left(self) -> float | None:
        """Until the search ends, by its deadline or at its speed so far; None where nobody can
        know.
        """
        left: list[float] = []
        if self.deadline is not None:
            left.append(max(0.0, self.deadline + self._pause - time.time()))
        if self.evaluations is not None and self.progress is not None and self.states:
            left.append(60 * max(0, self.evaluations - self.progress.evaluated) / self.rate)
        return min(left, default=None)

    def _trust(self) -> list[str]:
        """How the predictions come out, by predictor."""
        told = [self._predicted[number] for number in sorted(self._predicted)]
        found = audited(told, Objective()).items()
        return [
            f"{name} {correlation}{' (aside)' if correlation.worthless else ''}"
            for name, correlation in found
        ]

    def _share(self) -> float:
        shares = [0.0]
        if self.deadline is not None:
            shares.append(
                (time.time() - self.start - self._pause) / max(1e-9, self.deadline - self.start)
            )
        if self.progress is not None:
            if self.evaluations:
                shares.append(self.progress.evaluated / self.evaluations)
            if self.generations:
                shares.append(self.progress.told.candidate.generation / self.generations)
        return min(1.0, max(shares))

    def _line(self) -> str:
        left = self.seconds_left()
        time_left = [] if left is None else [f"{duration(left)} left"]
        pause = ["paused"] if self._study is not None and self._study.paused else []
        if self.progress is None:
            return " · ".join([*(pause or ["the first networks are training"]), *time_left])
        s, best = self.states, self.progress.best
        of = f"/{self.generations}" if self.generations else ""
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


class TrainingProgress(_Panel):
    """Follows one network's training: epochs, loss, time left. `label` says what it is for."""

    def __init__(self, console: Console, label: str) -> None:
        self.label = label
        self.start: float | None = None
        self.first = 0  # epochs that an earlier session had done
        self.done, self.of, self.loss = 0, 0, 0.0
        super().__init__(console)  # last: it asks for the first line at once

    def epoch(self, done: int, of: int, loss: float) -> None:
        """Hears that `done` of `of` epochs are over, the last one with this mean loss."""
        if self.start is None:
            self.start, self.first = time.time(), done
        self.done, self.of, self.loss = done, of, loss
        if not self.console.is_terminal and (done == of or done % max(1, of // 5) == 0):
            self.console.print(f"  {self._line()}", highlight=False, soft_wrap=True)

    def _line(self) -> str:
        if self.start is None:
            return f"{self.label}: measuring the speed"
        words = f"{self.label}: epoch {self.done}/{self.of} · loss {self.loss:.3f}"
        if self.done == self.first or self.done == self.of:
            return words
        left = (self.of - self.done) * (time.time() - self.start) / (self.done - self.first)
        return f"{words} · {duration(left)} left"

    def _share(self) -> float:
        return self.done / max(1, self.of)


def best_line(candidate: Candidate, evaluation: Evaluation) -> str:
    """One line about a new best."""
    parents = candidate.proposal.parents
    bred = f"from {' and '.join(f'#{p}' for p in parents)}" if parents else "random"
    accuracy = f"[bold]{evaluation.accuracy:.1%}[/bold]"
    return f"{accuracy}  #{candidate.number}  {costs(evaluation.metrics)}  [dim]({bred})[/dim]"
