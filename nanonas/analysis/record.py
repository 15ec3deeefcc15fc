"""A run as plain values: read once from its store, then looked at from every side."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

from nanonas.analysis.equal_time import EqualTime
from nanonas.core import Candidate, Evaluation, Genome, Objective, Proposal, Told
from nanonas.data.answers import Answers
from nanonas.data.thumbnails import Thumbnails
from nanonas.engine.ranking import ranking
from nanonas.engine.requests import PAUSE, RESUME
from nanonas.engine.storage.events import (
    ANCESTOR,
    CHOSEN,
    FINALIST,
    IMAGES,
    MACHINE,
    MEASURES,
    REQUEST_TAKEN,
    SESSION,
    STARTED,
    Event,
    noted,
)
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.networks.network import Network
from nanonas.spaces.base import Space


@dataclass(frozen=True)
class Entry:
    """A candidate and what became of it.

    Attributes:
        evaluation: None while it is running, or where it was lost.
        elapsed: seconds of searching until its evaluation arrived, pauses left out.
        image_size: pixels a side of the images that a run's candidates are compared on; None: as
            they are.
        accuracy: on the validation images, in [0, 1]; None where it cannot be compared with those
            of the others.
        told: the candidate with its evaluation, where it has one.
    """

    candidate: Candidate
    evaluation: Evaluation | None
    elapsed: float | None = None
    image_size: int | None = None
    accuracy: float | None = field(init=False, repr=False, compare=False, default=None)
    told: Told | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.evaluation is not None:
            told = Told(self.candidate, self.evaluation, self.candidate.asked_after)
            object.__setattr__(self, "told", told)
            if told.comparable_at(self.image_size):
                object.__setattr__(self, "accuracy", self.evaluation.accuracy)

    @property
    def number(self) -> int:
        return self.candidate.number

    @property
    def generation(self) -> int:
        """0-based."""
        return self.candidate.generation

    @property
    def proposal(self) -> Proposal:
        return self.candidate.proposal

    @property
    def genome(self) -> Genome:
        return self.candidate.proposal.genome

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was measured; empty without an evaluation."""
        return {} if self.evaluation is None else self.evaluation.metrics

    def metric(self, name: str) -> float | None:
        """A metric of its evaluation; None where it was not measured."""
        return self.metrics.get(name)

    @property
    def state(self) -> str:
        """Its state in a word: that of its evaluation, or "running"."""
        return "running" if self.evaluation is None else self.evaluation.state.value


@dataclass(frozen=True)
class Chosen:
    """What a search has chosen by what it expects, as `engine.choosing.expected` does.

    Attributes:
        number: of the candidate.
        accuracy: that is expected of it, in [0, 1].
        of_highest: that is expected of the candidate with the highest figure; None where that was
            not trained to the end, so that nothing is expected of it.
    """

    number: int
    accuracy: float
    of_highest: float | None = None


