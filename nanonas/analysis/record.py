"""What a run is, as plain values: read once from its store, then looked at from every side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from nanonas.core import Candidate, Evaluation, Genome, Objective, Told
from nanonas.engine.ranking import best_networks, ranking
from nanonas.engine.requests import PAUSE, RESUME
from nanonas.engine.storage.events import FINALIST, REQUEST_TAKEN, SESSION, STARTED, Event
from nanonas.engine.storage.store import RunStore
from nanonas.networks.network import Network
from nanonas.spaces.base import Space


@dataclass(frozen=True)
class Entry:
    """A candidate and what became of it."""

    candidate: Candidate
    evaluation: Evaluation | None  # None: it is running, or was lost
    # seconds of searching until its evaluation arrived, pauses left out
    elapsed: float | None = None

    @property
    def number(self) -> int:
        return self.candidate.number

    @property
    def generation(self) -> int:
        """0-based."""
        return self.candidate.generation

    @property
    def genome(self) -> Genome:
        return self.candidate.proposal.genome

    @cached_property
    def told(self) -> Told | None:
        """The two of them; None while there is no evaluation."""
        candidate, evaluation = self.candidate, self.evaluation
        if evaluation is None:
            return None
        return Told(candidate, evaluation, candidate.asked_after)

    @cached_property
    def accuracy(self) -> float | None:
        """On the validation images, in [0, 1]; None where it cannot be compared with the others'."""
        told = self.told
        return told.evaluation.accuracy if told is not None and told.comparable else None

    @property
    def state(self) -> str:
        """Its state in a word: that of its evaluation, or "running"."""
        return "running" if self.evaluation is None else self.evaluation.state.value

    def metric(self, name: str) -> float | None:
        """A metric of its evaluation; None where it was not measured."""
        return None if self.evaluation is None else self.evaluation.metrics.get(name)


@dataclass(frozen=True)
class Record:
    """A run.

    What does not lie in its store comes from whoever opens its folder: see
    `nanonas.runs.reading.read_record`.
    """

    name: str
    entries: tuple[Entry, ...]  # by number, without gaps
    space: Space
    config: Mapping[str, Any] = field(default_factory=dict)  # as stored, both halves
    events: tuple[Event, ...] = ()
    objectives: tuple[Objective, ...] = (Objective(),)
    created: float = 0.0  # seconds since 1970
    version: str = ""  # of nanonas, when the run was begun
    seconds: float = 0.0  # wall clock of the search, pauses left out
    command: str = ""  # that repeats the run
    class_names: tuple[str, ...] = ()
    final: Mapping[str, Any] | None = None  # result.json of the winner's training
    comparison: tuple[Mapping[str, Any], ...] = ()  # rows of compare/table.json

    @property
    def search(self) -> Mapping[str, Any]:
        """The half of the configuration that is the run's identity."""
        found: Mapping[str, Any] = self.config.get("search", {})
        return found

    @cached_property
    def told(self) -> list[Told]:
        """Candidates with their evaluations, as audits read them."""
        return [entry.told for entry in self.entries if entry.told is not None]

    @cached_property
    def trained(self) -> list[Entry]:
        """Those that have an evaluation."""
        return [entry for entry in self.entries if entry.evaluation is not None]

    @cached_property
    def ranked(self) -> list[Entry]:
        """Those with an accuracy, the best first, as `engine.ranking.ranking` has them."""
        return [self.entries[told.number] for told in ranking(self.told)]

    @cached_property
    def distinct(self) -> list[Entry]:
        """As `ranked`, each network once."""
        return [self.entries[told.number] for told in best_networks(self.told)]

    @cached_property
    def finalists(self) -> dict[int, float]:
        """The accuracy from scratch of each finalist, by number."""
        return finalists_of(self.events)

    @cached_property
    def winner(self) -> Entry | None:
        """What the search chose: the best finalist where there are some, else the first of the
        ranking.
        """
        if self.finalists:
            return self.entries[
                min(self.finalists, key=lambda number: (-self.finalists[number], number))
            ]
        return self.ranked[0] if self.ranked else None

    def network(self, number: int) -> Network:
        """The network of a candidate, for images as they are."""
        return self.space.decode(self.entries[number].genome)

    def details(self, kind: str) -> Mapping[str, Any]:
        """What the first event of a kind says; nothing where there is none."""
        return next((event.details for event in self.events if event.kind == kind), {})


def read(store: RunStore, name: str, space: Space, **more: Any) -> Record:
    """What a store holds.

    Args:
        more: the fields of `Record` that no store has.

    Raises:
        RunError: the store cannot be read.
    """
    evaluations, times, events = store.evaluations(), store.arrival_times(), store.events()
    latest = {evaluation.number: place for place, evaluation in enumerate(evaluations)}
    elapsed, seconds = searching(events, times)
    entries = tuple(
        Entry(
            candidate,
            evaluations[latest[candidate.number]] if candidate.number in latest else None,
            elapsed[latest[candidate.number]] if candidate.number in latest else None,
        )
        for candidate in store.candidates()
    )
    return Record(
        name,
        entries,
        space,
        store.config,
        tuple(events),
        created=store.created,
        version=store.version,
        seconds=seconds,
        **more,
    )


def finalists_of(events: Iterable[Event]) -> dict[int, float]:
    """The validation accuracy in [0, 1] from scratch of each finalist that a run has had, by
    number.
    """
    details = [event.details for event in events if event.kind == FINALIST]
    return {int(one["number"]): float(one["accuracy"]) for one in details}


def searching(events: Sequence[Event], arrivals: Sequence[float]) -> tuple[list[float], float]:
    """Wall-clock seconds of searching until each arrival, and in all; without pauses and the time
    between two sessions.

    A session that was killed lasts until its last sign of life.
    """
    marks = (*SESSION, FINALIST, PAUSE, RESUME)
    said = [
        (event.time, event.details["what"] if event.kind == REQUEST_TAKEN else event.kind, -1)
        for event in events
    ]
    moments = [moment for moment in said if moment[1] in marks]
    moments = sorted([*moments, *((arrival, "", place) for place, arrival in enumerate(arrivals))])
    elapsed = [0.0] * len(arrivals)
    total, last, searches, paused = 0.0, 0.0, False, False
    for moment, kind, place in moments:
        if kind == STARTED:
            searches, paused = True, False
        elif searches:
            total += 0.0 if paused else moment - last
            paused = kind == PAUSE or (paused and kind != RESUME)
        last = moment
        if place >= 0:
            elapsed[place] = total
    return elapsed, total
