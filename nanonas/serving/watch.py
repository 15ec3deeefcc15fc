"""A run, looked at while it goes on.

What is new in its store is read by a connection that cannot write. What the user asks for is left
in the run's folder, where the process that searches finds it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from pathlib import Path

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Entry, searching
from nanonas.config.schema import Config
from nanonas.core import Evaluation
from nanonas.engine.controls import in_words, standing
from nanonas.engine.requests import PLANT, Request, RequestFiles, parsed
from nanonas.engine.storage.events import REQUEST_REFUSED, REQUEST_TAKEN, SESSION, STARTED, Event
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.runs.asking import genome_in
from nanonas.runs.folder import RunFolder, read_config
from nanonas.runs.reading import read_final, read_record
from nanonas.serving.view import Asked, Goal, View
from nanonas.session.setup import Setup

_LONG = 0.2  # seconds of the processor for a look at what is new
_IDLE = 8.0  # after one that took longer, so many times as long until the next


class Watch:
    """A run as it is now. Every look reads only what is new since the last one; many threads may
    look. What is new in a run of a hundred thousand candidates takes a second to sort in, so that
    it is seen some seconds later: the search needs the processor, too.

    Raises:
        RunError: as `nanonas.runs.reading.read_record`, for the first look.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._seen: object = None
        self._rests = 0.0  # until then, as of `time.monotonic()`
        self._begun, self._reads = time.time_ns(), 0
        self._begin()
        self.look()

    def look(self) -> View:
        """The run now. What cannot be read this time is read the next time."""
        with self._lock:
            seen = self._signs()
            if seen != self._seen and time.monotonic() >= self._rests:
                begin = time.thread_time()
                with contextlib.suppress(RunError):
                    self._read()
                    self._seen = seen
                    self._view = self._made()
                seconds = time.thread_time() - begin
                if seconds > _LONG:
                    self._rests = time.monotonic() + _IDLE * seconds
            return replace(self._view, now=time.time())

    def ask(self, what: str, word: str | None = None) -> str:
        """Leaves a request in the run's folder and says so.

        Args:
            word: what it is about: an operation, or a genome's numbers.

        Raises:
            NanonasError: it is no request, no genome, or cannot be written.
        """
        if what == PLANT:
            request = Request(
                PLANT, genome=genome_in(word or "", read_config(self.run).search.space)
            )
        else:
            request = Request(what, operation=word)
        RequestFiles(self.run.requests).put(request)
        return f"asked: {request}"

    def _begin(self) -> None:
        self._results_seen = self._results()
        self._record = read_record(self.run)
        self._entries: list[Entry] = []
        self._evaluations: list[Evaluation] = []
        self._times: list[float] = []  # of the evaluations, in seconds since 1970
        self._clocks: list[float] = []  # of the same, by the run's own clock
        self._events: list[Event] = []

    def _signs(self) -> object:
        """What is otherwise when there is something new."""
        store = self.run.store
        written = (store, store.with_name(f"{store.name}-wal"), self.run.config)
        waiting = tuple(name for name, _ in RequestFiles(self.run.requests).waiting())
        return tuple(map(_stamp, written)), self._results(), waiting, RunStore.in_use(store)

    def _results(self) -> object:
        """What is otherwise when a final training has ended."""
        places = (self.run.final, *self.run.finals_of_front.values())
        return tuple((place, _stamp(place / "result.json")) for place in places)

    def _read(self) -> None:
        with RunStore.read(self.run.store) as store:
            if store.created != self._record.created:  # another run has taken its place
                self._begin()
            events = store.events(len(self._events))
            evaluations = store.evaluations(len(self._evaluations))
            times = store.arrival_times(len(self._times))
            clocks = store.arrival_clocks(len(self._clocks))
            # last: the candidate of an evaluation is there before it
            candidates = store.candidates(len(self._entries))
        self._events += events
        self._times += times[: len(evaluations)]
        self._clocks += clocks[: len(evaluations)]
        size = self._record.image_size
        self._entries += [Entry(each, None, image_size=size) for each in candidates]
        elapsed, seconds = searching(self._events, self._clocks)
        for place, evaluation in enumerate(evaluations, len(self._evaluations)):
            entry = self._entries[evaluation.number]
            self._entries[evaluation.number] = replace(
                entry, evaluation=evaluation, elapsed=elapsed[place]
            )
        self._evaluations += evaluations
        if (results := self._results()) != self._results_seen:
            self._results_seen = results
            final = read_final(self.run, self._record.class_names)
            self._record = replace(self._record, **final)
        self._record = replace(
            self._record,
            entries=tuple(self._entries),
            events=tuple(self._events),
            seconds=seconds,
        )

    def _made(self) -> View:
        self._reads += 1
        requests = standing(self._events)
        sessions = [event.kind for event in self._events if event.kind in SESSION]
        alive = RunStore.in_use(self.run.store)
        waiting = [
            Asked(str(request), "waits") for _, request in RequestFiles(self.run.requests).waiting()
        ]
        answers = (REQUEST_TAKEN, REQUEST_REFUSED)
        answered = [_asked(event) for event in self._events if event.kind in answers]
        stored = [*self._times[-1:], *(event.time for event in self._events[-1:])]
        config = self.run.config
        return View(
            Findings(self._record),
            version=f"{self._begun}-{self._reads}",
            config=config.read_text(encoding="utf-8") if config.exists() else "",
            goal=_goal(read_config(self.run)),
            earlier=self._earlier(),
            alive=alive,
            searching=alive and sessions[-1:] == [STARTED],
            paused=alive and requests.paused,
            banned=requests.banned,
            asked=(*waiting, *reversed(answered)),
            last=max(stored, default=0.0),
        )

    def _earlier(self) -> float:
        """Seconds that were searched before this session."""
        begins = [place for place, event in enumerate(self._events) if event.kind == STARTED]
        if not begins:
            return 0.0
        begin = self._events[begins[-1]].clock
        return searching(
            self._events[: begins[-1]], [arrival for arrival in self._clocks if arrival < begin]
        )[1]


def _goal(config: Config) -> Goal:
    run, setup = config.run, Setup(config)
    if run.time is None:
        return Goal(run.evaluations, setup.generations)
    share = (1 - run.kept_share) * setup.search_share
    return Goal(run.evaluations, setup.generations, run.time * share)


def _asked(event: Event) -> Asked:
    if event.kind == REQUEST_TAKEN:
        return Asked(in_words(event.details), "taken", event.time)
    wish = {
        name: value
        for name, value in event.details.items()
        if name in ("what", "operation", "genome")
    }
    said = str(parsed(wish)) if wish else "a file"
    return Asked(f"{said}: {event.details['reason']}", "refused", event.time)


def _stamp(path: Path) -> tuple[int, int]:
    """Another one when a file has been written to."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