@dataclass(frozen=True)
class Record:
    """A run. `nanonas.runs.reading.read_record` reads one from a run's folder.

    Attributes:
        entries: by number, without gaps.
        config: as stored, both halves.
        created: seconds since 1970.
        version: of nanonas, when the run was begun.
        seconds: of the search, pauses left out.
        command: the command line that repeats the run; empty where its config.yaml is gone.
        final: result.json of the winner's training.
        front_finals: result.json of each other network of the front that was finally trained, by
            number.
        answers: of the trained winner to the test images; None where they were not kept.
        thumbnails: pictures of its errors, and of training images; None likewise.
        comparison: rows of compare/table.json.
        equal_time: compare/equal-time.json.
        told: the candidates with an evaluation, as audits read them.
        trained: the entries that have an evaluation.
        ranked: those with an accuracy, the best first, as `engine.ranking.ranking` has them.
        distinct: as `ranked`, each network once.
        finalists: the accuracy from scratch of each finalist, by number.
        chosen: what the search, which has ended, chose by what it expects; None where it has not.
        winner: what the search chose: the best finalist where there are some, else `chosen`, else
            the first of the ranking.
    """

    name: str
    entries: tuple[Entry, ...]
    space: Space
    config: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    objectives: tuple[Objective, ...] = (Objective(),)
    created: float = 0.0
    version: str = ""
    seconds: float = 0.0
    command: str = ""
    class_names: tuple[str, ...] = ()
    final: Mapping[str, Any] | None = None
    front_finals: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    comparison: tuple[Mapping[str, Any], ...] = ()
    equal_time: EqualTime | None = None
    answers: Answers | None = field(default=None, repr=False, compare=False)
    thumbnails: Thumbnails | None = field(default=None, repr=False, compare=False)
    told: list[Told] = field(init=False, repr=False, compare=False)
    trained: list[Entry] = field(init=False, repr=False, compare=False)
    ranked: list[Entry] = field(init=False, repr=False, compare=False)
    distinct: list[Entry] = field(init=False, repr=False, compare=False)
    finalists: dict[int, float] = field(init=False, repr=False, compare=False)
    chosen: Chosen | None = field(init=False, repr=False, compare=False)
    winner: Entry | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        told = [entry.told for entry in self.entries if entry.told is not None]
        ranked = [self.entries[one.number] for one in ranking(told)]
        best: dict[str, Entry] = {}
        for entry in ranked:
            best.setdefault(entry.candidate.key, entry)
        known = len(self.entries)
        finalists = {n: own for n, own in finalists_of(self.events).items() if n < known}
        chosen = chosen_of(self.events)
        if chosen is not None and all(entry.number != chosen.number for entry in ranked):
            chosen = None
        winner = ranked[0] if ranked else None
        if chosen is not None:
            winner = self.entries[chosen.number]
        if finalists:
            winner = self.entries[min(finalists, key=lambda number: (-finalists[number], number))]
        vars(self).update(
            told=told,
            trained=[self.entries[one.number] for one in told],
            ranked=ranked,
            distinct=list(best.values()),
            finalists=finalists,
            chosen=chosen,
            winner=winner,
        )

    @property
    def trained_front(self) -> list[tuple[Entry, Mapping[str, Any]]]:
        """Each network of the front that was finally trained, with its result.json: the winner
        first, then the most accurate of the search; empty where it was none but the winner.
        """
        results = {n: one for n, one in self.front_finals.items() if n < len(self.entries)}
        if not results:
            return []
        if self.winner is not None and self.final is not None:
            results[self.winner.number] = self.final
        entries = [self.winner, *self.ranked]
        numbers = dict.fromkeys(entry.number for entry in entries if entry is not None)
        return [(self.entries[n], results[n]) for n in numbers if n in results]

    @property
    def search(self) -> Mapping[str, Any]:
        """The half of the configuration that is the run's identity."""
        half: Mapping[str, Any] = self.config.get("search", {})
        return half

    @property
    def image_size(self) -> int | None:
        """Pixels a side of the images that candidates are compared on; None: as they are."""
        size: int | None = self.search.get("candidate_image_size")
        return size

    @property
    def metric(self) -> str:
        """What candidates are compared by: "accuracy" or "balanced_accuracy"."""
        return str(self.search.get("metric", "accuracy"))

    @property
    def measure(self) -> str:
        """That in words."""
        return self.metric.replace("_", " ")

    @property
    def weighed(self) -> list[str]:
        """The objectives in words."""
        names = [objective.name for objective in self.objectives]
        return [self.measure if name == "accuracy" else name for name in names]

    @property
    def noise_images(self) -> float | None:
        """On how many images an accuracy is as noisy as that by which candidates are compared; None
        where that was not noted.
        """
        notes = self.images
        images: float | None = notes.get("valid_equivalent", notes.get("valid"))
        return images

    @property
    def images(self) -> Mapping[str, Any]:
        """What was noted of the images when the run was begun."""
        return self._first(IMAGES)

    @property
    def machine(self) -> Mapping[str, Any]:
        """What was noted of the machine when the run was begun."""
        return self._first(MACHINE)

    @property
    def measured_on(self) -> str | None:
        """The device that latencies were measured on, where it is none of those that train."""
        name = self._first(MEASURES).get("name")
        return None if name is None else str(name)

    @property
    def ancestor(self) -> str | None:
        """What the trained network is called whose weights all began with; None: there is none."""
        name = self._first(ANCESTOR).get("name")
        return None if name is None else str(name)

    def _first(self, kind: str) -> Mapping[str, Any]:
        return noted(self.events, kind) or {}

    def first(self, number: int) -> Record:
        """The run as it was with its first so many candidates."""
        if number >= len(self.entries):
            return self
        # which did not know yet what would be chosen
        events = tuple(event for event in self.events if event.kind != CHOSEN)
        return replace(self, entries=self.entries[:number], events=events)

    def network(self, number: int) -> Network:
        """The network of a candidate, for images as they are."""
        return decoded(self.space, self.entries[number].genome)


