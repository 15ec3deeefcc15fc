"""The figures of a run, as charts: each says what is to be seen, and has the rows that it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from textwrap import wrap
from typing import Any

import numpy as np

from nanonas.analysis.findings import Effect, Findings, Tree
from nanonas.analysis.record import Entry, Record
from nanonas.core import Floats, Objective
from nanonas.engine.ranking import front_of
from nanonas.maths.ranks import kendall
from nanonas.predictors.audit import WINDOW, predictions
from nanonas.report.charts import mistakes
from nanonas.report.charts.chart import (
    BLUE,
    DASHES,
    GREY,
    NAME,
    PALETTE,
    VERMILLION,
    Axis,
    Band,
    Chart,
    Edges,
    Intervals,
    Line,
    Mark,
    Points,
    Rule,
    Symbol,
)
from nanonas.report.rows.sheet import Column, Sheet
from nanonas.text import in_unit, percent, points

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
BEST = 10  # networks whose learning curves are drawn
MOMENTS = 4  # of a search that its fronts are drawn at
_POINTS = 200  # that a curve over candidates has at most
_QUARTILES = (0.25, 0.5, 0.75)
_STEADY = 5  # accuracies from which on there is a median
_FRONT_COLOURS = tuple(PALETTE[place] for place in (3, 1, 4, 0))  # the earliest first

_MINUTE = Column("minute", "hundredths")


def all_charts(findings: Findings, *keys: str) -> dict[str, Chart]:
    """The charts that the run has data for, by key, in the order of the page.

    Args:
        keys: of those to draw; by default all.
    """
    drawn = {key: CHARTS[key](findings) for key in CHARTS if not keys or key in keys}
    return {key: chart for key, chart in drawn.items() if chart is not None}


# --- how the search went --------------------------------------------------------------------------


def fitness_by_generation(findings: Findings) -> Chart:
    """Best, median and quartiles of each generation, over every candidate."""
    record = findings.record
    sheet = by_generation(findings)
    generations = np.array([entry.generation + 1.0 for entry in _judged(record)])
    axis = Axis("generation", step=max(1, round(len(sheet) / 10)))
    words = (
        "Each dot is a network, the band holds the middle half of a generation. The line on top "
        "is the best so far: it can only rise, so the median says more about whether the search "
        "learns."
    )
    return Chart(
        "fitness-generation",
        f"{_title(record)} by generation",
        words,
        *_fitness(record, sheet, axis, generations),
        sheet,
    )


def fitness_by_minute(findings: Findings) -> Chart:
    """Best so far, and median and quartiles of the last that arrived, against the time spent
    searching.
    """
    record = findings.record
    sheet = by_minute(findings)
    elapsed = [np.nan if entry.elapsed is None else entry.elapsed for entry in _judged(record)]
    minutes = np.array(elapsed, dtype=np.float64) / 60
    words = (
        "The same against the clock, pauses left out; median and band are those of the last "
        "generation's worth."
    )
    return Chart(
        "fitness-minute",
        f"{_title(record)} by minute",
        words,
        *_fitness(record, sheet, Axis("minute"), minutes),
        sheet,
    )


def _fitness(
    record: Record, sheet: Sheet, axis: Axis, x: Floats
) -> tuple[Axis, Axis, tuple[Mark, ...]]:
    """Axes and marks: every network at its `x`, and the sheet's statistics over them."""
    judged = _judged(record)
    accuracies = _percentages(judged)
    names = (axis.title, "lower quartile", "median", "upper quartile", "best so far")
    at, low, median, high, best = (_floats(sheet, name) for name in names)
    marks = (
        Points(x, accuracies, [_label(entry) for entry in judged], opacity=0.45),
        Band(at, 100 * low, 100 * high, "middle half"),
        Line(at, 100 * median, "median", BLUE),
        Line(at, 100 * best, "best so far", VERMILLION, width=3, steps=True),
    )
    return axis, _accuracy(record, _readable(accuracies)), marks


def by_generation(findings: Findings) -> Sheet:
    """How good each generation was, and the best until then."""
    record = findings.record
    generations: dict[int, list[float]] = {}
    for entry in record.entries:
        if entry.accuracy is not None:
            generations.setdefault(entry.generation, []).append(entry.accuracy)
    rows, best = [], -np.inf
    for generation, accuracies in sorted(generations.items()):
        low, median, high = map(float, np.quantile(accuracies, _QUARTILES))
        best = max(best, *accuracies)
        row = (generation + 1, len(accuracies), best, max(accuracies), high, median, low)
        rows.append(row)
    names = ("best so far", "best", "upper quartile", "median", "lower quartile")
    return Sheet(("generation", "networks", *(Column(name, "percent") for name in names)), rows)


