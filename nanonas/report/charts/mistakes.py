"""The figures of what a trained network gets wrong, from its answers to the test images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from nanonas.analysis.answers import ClassAccuracy, Confusion, Judgement
from nanonas.analysis.findings import Findings
from nanonas.core import Floats
from nanonas.maths.calibration import BINS, Reliability
from nanonas.maths.intervals import wilson
from nanonas.report.charts.chart import (
    BLUE,
    GREY,
    ORANGE,
    Axis,
    Band,
    Cells,
    Chart,
    Edges,
    Intervals,
    Line,
    Mark,
    Points,
    Rule,
)
from nanonas.report.rows.mistakes import by_class, calibration, confusions, refusals
from nanonas.text import number_of, percent, share_in_words, shortened

MOST_CLASSES = 30  # that are drawn, a row each; of more the worst
_NUMBERED = 15  # classes up to which the cells of the confusion matrix have room for figures
_CURVE = 200  # points that a curve has at most
_REFUSED = 0.5  # share of the images up to which refusing is drawn


def class_accuracy(findings: Findings) -> Chart | None:
    """How often each class is answered rightly, the worst on top; None without answers."""
    judged = findings.judgement
    if judged is None:
        return None
    shown, mean = judged.classes[:MOST_CLASSES], 100 * judged.accuracy.value
    names = _distinct([f"{_short(judged, one.label)} ({one.right.of:,})" for one in shown])
    marks = (Rule("x", mean), _intervals(names, shown, mean))
    worst = f"the {MOST_CLASSES} worst, " if len(judged.classes) > MOST_CLASSES else ""
    words = (
        f"How many test images of each class are answered rightly ({worst}the worst on top), with "
        "95 % intervals: few images leave much open. The dashed line is the accuracy on all of "
        "them; filled are the classes whose interval leaves it out."
    )
    height = 130 + 26 * len(shown)
    axis = Axis("right (%)")
    sheet = by_class(findings)
    return Chart(
        "class-accuracy",
        "Class by class",
        words,
        axis,
        Axis(),
        marks,
        sheet,
        "accuracy by class",
        height,
    )


def confusion(findings: Findings) -> Chart | None:
    """What is taken for what; of more than 30 classes the worst pairs. None without answers."""
    judged = findings.judgement
    if judged is None or judged.answers.classes > MOST_CLASSES:
        return None if judged is None else _worst_pairs(findings, judged)
    classes = judged.answers.classes
    totals = judged.confusion.sum(axis=1)
    shares = judged.confusion / np.maximum(1, totals)[:, None]
    full = [judged.class_names[label] for label in range(classes)]
    said, text = _cell_words(judged, shares, full)
    names = tuple(_short(judged, label) for label in range(classes))
    words = (
        "A row is what the images are, a column what they are taken for; a row's shares add up to "
        "100 %. Blue is right; the stronger the orange, the more images of that class go there."
    )
    if not judged.confusions:
        words += " Nothing is taken for anything else."
    marks = (Cells(shares, said, text),)
    x, y = Axis("taken for", names=names), Axis("is", names=names, down=True)
    sheet, height = confusions(findings), 200 + 30 * max(classes, 4)
    return Chart(
        "confusion",
        "What is taken for what",
        words,
        x,
        y,
        marks,
        sheet,
        "what is taken for what",
        height,
    )


def _cell_words(
    judged: Judgement, shares: Floats, names: Sequence[str]
) -> tuple[list[list[str]], list[list[str]]]:
    """What stands in each cell of the confusion matrix, and what is said of it."""
    said, text = [], []
    numbered = len(names) <= _NUMBERED
    for row, counts in enumerate(judged.confusion):
        said.append([_percents(share) if share and numbered else "" for share in shares[row]])
        text.append(
            [
                f"{names[row]}, taken for {names[column]}: {n:,} of "
                f"{number_of(counts.sum(), 'image')}"
                for column, n in enumerate(counts)
            ]
        )
    return said, text


def _percents(share: float) -> str:
    """A share in a small cell: "97", "0.4", in per cent."""
    return f"{100 * share:.0f}" if share >= 0.01 else f"{100 * share:.1g}"


def _worst_pairs(findings: Findings, judged: Judgement) -> Chart | None:
    """The most frequent confusions, a row each, for more classes than a matrix has room for."""
    shown = judged.confusions[:MOST_CLASSES]
    if not shown:
        return None
    pairs = [
        f"{_short(judged, one.label)} → {_short(judged, one.taken_for)} ({one.wrong.images:,})"
        for one in shown
    ]
    names = _distinct(pairs)
    words = (
        f"The {len(shown)} most frequent of {number_of(len(judged.confusions), 'confusion')}: what "
        "the images are → what they are taken for, as a share of their class, with 95 % intervals."
    )
    axis, sheet = Axis("of the class (%)"), confusions(findings)
    height = 130 + 26 * len(shown)
    return Chart(
        "confusion",
        "What is taken for what",
        words,
        axis,
        Axis(),
        (_intervals(names, shown, 0.0),),
        sheet,
        "what is taken for what",
        height,
    )


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of rows, numbered where they are not told apart."""
    many = Counter(names)
    return [f"{name} [{n}]" if many[name] > 1 else name for n, name in enumerate(names, 1)]


