"""Charts as PNG files, for papers and slides. Needs the extra "plots"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from nanonas.errors import ConfigError, RunError
from nanonas.files import replacing
from nanonas.report.charts.chart import (
    BLUE,
    GREY,
    NAME,
    VERMILLION,
    Band,
    Cells,
    Chart,
    Dash,
    Edges,
    Intervals,
    Line,
    Mark,
    Points,
    Rule,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PIXEL = 0.6  # points that a pixel of the page is, for dots and lines
_DASHES: Mapping[Dash, Any] = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
    "longdashdot": (0, (8, 3, 1, 3)),
}
_MARKERS = {"circle": "o", "x": "x", "star": "*"}
_MANY = 6  # names in a legend: more stand in two columns


def draw_all(charts: Iterable[Chart], folder: Path) -> Iterator[Path]:
    """Draws charts, KEY.png each, and gives their paths.

    Raises:
        ConfigError: matplotlib is not there.
        RunError: a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{str(folder)!r} cannot be made: {error.strerror}; choose another folder"
        ) from None
    for chart in charts:
        path = folder / f"{chart.key}.png"
        figure = draw(chart)
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=200)
        yield path


def draw(chart: Chart) -> Figure:
    """A chart as a figure that is as wide as a page's text.

    Raises:
        ConfigError: matplotlib is not there.
    """
    rows = sum(len(mark.names) for mark in chart.marks if isinstance(mark, Intervals))
    height = 1.2 + 0.3 * rows if rows else 6.4 if chart.y.names else 3.6
    figure, panel = empty(chart.x.title, chart.y.title, height)
    for mark in chart.marks:
        _DRAWN[type(mark)](panel, mark)
    for ends, set_limits in ((chart.x.range, panel.set_xlim), (chart.y.range, panel.set_ylim)):
        if ends is not None:
            set_limits(*ends)
    if chart.x.log:
        panel.set_xscale("log")
    if chart.x.step is not None:
        panel.xaxis.set_major_locator(_whole_numbers())
    if chart.y.hidden:
        panel.set_yticks([])
    if chart.x.names:
        panel.set_xticks(range(len(chart.x.names)), chart.x.names, rotation=45, ha="right")
    if chart.y.names:
        panel.set_yticks(range(len(chart.y.names)), chart.y.names)
        panel.grid(visible=False)
    if chart.y.down:
        panel.invert_yaxis()
    names = panel.get_legend_handles_labels()[1]
    if names and not chart.pan:
        panel.legend(loc="lower right", ncols=2 if len(names) > _MANY else 1)
    return figure


def empty(x: str, y: str, height: float = 3.6) -> tuple[Figure, Axes]:
    """An empty figure and its axes, with their titles; `height` in inches.

    Raises:
        ConfigError: matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            "the figures as PNG need matplotlib: pip install 'nanonas[plots]'"
        ) from None
    figure = Figure(figsize=(6.4, height), layout="constrained")
    panel = figure.subplots()
    panel.set_xlabel(x)
    panel.set_ylabel(y)
    panel.grid(alpha=0.25)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    return figure, panel


def _whole_numbers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _points(panel: Axes, points: Points) -> None:
    if points.values is not None:
        _coloured(panel, points)
        return
    style: dict[str, Any] = {"color": points.colour, "alpha": points.opacity, "label": points.name}
    panel.plot(points.x, points.y, "o", markeredgewidth=0, markersize=_PIXEL * points.size, **style)


def _coloured(panel: Axes, points: Points) -> None:
    """Dots by their values, with a scale; those without a value are grey, and a star stands out."""
    assert points.values is not None
    low, high = points.limits
    symbols = np.array(points.symbols or ["circle"] * len(points.x))
    known = np.isfinite(points.values)
    style: dict[str, Any] = {"cmap": "cividis", "vmin": low, "vmax": high, "s": 9, "zorder": 3}
    for symbol, marker in _MARKERS.items():
        shown, unknown = (symbols == symbol) & known, (symbols == symbol) & ~known
        x, y = points.x[unknown], points.y[unknown]
        panel.plot(x, y, marker, color=GREY, markersize=3)
        x, y = points.x[shown], points.y[shown]
        if symbol == "star":
            panel.plot(x, y, marker, color=VERMILLION, markersize=14, zorder=4)
        elif shown.any():
            panel.scatter(x, y, c=points.values[shown], marker=marker, **style)
    if known.any():
        scale = panel.figure.colorbar(_scale(low, high), ax=panel)
        scale.set_label(points.scale)


def _scale(low: float, high: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(low, high), "cividis")


def _line(panel: Axes, line: Line) -> None:
    panel.plot(
        line.x,
        line.y,
        drawstyle="steps-post" if line.steps else "default",
        marker="o" if line.dots else None,
        markersize=_PIXEL * line.dots,
        linestyle=_DASHES[line.dash],
        linewidth=0.75 * line.width,
        color=line.colour,
        label=line.name,
    )


def _band(panel: Axes, band: Band) -> None:
    panel.fill_between(
        band.x,
        band.low,
        band.high,
        color=band.colour,
        alpha=0.35,
        linewidth=0,
        label=band.name or None,
    )


def _edges(panel: Axes, edges: Edges) -> None:
    from matplotlib.collections import LineCollection

    if len(edges.starts):
        segments = np.stack([edges.starts, edges.ends], axis=1)  # (n, 2, 2)
        panel.add_collection(
            LineCollection(
                list(segments),
                colors=edges.colour,
                linewidths=_PIXEL * edges.width,
                linestyles=_DASHES[edges.dash],
                alpha=edges.opacity,
            )
        )


def _intervals(panel: Axes, found: Intervals) -> None:
    rows = range(len(found.names))[::-1]  # the first one on top
    ends = zip(rows, found.mean, found.low, found.high, found.clear, strict=True)
    for row, mean, low, high, clear in ends:
        colour = GREY if not clear else BLUE if mean > found.against else VERMILLION
        panel.plot([low, high], [row, row], color=colour, linewidth=1.5)
        face = colour if clear else "white"
        panel.plot([mean], [row], "o", color=colour, markerfacecolor=face)
    panel.set_yticks(list(rows), [fill(name, NAME) for name in found.names])


def _cells(panel: Axes, cells: Cells) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    for shares, colour, most in cells.layers:
        scale = LinearSegmentedColormap.from_list("shares", ["white", colour])
        panel.imshow(shares, cmap=scale, vmin=0, vmax=most, aspect="auto", origin="lower")
    for row, said in enumerate(cells.said):
        for column, words in enumerate(said):
            panel.text(column, row, words, ha="center", va="center", fontsize=7)


def _rule(panel: Axes, rule: Rule) -> None:
    across = panel.axvline if rule.axis == "x" else panel.axhline
    across(rule.at, color=GREY, linestyle="--", linewidth=1)


_DRAWN: Mapping[type[Mark], Callable[[Axes, Any], None]] = {
    Points: _points,
    Line: _line,
    Band: _band,
    Edges: _edges,
    Intervals: _intervals,
    Cells: _cells,
    Rule: _rule,
}
