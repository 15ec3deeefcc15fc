"""Large whole numbers as people write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_PATTERN = re.compile(r"([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:e[+-]?\d{1,2})?)\s*([kmgb]?)", re.I)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


class Amount(int):
    """A whole number, 1 or more, that may be written as 250k, 2.5M or 1e6: a value of the
    configuration.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        number = core_schema.no_info_before_validator_function(_read, core_schema.int_schema(ge=1))
        return core_schema.no_info_after_validator_function(
            cls, number, serialization=core_schema.plain_serializer_function_ser_schema(int)
        )


def _read(value: object) -> object:
    """The number that a text says; anything else as it is."""
    if not isinstance(value, str):
        return value
    match = _PATTERN.fullmatch(value.strip())
    number = Decimal(match[1]) * _UNITS[match[2].lower()] if match else None
    if number is None or number != number.to_integral_value() or number < 1:
        raise PydanticCustomError(
            "amount",
            "Input should be a whole number, 1 or more, such as 250000, 250k, 2.5M or 1e6",
        )
    return int(number)
