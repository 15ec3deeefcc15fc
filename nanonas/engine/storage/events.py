"""Events: what came from outside, or happened to a run as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# --- kinds, as they are stored --------------------------------------------------------------------

IMAGES = "images"  # what the run was begun with, so that it can be read without them
MACHINE = "machine"  # that a session runs on
MEASURES = "measures"  # the other device that measures latency: "name", "threads", "onnxruntime"
RESUMED = "resumed"  # with which "run" half of the configuration, and by which version
STARTED = "started"  # a search begins, or goes on; with its budgets
ENDED = "ended"  # it has come to its end; "why" and "message"
INTERRUPTED = "interrupted"  # by the user
GIVEN_UP = "given up"  # its deadline is long over; the "numbers" that did not stop in time
WORKER_LOST = "worker lost"  # the "number" that it had, which is tried again, and the "reason"
REQUEST_TAKEN = "request"  # "id", "first", and what `Request.to_values` says
REQUEST_REFUSED = "request refused"  # "id", "reason", and what was asked, where it could be read
FINALIST = "finalists"  # "number", and the "accuracy" that one of the best came to from scratch
TEST_SET_OPENED = "test set opened"  # "for" what

SESSION_ENDS = (ENDED, INTERRUPTED, GIVEN_UP)  # with which a search stops
SESSION = (STARTED, *SESSION_ENDS)  # that say whether a search goes on


@dataclass(frozen=True)
class Event:
    """Something that came from outside, or happened to the run as a whole."""

    time: float  # seconds since 1970, as the wall's clock said
    kind: str  # one of the constants above
    details: Mapping[str, Any]  # JSON-able
    clock: float = 0.0  # seconds by the run's own clock, see `RunStore`
