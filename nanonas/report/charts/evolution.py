"""What came of what: the evolution tree, what edits earned, which decisions mattered."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from textwrap import wrap
from typing import Any

import numpy as np

from nanonas.analysis.effects import Effect
from nanonas.analysis.findings import Findings
from nanonas.analysis.lineage import Tree
from nanonas.analysis.record import Record
from nanonas.core import Floats
from nanonas.report.charts import series
from nanonas.report.charts.chart import (
    NAME,
    VERMILLION,
    Axis,
    Chart,
    Edges,
    Intervals,
    Mark,
    Points,
    Rule,
    Symbol,
)
from nanonas.report.charts.series import NAMES, UNITS, label, percentages
from nanonas.report.rows.sheet import Column, Sheet
from nanonas.text import by_number, number_of, points

# --- the tree -------------------------------------------------------------------------------------


def evolution_tree(findings: Findings, last: int | None = None) -> Chart:
    """Who came from whom: number from left to right, families from top to bottom, coloured by
    accuracy. The nodes are the last mark; where nothing was bred, the height is the accuracy.

    Args:
        last: of a run with more candidates, draw the last so many and those on the way to the
            winner; by default all, or `Findings.shown` of many.
    """
    record, tree = findings.record, findings.tree
    entries, number = record.entries, len(record.entries)
    bred = any(entry.proposal.parents for entry in entries)
    heights = [0.0 if entry.accuracy is None else 100 * entry.accuracy for entry in entries]
    places = np.array(tree.places if bred else heights, dtype=np.float64)
    first = 0 if last is None else max(0, number - last)
    recent = findings.shown if last is None else range(first, number)
    shown = sorted({*tree.way, *recent})
    at = np.column_stack([np.arange(number, dtype=np.float64), places])  # (candidates, 2)
    marks: tuple[Mark, ...] = (*_descent(record, tree.way, at, recent), _nodes(record, at, shown))
    sheet, x = candidates(findings), "candidate, in the order in which they were bred"
    if not bred:
        made = any(entry.proposal.ancestor for entry in entries)
        words = (
            f"Every dot is a network. All are random{' or hand-made' if made else ''}: none was "
            "bred from another. Click a dot, or type a number below."
        )
        title, height, y = "The candidates", 380, series.accuracy(record)
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
    elif len(shown) < number:
        words = (
            f"Drawn are {len(shown):,} of {number:,}: evenly chosen ones, the best, and those on "
            f"the way to the winner. {words}"
        )
    return Chart("tree", title, words, x_axis, y, marks, sheet, "every candidate", height, pan=True)


def _begun_by(record: Record, tree: Tree) -> str:
    """Those that were bred from nothing, counted."""
    first = [record.entries[number] for number in sorted(set(tree.families))]
    made = sum(bool(entry.proposal.ancestor) for entry in first)
    recalled = sum(entry.proposal.recalled for entry in first)
    drawn = number_of(len(first) - made - recalled, "random one")
    others = f"{recalled:,} of other runs and {drawn}" if recalled else drawn
    if not made:
        return others
    return f"{made:,} hand-made{',' if recalled else ' and'} {others}"


def _descent(
    record: Record, way: Sequence[int], at: Floats, children: Sequence[int]
) -> list[Edges]:
    """The lines of these children to their parents, and the way to the winner."""
    parents = {number: record.entries[number].proposal.parents for number in children}
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
        [label(entry) for entry in entries],
        "network",
        size=size,
        values=percentages(entries),
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
    gains = [step.gain for step in findings.sampled if step.bred and step.gain is not None]
    clear = sum(effect.clear for effect in effects)
    stand_out = "none of the kinds stands out from the others"
    if clear:
        stand = by_number(clear, "stands", "stand")
        stand_out = f"{clear} of {len(effects)} kinds {stand} out (filled)"
    words = (
        f"{sum(effect.n for effect in effects):,} children of one parent each, by what was edited: "
        "how much better they were than the average child, each against its own parent; "
        f"{stand_out}. The average child came out {points(float(np.mean(gains)))} points from its "
        "parent: parents are chosen for being good, partly by luck, and who inherits has trained "
        "for longer. So zero is the average edit here, and not no change."
        f"{_of_sample(findings)}"
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
        f"{number_of(len(asked), 'question')} {by_number(len(asked), 'was', 'were')} asked of "
        f"{max(effect.n for effect in asked):,} networks, and {len(clear)} "
        f"{by_number(len(clear), 'has', 'have')} an answer: its interval, which allows for all the "
        "questions asked and for relatives being alike, leaves out zero. They are associations in "
        f"what this search chose to train, not laws.{_of_sample(findings)}"
    )
    shown = sorted(clear, key=lambda effect: -effect.mean)
    axis = Axis(f"points of {findings.record.measure}")
    sheet = mattered(findings)
    what = "all questions, answered or not"
    return _intervals("mattered", "What stands out", words, axis, shown, sheet, what)


def _of_sample(findings: Findings) -> str:
    """A sentence, where not all candidates were looked at."""
    looked, number = len(findings.sample), len(findings.record.entries)
    if looked == number:
        return ""
    return f" Of {number:,} candidates, {looked:,} evenly chosen ones were looked at."


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
