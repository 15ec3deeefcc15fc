"""A search in plain words, generation by generation: what a teacher beside it would say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from nanonas.analysis.findings import Findings
from nanonas.analysis.lineage import ancestors, step
from nanonas.analysis.record import Entry, Record
from nanonas.config.schema import FINALISTS
from nanonas.networks.edits import in_words
from nanonas.report.words.generation import Generation, doubt, few
from nanonas.text import by_number, finalists_begin, number_of, percent


def narrate(record: Record, generation: int) -> list[str]:
    """One generation, 0-based, in a few paragraphs, from what had been told when it was over."""
    until = sum(entry.generation <= generation for entry in record.entries)
    findings = Findings(record.first(until))
    return [words for words in Generation(findings, generation).paragraphs() if words]


def farewell(record: Record) -> list[str]:
    """The end of a search: how the best network came about, and how far to trust it."""
    best = record.ranked[0] if record.ranked else None
    if best is None or best.accuracy is None:
        return ["No network was judged, so there is nothing to look back on."]
    doubted = doubt(record, best.accuracy)
    error = f" And {doubted}." if doubted else ""
    measure = "" if record.metric == "accuracy" else f" of {record.measure}"
    paragraphs = [
        _way(record, best),
        f"{percent(best.accuracy)}{measure} is the best of "
        f"{number_of(len(record.ranked), 'try', 'tries')}, on the very images that chose it, so it "
        f"flatters: expect a little less on others.{error} "
        "`nanonas report` says what speaks for the result, and `nanonas compare` whether random "
        "networks would have done as well.",
    ]
    finalists = record.search.get("finalists")
    finalists = FINALISTS if finalists is None else finalists  # as `Setup.finalists`
    seconds = record.search.get("finalist_seconds")
    if finalists and seconds:
        paragraphs.append(
            "What learns fast is not always what is best in the end. So the best "
            f"{_finalists(record, finalists)}, for {seconds:.3g} s each, and the best of these is "
            "the result."
        )
    elif finalists and any(entry.proposal.inherits for entry in record.trained):
        paragraphs.append(
            f"Accuracies with inherited weights are not a network's own. So the best "
            f"{_finalists(record, finalists)}, and the best of these is the result."
        )
    return paragraphs


def _finalists(record: Record, number: int) -> str:
    are = by_number(number, "one is", f"{number} are")
    return f"{are} now trained {finalists_begin(record.ancestor is not None)}"


def _way(record: Record, best: Entry) -> str:
    """How the best came about, from the network that it goes back to."""
    way = ancestors(record, best.number)[::-1]
    which = "The most accurate" if len(record.objectives) > 1 else "The best"
    first = record.entries[way[0]]
    name = first.proposal.ancestor
    if len(way) == 1:
        found = "was found by another run" if first.proposal.recalled else "was drawn at random"
        begun = f"is the hand-made network {name!r}" if name else found
        return f"{which}, #{best.number}, {begun}: nothing that was bred is better."
    made = f"hand-made: {name}; " if name else ""
    stations = [f"#{way[0]} ({made}{_accuracy(first)})"]
    for number in way[1:]:
        own = step(record, number)
        how = few(in_words(own.edits)) if own.bred else own.kind
        stations.append(f"#{number} ({how}; {_accuracy(record.entries[number])})")
    return f"{which}, #{best.number}, goes back to #{way[0]}: {' → '.join(stations)}."


def _accuracy(entry: Entry) -> str:
    return entry.state if entry.accuracy is None else percent(entry.accuracy)


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
        self._arrived = 0  # without a gap, from the first on
        self._next = 0  # the generation that is told next
        for _ in self._whole():
            pass  # an earlier session has told them

    def hear(self, entry: Entry) -> Iterator[tuple[int, list[str]]]:
        """Takes in one more evaluation, and tells the generations that are whole with it, by
        number.
        """
        self._entries[entry.number] = entry
        for generation in self._whole():
            yield generation, narrate(self._so_far(), generation)

    def end(self) -> Iterator[tuple[int | None, list[str]]]:
        """The search is over: tells what has arrived of the last generation, then, with None, the
        way that the search went.
        """
        record = self._so_far()
        if record.entries and record.entries[-1].generation >= self._next:
            last = record.entries[-1].generation
            yield last, narrate(record, last)
        yield None, farewell(record)

    def _whole(self) -> Iterator[int]:
        while (entry := self._entries.get(self._arrived)) is not None:
            if entry.state in ("cut", "running"):
                return
            self._arrived += 1
            if self._arrived == self.size(self._next):
                self._next += 1
                yield self._next - 1

    def _so_far(self) -> Record:
        """The run until the first candidate that has not arrived."""
        last = self._arrived
        while last in self._entries:
            last += 1
        return replace(self.record, entries=tuple(self._entries[n] for n in range(last)))
