"""The figures of a run for a page, drawn with plotly; each has the rows that it shows, and says
what is to be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from nanonas.analysis.insights import Effect, credit
from nanonas.analysis.lineage import Step, ancestors, family, rows
from nanonas.analysis.record import Record
from nanonas.analysis.twins import head_start
from nanonas.core import Floats
from nanonas.report.charts.plotly import (
    BLUE,
    DASHES,
    GREY,
    PALETTE,
    SCALE,
    VERMILLION,
    dressed,
    edges,
    line,
    readable,
    scatter,
    short,
)
from nanonas.report.rows import series
from nanonas.report.rows.sheet import Column, Sheet, sheet
from nanonas.text import percent, points

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

BEST = 10  # networks whose learning curves are drawn


@dataclass(frozen=True)
class Figure:
    """A picture with its rows and its words."""

    key: str  # letters and dashes, unique in a report
    title: str
    words: str  # what is to be seen, and how to read it
    plot: Plot
    sheet: Sheet
    what: str = "the figure's table"


def fitness_by_generation(record: Record) -> Figure:
    """Best, median and quartiles of each generation, over every candidate."""
    found, every = series.by_generation(record), series.arrivals(record)
    plot = _fitness(found, "generation", every.floats("generation"), every)
    plot.update_xaxes(dtick=max(1, round(len(found) / 10)))
    words = (
        "Each dot is a network, the band holds the middle half of a generation. The line on top "
        "is the best so far: it "
        "can only rise, so the median says more about whether the search learns."
    )
    return Figure("fitness-generation", "Accuracy by generation", words, plot, found)


def fitness_by_minute(record: Record) -> Figure:
    """Best so far, and median and quartiles of the last that arrived, against the time spent
    searching.
    """
    found, every = series.by_minute(record), series.arrivals(record)
    plot = _fitness(found, "minute", every.floats("minute"), every)
    words = "The same against the clock, pauses left out; median and band are those of the last generation's worth."
    return Figure("fitness-minute", "Accuracy by minute", words, plot, found)


def _fitness(found: Sheet, axis: str, x: Floats, every: Sheet) -> Plot:
    from plotly.graph_objects import Figure as Plot
    from plotly.graph_objects import Scatter

    at, high = found.floats(axis), 100 * found.floats("upper quartile")
    low = 100 * found.floats("lower quartile")
    said = [
        f"#{number}: {percent(accuracy)}"
        for number, accuracy in zip(every["#"], every["accuracy"], strict=True)
    ]
    dots = {"color": GREY, "size": 4, "opacity": 0.45}
    band = {
        "x": at,
        "mode": "lines",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "legendgroup": "band",
    }
    plot = Plot(
        [
            scatter(
                x,
                100 * every.floats("accuracy"),
                text=said,
                name="a network",
                mode="markers",
                marker=dots,
            ),
            Scatter(y=short(low), showlegend=False, **band),
            Scatter(
                y=short(high),
                name="middle half",
                fill="tonexty",
                fillcolor="rgba(86,180,233,0.3)",
                **band,
            ),
            line(at, 100 * found.floats("median"), "median", BLUE),
            line(
                at,
                100 * found.floats("best so far"),
                "best so far",
                VERMILLION,
                shape="hv",
                width=3,
            ),
        ]
    )
    accuracies = 100 * every.floats("accuracy")
    return dressed(plot, axis, "validation accuracy (%)", readable(accuracies))


def pareto(record: Record, other: str) -> Figure:
    """The best trade-offs of accuracy and another metric, at each quarter of the search."""
    from plotly.graph_objects import Figure as Plot

    found, name = series.fronts(record, other), series.NAMES[other]
    known = [e for e in record.trained if e.accuracy is not None and e.metric(other) is not None]
    said = [
        f"#{e.number}: {percent(e.accuracy or 0)}, {series.SAID[other](e.metric(other) or 0)}"
        for e in known
    ]
    x = np.array([e.metric(other) for e in known], dtype=np.float64)
    y = np.array([100 * (e.accuracy or 0) for e in known], dtype=np.float64)
    traces = [
        scatter(
            x,
            y,
            text=said,
            name="a network",
            mode="markers",
            marker={"color": GREY, "size": 4, "opacity": 0.4},
        )
    ]
    moments = list(dict.fromkeys(found["after"]))
    for place, moment in enumerate(moments):
        some, last = found.where("after", moment), moment == moments[-1]
        curve = line(
            some.floats(name),
            100 * some.floats("accuracy"),
            moment,
            PALETTE[(3, 1, 4, 0)[place % 4]],
            shape="hv",
        )
        curve.mode, curve.marker.size, curve.line.dash = (
            "lines+markers",
            8 if last else 5,
            DASHES[len(moments) - 1 - place],
        )
        curve.text = [f"#{number}" for number in some["#"]]
        traces.append(curve)
    plot = dressed(Plot(traces), f"{name} (less is better)", "validation accuracy (%)", readable(y))
    if len(x) and x.min() > 0 and x.max() > 20 * x.min():
        plot.update_xaxes(type="log", dtick="D2")
    words = (
        f"A network is on a front when none that is at least as accurate has fewer {name}: the "
        "lines are the best "
        "trade-offs at each quarter of the search. Where the last lines lie on each other, going "
        "on has brought "
        "nothing."
        if other in ("params", "macs")
        else f"The best trade-offs of accuracy and {name} at each quarter of the search."
    )
    return Figure(f"pareto-{other}", f"Accuracy against {name}", words, plot, found, "the fronts")


def learning_curves(record: Record) -> Figure:
    """Validation accuracy after each epoch, of the best networks."""
    from plotly.graph_objects import Figure as Plot

    found = series.curves(record, BEST)
    traces = []
    for place, number in enumerate(dict.fromkeys(found["#"])):
        some = found.where("#", number)
        curve = line(
            some.floats("epoch"),
            100 * some.floats("accuracy"),
            f"#{number}",
            PALETTE[place % len(PALETTE)],
        )
        curve.mode, curve.line.dash = "lines+markers", DASHES[place // len(PALETTE)]
        traces.append(curve)
    plot = dressed(Plot(traces), "epoch", "validation accuracy (%)")
    plot.update_xaxes(dtick=max(1, round(max(found["epoch"], default=1) / 10)))
    heirs = any(record.entries[number].candidate.proposal.inherits for number in set(found["#"]))
    words = "How the best networks learned in the search. Curves that still rise would have liked more epochs."
    words += (
        " Those that began with inherited weights start high: they did not learn this in one epoch."
        if heirs
        else ""
    )
    return Figure(
        "curves", f"Learning curves of the best {len(set(found['#']))}", words, plot, found
    )


def evolution_tree(record: Record) -> Figure:
    """Who came from whom: number from left to right, families from top to bottom, coloured by
    accuracy.

    The traces, in this order: lines to first parents, lines to second parents, the way to the
    winner, and the nodes, whose `customdata` are candidates' numbers.
    """
    from plotly.graph_objects import Figure as Plot

    entries = record.entries
    bred = any(entry.candidate.proposal.parents for entry in entries)
    places = (
        np.array(rows(record))
        if bred
        else np.array([100 * (entry.accuracy or 0.0) for entry in entries])
    )
    pairs = [
        (parents[:2], entry.number)
        for entry in entries
        if (parents := entry.candidate.proposal.parents)
    ]
    way = ancestors(record, record.winner.number) if record.winner is not None else []
    thin = {"color": "rgba(128,128,128,0.55)", "width": 1}
    faint = {"color": "rgba(128,128,128,0.25)", "width": 1, "dash": "dot"}
    traces = [
        edges([(parents[0], number) for parents, number in pairs], places, "child of", thin),
        edges(
            [(parents[1], number) for parents, number in pairs if len(parents) > 1],
            places,
            "second parent",
            faint,
        ),
        edges(
            list(pairwise(reversed(way))),
            places,
            "way to the winner",
            {"color": VERMILLION, "width": 3},
        ),
        _nodes(record, places),
    ]
    plot = dressed(Plot(traces), "candidate, in the order in which they were bred", "")
    plot.update_layout(hovermode="closest", dragmode="pan")
    if not bred:
        plot.update_yaxes(title_text="validation accuracy (%)")
        words = "Every dot is a network. All are random: none was bred from another. Click a dot, or type a number below."
        return Figure(
            "tree", "The candidates", words, plot, series.candidates(record), "every candidate"
        )
    plot.update_yaxes(visible=False, autorange="reversed")
    plot.update_layout(height=int(np.clip(4.5 * (places.max() + 1) + 140, 320, 900)))
    words = (
        "Every dot is a network and hangs on the one it was bred from; "
        f"{len(set(family(record))):,} random ones began "
        "it. The lighter, the more accurate; a cross was not trained to its end. The thick line "
        "leads from the first "
        "ancestor to the winner. Click a dot, or type a number below."
    )
    return Figure(
        "tree", "The evolution tree", words, plot, series.candidates(record), "every candidate"
    )


def _nodes(record: Record, places: Floats) -> Any:
    accuracies = np.array(
        [np.nan if e.accuracy is None else 100 * e.accuracy for e in record.entries]
    )
    known = accuracies[np.isfinite(accuracies)]
    low, high = (np.quantile(known, (0.1, 1.0))) if len(known) else (0.0, 1.0)
    winner = record.winner.number if record.winner is not None else -1
    shapes = {"complete": "circle"}
    small = 8 if len(places) <= 500 else 6 if len(places) <= 2000 else 4
    return scatter(
        np.arange(float(len(places))),
        places,
        name="network",
        mode="markers",
        customdata=np.arange(len(places), dtype=np.int32),
        text=[
            f"#{e.number} {e.state if e.accuracy is None else percent(e.accuracy)}"
            for e in record.entries
        ],
        marker={
            "symbol": [
                "star" if e.number == winner else shapes.get(e.state, "x") for e in record.entries
            ],
            "size": [18 if e.number == winner else small for e in record.entries],
            "color": np.where(np.isfinite(accuracies), accuracies, low).astype(np.float32),
            "colorscale": SCALE,
            "cmin": float(low),
            "cmax": float(max(high, low + 1e-6)),
            "line": {"width": 0.7, "color": GREY},
            "colorbar": {
                "title": {"text": "accuracy (%)"},
                "thickness": 10,
                "len": 0.6,
                "outlinewidth": 0,
            },
        },
        showlegend=False,
    )


def edit_credit(record: Record, steps: Sequence[Step]) -> Figure | None:
    """What each kind of edit earned; None where there are not enough children of one parent."""
    found = credit(record, steps)
    if not found:
        return None
    plot = _intervals(found, "points over the average child")
    tried = sum(effect.n for effect in found)
    average = float(np.mean([step.gain for step in steps if step.bred and step.gain is not None]))
    clear = [effect for effect in found if effect.clear]
    said = (
        f"{len(clear)} of {len(found)} kinds stand out (filled)"
        if clear
        else "none of the kinds stands out from the others"
    )
    words = (
        f"{tried:,} children of one parent each, by what was edited: how much better they were "
        "than the average child, "
        f"each against its own parent; {said}. The average child came out {points(average)} "
        "points from its parent: "
        "parents are chosen for being good, partly by luck, and who inherits has trained for "
        "longer. So zero is the "
        "average edit here, and not no change."
    )
    return Figure(
        "credit", "What the edits earned", words, plot, _effects_sheet(found, "edit", edits=True)
    )


def what_mattered(found: Sequence[Effect]) -> Figure | None:
    """The decisions whose effect the data tell apart from nothing; None where there are none.

    Args:
        found: as `results.insights.effects`.
    """
    clear = [effect for effect in found if effect.clear]
    if not clear:
        return None
    plot = _intervals(sorted(clear, key=lambda effect: -effect.mean), "points of accuracy")
    words = (
        f"{len(found)} questions were asked of {max(effect.n for effect in found):,} networks, "
        f"and {len(clear)} have "
        "an answer: its interval, which allows for all the questions asked and for relatives "
        "being alike, leaves out "
        "zero. They are associations in what this search chose to train, not laws."
    )
    return Figure(
        "mattered",
        "What stands out",
        words,
        plot,
        mattered_sheet(found),
        "all questions, answered or not",
    )


def mattered_sheet(found: Sequence[Effect]) -> Sheet:
    """All questions about decisions, with their answers."""
    return _effects_sheet(found, "decision", edits=False)


def _effects_sheet(found: Sequence[Effect], what: str, edits: bool) -> Sheet:
    columns: list[Column | str] = [
        what,
        Column("effect", points),
        Column("low", points),
        Column("high", points),
    ]
    columns += (
        ["children", "parents", Column("better than the parent", percent)]
        if edits
        else ["networks", "families"]
    )
    return sheet(
        [*columns, "stands out"],
        [
            (
                e.words,
                e.mean,
                e.low,
                e.high,
                e.n,
                e.families,
                *([e.better] if edits else []),
                "yes" if e.clear else "no",
            )
            for e in found
        ],
    )


def _intervals(found: Sequence[Effect], axis: str) -> Plot:
    from plotly.graph_objects import Figure as Plot
    from plotly.graph_objects import Scatter

    shown = list(reversed(found))
    names = ["<br>".join(wrap(f"{e.words} ({e.n:,})", 30)) for e in shown]
    mean = 100 * np.array([e.mean for e in shown])
    error = {
        "type": "data",
        "array": 100 * np.array([e.high - e.mean for e in shown]),
        "arrayminus": 100 * np.array([e.mean - e.low for e in shown]),
        "thickness": 2,
        "width": 4,
    }
    colours = [VERMILLION if e.clear and e.mean < 0 else BLUE if e.clear else GREY for e in shown]
    marker = {
        "size": 11,
        "color": colours,
        "symbol": ["circle" if e.clear else "circle-open" for e in shown],
    }
    plot = Plot(
        Scatter(
            x=mean,
            y=names,
            mode="markers",
            marker=marker,
            error_x={**error, "color": GREY},
            text=[f"{points(e.mean)} points, {points(e.low)} to {points(e.high)}" for e in shown],
            hovertemplate="%{y}<br>%{text}<extra></extra>",
            showlegend=False,
        )
    )
    plot = dressed(plot, axis, "")
    plot.add_vline(x=0, line={"color": GREY, "width": 1, "dash": "dash"})
    plot.update_layout(
        height=130 + 18 * len(shown) + 16 * sum(name.count("<br>") + 1 for name in names)
    )
    plot.update_yaxes(automargin=True)
    return plot


def predictor_trust(record: Record) -> Figure | None:
    """How well the predictors ordered networks beforehand, as the search went on; None where nobody
    predicted.
    """
    from plotly.graph_objects import Figure as Plot
    from plotly.graph_objects import Scatter

    found = series.trust(record)
    if not len(found):
        return None
    traces: list[Any] = []
    for place, name in enumerate(dict.fromkeys(found["predictor"])):
        some, colour = found.where("predictor", name), PALETTE[place]
        band = {
            "x": some.floats("after #"),
            "mode": "lines",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        }
        traces += [
            Scatter(y=short(some.floats("low")), **band),
            Scatter(
                y=short(some.floats("high")),
                fill="tonexty",
                fillcolor="rgba(86,180,233,0.3)",
                **band,
            ),
            line(some.floats("after #"), some.floats("τ"), name, colour),
        ]
    plot = dressed(Plot(traces), "candidate", "Kendall's τ", (-1.0, 1.05))
    plot.add_hline(y=0, line={"color": GREY, "width": 1, "dash": "dash"})
    words = (
        "Before a network was trained, somebody said how good it would be. Kendall's τ of the "
        "last 100 such "
        "predictions with what came out: 1 is the right order, 0 is chance; the band is the 95 % "
        "interval. At 0 or "
        "below the search steps aside and does without."
    )
    return Figure("trust", "The predictor's rank correlation, live", words, plot, found)


def inheritance(record: Record) -> Figure | None:
    """Children with inherited weights against the same networks from scratch; None without twins."""
    from plotly.graph_objects import Figure as Plot
    from plotly.graph_objects import Scatter

    found = series.twins(record)
    if not len(found):
        return None
    heirs, scratch = 100 * found.floats("inherited"), 100 * found.floats("from scratch")
    ends = [float(min(heirs.min(), scratch.min())), float(max(heirs.max(), scratch.max()))]
    said = [f"#{a} and #{b}" for a, b in zip(found["#"], found["twin #"], strict=True)]
    equal = Scatter(
        x=ends,
        y=ends,
        mode="lines",
        name="equal",
        line={"color": GREY, "dash": "dash"},
        hoverinfo="skip",
    )
    marker = {"color": BLUE, "size": 9}
    plot = Plot(
        [equal, scatter(scratch, heirs, text=said, name="a network", mode="markers", marker=marker)]
    )
    plot = dressed(plot, "accuracy from scratch (%)", "accuracy with inherited weights (%)")
    start = head_start(record.told)
    measured = f" Head start: {str(start).replace('+-', '−')}." if start is not None else ""
    words = (
        f"{len(found)} children were trained twice: with their parents' weights, and from "
        "scratch. Above the line, "
        "inheriting was worth something. Accuracies in this report are those with inherited "
        "weights: they show who is "
        "better, as far as the τ of the two is high, and not what a network is worth by "
        f"itself.{measured}"
    )
    return Figure(
        "inheritance", "The head start of inherited weights", words, plot, found, "the twins"
    )


def all_figures(record: Record, steps: Sequence[Step], asked: Sequence[Effect]) -> list[Figure]:
    """Every figure that the run has data for, in the order of the page.

    Args:
        steps: as `results.lineage.steps`.
        asked: as `results.insights.effects`.
    """
    found = [
        fitness_by_generation(record),
        fitness_by_minute(record),
        learning_curves(record),
        *(pareto(record, other) for other in series.trade_offs(record)),
        evolution_tree(record),
        edit_credit(record, steps),
        what_mattered(asked),
        predictor_trust(record),
        inheritance(record),
    ]
    return [figure for figure in found if figure is not None]
