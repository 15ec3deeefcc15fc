"""The figures of a run as PNG files, for papers and slides. Needs the extra "plots"."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from nanonas.analysis.insights import Effect, credit, effects
from nanonas.analysis.lineage import ancestors, rows, steps
from nanonas.analysis.record import Record
from nanonas.errors import ConfigError, RunError
from nanonas.files import replacing
from nanonas.report.charts.figures import BEST
from nanonas.report.charts.plotly import BLUE, GREY, PALETTE, SCALE, SKY, VERMILLION, readable
from nanonas.report.rows import series
from nanonas.report.rows.sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = ("-", "--", ":", "-.")


def draw_all(record: Record, folder: Path) -> Iterator[Path]:
    """Draws every figure that the run has data for, NAME.png each, and gives their paths.

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
    for name, draw in pictures(record).items():
        path = folder / f"{name}.png"
        figure = draw()
        with replacing(path) as part:
            figure.savefig(part, format="png", dpi=200)
        yield path


def pictures(record: Record) -> dict[str, Callable[[], Figure]]:
    """What there is to draw, by the names that the page has for it."""
    own = steps(record)
    earned, mattered = credit(record, own), [effect for effect in effects(record) if effect.clear]
    found: dict[str, Callable[[], Figure]] = {
        "fitness-generation": lambda: fitness(record, "generation"),
        "fitness-minute": lambda: fitness(record, "minute"),
        "curves": lambda: learning_curves(record),
        "tree": lambda: evolution_tree(record),
    }
    for other in series.trade_offs(record):
        found[f"pareto-{other}"] = lambda other=other: pareto(record, other)  # type: ignore[misc]
    if earned:
        found["credit"] = lambda: intervals(earned, "points over the average child")
    if mattered:
        found["mattered"] = lambda: intervals(mattered, "points of accuracy")
    if len(series.trust(record)):
        found["trust"] = lambda: predictor_trust(record)
    if len(series.twins(record)):
        found["inheritance"] = lambda: inheritance(record)
    return found


def fitness(record: Record, axis: str) -> Figure:
    """Best so far, median and middle half, by "generation" or by "minute"."""
    found = series.by_generation(record) if axis == "generation" else series.by_minute(record)
    every = series.arrivals(record)
    figure, panel = _figure(axis, "validation accuracy (%)")
    x, accuracies = found.floats(axis), 100 * every.floats("accuracy")
    panel.plot(
        every.floats(axis), accuracies, ".", color=GREY, alpha=0.4, markersize=3, label="a network"
    )
    low, high = 100 * found.floats("lower quartile"), 100 * found.floats("upper quartile")
    panel.fill_between(x, low, high, color=SKY, alpha=0.35, label="middle half", linewidth=0)
    panel.plot(x, 100 * found.floats("median"), color=BLUE, label="median")
    panel.step(
        x,
        100 * found.floats("best so far"),
        where="post",
        color=VERMILLION,
        linewidth=2,
        label="best so far",
    )
    if (ends := readable(accuracies)) is not None:
        panel.set_ylim(*ends)
    panel.legend(loc="lower right")
    return figure


def pareto(record: Record, other: str) -> Figure:
    """The front at each quarter of the search."""
    found, name = series.fronts(record, other), series.NAMES[other]
    figure, panel = _figure(f"{name} (less is better)", "validation accuracy (%)")
    known = [
        entry
        for entry in record.trained
        if entry.accuracy is not None and entry.metric(other) is not None
    ]
    y = [100 * (entry.accuracy or 0.0) for entry in known]
    panel.plot(
        [entry.metric(other) or 0.0 for entry in known], y, ".", color=GREY, alpha=0.4, markersize=3
    )
    moments = list(dict.fromkeys(found["after"]))
    for place, moment in enumerate(moments):
        some = found.where("after", moment)
        line = _LINES[(len(moments) - 1 - place) % len(_LINES)]
        colour = PALETTE[(3, 1, 4, 0)[place % 4]]
        values = some.floats(name), 100 * some.floats("accuracy")
        panel.step(
            *values,
            where="post",
            marker="o",
            markersize=3,
            linestyle=line,
            color=colour,
            label=moment,
        )
    if (ends := readable(np.array(y))) is not None:
        panel.set_ylim(*ends)
    if known:
        panel.set_xscale("log")
        panel.legend(loc="lower right", title="after the")
    return figure


