"""What a session tells, without a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nanonas.core import Candidate, Evaluation, Measure
from nanonas.engine.evaluators.attempt import attempt
from nanonas.session.listener import Begun


class Study:
    """A search that is not paused."""

    paused, paused_seconds = False, 0.0


def begun(**known: Any) -> Begun:
    """A search that begins, of which only this is known."""
    nothing = {
        "setup": None,
        "folder": None,
        "store": None,
        "evaluations": None,
        "generations": None,
    }
    return Begun(**{**nothing, "study": Study(), "told": (), "deadline": None, **known})


class InProcess:
    """A `WorkerPool` in this process, one candidate after the other."""

    slots = 1

    def __init__(self, measures: Sequence[Measure], **options: object) -> None:
        self.measure, self.queue = measures[0], list[Candidate]()

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        self.queue.append(candidate)

    def result(self, timeout: float | None = None) -> Evaluation | None:
        return attempt(self.measure, self.queue.pop(0), lambda: True)

    def close(self) -> None:
        self.queue.clear()

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
