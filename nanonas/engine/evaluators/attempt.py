"""One measurement, whose failure is a result, too."""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, replace

from nanonas.core import Candidate, Epoch, Evaluation, Measure, Pulse, State
from nanonas.errors import Unwritten, reason_for


@dataclass(frozen=True)
class Unkept(Evaluation):
    """Of a candidate of which a file could not be written; `reason` says which.

    It is none that counts: the candidate is not to blame, and to go on without its weights would
    make another search of those that begin with them. So the search ends, and is resumed with it.
    """


def unkept(number: int, seconds: float, error: Unwritten) -> Unkept:
    """Of candidate `number`, after so many seconds."""
    return Unkept(number, State.CUT, seconds=seconds, reason=str(error))


def attempt(measure: Measure, candidate: Candidate, pulse: Pulse) -> Evaluation:
    """Measures a candidate. An exception is a result, too: only `KeyboardInterrupt` is raised.

    Where a file of it could not be written, that is `Unkept`.

    `seconds` is filled in where the measurement left it at 0. Metrics and curve become Python's
    floats, so that a strategy is told what a resumed run reads back from the store.
    """
    start = time.perf_counter()
    try:
        evaluation = measure(candidate, pulse)
        if not isinstance(evaluation, Evaluation) or evaluation.number != candidate.number:
            raise TypeError(
                f"a measurement must return the Evaluation of candidate {candidate.number}"
            )
        metrics = {str(name): float(value) for name, value in evaluation.metrics.items()}
        curve = tuple(
            Epoch(float(epoch.train_loss), float(epoch.accuracy)) for epoch in evaluation.curve
        )
    except Unwritten as error:
        return unkept(candidate.number, time.perf_counter() - start, error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one bad network must not end a run
        seconds = time.perf_counter() - start
        return Evaluation(
            candidate.number,
            State.FAILED,
            seconds=seconds,
            reason=reason_for(error),
            traceback=traceback.format_exc(),
        )
    seconds = float(evaluation.seconds) or time.perf_counter() - start
    return replace(evaluation, metrics=metrics, curve=curve, seconds=seconds)
