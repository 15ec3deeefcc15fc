"""What a session tells, without a session."""

from __future__ import annotations

from typing import Any

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
