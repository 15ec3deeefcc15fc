"""What a value out of a file may be: JSON and the columns of SQLite hold whatever somebody has put
there, so types and ranges are looked at where it becomes a value of ours.

Each function returns the value as it is, or raises `ValueError`, which names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

LARGEST = 2**63 - 1

Check = Callable[[Any, str], Any]


def whole(value: Any, what: str, least: int = 0, most: int = LARGEST) -> int:
    """A whole number within a range."""
    if type(value) is not int or not least <= value <= most:
        raise _wrong(value, what, f"a whole number from {least} to {most}")
    return value


def number(value: Any, what: str) -> float:
    """Any number; NaN and infinities are some."""
    if type(value) is float or (type(value) is int and abs(value) <= LARGEST):
        return value
    raise _wrong(value, what, "a number")


def finite(value: Any, what: str) -> float:
    """A number that is neither NaN nor infinite."""
    checked = number(value, what)
    if not math.isfinite(checked):
        raise _wrong(value, what, "a finite number")
    return checked


def share(value: Any, what: str) -> float:
    """A number in [0, 1]."""
    checked = number(value, what)
    if not 0 <= checked <= 1:
        raise _wrong(value, what, "in [0, 1]")
    return checked


def text(value: Any, what: str) -> str:
    """A text."""
    if not isinstance(value, str):
        raise _wrong(value, what, "a text")
    return value


def flag(value: Any, what: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong(value, what, "true or false")
    return value


def mapping(value: Any, what: str) -> dict[str, Any]:
    """An object of JSON."""
    if not isinstance(value, dict):
        raise _wrong(value, what, "an object")
    return value


def gene(value: Any, what: str) -> int:
    """A whole number of any size: which of them its space reads is for the space to say."""
    if type(value) is not int:
        raise _wrong(value, what, "a whole number")
    return value


def image_shape(value: Any, what: str) -> tuple[int, int, int]:
    """The shape of images or maps: channels, height and width, 1 or more each."""
    sides = many(lambda side, its: whole(side, its, 1))(value, what)
    if len(sides) != 3:
        raise _wrong(value, what, "channels, height and width")
    channels, height, width = sides
    return channels, height, width


def many(check: Check) -> Check:
    """A list of what `check` checks, as a tuple."""

    def checked(value: Any, what: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong(value, what, "a list")
        return tuple(check(one, what) for one in value)

    return checked


def maybe(check: Check) -> Check:
    """What `check` checks, or nothing."""
    return lambda value, what: None if value is None else check(value, what)


def fitting(
    values: Any, what: str, checks: Mapping[str, Check], needed: Iterable[str] = ()
) -> dict[str, Any]:
    """An object's values by name, those that have a check as this has them.

    Args:
        needed: names that must be there.
    """
    given = mapping(values, what)
    for name in needed:
        if name not in given:
            raise ValueError(f"{what} must have {name!r}")
    return {name: checks[name](one, name) if name in checks else one for name, one in given.items()}


def _wrong(value: Any, what: str, expected: str) -> ValueError:
    return ValueError(f"{what} must be {expected}, but is {value!r:.60}")
