"""Whose trained weights stay on the disk, as people write it."""

from __future__ import annotations

import re

from pydantic_core import PydanticCustomError

_FORMS = re.compile(r"front|all|top:([1-9]\d{0,8})")


def keep_words(text: str) -> str:
    """As they came, for pydantic, where they are right."""
    if _FORMS.fullmatch(text) is None:
        raise PydanticCustomError("keep", "Input should be front, top:N (such as top:20) or all")
    return text


def kept_number(words: str) -> int | None:
    """Of how many of the best candidates the weights stay, besides those of the front; None: of
    all.

    Args:
        words: "front", whose first is the best candidate, also where there is one objective;
            "top:N"; all else stands for "all".
    """
    match = _FORMS.fullmatch(words)
    return None if match is None or words == "all" else int(match[1] or 1)
