"""What several figures need: the names of metrics, and networks and rows as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nanonas.analysis.record import Entry, Record
from nanonas.core import Floats
from nanonas.report.charts.chart import Axis
from nanonas.report.rows.sheet import Sheet
from nanonas.text import percent

NAMES = {
    "params": "parameters",
    "macs": "MACs",
    "latency": "latency",
    "memory": "memory",
    "flash": "flash",
    "ram": "RAM",
}
UNITS = {
    "params": "count",
    "macs": "count",
    "latency": "milliseconds",
    "memory": "mebibytes",
    "flash": "kilobytes",
    "ram": "kilobytes",
}
POINTS = 200  # that a curve over candidates has at most


def title(record: Record) -> str:
    """What networks are judged by, at the beginning of a title."""
    return record.measure.capitalize()


def accuracy(record: Record, ends: tuple[float, float] | None = None) -> Axis:
    """The axis of what networks are judged by."""
    return Axis(f"validation {record.measure} (%)", ends)


def judged(record: Record) -> list[Entry]:
    """The candidates whose accuracy is known, by number."""
    return [entry for entry in record.entries if entry.accuracy is not None]


def percentages(entries: Sequence[Entry]) -> Floats:
    """Accuracies in per cent, shape (entries,); NaN where there is none."""
    known = [np.nan if entry.accuracy is None else entry.accuracy for entry in entries]
    return 100 * np.array(known, dtype=np.float64)


def floats(sheet: Sheet, name: str) -> Floats:
    """The values of a column of numbers, shape (rows,); NaN for None."""
    return np.array(sheet[name], dtype=np.float64)


def groups(sheet: Sheet, name: str) -> list[tuple[Any, Sheet]]:
    """The rows that have the same value in a column, in the order in which these come up."""
    by_value: dict[Any, list[tuple[Any, ...]]] = {}
    for value, row in zip(sheet[name], sheet.rows, strict=True):
        by_value.setdefault(value, []).append(row)
    return [(value, Sheet(sheet.columns, rows)) for value, rows in by_value.items()]


def readable(percentages: Floats) -> tuple[float, float] | None:
    """A range for accuracies that the worst tenth of them may leave, so that the others are told
    apart; None for fewer than 10.
    """
    finite = percentages[np.isfinite(percentages)]
    if len(finite) < 10:
        return None
    low, high = float(np.quantile(finite, 0.1)), float(finite.max())
    room = max(1.0, 0.12 * (high - low))
    return max(0.0, low - room), min(101.0, high + room)


def label(entry: Entry) -> str:
    """A candidate's number, with its accuracy, or its state where it has none."""
    return f"#{entry.number}: {entry.state if entry.accuracy is None else percent(entry.accuracy)}"


def spread(of: int, most: int, first: int = 0) -> list[int]:
    """At most so many places in a list, evenly, the last one among them."""
    if not 0 <= first < of:
        return []
    places: Floats = np.linspace(first, of - 1, min(most, of - first))
    return [int(place) for place in np.unique(places.round())]
