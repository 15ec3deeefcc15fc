"""Events: what came from outside, or happened to a run as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SESSION_ENDS = ("ended", "interrupted", "given up")  # events with which a search stops
SESSION = ("started", *SESSION_ENDS)  # events that say whether somebody searches


@dataclass(frozen=True)
class Event:
    """Something that came from outside, or happened to the run as a whole."""

    time: float  # seconds since 1970
    kind: str  # "resumed", "started", "ended", "interrupted", "given up", "worker lost", …
    details: Mapping[str, Any]  # JSON-able