def by_minute(findings: Findings) -> Sheet:
    """The best until each moment, and median and quartiles of the last ones (a generation's worth)
    that arrived.
    """
    record = findings.record
    arrived = sorted(
        (entry.elapsed, entry.number, entry.accuracy)
        for entry in record.entries
        if entry.elapsed is not None and entry.accuracy is not None
    )
    accuracies = np.array([accuracy for _, _, accuracy in arrived])
    window = max(10, int(record.search.get("population", 30)))
    rows = []
    for place in _spread(len(arrived), _POINTS, first=min(_STEADY, len(arrived)) - 1):
        recent = accuracies[max(0, place + 1 - window) : place + 1]
        low, median, high = map(float, np.quantile(recent, _QUARTILES))
        best = float(accuracies[: place + 1].max())
        rows.append((arrived[place][0] / 60, place + 1, best, high, median, low))
    names = ("best so far", "upper quartile", "median", "lower quartile")
    return Sheet((_MINUTE, "networks", *(Column(name, "percent") for name in names)), rows)


def learning_curves(findings: Findings) -> Chart:
    """Validation accuracy after each epoch, of the best networks."""
    record = findings.record
    sheet = curves(findings, BEST)
    numbers, lines = [], []
    for place, (number, curve) in enumerate(_groups(sheet, "#")):
        numbers.append(number)
        dash, colour = DASHES[place // len(PALETTE)], PALETTE[place % len(PALETTE)]
        epochs, accuracies = _floats(curve, "epoch"), 100 * _floats(curve, record.measure)
        lines.append(Line(epochs, accuracies, f"#{number}", colour, dash=dash, dots=6))
    words = (
        "How the best networks learned in the search. Curves that still rise would have liked "
        "more epochs."
    )
    if any(record.entries[number].proposal.inherits for number in numbers):
        words += (
            " Those that began with inherited weights start high: they did not learn this in one "
            "epoch."
        )
    axis = Axis("epoch", step=max(1, round(max(sheet["epoch"], default=1) / 10)))
    title = f"Learning curves of the best {len(numbers)}"
    return Chart("curves", title, words, axis, _accuracy(record), tuple(lines), sheet)


def curves(findings: Findings, number: int) -> Sheet:
    """The learning curves of the best networks, with those of the trainings that they resumed."""
    record = findings.record
    rows = [
        (entry.number, epoch, accuracy, loss)
        for entry in record.distinct[:number]
        for epoch, accuracy, loss in _curve(record, entry)
    ]
    loss = Column("training loss", "thousandths")
    return Sheet(("#", "epoch", Column(record.measure, "percent"), loss), rows)


def _curve(record: Record, entry: Entry) -> list[tuple[int, float, float]]:
    resumes = entry.proposal.resumes
    before = []
    if resumes is not None and resumes < entry.number:
        before = _curve(record, record.entries[resumes])
    begin = before[-1][0] if before else 0
    epochs = () if entry.evaluation is None else entry.evaluation.curve
    return [
        *before,
        *((begin + n, one.accuracy, one.train_loss) for n, one in enumerate(epochs, 1)),
    ]


# --- trade-offs -----------------------------------------------------------------------------------


def pareto(findings: Findings, other: str) -> Chart | None:
    """The best trade-offs of accuracy and another metric, at each quarter of the search; None
    where the search does not weigh that metric.
    """
    if other not in findings.trade_offs:
        return None
    record, name = findings.record, NAMES[other]
    sheet = fronts(findings, other)
    shown = [entry for entry in _judged(record) if other in entry.metrics]
    costs = [entry.metrics[other] for entry in shown]
    text = [
        f"{_label(entry)}, {in_unit(cost, UNITS[other])}"
        for entry, cost in zip(shown, costs, strict=True)
    ]
    accuracies = _percentages(shown)
    marks: list[Mark] = [Points(np.array(costs), accuracies, text, opacity=0.4)]
    moments = _groups(sheet, "after")
    for place, (moment, front) in enumerate(moments):
        x, y = _floats(front, name), 100 * _floats(front, record.measure)
        later = len(moments) - 1 - place
        dash, colour, dots = DASHES[later], _FRONT_COLOURS[place % MOMENTS], 5 if later else 8
        marks.append(Line(x, y, moment, colour, dash=dash, steps=True, dots=dots))
    words = f"The best trade-offs of {record.measure} and {name} at each quarter of the search."
    if other in ("params", "macs"):
        words = (
            "A network is on a front when none that is at least as accurate has fewer "
            f"{name}: the lines are the best trade-offs at each quarter of the search. Where the "
            "last lines lie on each other, going on has brought nothing."
        )
    log = bool(costs) and min(costs) > 0 and max(costs) > 20 * min(costs)
    axis = Axis(f"{name} (less is better)", log=log)
    y_axis = _accuracy(record, _readable(accuracies))
    title = f"{_title(record)} against {name}"
    return Chart(f"pareto-{other}", title, words, axis, y_axis, tuple(marks), sheet, "the fronts")


def fronts(findings: Findings, other: str) -> Sheet:
    """The best trade-offs of accuracy and another metric, less of which is better, at each quarter
    of the search.
    """
    record = findings.record
    objectives = (Objective(), Objective(other, maximize=False))
    told = [
        entry.told for entry in _judged(record) if entry.told is not None and other in entry.metrics
    ]
    rows = []
    for moment in range(1, MOMENTS + 1):
        until = round(len(told) * moment / MOMENTS)
        front = [member.evaluation for member in front_of(told[:until], objectives)]
        for member in sorted(front, key=lambda member: member.metrics[other]):
            row = (f"first {until:,}", member.number, member.accuracy, member.metrics[other])
            rows.append(row)
    cost = Column(NAMES[other], UNITS[other])
    return Sheet(("after", "#", Column(record.measure, "percent"), cost), rows)


# --- evolution ------------------------------------------------------------------------------------


def evolution_tree(findings: Findings, last: int | None = None) -> Chart:
    """Who came from whom: number from left to right, families from top to bottom, coloured by
    accuracy. The nodes are the last mark; where nothing was bred, the height is the accuracy.

    Args:
        last: of a run with more candidates, draw the last so many and those on the way to the
            winner; by default all.
    """
    record, tree = findings.record, findings.tree
    entries, number = record.entries, len(record.entries)
    bred = any(entry.proposal.parents for entry in entries)
    heights = [0.0 if entry.accuracy is None else 100 * entry.accuracy for entry in entries]
    places = np.array(tree.places if bred else heights, dtype=np.float64)
    first = 0 if last is None else max(0, number - last)
    shown = sorted({*tree.way, *range(first, number)})
    at = np.column_stack([np.arange(number, dtype=np.float64), places])  # (candidates, 2)
    marks: tuple[Mark, ...] = (*_descent(record, tree.way, at, first), _nodes(record, at, shown))
    sheet, x = candidates(findings), "candidate, in the order in which they were bred"
    if not bred:
        made = any(entry.proposal.ancestor for entry in entries)
        words = (
            f"Every dot is a network. All are random{' or hand-made' if made else ''}: none was "
            "bred from another. Click a dot, or type a number below."
        )
        title, height, y = "The candidates", 380, _accuracy(record)
    else:
        words = (
            "Every dot is a network and hangs on the one it was bred from; "
            f"{_begun_by(record, tree)} began it. The lighter, the more accurate; a "
            "cross was not trained to its end. The thick line leads from the first ancestor to "
            "the winner. Click a dot, or type a number below."
        )
        title, y = "The evolution tree", Axis(hidden=True, down=True)
        height = int(np.clip(4.5 * (places.max() + 1) + 140, 320, 900))
    x_axis = Axis(x)
    if first and last is not None:
        words = (
            f"Drawn are the last {last:,} of {number:,}, and those on the way to the winner: drag "
            f"to see its beginning. {words}"
        )
        x_axis, y = _recent(x_axis, y, places[first:], number, last)
    return Chart("tree", title, words, x_axis, y, marks, sheet, "every candidate", height, pan=True)


def _begun_by(record: Record, tree: Tree) -> str:
    """Those that were bred from nothing, counted."""
    first = [record.entries[number] for number in sorted(set(tree.families))]
    made = sum(bool(entry.proposal.ancestor) for entry in first)
    if not made:
        return f"{len(first):,} random ones"
    return f"{made:,} hand-made and {len(first) - made:,} random ones"


def _descent(record: Record, way: Sequence[int], at: Floats, first: int) -> list[Edges]:
    """Lines to parents, those of candidates from `first` on, and the way to the winner."""
    parents = {
        entry.number: entry.proposal.parents for entry in record.entries if entry.number >= first
    }
    one = [(numbers[0], child) for child, numbers in parents.items() if numbers]
    two = [(numbers[1], child) for child, numbers in parents.items() if len(numbers) > 1]

    def edges(pairs: Sequence[tuple[int, int]]) -> tuple[Floats, Floats]:
        start, end = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        return at[start], at[end]

    grey = "#808080"
    return [
        Edges(*edges(one), "child of", grey, opacity=0.55),
        Edges(*edges(two), "second parent", grey, dash="dot", opacity=0.25),
        Edges(*edges(list(pairwise(reversed(way)))), "way to the winner", VERMILLION, width=3),
    ]


def _nodes(record: Record, at: Floats, shown: Sequence[int]) -> Points:
    entries = [record.entries[number] for number in shown]
    winner = record.winner.number if record.winner is not None else -1
    symbols: list[Symbol] = ["circle" if entry.state == "complete" else "x" for entry in entries]
    if winner in shown:
        symbols[shown.index(winner)] = "star"
    size = 8 if len(shown) <= 500 else 6 if len(shown) <= 2000 else 4
    return Points(
        at[shown, 0],
        at[shown, 1],
        [_label(entry) for entry in entries],
        "network",
        size=size,
        values=_percentages(entries),
        scale=f"{record.measure} (%)",
        symbols=symbols,
        numbers=shown,
    )


def _recent(x: Axis, y: Axis, places: Floats, number: int, last: int) -> tuple[Axis, Axis]:
    """The axes that show the last candidates, with some room around them."""
    room = 0.03 * (places.max() - places.min()) + 1
    x_range = (number - 1.03 * last, number + 0.03 * last)
    y_range = (float(places.min() - room), float(places.max() + room))
    return Axis(x.title, x_range), Axis(y.title, y_range, hidden=y.hidden, down=y.down)


def candidates(findings: Findings) -> Sheet:
    """Every candidate, a row each."""
    record = findings.record
    measured = {name for entry in record.trained for name in entry.metrics}
    names = [name for name in NAMES if name in measured or name in ("params", "macs")]
    rows = [
        (
            entry.number,
            entry.generation + 1,
            entry.state,
            entry.accuracy,
            *(entry.metrics.get(name) for name in names),
            None if entry.evaluation is None else entry.evaluation.seconds,
            " ".join(f"#{parent}" for parent in entry.proposal.parents) or None,
        )
        for entry in record.entries
    ]
    metrics = (Column(NAMES[name], UNITS[name]) for name in names)
    accuracy, seconds = Column(record.measure, "percent"), Column("time", "seconds")
    return Sheet(("#", "generation", "state", accuracy, *metrics, seconds, "parents"), rows)


# --- what mattered --------------------------------------------------------------------------------


def edit_credit(findings: Findings) -> Chart | None:
    """What each kind of edit earned; None where there are not enough children of one parent."""
    effects = findings.credit
    if not effects:
        return None
    gains = [step.gain for step in findings.steps if step.bred and step.gain is not None]
    clear = sum(effect.clear for effect in effects)
    stand_out = "none of the kinds stands out from the others"
    if clear:
        stand_out = f"{clear} of {len(effects)} kinds stand out (filled)"
    words = (
        f"{sum(effect.n for effect in effects):,} children of one parent each, by what was edited: "
        "how much better they were than the average child, each against its own parent; "
        f"{stand_out}. The average child came out {points(float(np.mean(gains)))} points from its "
        "parent: parents are chosen for being good, partly by luck, and who inherits has trained "
        "for longer. So zero is the average edit here, and not no change."
    )
    axis = Axis("points over the average child")
    return _intervals("credit", "What the edits earned", words, axis, effects, earned(findings))


def what_mattered(findings: Findings) -> Chart | None:
    """The decisions whose effect the data tell apart from zero; None where there are none."""
    asked = findings.effects
    clear = [effect for effect in asked if effect.clear]
    if not clear:
        return None
    words = (
        f"{len(asked)} questions were asked of {max(effect.n for effect in asked):,} networks, "
        f"and {len(clear)} have an answer: its interval, which allows for all the questions asked "
        "and for relatives being alike, leaves out zero. They are associations in what this "
        "search chose to train, not laws."
    )
    shown = sorted(clear, key=lambda effect: -effect.mean)
    axis = Axis(f"points of {findings.record.measure}")
    sheet = mattered(findings)
    what = "all questions, answered or not"
    return _intervals("mattered", "What stands out", words, axis, shown, sheet, what)


def mattered(findings: Findings) -> Sheet:
    """All questions about decisions, with their answers."""
    rows = [(*_effect(effect), _clear(effect)) for effect in findings.effects]
    return Sheet(("decision", *_EFFECT, "networks", "families", "stands out"), rows)


def earned(findings: Findings) -> Sheet:
    """What each kind of edit earned."""
    rows = [(*_effect(effect), effect.better, _clear(effect)) for effect in findings.credit]
    better = Column("better than the parent", "percent")
    return Sheet(("edit", *_EFFECT, "children", "parents", better, "stands out"), rows)


_EFFECT = tuple(Column(name, "points") for name in ("effect", "low", "high"))


def _effect(effect: Effect) -> tuple[Any, ...]:
    return effect.words, effect.mean, effect.low, effect.high, effect.n, effect.families


def _clear(effect: Effect) -> str:
    return "yes" if effect.clear else "no"


def _intervals(
    key: str,
    title: str,
    words: str,
    axis: Axis,
    effects: Sequence[Effect],
    sheet: Sheet,
    what: str = "the figure's table",
) -> Chart:
    names = [f"{effect.words} ({effect.n:,})" for effect in effects]
    mean, low, high = 100 * np.array([(e.mean, e.low, e.high) for e in effects]).T
    text = [f"{points(e.mean)} points, {points(e.low)} to {points(e.high)}" for e in effects]
    clear = [effect.clear for effect in effects]
    marks = (Rule("x"), Intervals(names, mean, low, high, clear, text))
    height = 130 + 18 * len(names) + 16 * sum(len(wrap(name, NAME)) for name in names)
    return Chart(key, title, words, axis, Axis(), marks, sheet, what, height)


# --- the tools of the search ----------------------------------------------------------------------


def predictor_trust(findings: Findings) -> Chart | None:
    """How well the predictors ordered networks beforehand, as the search went on; None where
    nothing was predicted.
    """
    sheet = trust(findings)
    if not len(sheet):
        return None
    marks: list[Mark] = [Rule("y")]
    for place, (name, series) in enumerate(_groups(sheet, "predictor")):
        x, tau, low, high = (_floats(series, of) for of in ("after #", "τ", "low", "high"))
        marks += [Band(x, low, high), Line(x, tau, name, PALETTE[place])]
    words = (
        "Before a network was trained, its accuracy was predicted. Kendall's τ of the last 100 "
        "such predictions with what came out: 1 is the right order, 0 is chance; the band is the "
        "95 % interval. At 0 or below the search steps aside and does without."
    )
    title, y = "The predictor's rank correlation, live", Axis("Kendall's τ", (-1.0, 1.05))
    return Chart("trust", title, words, Axis("candidate"), y, tuple(marks), sheet)


def trust(findings: Findings) -> Sheet:
    """How well each predictor ordered the last 100 networks that it had predicted, as the search
    went on.

    A prediction was made before its network was trained. What failed or was pruned counts as worse
    than all others.
    """
    record = findings.record
    rows = []
    for name, predicted in predictions(record.told, Objective()).items():
        numbers, means, losses = np.array(predicted).T
        for place in _spread(len(predicted), _POINTS // 2, first=9):
            recent = slice(max(0, place + 1 - WINDOW), place + 1)
            order = kendall(means[recent], losses[recent])
            rows.append((name, int(numbers[place]), order.tau, order.low, order.high, order.n))
    interval = (Column(name, "signed") for name in ("τ", "low", "high"))
    return Sheet(("predictor", "after #", *interval, "networks"), rows)


def inheritance(findings: Findings) -> Chart | None:
    """Inherited weights against the same networks from scratch; None without twins."""
    sheet = twins(findings)
    if not len(sheet):
        return None
    heirs, scratch = 100 * _floats(sheet, "inherited"), 100 * _floats(sheet, "from scratch")
    ends = np.array([min(heirs.min(), scratch.min()), max(heirs.max(), scratch.max())])
    text = [f"#{heir} and #{twin}" for heir, twin in zip(sheet["#"], sheet["twin #"], strict=True)]
    marks = (
        Line(ends, ends, "equal", GREY, dash="dash", says=""),
        Points(scratch, heirs, text, colour=BLUE, size=9),
    )
    start = findings.head_start
    measured = f" Head start: {str(start).replace('+-', '−')}." if start is not None else ""
    words = (
        f"{len(sheet)} children were trained twice: with their parents' weights, and from "
        "scratch. Above the line, inheriting was worth something. Accuracies in this report are "
        "those with inherited weights: they show who is better, as far as the τ of the two is "
        f"high, and not what a network is worth by itself.{measured}"
    )
    measure = findings.record.measure
    x, y = Axis(f"{measure} from scratch (%)"), Axis(f"{measure} with inherited weights (%)")
    title = "The head start of inherited weights"
    return Chart("inheritance", title, words, x, y, marks, sheet, "the twins")


def twins(findings: Findings) -> Sheet:
    """Children that inherited weights, and the same networks from scratch."""
    rows = [
        (heir.number, heir.evaluation.accuracy, twin.number, twin.evaluation.accuracy)
        for heir, twin in findings.twins
    ]
    inherited, scratch = Column("inherited", "percent"), Column("from scratch", "percent")
    return Sheet(("#", inherited, "twin #", scratch), rows)


# --- what they share ------------------------------------------------------------------------------


def _title(record: Record) -> str:
    """What networks are judged by, at the beginning of a title."""
    return record.measure.capitalize()


def _accuracy(record: Record, ends: tuple[float, float] | None = None) -> Axis:
    """The axis of what networks are judged by."""
    return Axis(f"validation {record.measure} (%)", ends)


def _judged(record: Record) -> list[Entry]:
    return [entry for entry in record.entries if entry.accuracy is not None]


def _percentages(entries: Sequence[Entry]) -> Floats:
    """Accuracies in per cent, shape (entries,); NaN where there is none."""
    known = [np.nan if entry.accuracy is None else entry.accuracy for entry in entries]
    return 100 * np.array(known, dtype=np.float64)


def _floats(sheet: Sheet, name: str) -> Floats:
    """The values of a column of numbers, shape (rows,); NaN for None."""
    return np.array(sheet[name], dtype=np.float64)


def _groups(sheet: Sheet, name: str) -> list[tuple[Any, Sheet]]:
    """The rows that have the same value in a column, in the order in which these come up."""
    groups: dict[Any, list[tuple[Any, ...]]] = {}
    for value, row in zip(sheet[name], sheet.rows, strict=True):
        groups.setdefault(value, []).append(row)
    return [(value, Sheet(sheet.columns, rows)) for value, rows in groups.items()]


def _readable(percentages: Floats) -> tuple[float, float] | None:
    """A range for accuracies that the worst tenth of them may leave, so that the others are told
    apart; None for fewer than 10.
    """
    finite = percentages[np.isfinite(percentages)]
    if len(finite) < 10:
        return None
    low, high = float(np.quantile(finite, 0.1)), float(finite.max())
    room = max(1.0, 0.12 * (high - low))
    return max(0.0, low - room), min(101.0, high + room)


def _label(entry: Entry) -> str:
    return f"#{entry.number}: {entry.state if entry.accuracy is None else percent(entry.accuracy)}"


def _spread(of: int, most: int, first: int = 0) -> list[int]:
    """At most so many places in a list, evenly, the last one among them."""
    if not 0 <= first < of:
        return []
    places: Floats = np.linspace(first, of - 1, min(most, of - first))
    return [int(place) for place in np.unique(places.round())]


CHARTS: Mapping[str, Callable[[Findings], Chart | None]] = {
    "class-accuracy": mistakes.class_accuracy,
    "confusion": mistakes.confusion,
    "reliability": mistakes.reliability,
    "refusing": mistakes.refusing,
    "fitness-generation": fitness_by_generation,
    "fitness-minute": fitness_by_minute,
    "curves": learning_curves,
    **{f"pareto-{metric}": partial(pareto, other=metric) for metric in NAMES},
    "tree": evolution_tree,
    "credit": edit_credit,
    "mattered": what_mattered,
    "trust": predictor_trust,
    "inheritance": inheritance,
}
