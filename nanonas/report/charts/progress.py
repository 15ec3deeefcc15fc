"""How a search went: accuracy by generation and by minute, learning curves, the fronts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nanonas.analysis.findings import Findings
from nanonas.analysis.hypervolume import growth
from nanonas.analysis.record import Entry, Record
from nanonas.core import Floats, Objective
from nanonas.engine.ranking import front_of
from nanonas.report.charts import series
from nanonas.report.charts.chart import (
    BLUE,
    DASHES,
    PALETTE,
    VERMILLION,
    Axis,
    Band,
    Chart,
    Line,
    Mark,
    Points,
)
from nanonas.report.charts.series import (
    NAMES,
    POINTS,
    UNITS,
    floats,
    groups,
    judged,
    label,
    percentages,
    readable,
    spread,
)
from nanonas.report.rows.sheet import Column, Sheet
from nanonas.text import by_number, in_unit, percent

BEST = 10  # networks whose learning curves are drawn
MOMENTS = 4  # of a search that its fronts are drawn at
_QUARTILES = (0.25, 0.5, 0.75)
_STEADY = 5  # accuracies from which on there is a median
_FRONT_COLOURS = tuple(PALETTE[place] for place in (3, 1, 4, 0))  # the earliest first
_MINUTE = Column("minute", "hundredths")
_DOMINATED = Column("hypervolume", "percent")
_NEARLY = 0.95  # of the hypervolume at the end, that are said to be there
_VALID = 1000  # images that accuracies were measured on, where that was not noted

# --- how the search went --------------------------------------------------------------------------


def fitness_by_generation(findings: Findings) -> Chart:
    """Best, median and quartiles of each generation, over every candidate."""
    record = findings.record
    sheet = by_generation(findings)
    generations = np.array([entry.generation + 1.0 for entry in judged(record)])
    axis = Axis("generation", step=max(1, round(len(sheet) / 10)))
    words = (
        "Each dot is a network, the band holds the middle half of a generation. The line on top "
        "is the best so far: it can only rise, so the median says more about whether the search "
        "learns."
    )
    return Chart(
        "fitness-generation",
        f"{series.title(record)} by generation",
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
    elapsed = [np.nan if entry.elapsed is None else entry.elapsed for entry in judged(record)]
    minutes = np.array(elapsed, dtype=np.float64) / 60
    words = (
        "The same against the clock, pauses left out; median and band are those of the last "
        "generation's worth."
    )
    return Chart(
        "fitness-minute",
        f"{series.title(record)} by minute",
        words,
        *_fitness(record, sheet, Axis("minute"), minutes),
        sheet,
    )


def _fitness(
    record: Record, sheet: Sheet, axis: Axis, x: Floats
) -> tuple[Axis, Axis, tuple[Mark, ...]]:
    """Axes and marks: every network at its `x`, and the sheet's statistics over them."""
    shown = judged(record)
    accuracies = percentages(shown)
    names = (axis.title, "lower quartile", "median", "upper quartile", "best so far")
    at, low, median, high, best = (floats(sheet, name) for name in names)
    marks = (
        Points(x, accuracies, [label(entry) for entry in shown], opacity=0.45),
        Band(at, 100 * low, 100 * high, "middle half"),
        Line(at, 100 * median, "median", BLUE),
        Line(at, 100 * best, "best so far", VERMILLION, width=3, steps=True),
    )
    return axis, series.accuracy(record, readable(accuracies)), marks


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
    for place in spread(len(arrived), POINTS, first=min(_STEADY, len(arrived)) - 1):
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
    for place, (number, curve) in enumerate(groups(sheet, "#")):
        numbers.append(number)
        dash, colour = DASHES[place // len(PALETTE)], PALETTE[place % len(PALETTE)]
        epochs, accuracies = floats(curve, "epoch"), 100 * floats(curve, record.measure)
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
    best = by_number(len(numbers), "best", f"best {len(numbers)}")
    title = f"Learning curves of the {best}"
    return Chart("curves", title, words, axis, series.accuracy(record), tuple(lines), sheet)


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
    shown = [entry for entry in judged(record) if other in entry.metrics]
    costs = [entry.metrics[other] for entry in shown]
    text = [
        f"{label(entry)}, {in_unit(cost, UNITS[other])}"
        for entry, cost in zip(shown, costs, strict=True)
    ]
    accuracies = percentages(shown)
    marks: list[Mark] = [Points(np.array(costs), accuracies, text, opacity=0.4)]
    moments = groups(sheet, "after")
    for place, (moment, front) in enumerate(moments):
        x, y = floats(front, name), 100 * floats(front, record.measure)
        later = len(moments) - 1 - place
        dash, colour, dots = DASHES[later], _FRONT_COLOURS[place % MOMENTS], 5 if later else 8
        marks.append(Line(x, y, moment, colour, dash=dash, steps=True, dots=dots))
    finals = [_final_dot(*one, other) for one in record.trained_front if one[0] in shown]
    if finals:
        at, reached, said = zip(*finals, strict=True)
        x, y = np.array(at, dtype=np.float64), 100 * np.array(reached, dtype=np.float64)
        marks.append(Points(x, y, said, "finally trained", VERMILLION, size=12))
    words = f"The best trade-offs of {record.measure} and {name} at each quarter of the search."
    if other in ("params", "macs"):
        words = (
            "A network is on a front when none that is at least as accurate has fewer "
            f"{name}: the lines are the best trade-offs at each quarter of the search. Where the "
            "last lines lie on each other, going on has brought nothing."
        )
    if finals:
        words += " The large dots are the networks that were finally trained."
    log = bool(costs) and min(costs) > 0 and max(costs) > 20 * min(costs)
    axis = Axis(f"{name} (less is better)", log=log)
    y_axis = series.accuracy(record, readable(accuracies))
    title = f"{series.title(record)} against {name}"
    return Chart(f"pareto-{other}", title, words, axis, y_axis, tuple(marks), sheet, "the fronts")


def _final_dot(
    entry: Entry, result: Mapping[str, Any], other: str
) -> tuple[float, float | None, str]:
    """Where a network that was finally trained is drawn, and what is said of it."""
    tested = percent(float(result["test_accuracy"]))
    return entry.metrics[other], entry.accuracy, f"{label(entry)}; tested: {tested}"


def front_growth(findings: Findings) -> Chart | None:
    """How much the front dominates, by the minute; None where there is one objective, or too little
    to draw.
    """
    record = findings.record
    if len(record.objectives) < 2 or len(sheet := dominated(findings)) < 2:
        return None
    minutes, shares = floats(sheet, "minute"), floats(sheet, _DOMINATED.name)
    nearly = float(minutes[np.argmax(shares >= _NEARLY)])
    words = (
        f"How much the best trade-offs of {' and '.join(record.weighed)} dominate together: their "
        "hypervolume, in logs of the errors and of the costs, as a share of what it is at the end. "
        f"After {nearly:.2g} of {minutes[-1]:.2g} minutes, {_NEARLY:.0%} of it were there; a line "
        "that is flat at its end says that more time would have brought little."
    )
    line = Line(minutes, 100 * shares, "the front", BLUE, width=3, steps=True)
    y_axis = Axis("hypervolume (% of that at the end)", (0.0, 101.0))
    title = "What the front dominates by minute"
    return Chart("hypervolume", title, words, Axis("minute"), y_axis, (line,), sheet)


def dominated(findings: Findings) -> Sheet:
    """The hypervolume that the front dominates until each moment, as a share of that at the end."""
    record = findings.record
    arrived = sorted(
        (entry.elapsed, entry.number)
        for entry in judged(record)
        if entry.elapsed is not None and entry.told is not None
    )
    told = [one for _, number in arrived if (one := record.entries[number].told) is not None]
    places = spread(len(told), POINTS)
    images = int(record.images.get("valid") or _VALID)
    shares = growth(told, record.objectives, images, record.space.classes, places)
    rows = [
        (arrived[place][0] / 60, place + 1, share)
        for place, share in zip(places, shares, strict=True)
    ]
    return Sheet((_MINUTE, "networks", _DOMINATED), rows)


def fronts(findings: Findings, other: str) -> Sheet:
    """The best trade-offs of accuracy and another metric, less of which is better, at each quarter
    of the search.
    """
    record = findings.record
    objectives = (Objective(), Objective(other, maximize=False))
    told = [
        entry.told for entry in judged(record) if entry.told is not None and other in entry.metrics
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
