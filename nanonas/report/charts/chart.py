"""What a figure is, as a value: axes, marks, and the rows that they show.

`plotly.figure` draws a chart for the page, `matplotlib.draw` for a file; neither knows what it is
about. Colours are those of Okabe & Ito (2008, https://jfly.uni-koeln.de/color/) and the scale
cividis (Nuñez et al. 2018, https://doi.org/10.1371/journal.pone.0199239): both are told apart with
any colour vision. Text, grid and background are left to the page, which may be light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from nanonas.core import Floats
from nanonas.report.rows.sheet import Sheet

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, VERMILLION, YELLOW, GREY = "#56B4E9", "#D55E00", "#F0E442", "#888888"
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILLION, YELLOW)

Dash: TypeAlias = Literal["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]
DASHES: tuple[Dash, ...] = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
NAME = 30  # letters of a row's name that stand in a line
Symbol: TypeAlias = Literal["circle", "x", "star"]


@dataclass(frozen=True)
class Axis:
    """What is along an axis.

    Attributes:
        range: the lowest and the highest value that is shown; None: all of them.
        step: the distance between two ticks, a whole number; None: as the renderer likes.
        log: whether the scale is logarithmic.
        hidden: whether it has neither ticks nor a line: its values mean nothing by themselves.
        down: whether it rises from the top down.
        names: of the places 0, 1, …, in place of numbers; empty: numbers.
    """

    title: str = ""
    range: tuple[float, float] | None = None
    step: int | None = None
    log: bool = False
    hidden: bool = False
    down: bool = False
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Points:
    """Dots, n of them.

    Attributes:
        x, y: shape (n,).
        text: what is said of each under the mouse.
        size: of a dot, in pixels; a star has its own.
        values: shape (n,); the dots are coloured by these on the scale, and not in `colour`; NaN
            is unknown.
        scale: what the values are, with their unit, for the scale.
        symbols: one for each; None: circles.
        numbers: of the candidates that a click on each opens; None: a click does nothing.
    """

    x: Floats
    y: Floats
    text: Sequence[str]
    name: str = "a network"
    colour: str = GREY
    size: int = 4
    opacity: float = 1.0
    values: Floats | None = None
    scale: str = ""
    symbols: Sequence[Symbol] | None = None
    numbers: Sequence[int] | None = None

    @property
    def limits(self) -> tuple[float, float]:
        """The ends of the scale: the worst tenth of the values all look alike."""
        if self.values is None or not np.isfinite(self.values).any():
            return 0.0, 1.0
        known = self.values[np.isfinite(self.values)]
        return float(np.quantile(known, 0.1)), float(known.max())


@dataclass(frozen=True)
class Line:
    """A named line.

    Attributes:
        steps: whether it keeps a value until the next one.
        dots: the size of a dot at each of its points, in pixels; 0: none.
        says: what the mouse is told; "": nothing, "y": the value.
    """

    x: Floats
    y: Floats
    name: str
    colour: str
    width: float = 2
    dash: Dash = "solid"
    steps: bool = False
    dots: int = 0
    says: Literal["", "y"] = "y"


@dataclass(frozen=True)
class Band:
    """The area between two lines; without a name it is in no legend."""

    x: Floats
    low: Floats
    high: Floats
    name: str = ""
    colour: str = SKY


@dataclass(frozen=True)
class Edges:
    """Straight lines, n of them, from one point each to another. Without a name they are in no
    legend.

    Attributes:
        starts, ends: shape (n, 2), x and y.
    """

    starts: Floats
    ends: Floats
    name: str
    colour: str = GREY
    width: float = 1
    dash: Dash = "solid"
    opacity: float = 1.0


@dataclass(frozen=True)
class Intervals:
    """Estimates with their intervals, a row each, the first one on top.

    Attributes:
        mean, low, high: shape (n,).
        clear: whether an interval leaves out `against`: these are filled, and coloured by the side
            of it that they are on.
        against: what they are compared with.
    """

    names: Sequence[str]
    mean: Floats
    low: Floats
    high: Floats
    clear: Sequence[bool]
    text: Sequence[str]
    against: float = 0.0


@dataclass(frozen=True)
class Cells:
    """A square table of shares as coloured cells, n rows and n columns at the places 0, 1, …: the
    more, the stronger the colour. The diagonal, which is right, has a colour of its own.

    Attributes:
        shares: (n, n), in [0, 1].
        said: of each cell, what stands in it.
        text: of each cell, what is said of it under the mouse.
    """

    shares: Floats
    said: Sequence[Sequence[str]]
    text: Sequence[Sequence[str]]

    @property
    def layers(self) -> list[tuple[Floats, str, float]]:
        """The diagonal and the rest: shares with NaN for what is not shown, a colour, and the share
        that has it in full.
        """
        on = np.eye(len(self.shares), dtype=bool)
        right, wrong = np.where(on, self.shares, np.nan), np.where(on, np.nan, self.shares)
        most = max(0.05, float(np.nanmax(wrong)) if len(wrong) > 1 else 0.0)
        return [(right, BLUE, 2.0), (wrong, VERMILLION, most)]


@dataclass(frozen=True)
class Rule:
    """A dashed line across the whole figure, where one of the axes has a value."""

    axis: Literal["x", "y"]
    at: float = 0.0


Mark: TypeAlias = Points | Line | Band | Edges | Intervals | Cells | Rule


@dataclass(frozen=True)
class Chart:
    """A figure with its words and its rows.

    Attributes:
        key: letters and dashes, unique in a report; its file is called so.
        words: what is to be seen, and how to read it; code is between backticks.
        marks: the first one lies below the others.
        sheet: the rows that it shows, for a table below it.
        what: the name of that table.
        height: on a page, in pixels.
        pan: whether dragging moves what is shown.
    """

    key: str
    title: str
    words: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    sheet: Sheet
    what: str = "the figure's table"
    height: int = 380
    pan: bool = False


def thinned(chart: Chart, most: int) -> Chart:
    """A chart that a browser draws in a moment: of more than `most` dots every so-many-th, and its
    words say so.
    """
    marks = tuple(
        selected(mark, [int(place) for place in np.linspace(0, len(mark.x) - 1, most)])
        if isinstance(mark, Points) and len(mark.x) > most
        else mark
        for mark in chart.marks
    )
    dots = max((len(mark.x) for mark in chart.marks if isinstance(mark, Points)), default=0)
    if dots <= most:
        return chart
    words = f"{chart.words} Of {dots:,} dots, {most:,} evenly chosen ones are drawn."
    return replace(chart, marks=marks, words=words)


def selected(points: Points, places: Sequence[int]) -> Points:
    """Some of the dots."""
    return replace(
        points,
        x=points.x[places],
        y=points.y[places],
        text=[points.text[place] for place in places],
        values=None if points.values is None else points.values[places],
        symbols=None if points.symbols is None else [points.symbols[place] for place in places],
        numbers=None if points.numbers is None else [points.numbers[place] for place in places],
    )
