"""A search in plain words, generation by generation: what a teacher who stands beside it would say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nanonas.analysis.lineage import ancestors, step
from nanonas.analysis.record import Entry, Record
from nanonas.engine.storage.events import IMAGES
from nanonas.networks.edits import in_words
from nanonas.report.words.generation import Generation, doubt, few, with_entries
from nanonas.text import percent


def narrate(record: Record, generation: int) -> list[str]:
    """One generation, 0-based, in a few paragraphs, from what had been told when it was over."""
    known = with_entries(
        record, [entry for entry in record.entries if entry.generation <= generation]
    )
    return [words for words in Generation(known, generation).paragraphs() if words]


def farewell(record: Record) -> list[str]:
    """What is to be said when the search is over: how the best came about, and how far to trust it."""
    best = record.ranked[0] if record.ranked else None
    if best is None or best.accuracy is None:
        return ["No network was judged, so there is nothing to look back on."]
    judged = record.details(IMAGES).get("valid")
    error = f" And {doubt(best.accuracy, judged)}." if judged else ""
    said = [
        _way(record, best),
        f"{percent(best.accuracy)} is the best of {len(record.ranked):,} tries, on the very "
        "images that chose it, so "
        f"it flatters: expect a little less on others.{error} `nanonas report` says what speaks "
        "for the result, and "
        "`nanonas compare` whether random networks would have done as well.",
    ]
    if any(entry.candidate.proposal.inherits for entry in record.trained) and record.search.get(
        "finalists"
    ):
        said.append(
            "Accuracies with inherited weights are not a network's own. So the best "
            f"{record.search['finalists']} are "
            "now trained from scratch, and the best of these is the result."
        )
    return said


@dataclass
class Narrator:
    """Follows a search, and tells a generation as soon as all of it has arrived.

    Args:
        record: the run as it was begun or resumed: its space and configuration, and what is known
            already.
        size: how many candidates there are up to the end of a generation, by its number.
    """

    record: Record
    size: Callable[[int], int]

    def __post_init__(self) -> None:
        self._entries = {entry.number: entry for entry in self.record.entries}
        self._there = 0  # how many have arrived, without a gap, from the first on
        self._next = 0  # the generation that is told next
        for _ in self._whole():
            pass  # an earlier session has told them

    def hear(self, entry: Entry) -> Iterator[tuple[int, list[str]]]:
        """Hears of one more evaluation: the generations that are whole with it, by number, in
        words.
        """
        self._entries[entry.number] = entry
        for generation in self._whole():
            yield generation, narrate(self._known(), generation)

    def end(self) -> Iterator[tuple[int | None, list[str]]]:
        """The search is over: what has arrived of the last generation, then, with None, the way
        that it went.
        """
        known = self._known()
        if known.entries and known.entries[-1].generation >= self._next:
            yield known.entries[-1].generation, narrate(known, known.entries[-1].generation)
        yield None, farewell(known)

    def _whole(self) -> Iterator[int]:
        while (entry := self._entries.get(self._there)) is not None and entry.state not in (
            "cut",
            "running",
        ):
            self._there += 1
            if self._there == self.size(self._next):
                self._next += 1
                yield self._next - 1

    def _known(self) -> Record:
        """The run until the first candidate that has not arrived."""
        last = self._there
        while last in self._entries:
            last += 1
        return with_entries(self.record, [self._entries[number] for number in range(last)])


def _way(record: Record, best: Entry) -> str:
    """How the best came about, from the network that it goes back to."""
    way = ancestors(record, best.number)[::-1]
    which = "The most accurate" if len(record.objectives) > 1 else "The best"
    if len(way) == 1:
        return f"{which}, #{best.number}, was drawn at random: nothing that was bred is better."
    said = [f"#{way[0]} ({_accuracy(record.entries[way[0]])})"]
    for number in way[1:]:
        found = step(record, number)
        how = f"{few(in_words(found.edits))}" if found.bred else found.kind
        said.append(f"#{number} ({how}; {_accuracy(record.entries[number])})")
    return f"{which}, #{best.number}, goes back to #{way[0]}: {' → '.join(said)}."


def _accuracy(entry: Entry) -> str:
    return entry.state if entry.accuracy is None else percent(entry.accuracy)