def decoded(space: Space, genome: Genome) -> Network:
    """The network of a genome. The latest are remembered: a network is looked at several times in a
    row, and decoding one takes up to a millisecond.
    """
    try:
        return _remembered(cast(Hashable, space), genome)
    except TypeError:  # a space of the user's own that cannot be hashed
        return space.decode(genome)


@lru_cache(maxsize=256)
def _remembered(space: Any, genome: Genome) -> Network:
    network: Network = space.decode(genome)
    return network


def read(store: RunStore, events: Sequence[Event], name: str, space: Space, **more: Any) -> Record:
    """The record of a run's store.

    Args:
        events: those of the store.
        more: the fields of `Record` that are not in a store.

    Raises:
        RunError: the store cannot be read.
    """
    evaluations, clocks = store.evaluations(), store.arrival_clocks()
    latest = {evaluation.number: place for place, evaluation in enumerate(evaluations)}
    elapsed, seconds = searching(events, clocks)
    image_size = store.config.get("search", {}).get("candidate_image_size")
    candidates = store.candidates()
    for candidate in candidates:
        made_of = candidate.proposal
        before = [*made_of.parents, *made_of.inherits, made_of.resumes or 0]
        if max(before) >= max(1, candidate.number):
            raise RunError(
                f"{store.path} has candidate #{candidate.number} as a child of #{max(before)}, "
                "which is no earlier one: restore it from a copy"
            )
    entries = tuple(
        Entry(
            candidate,
            evaluations[latest[candidate.number]] if candidate.number in latest else None,
            elapsed[latest[candidate.number]] if candidate.number in latest else None,
            image_size,
        )
        for candidate in candidates
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
    trained = [event.details for event in events if event.kind == FINALIST]
    return {int(details["number"]): float(details["accuracy"]) for details in trained}


def chosen_of(events: Iterable[Event]) -> Chosen | None:
    """What a run's search has chosen by what it expects; None where it has not, or goes on."""
    chosen = None
    for event in events:
        if event.kind == STARTED:
            chosen = None
        elif event.kind == CHOSEN:
            details = event.details
            chosen = Chosen(details["number"], details["accuracy"], details.get("of_highest"))
    return chosen


def searching(events: Sequence[Event], arrivals: Sequence[float]) -> tuple[list[float], float]:
    """Seconds of searching until each arrival, and in all; without pauses and the time between two
    sessions.

    A session that was killed lasts until its last sign of life.

    Args:
        arrivals: when each evaluation arrived, by the run's own clock.
    """
    marks = (*SESSION, FINALIST, PAUSE, RESUME)
    moments = [(arrival, "", place) for place, arrival in enumerate(arrivals)]
    for event in events:
        kind = event.details["what"] if event.kind == REQUEST_TAKEN else event.kind
        if kind in marks:
            moments.append((event.clock, kind, -1))
    moments.sort()
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
