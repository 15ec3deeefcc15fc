"""Rows under named columns: what a figure is drawn from, and what a page, a terminal or a frame
shows of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from nanonas.text import in_unit

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A name, and the unit of the values, as `text.in_unit` knows it."""

    name: str
    unit: str = ""


@dataclass(frozen=True, init=False)
class Sheet:
    """A table of plain values: numbers, texts and None.

    Args:
        columns: a column without a unit may be its name alone.

    Raises:
        ValueError: a row has more or fewer values than there are columns.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __init__(self, columns: Sequence[Column | str], rows: Iterable[Sequence[Any]]) -> None:
        named = tuple(Column(one) if isinstance(one, str) else one for one in columns)
        object.__setattr__(self, "columns", named)
        object.__setattr__(self, "rows", tuple(map(tuple, rows)))
        for row in self.rows:
            if len(row) != len(named):
                raise ValueError(
                    f"a row must have {len(named)} values, but has {len(row)}: {row!r:.80}"
                )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list[Any]:
        """The values of a column. Raises KeyError where there is none of that name."""
        if name not in self.names:
            raise KeyError(name)
        place = self.names.index(name)
        return [row[place] for row in self.rows]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether it holds numbers: they are set to the right."""
        return tuple(_numbers(self[name]) for name in self.names)

    def said(self) -> list[list[str]]:
        """The rows in words."""
        return [
            [
                MISSING if value is None else in_unit(value, column.unit)
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]


def _numbers(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(v, int | float) and v is not True for v in known)
