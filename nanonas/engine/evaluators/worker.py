"""What a worker process runs."""

from __future__ import annotations

import os
import pickle
import time
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from nanonas.core import Measure
from nanonas.engine.evaluators.attempt import attempt
from nanonas.errors import reason_for
from nanonas.processes import begun

HELLO, READY, BROKEN, BEAT, DONE = "hello", "ready", "broken", "beat", "done"


def serve(handle: str, parent: str) -> None:
    """The life of a worker, in a process of its own.

    Args:
        handle: of the worker's end of the pipe, a number.
        parent: the process that started it, a number; the worker ends with it.
    """
    connection = begun(handle, parent)
    try:
        say(connection, HELLO)
        pickled = connection.recv()
        try:
            measure: Measure = pickle.loads(pickled)
        except Exception as error:  # noqa: BLE001 - whatever the import of a foreign module raises
            hint = (
                "; define it in a module, not in the script itself"
                if b"__main__" in pickled
                else ""
            )
            say(connection, BROKEN, (reason_for(error) + hint, traceback.format_exc()))
            return
        say(connection, READY)
        while True:
            candidate, deadline = connection.recv()
            evaluation = attempt(measure, candidate, _Pulse(connection, deadline))
            say(connection, DONE, evaluation)
            if "CUDA error" in (evaluation.traceback or ""):
                os._exit(1)  # such errors stay with the process; the next candidate gets a new one
    except (EOFError, OSError):
        os._exit(1)  # the pool is gone


@dataclass
class _Pulse:
    """Tells the pool about once a second that the measurement goes on, and the measure whether it
    may.
    """

    connection: Connection
    deadline: float | None
    _last: float = field(default=-1.0, init=False)

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._last >= 1.0 or self._last < 0:
            self._last = now
            try:
                say(self.connection, BEAT)
            except OSError:
                os._exit(1)  # at once: an exception would only become the failure of a candidate
        return self.deadline is None or time.monotonic() < self.deadline


def say(connection: Connection, kind: str, content: object = None) -> None:
    """Sends a message to the pool."""
    connection.send((kind, content))
