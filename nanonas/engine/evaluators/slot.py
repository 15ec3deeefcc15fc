"""What runs on a node of a cluster: an actor that measures one candidate at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nanonas.core import Candidate, Evaluation, Measure, Pulse
from nanonas.data.images import Images, hold
from nanonas.engine.evaluators.attempt import Unkept, attempt
from nanonas.engine.evaluators.workers import overfull
from nanonas.errors import Unwritten, reason_for
from nanonas.files import weights_in
from nanonas.machine import described, version_of
from nanonas.processes import memory_of

_EACH = 0.5  # seconds, in which an actor's memory is looked at


@dataclass(frozen=True)
class Ready:
    """An actor has its measure."""

    machine: dict[str, str]  # as `machine.described`


@dataclass(frozen=True)
class Broken:
    """An actor cannot measure anything."""

    reason: str
    traceback: str = ""


@dataclass(frozen=True)
class Answer:
    """What came of a candidate."""

    evaluation: Evaluation
    weights: bytes | None = None  # that its measure has kept


@dataclass(frozen=True)
class Overfull:
    """An actor's process holds more memory than it may; its candidate did not come to an end."""

    reason: str


class _Ended(Exception):
    """Leads out of a measurement that does not go on."""


class Slot:
    """A place for one candidate at a time, in a process of its own.

    Called from two threads: one measures, one answers `silence`.

    Args:
        version: of nanonas, where the search runs.
        pickled: the measure. Where weights are kept, a dataclass with a field `weights`: the folder
            of NUMBER.safetensors, those that it writes and those of earlier candidates that it
            reads.
        keeps: whether they are.
        images: to hold for the life of the process, where the measure needs some.
        memory_mb: MiB of its own that the process may hold, as of `WorkerPool`; looked at between
            batches.
    """

    def __init__(
        self,
        version: str,
        pickled: bytes,
        keeps: bool,
        images: Images | None,
        memory_mb: float | None = None,
    ) -> None:
        self._version, self._pickled, self._keeps = version, pickled, keeps
        self._memory_mb = memory_mb
        self._weighed = 0.0  # when, as of `time.monotonic()`
        self._measure: Measure | None = None
        self._beat: float | None = None  # when the measure has last called its pulse
        self._thread = 0  # that measures
        if images is not None:
            hold(images)

    def begin(self) -> Ready | Broken:
        """Gets the measure ready; its modules are imported here."""
        here = version_of("nanonas")
        if here != self._version:
            return Broken(
                f"a node has nanonas {here}, and the search {self._version}; install the same "
                "version on all nodes"
            )
        try:
            self._measure = pickle.loads(self._pickled)
        except Exception as error:  # noqa: BLE001 - whatever the import of a foreign module raises
            return Broken(reason_for(error), traceback.format_exc())
        return Ready(described())

    def measure(
        self, candidate: Candidate, seconds: float | None, numbers: Sequence[int], *weights: bytes
    ) -> Answer | Overfull:
        """Measures a candidate.

        Args:
            candidate: the candidate.
            seconds: until its deadline; None: it has none.
            numbers: of the earlier candidates that the weights are of.
            weights: their files.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        self._thread, self._beat = threading.get_ident(), time.monotonic()
        kept: list[bytes] = []

        def measured(candidate: Candidate, pulse: Pulse) -> Evaluation:
            assert self._measure is not None  # `begin` was called first
            if not self._keeps:
                return self._measure(candidate, pulse)
            with contextlib.ExitStack() as stack:
                with _on_the_disk():
                    place = Path(stack.enter_context(TemporaryDirectory(prefix="nanonas-")))
                    for number, content in zip(numbers, weights, strict=True):
                        weights_in(place, number).write_bytes(content)
                beside: Any = dataclasses.replace(self._measure, weights=place)  # type: ignore[type-var]
                evaluation: Evaluation = beside(candidate, pulse)
                own = weights_in(place, candidate.number)
                if own.exists():
                    kept.append(own.read_bytes())
                return evaluation

        breaches: list[Overfull] = []

        def pulse() -> bool:
            self._beat = time.monotonic()
            if breach := self._breach(self._beat):
                breaches.append(breach)
                raise _Ended
            return deadline is None or self._beat < deadline

        evaluation = attempt(measured, candidate, pulse)
        self._beat = None
        if isinstance(evaluation, Unkept):
            where = f"on {socket.gethostname()}, a node of the cluster: "
            evaluation = dataclasses.replace(evaluation, reason=f"{where}{evaluation.reason}")
        return breaches[0] if breaches else Answer(evaluation, kept[0] if kept else None)

    def _breach(self, now: float) -> Overfull | None:
        """Whether the process holds too much, looked at from time to time."""
        if self._memory_mb is None or now < self._weighed + _EACH:
            return None
        self._weighed = now
        held = memory_of(os.getpid()) or 0.0
        return Overfull(overfull(held, self._memory_mb)) if held > self._memory_mb else None

    def silence(self, patience: float) -> tuple[float, str]:
        """For how many seconds the measure has not called its pulse, 0 where nothing is measured;
        and, where that is longer than `patience`, where it is.
        """
        beat = self._beat
        silence = 0.0 if beat is None else time.monotonic() - beat
        frame = sys._current_frames().get(self._thread)
        if silence <= patience or frame is None:
            return silence, ""
        return silence, "".join(traceback.format_stack(frame))

    def process(self) -> int:
        """The number of its process."""
        return os.getpid()


@contextlib.contextmanager
def _on_the_disk() -> Iterator[None]:
    """What cannot be written here is the disk's fault, not the candidate's."""
    try:
        yield
    except OSError as error:
        raise Unwritten(
            f"weights cannot be written: {error.strerror or error}; free space for temporary "
            "files, then go on"
        ) from None
