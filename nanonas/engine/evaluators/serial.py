"""The evaluator in this process: for tests, for debugging, and for machines with one core."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from nanonas.core import Candidate, Evaluation, Measure
from nanonas.engine.evaluators.attempt import attempt


@dataclass
class SerialEvaluator:
    """Measures one candidate after the other, each when its result is asked for.

    Nothing can end a measurement that hangs or takes the process with it: that takes a
    `WorkerPool`.
    """

    measure: Measure
    slots: int = 1
    _queue: deque[tuple[Candidate, float | None]] = field(
        default_factory=deque, init=False, repr=False
    )

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Queues a candidate. `deadline` is as of `time.monotonic()`."""
        self._queue.append((candidate, deadline))

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """Measures the next candidate, however long that takes; None when none is queued."""
        if not self._queue:
            return None
        candidate, deadline = self._queue.popleft()
        return attempt(
            self.measure, candidate, lambda: deadline is None or time.monotonic() < deadline
        )

    def close(self) -> None:
        """Forgets what is queued."""
        self._queue.clear()
