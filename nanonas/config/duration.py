"""Durations as people write them, and in seconds."""

from __future__ import annotations

import re
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema
from typing_extensions import Self

from nanonas.errors import ConfigError

_PATTERN = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_UNITS = (3600, 60, 1)  # seconds of the groups


def seconds(text: str, flag: str = "--time") -> float:
    """A duration in seconds: "90", "90s", "30m", "2h", "1h30m".

    Raises:
        ConfigError: it is no duration, or it is 0. `flag` is what the message names.
    """
    match = _PATTERN.fullmatch(text.strip().lower())
    parts = match.groups() if match else (None, None, None)
    total = sum(float(part or 0) * unit for part, unit in zip(parts, _UNITS, strict=True))
    if total <= 0:
        raise ConfigError(
            f"{flag} is {text!r:.80}, but must be a duration above 0 such as 90s, 30m or 1h30m"
        )
    return total


class Duration(float):
    """Seconds that remember how they were written: `Duration("30m")` is 1800.0, and prints as 30m.

    A value of the configuration, so that a file and a store say what the user has said.
    """

    text: str

    def __new__(cls, text: object) -> Self:
        """Raises `ConfigError` as `seconds` does."""
        made = super().__new__(cls, seconds(str(text)))
        made.text = str(text)
        return made

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Duration({self.text!r})"

    def __reduce__(self) -> tuple[type[Duration], tuple[str]]:
        return Duration, (self.text,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def _validated(cls, value: object) -> Duration:
        return value if isinstance(value, Duration) else cls(value)
