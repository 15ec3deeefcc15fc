"""Events: what came from outside, or happened to a run as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nanonas.typed import (
    Check,
    finite,
    fitting,
    flag,
    gene,
    image_shape,
    many,
    mapping,
    maybe,
    number,
    share,
    text,
    whole,
)

# --- kinds, as they are stored --------------------------------------------------------------------

IMAGES = "images"  # what the run was begun with, so that it can be read without them
MACHINE = "machine"  # that a session runs on
MEASURES = "measures"  # the other device that measures latency: "name", "threads", "onnxruntime"
# experience: the "digest" of its copy, "runs", "networks", "tasks" and how it has "foretold" itself
EXPERIENCE = "begun with"
# what that is worth so far: "tau", "low", "high" with the order of "n" networks here; "left_out"
EXPERIENCE_JUDGED = "experience judged"
ANCESTOR = "begun with weights"  # "name", "digest" of their copy, "share" of its own that fits
RESUMED = "resumed"  # with which "run" half of the configuration, and by which version
STARTED = "started"  # a search begins, or goes on; with its budgets
ENDED = "ended"  # it has come to its end; "why" and "message"
INTERRUPTED = "interrupted"  # by the user
GIVEN_UP = "given up"  # its deadline is long over; the "numbers" that did not stop in time
WORKER_LOST = "worker lost"  # the "number" that it had, which is tried again, and the "reason"
REQUEST_TAKEN = "request"  # "id", "first", and what `Request.to_values` says
REQUEST_REFUSED = "request refused"  # "id", "reason", and what was asked, where it could be read
CHOSEN = "chosen"  # the "number" of which most is expected, that "accuracy", and "of_highest"
FINALIST = "finalists"  # "number", and the "accuracy" that one of the best came to from scratch
TEST_SET_OPENED = "test set opened"  # "for" what


def _tau(value: Any, what: str) -> float:
    """A rank correlation."""
    if not -1 <= finite(value, what) <= 1:
        raise ValueError(f"{what} must be in [-1, 1], but is {value!r:.60}")
    return float(value)


_JUDGED: dict[str, Check] = {"tau": _tau, "low": _tau, "high": _tau, "n": whole, "left_out": flag}
_TASK: dict[str, Check] = {"input_shape": image_shape, "classes": whole}
# What is read of the details of a kind: a check of each value, and which must be there.
_ASKED: dict[str, Check] = {"what": text, "operation": maybe(text), "genome": maybe(many(gene))}
_BACKBONE: dict[str, Check] = {"name": text, "digest": text, "params": whole, "macs": whole}
_CHECKS: dict[str, dict[str, Check]] = {
    IMAGES: {
        "fingerprint": text,
        "input_shape": many(whole),
        "class_names": many(text),
        "backbone": lambda value, what: fitting(value, what, _BACKBONE, _BACKBONE),
    },
    EXPERIENCE: {
        "digest": text,
        "runs": whole,
        "networks": whole,
        "tasks": many(lambda one, what: fitting(one, what, _TASK, _TASK)),
        "foretold": maybe(lambda one, what: fitting(one, what, _JUDGED, _JUDGED)),
    },
    EXPERIENCE_JUDGED: dict(_JUDGED),
    ANCESTOR: {"name": text, "digest": text, "share": share},
    RESUMED: {"run": maybe(mapping)},
    ENDED: {"message": text, "why": maybe(text)},
    REQUEST_TAKEN: {"id": text, "first": whole, **_ASKED},
    REQUEST_REFUSED: {"id": text, "reason": text},
    CHOSEN: {"number": whole, "accuracy": share, "of_highest": maybe(share)},
    FINALIST: {"number": whole, "accuracy": number},
    TEST_SET_OPENED: {"for": text},
}
_NEEDED: dict[str, tuple[str, ...]] = {
    EXPERIENCE: ("digest",),
    EXPERIENCE_JUDGED: tuple(_JUDGED),
    ANCESTOR: ("name", "digest", "share"),
    REQUEST_TAKEN: ("id", "first", "what"),
    REQUEST_REFUSED: ("id", "reason"),
    CHOSEN: ("number", "accuracy"),
    FINALIST: ("number", "accuracy"),
}

SESSION_ENDS = (ENDED, INTERRUPTED, GIVEN_UP)  # with which a search stops
SESSION = (STARTED, *SESSION_ENDS)  # that say whether a search goes on


@dataclass(frozen=True)
class Event:
    """Something that came from outside, or happened to the run as a whole."""

    time: float  # seconds since 1970, as the wall's clock said
    kind: str  # one of the constants above
    details: Mapping[str, Any]  # JSON-able
    clock: float = 0.0  # seconds by the run's own clock, see `RunStore`


def noted(events: Iterable[Event], kind: str) -> Mapping[str, Any] | None:
    """The details of the first event of a kind; None where there is none."""
    return next((event.details for event in events if event.kind == kind), None)


def event_of(time: Any, kind: Any, details: Any, clock: Any) -> Event:
    """An event of values that may be anything. Raises `ValueError` for what is none."""
    kind = text(kind, "kind")
    what = f"the details of {kind!r:.40}"
    values = fitting(details, what, _CHECKS.get(kind, {}), _NEEDED.get(kind, ()))
    listed = {name: list(one) if isinstance(one, tuple) else one for name, one in values.items()}
    return Event(finite(time, "time"), kind, listed, finite(clock, "clock"))