def _intervals(
    names: Sequence[str], shown: Sequence[ClassAccuracy | Confusion], against: float
) -> Intervals:
    """Shares in per cent, a row each, compared with one of them all."""
    shares = [one.right if isinstance(one, ClassAccuracy) else one.wrong for one in shown]
    low, high = 100 * np.array([share.interval for share in shares]).T
    return Intervals(
        names,
        100 * np.array([share.value for share in shares]),
        low,
        high,
        [bool(a > against or b < against) for a, b in zip(low, high, strict=True)],
        [
            f"{share.images:,} of {share.of:,}: {percent(share.value)}, {a:.1f} to {b:.1f} %"
            for share, a, b in zip(shares, low, high, strict=True)
        ],
        against,
    )


# --- whether it knows -----------------------------------------------------------------------------


def reliability(findings: Findings) -> Chart | None:
    """How often it is right, against how sure it is; None without answers."""
    judged = findings.judgement
    if judged is None:
        return None
    ends = np.array([100 / judged.answers.classes, 100.0])
    marks: list[Mark] = [Line(ends, ends, "calibrated", GREY, dash="dash", says="")]
    if judged.scaled_reliability is not None:
        marks += _binned(judged.scaled_reliability, "at the temperature", ORANGE)
    marks += _binned(judged.reliability, "as it is", BLUE)
    words = (
        f"Answers in {BINS} bins by how sure the network is of them (the softmax's largest "
        "probability): above the dashed line it is right more often than it says, below it less "
        "often. A dot with a long line stands for few images."
    )
    if judged.scaling is not None:
        words += (
            f" Orange: logits divided by a temperature ({judged.scaling.temperature:.2f}), which "
            "was fitted to one half of the test images and is shown on the other half, and the "
            "other way round."
        )
    x, y = Axis("how sure it is (%)"), Axis("right (%)", (0.0, 103.0))
    return Chart(
        "reliability",
        "Does it know when it is right?",
        words,
        x,
        y,
        tuple(marks),
        calibration(findings),
        "the bins",
        420,
    )


def _binned(found: Reliability, name: str, colour: str) -> list[Mark]:
    """Bins as dots, with Wilson's intervals as lines through them."""
    x, y = 100 * found.confidence, 100 * found.accuracy
    pairs = zip(found.accuracy, found.images, strict=True)
    low, high = 100 * np.array([wilson(share, int(n)) for share, n in pairs]).T
    text = [
        f"{number_of(n, 'answer')}, sure to {percent(sure / 100)}: {percent(right / 100)} right"
        for n, sure, right in zip(found.images, x, y, strict=True)
    ]
    lines = Edges(np.column_stack([x, low]), np.column_stack([x, high]), "", colour, 2, opacity=0.5)
    return [lines, Points(x, y, text, name, colour, size=9)]


def refusing(findings: Findings) -> Chart | None:
    """The accuracy on what is left where it refuses what it is least sure of; None without
    answers.
    """
    judged = findings.judgement
    if judged is None:
        return None
    n = len(judged.answers)
    refused = np.unique(np.linspace(0, int(_REFUSED * n), _CURVE).round().astype(np.int64))
    accuracies = judged.kept_accuracy[refused]
    ends = [wilson(float(a), int(n - k)) for a, k in zip(accuracies, refused, strict=True)]
    low, high = 100 * np.array(ends).T
    x = 100 * refused / n
    marks = (
        Band(x, low, high, "95 % interval"),
        Line(x, 100 * accuracies, "accuracy on the rest", BLUE),
    )
    tenth = judged.when_refusing(0.1)
    words = (
        "If a person looks at the images that the network is least sure of, how often is it right "
        f"on the rest? Without the least sure tenth on {share_in_words(tenth.value)}."
    )
    x_axis, y_axis = Axis("refused (%)"), Axis("right on the rest (%)")
    return Chart(
        "refusing",
        "Where it may refuse",
        words,
        x_axis,
        y_axis,
        marks,
        refusals(findings),
        "what refusing brings",
        340,
    )


def _short(judged: Judgement, label: int) -> str:
    """A class in a figure."""
    return shortened(judged.class_names[label], 18)