def learning_curves(record: Record) -> Figure:
    """Accuracy after each epoch, of the best networks."""
    from matplotlib.ticker import MaxNLocator

    found = series.curves(record, BEST)
    figure, panel = _figure("epoch", "validation accuracy (%)")
    for place, number in enumerate(dict.fromkeys(found["#"])):
        some = found.where("#", number)
        style: dict[str, Any] = {
            "color": PALETTE[place % len(PALETTE)],
            "linestyle": _LINES[place // len(PALETTE)],
        }
        panel.plot(
            some.floats("epoch"),
            100 * some.floats("accuracy"),
            marker="o",
            markersize=3,
            label=f"#{number}",
            **style,
        )
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(found):
        panel.legend(loc="lower right", ncols=2)
    return figure


def evolution_tree(record: Record) -> Figure:
    """Who came from whom, coloured by accuracy; the thick line leads to the winner. All random:
    accuracies.
    """
    from matplotlib.collections import LineCollection

    bred = any(entry.candidate.proposal.parents for entry in record.entries)
    places = rows(record) if bred else [100 * (entry.accuracy or 0.0) for entry in record.entries]
    figure, panel = _figure(
        "candidate, in the order in which they were bred", "" if bred else "validation accuracy (%)"
    )
    pairs = [(e.candidate.proposal.parents[:1], e.number) for e in record.entries]
    lines = [[(p[0], places[p[0]]), (n, places[n])] for p, n in pairs if p and p[0] < n]
    panel.add_collection(LineCollection(lines, colors=GREY, linewidths=0.5, alpha=0.6))
    if record.winner is not None:
        way = ancestors(record, record.winner.number)
        panel.plot(way, [places[number] for number in way], color=VERMILLION, linewidth=2)
        panel.plot(
            way[:1],
            [places[number] for number in way[:1]],
            "*",
            color=VERMILLION,
            markersize=14,
            zorder=4,
        )
    known = [entry for entry in record.entries if entry.accuracy is not None]
    lost = [entry.number for entry in record.entries if entry.accuracy is None]
    panel.plot(lost, [places[number] for number in lost], "x", color=GREY, markersize=3)
    if known:
        values = np.array([100 * (entry.accuracy or 0.0) for entry in known])
        numbers = [entry.number for entry in known]
        dots = panel.scatter(
            numbers, [places[number] for number in numbers], c=values, cmap=SCALE.lower(), s=9, zorder=3,
            vmin=float(np.quantile(values, 0.1)), vmax=float(values.max()),
        )  # fmt: skip
        figure.colorbar(dots, ax=panel, label="validation accuracy (%)")
    if bred:
        panel.set_yticks([])
        panel.invert_yaxis()
    return figure


def intervals(found: Sequence[Effect], axis: str) -> Figure:
    """Effects with their intervals, the largest on top; filled where they leave out zero."""
    shown = sorted(found, key=lambda effect: effect.mean)
    figure, panel = _figure(axis, "", height=1.2 + 0.3 * len(shown))
    for place, effect in enumerate(shown):
        colour = GREY if not effect.clear else BLUE if effect.mean > 0 else VERMILLION
        panel.plot(
            [100 * effect.low, 100 * effect.high], [place, place], color=colour, linewidth=1.5
        )
        face = colour if effect.clear else "white"
        panel.plot([100 * effect.mean], [place], "o", color=colour, markerfacecolor=face)
    panel.set_yticks(
        range(len(shown)), [fill(f"{effect.words} ({effect.n:,})", 30) for effect in shown]
    )
    panel.axvline(0, color=GREY, linestyle="--", linewidth=1)
    return figure


def predictor_trust(record: Record) -> Figure:
    """The predictors' rank correlations as the search went on, with their intervals."""
    found = series.trust(record)
    figure, panel = _figure("candidate", "Kendall's τ")
    for place, name in enumerate(dict.fromkeys(found["predictor"])):
        some: Sheet = found.where("predictor", name)
        x = some.floats("after #")
        panel.fill_between(
            x, some.floats("low"), some.floats("high"), color=PALETTE[place], alpha=0.2, linewidth=0
        )
        panel.plot(x, some.floats("τ"), color=PALETTE[place], label=name)
    panel.axhline(0, color=GREY, linestyle="--", linewidth=1)
    panel.set_ylim(-1, 1)
    panel.legend(loc="lower right")
    return figure


def inheritance(record: Record) -> Figure:
    """Accuracies with inherited weights against those from scratch, of the same networks."""
    found = series.twins(record)
    figure, panel = _figure("accuracy from scratch (%)", "accuracy with inherited weights (%)")
    heirs, scratch = 100 * found.floats("inherited"), 100 * found.floats("from scratch")
    ends = [min(heirs.min(), scratch.min()), max(heirs.max(), scratch.max())]
    panel.plot(ends, ends, "--", color=GREY, label="equal")
    panel.plot(scratch, heirs, "o", color=BLUE, label="a network")
    panel.legend(loc="lower right")
    return figure


def _figure(x: str, y: str, height: float = 3.6) -> tuple[Figure, Axes]:
    """An empty figure as wide as a page's text."""
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
