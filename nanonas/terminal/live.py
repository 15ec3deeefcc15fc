"""What a terminal shows of a session: the listeners that the command line and Python hand in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import wrap

from rich.console import Console

from nanonas.analysis import record as records
from nanonas.analysis.record import Entry
from nanonas.core import Told
from nanonas.engine.study import End, Progress
from nanonas.report.words.narration import Narrator
from nanonas.session.listener import Begun, Listener, Listeners
from nanonas.terminal.progress import SearchProgress, TrainingProgress


def live(console: Console, *, explain: bool = False) -> Listener:
    """The progress of a search and of its winner's training.

    Args:
        explain: tell each generation in plain words instead of a line for each new best.
    """
    narration = [Narration(console)] if explain else []
    return Listeners(SearchProgress(console, terse=explain), TrainingProgress(console), *narration)


class Narration(Listener):
    """Prints a search in plain words, generation by generation."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._narrator: Narrator | None = None
        self._image_size: int | None = None  # that candidates are compared on

    def begun(self, search: Begun) -> None:
        """Reads what earlier sessions have told already."""
        setup, store, name = search.setup, search.store, search.folder.path.name
        record = records.read(store, store.events(), name, setup.space, objectives=setup.objectives)
        self._narrator = Narrator(record, setup.size_through)
        self._image_size = record.image_size

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        """Tells the generations that are complete with this evaluation."""
        if self._narrator is not None:
            told = progress.told
            entry = Entry(told.candidate, told.evaluation, image_size=self._image_size)
            self._tell(self._narrator.hear(entry))

    def ended(self, end: End | None) -> None:
        """Tells what is left, and looks back, unless an exception ends the search."""
        if self._narrator is not None and end is not None:
            self._tell(self._narrator.end())

    def _tell(self, generations: Iterable[tuple[int | None, list[str]]]) -> None:
        for generation, paragraphs in generations:
            title = "Looking back" if generation is None else f"Generation {generation + 1}"
            self.console.print(f"\n[bold]{title}[/bold]", highlight=False)
            for paragraph in paragraphs:
                # only these two keep a figure and its sign together: rich breaks lines at every
                # kind of space
                words = paragraph.replace(" %", "\N{NO-BREAK SPACE}%")
                for line in wrap(words, self.console.width - 2):
                    self.console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
