"""Rows under named columns: what a figure is drawn from, and what a page, a terminal or a frame
shows of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanonas.core import Floats

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A name, and how a value of it is said; None is said as a dash."""

    name: str
    said: Callable[[Any], str] = str


@dataclass(frozen=True)
class Sheet:
    """A table of plain values: numbers, texts and None."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row must have {len(self.columns)} values, but has {len(row)}: {row!r:.80}"
                )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, name: str) -> list[Any]:
        """The values of a column. Raises KeyError where there is none of that name."""
        place = self.names.index(name) if name in self.names else -1
        if place < 0:
            raise KeyError(name)
        return [row[place] for row in self.rows]

    def floats(self, name: str) -> Floats:
        """The values of a column of numbers, shape (rows,); NaN for None."""
        return np.array(
            [np.nan if value is None else value for value in self[name]], dtype=np.float64
        )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Of each column, whether it holds numbers: they are set to the right."""
        return tuple(
            any(value is not None for value in values)
            and all(
                value is None or (isinstance(value, int | float) and value is not True)
                for value in values
            )
            for values in (self[name] for name in self.names)
        )

    def said(self) -> list[list[str]]:
        """The rows in words."""
        return [
            [
                MISSING if value is None else column.said(value)
                for column, value in zip(self.columns, row, strict=True)
            ]
            for row in self.rows
        ]

    def where(self, name: str, value: object) -> Sheet:
        """The rows that have a value in a column."""
        keep = [own == value for own in self[name]]
        return Sheet(
            self.columns, tuple(row for row, kept in zip(self.rows, keep, strict=True) if kept)
        )


def sheet(columns: Sequence[Column | str], rows: Sequence[Sequence[Any]]) -> Sheet:
    """A sheet of lists; a column may be its name alone."""
    named = tuple(Column(one) if isinstance(one, str) else one for one in columns)
    return Sheet(named, tuple(tuple(row) for row in rows))
