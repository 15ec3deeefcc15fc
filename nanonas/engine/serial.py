"""The evaluator in this process: for tests, for debugging, and for machines with one core."""

from __future__ import annotations

import time
import traceback
from collections import deque
from dataclasses import dataclass, field, replace

from nanonas.core import Candidate, Epoch, Evaluation, Measure, Pulse, State


@dataclass
class SerialEvaluator:
    """Measures one candidate after the other, each when its result is asked for.

    Nothing can end a measurement that hangs or takes the process with it: that takes a `WorkerPool`.
    """

    measure: Measure
    slots: int = 1
    _queue: deque[tuple[Candidate, float | None]] = field(default_factory=deque, init=False, repr=False)

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Queues a candidate. `deadline` is as of `time.time()`."""
        self._queue.append((candidate, deadline))

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """Measures the next candidate, however long that takes; None when none is queued."""
        if not self._queue:
            return None
        candidate, deadline = self._queue.popleft()
        return attempt(self.measure, candidate, lambda: deadline is None or time.time() < deadline)

    def close(self) -> None:
        """Forgets what is queued."""
        self._queue.clear()


def attempt(measure: Measure, candidate: Candidate, pulse: Pulse) -> Evaluation:
    """Measures a candidate, whatever happens: an exception is a result too. Lets only `KeyboardInterrupt` out.

    `seconds` is filled in where the measurement left it at 0. Metrics and curve become Python's own floats, so that
    what a strategy hears is what a resumed run reads back from the store.
    """
    start = time.perf_counter()
    try:
        evaluation = measure(candidate, pulse)
        if not isinstance(evaluation, Evaluation) or evaluation.number != candidate.number:
            raise TypeError(f"a measurement must return the Evaluation of candidate {candidate.number}")
        metrics = {str(name): float(value) for name, value in evaluation.metrics.items()}
        curve = tuple(Epoch(float(epoch.train_loss), float(epoch.accuracy)) for epoch in evaluation.curve)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one bad architecture must not end a run of thousands
        seconds = time.perf_counter() - start
        return Evaluation(
            candidate.number, State.FAILED, seconds=seconds, reason=reason_for(error), traceback=traceback.format_exc()
        )
    seconds = float(evaluation.seconds) or time.perf_counter() - start
    return replace(evaluation, metrics=metrics, curve=curve, seconds=seconds)


def reason_for(error: BaseException) -> str:
    """An exception as one line: its class and the first line of its message. Running out of memory is called that."""
    lines = str(error).strip().splitlines() or [""]
    said = f"{type(error).__name__}: {lines[0]}" if lines[0] else type(error).__name__
    # By name: torch's class cannot be imported here, and on a CPU torch raises a RuntimeError that names its allocator.
    exhausted = type(error).__name__ in ("MemoryError", "OutOfMemoryError") or "DefaultCPUAllocator" in str(error)
    return f"out of memory ({said})" if exhausted else said
