"""What users have requested of a run, and what follows from it for each candidate.

Every request is an event of the run, with the first number that it applies to, before that
candidate is bred. So what a run finds follows from its configuration, its seed and its events; a
resumed run reads them back from the store.

    pause    no candidate is begun until "resume", or until the run is resumed as a whole; those
             that are running finish
    resume   the search goes on
    ban      no candidate from `first` on uses the operation
    allow    it may be used again, from `first` on
    plant    a genome becomes the next candidate that is trained, from `first` on; several wait in
             a queue
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nanonas.core import Genome
from nanonas.engine.requests import ALLOW, BAN, PAUSE, PLANT, RESUME, Inbox, Request
from nanonas.engine.storage.events import REQUEST_REFUSED, REQUEST_TAKEN, SESSION, Event
from nanonas.engine.storage.store import RunStore
from nanonas.errors import InvalidInput
from nanonas.spaces.base import Space


@dataclass(frozen=True)
class Ban:
    """From candidate `first` on an operation is banned, or allowed again."""

    first: int
    operation: str
    banned: bool


class Controls:
    """The requests of one run: those in its store, then those that come.

    Args:
        store: its requests are taken as they are; new ones are added to it.
        check: raises `InvalidInput` for a genome that cannot be planted.
        inbox: where requests come from; None: none come.
        planted: how many planted genomes have become candidates already.
    """

    def __init__(
        self,
        store: RunStore,
        space: Space,
        check: Callable[[Genome], None],
        inbox: Inbox | None,
        planted: int,
    ) -> None:
        self.paused = False
        self._store, self._space, self._check, self._inbox = store, space, check, inbox
        self._planted = planted
        self._recorded: set[str] = set()  # ids of requests
        self._bans: list[Ban] = []
        self._plants: list[tuple[int, Genome]] = []  # the first number that each may have
        self._since = 0.0  # when this pause began
        self._seconds = 0.0  # that the pauses before it took
        for event in store.events():
            if event.kind == REQUEST_TAKEN:
                self._take(event.details)
            elif event.kind == REQUEST_REFUSED:
                self._recorded.add(str(event.details["id"]))
        self.begin()

    def begin(self) -> None:
        """A session begins. A user who starts one wants the search to go on, so it ends a pause."""
        self.paused, self._seconds = False, 0.0

    @property
    def paused_seconds(self) -> float:
        """How long this session has been paused: its budget of time does not run then."""
        return self._seconds + (time.monotonic() - self._since if self.paused else 0.0)

    def banned(self, number: int) -> frozenset[str]:
        """The operations that candidate `number` may not use."""
        banned: set[str] = set()
        for ban in self._bans:
            if ban.first <= number:
                (banned.add if ban.banned else banned.discard)(ban.operation)
        return frozenset(banned)

    def plant(self, number: int) -> Genome | None:
        """The genome that waits to become a candidate, if `number` may be it."""
        if self._planted == len(self._plants):
            return None
        first, genome = self._plants[self._planted]
        return genome if first <= number else None

    def planted(self) -> None:
        """The planted genome that waited has become a candidate."""
        self._planted += 1

    def hear(self, number: int) -> list[str]:
        """Takes or refuses all requests that wait, `number` being the next candidate.

        Returns a sentence for each.
        """
        if self._inbox is None:
            return []
        answers: list[str] = []
        for name, request in self._inbox.waiting():
            if name not in self._recorded:
                answers.append(self._answer(name, request, number))
            self._inbox.remove(name)  # recorded by now: a crash in between records nothing twice
        return answers

    def _answer(self, name: str, request: Request | InvalidInput, number: int) -> str:
        try:
            if isinstance(request, InvalidInput):
                raise request
            self._require(request, number)
        except InvalidInput as error:
            asked = {} if isinstance(request, InvalidInput) else request.to_values()
            self._store.event(REQUEST_REFUSED, {"id": name, **asked, "reason": str(error)})
            self._recorded.add(name)
            return f"refused: {error}"
        details = {"id": name, "first": number, **request.to_values()}
        self._store.event(REQUEST_TAKEN, details)
        self._take(details)
        return in_words(details)

    def _require(self, request: Request, number: int) -> None:
        """Raises `InvalidInput` with what is wrong with a request now."""
        if request.what in (PAUSE, RESUME) and self.paused == (request.what == PAUSE):
            raise InvalidInput(
                "the search is paused already" if self.paused else "the search is not paused"
            )
        banned = self.banned(number)
        if request.operation is not None:
            names = self._space.operation_names
            if request.operation not in names:
                raise InvalidInput(
                    f"the space {self._space.name!r} has no operation {request.operation!r}; it "
                    f"has {', '.join(names)}"
                )
            if (request.operation in banned) == (request.what == BAN):
                already = "banned already" if request.what == BAN else "not banned"
                raise InvalidInput(f"{request.operation} is {already}")
        if request.genome is not None:
            self._check(request.genome)
            if request.genome in (genome for _, genome in self._plants[self._planted :]):
                raise InvalidInput("this genome waits already to become the next candidate")
            if used := sorted(banned & self._space.operations(request.genome)):
                raise InvalidInput(
                    f"this genome uses {', '.join(used)}, which is banned; allow it first"
                )

    def _take(self, details: Mapping[str, Any]) -> None:
        self._recorded.add(str(details["id"]))
        what, first = details["what"], int(details["first"])
        if what == PAUSE:
            self.paused, self._since = True, time.monotonic()
        elif what == RESUME:
            self._seconds, self.paused = self.paused_seconds, False
        elif what in (BAN, ALLOW):
            self._bans.append(Ban(first, str(details["operation"]), what == BAN))
        elif what == PLANT:
            self._plants.append((first, tuple(details["genome"])))


def in_words(details: Mapping[str, Any]) -> str:
    """The details of a request that was taken, as a sentence."""
    first = details["first"]
    return {
        PAUSE: f"paused before candidate #{first}",
        RESUME: f"going on with candidate #{first}",
        BAN: f"{details.get('operation')} is banned from candidate #{first} on",
        ALLOW: f"{details.get('operation')} is allowed again from candidate #{first} on",
        PLANT: f"a genome is planted, as candidate #{first} or as soon after it as one is trained",
    }[details["what"]]


def lasting(events: Iterable[Event]) -> list[Event]:
    """The requests that decide what a run finds; pauses do not."""
    return [
        event
        for event in events
        if event.kind == REQUEST_TAKEN and event.details["what"] not in (PAUSE, RESUME)
    ]


def copy_requests(source: RunStore, target: RunStore) -> None:
    """Makes the `lasting` requests of a run those of a new one, for the same numbers."""
    for event in lasting(source.events()):
        target.event(REQUEST_TAKEN, event.details)


@dataclass(frozen=True)
class Standing:
    """What the requests of a run amount to after its last event, for its readers."""

    paused: bool = False
    banned: tuple[str, ...] = ()


def standing(events: Iterable[Event]) -> Standing:
    """What requests amount to, from the events of a run, in order."""
    paused, banned = False, dict[str, None]()
    for event in events:
        if event.kind in SESSION:
            paused = False
        elif event.kind == REQUEST_TAKEN:
            what, operation = event.details["what"], event.details.get("operation")
            paused = what == PAUSE or (paused and what != RESUME)
            if what == BAN:
                banned[str(operation)] = None
            elif what == ALLOW:
                banned.pop(str(operation), None)
    return Standing(paused, tuple(banned))
