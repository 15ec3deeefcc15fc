"""The tools of a search: what predictors and inherited weights were worth."""

from __future__ import annotations

import numpy as np

from nanonas.analysis.findings import Findings
from nanonas.core import Objective
from nanonas.maths.ranks import kendall
from nanonas.predictors.audit import WINDOW, predictions
from nanonas.report.charts.chart import (
    BLUE,
    GREY,
    PALETTE,
    Axis,
    Band,
    Chart,
    Line,
    Mark,
    Points,
    Rule,
)
from nanonas.report.charts.series import POINTS, floats, groups, spread
from nanonas.report.rows.sheet import Column, Sheet
from nanonas.text import by_number, number_of


def predictor_trust(findings: Findings) -> Chart | None:
    """How well the predictors ordered networks beforehand, as the search went on; None where
    nothing was predicted.
    """
    sheet = trust(findings)
    if not len(sheet):
        return None
    marks: list[Mark] = [Rule("y")]
    for place, (name, series) in enumerate(groups(sheet, "predictor")):
        x, tau, low, high = (floats(series, of) for of in ("after #", "τ", "low", "high"))
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
        for place in spread(len(predicted), POINTS // 2, first=9):
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
    heirs, scratch = 100 * floats(sheet, "inherited"), 100 * floats(sheet, "from scratch")
    ends = np.array([min(heirs.min(), scratch.min()), max(heirs.max(), scratch.max())])
    text = [f"#{heir} and #{twin}" for heir, twin in zip(sheet["#"], sheet["twin #"], strict=True)]
    marks = (
        Line(ends, ends, "equal", GREY, dash="dash", says=""),
        Points(scratch, heirs, text, colour=BLUE, size=9),
    )
    start = findings.head_start
    measured = f" Head start: {str(start).replace('+-', '−')}." if start is not None else ""
    words = (
        f"{number_of(len(sheet), 'child', 'children')} {by_number(len(sheet), 'was', 'were')} "
        "trained twice: with the parents' weights, and from scratch. Above the line, inheriting "
        "was worth something. Accuracies in this report are those with inherited weights: they "
        "show who is better, as far as the τ of the two is high, and not what a network is worth "
        f"by itself.{measured}"
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
