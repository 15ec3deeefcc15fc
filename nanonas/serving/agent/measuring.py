"""One measurement, seen from outside: a child process, its bounds, and what comes of it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from nanonas.machine import processor
from nanonas.processes import Child, cause_of_death, started
from nanonas.serving.agent.child import Wanted
from nanonas.serving.agent.graph import Refused

MIB = 2**20
_ANSWER = 2**16  # bytes of what a child says, at most
_SHARE = 0.6  # of the longest time, for passes: a child has to start, load and end, too


@dataclass(frozen=True)
class Bounds:
    """What a request may take."""

    body: int = 64 * MIB  # bytes of a graph
    memory: int = 1024 * MIB  # bytes that measuring it takes
    seconds: float = 60.0  # from the child's start to its end


@dataclass
class Measuring:
    """Measures graphs, one after the other, each in a process of its own.

    Args:
        threads: of each pass.
    """

    threads: int = 1
    bounds: Bounds = field(default_factory=Bounds)
    _child: Child | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def device(self) -> str:
        """What the figures are of."""
        return processor()

    def measure(self, graph: bytes, batch: int, seconds: float) -> dict[str, Any]:
        """The figures of a graph, as JSON has them.

        Args:
            batch: images in a pass.
            seconds: to repeat passes for, at most; there are fewer where the bounds ask for it.

        Raises:
            Refused: it cannot be measured, or breaks a bound.
        """
        start = time.monotonic()
        seconds = min(seconds, _SHARE * self.bounds.seconds)
        wanted = Wanted(batch, seconds, self.threads, self.bounds.memory)
        answer = self._answer(graph, wanted, start + self.bounds.seconds)
        if "refused" in answer:
            raise Refused(str(answer["refused"]))
        return {**answer, "device": self.device, "seconds": time.monotonic() - start}

    def close(self) -> None:
        """Ends what is measured now; nothing is measured any more."""
        with self._lock:
            self._closed = True
            if self._child is not None:
                self._child.process.kill()

    def _answer(self, graph: bytes, wanted: Wanted, end: float) -> dict[str, Any]:
        """What the child says. Raises `Refused` where it says nothing in time, or ends before."""
        child = self._started()
        try:
            child.connection.send_bytes(json.dumps(asdict(wanted)).encode())
            child.connection.send_bytes(graph)
            if not child.connection.poll(max(0.0, end - time.monotonic())):
                child.process.kill()
                raise Refused(
                    f"the measurement was not over after {self.bounds.seconds:g} s, which is the "
                    "longest that is allowed here (nanonas agent --max-seconds)"
                )
            answer: dict[str, Any] = json.loads(child.connection.recv_bytes(_ANSWER))
            return answer
        except (EOFError, OSError, ValueError):
            cause = cause_of_death(child.bury())
            raise Refused(
                f"the graph ended the process that measured it, which {_was(cause)}"
            ) from None
        finally:
            child.process.kill()
            child.bury()
            with self._lock:
                self._child = None

    def _started(self) -> Child:
        with self._lock:
            if self._closed:
                raise Refused("the agent is being stopped")
            self._child = started("nanonas.serving.agent.child:serve", self.threads)
            return self._child


def _was(cause: str) -> str:
    """A cause of death behind a noun: "exited with code 1", "was killed by SIGABRT"."""
    return cause if cause.startswith("exited") else f"was {cause}"
