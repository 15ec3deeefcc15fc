"""What mattered: what edits earned, and which decisions go with better networks, each with its
interval.

Nobody has chosen at random what was trained, and a search trains families of relatives. So the
figures here are careful in three ways. Intervals are those for clusters: relatives count as one
observation as far as they are alike. They hold
together: with all the questions that are asked, the chance that one of the answers is wrong is 5 %
(Bonferroni). And decisions are compared at equal training, at an equal moment of the search and,
but for those that make a network larger, at equal size. What remains is an association, not a
proof.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np

from nanonas.analysis.lineage import Step, family
from nanonas.analysis.record import Entry, Record
from nanonas.core import Floats, Genome, State
from nanonas.maths.intervals import Labels, slope_interval, winsorised
from nanonas.networks.decisions import NUMBERS, WORDS, Value, decisions
from nanonas.spaces.base import Space

# candidates with and without a decision, and children by a kind of edit, that something is said
# from
LEAST = 8
FAMILIES = 5  # that must be there, with and without
RISK = 0.05  # that one or more of all the intervals of a table do not hold what they are for


@dataclass(frozen=True)
class Effect:
    """What goes with a decision, or came of an edit, in accuracy; its interval holds with all
    others of its table.
    """

    words: str
    mean: float
    low: float
    high: float
    n: int  # candidates that have it (a number: all), or children
    families: int  # clusters that they are in
    better: float | None = (
        None  # of an edit: the share of children that were better than their parents
    )

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out that it is nothing."""
        return self.low > 0 or self.high < 0


def credit(record: Record, steps: Sequence[Step]) -> list[Effect]:
    """What each kind of edit earned over what an edit earned on average: children's accuracies
    minus their parents'.

    Parents were chosen because they were good, partly by luck, so the average child is worse
    whatever was edited, or better where it trains for longer; hence over the average, by whether
    weights were inherited. Children of one parent are a cluster. Kinds of fewer than 8 children are
    left out; the largest gain first.
    """
    bred = [step for step in steps if step.bred and step.gain is not None]
    if len(bred) < LEAST:
        return []
    gains = winsorised(np.array([step.gain for step in bred], dtype=np.float64))
    warm = np.array(
        [bool(record.entries[step.number].candidate.proposal.inherits) for step in bred]
    )
    for group in (warm, ~warm):
        gains[group] -= gains[group].mean() if group.any() else 0.0
    kinds = np.array([step.kind for step in bred])
    parents = np.array([step.parent for step in bred])
    known = [kind for kind in np.unique(kinds) if (kinds == kind).sum() >= LEAST]
    found = []
    for kind in known:
        own = kinds == kind
        better = float(
            np.mean([step.gain > 0 for step in bred if step.kind == kind and step.gain is not None])
        )
        effect = slope_interval(
            gains[own], np.empty((own.sum(), 0)), parents[own], RISK / len(known)
        )
        if effect is not None:
            found.append(
                Effect(str(kind), *effect, int(own.sum()), len(np.unique(parents[own])), better)
            )
    return (
        sorted(found, key=lambda effect: -effect.mean) if len(found) > 1 else []
    )  # one kind alone is the average


def effects(record: Record) -> list[Effect]:
    """How accuracy goes with each decision, in all that were trained to the end; the largest
    effects first.

    A word against all the others, a number as its slope. Families (what goes back to one random
    ancestor) are the clusters. Only of decisions that 8 candidates and more, in 5 families and
    more, took, and as many did not.
    """
    entries = [e for e in record.trained if e.accuracy is not None and e.evaluation is not None]
    entries = [
        e for e in entries if e.evaluation is not None and e.evaluation.state is State.COMPLETE
    ]
    if len(entries) < 2 * LEAST:
        return []
    roots = family(record)
    families = np.array([roots[entry.number] for entry in entries])
    accuracies = winsorised(np.array([entry.accuracy for entry in entries], dtype=np.float64))
    choices = [decided(record.space, entry.genome) for entry in entries]
    questions = [
        question
        for question in _questions(choices)
        if _answerable(question[1], families) and np.ptp(question[1]) > 0
    ]
    found = []
    for words, x, size in questions:
        known = np.isfinite(x)
        others = _circumstances([e for e, k in zip(entries, known, strict=True) if k], size)
        effect = slope_interval(
            accuracies[known],
            np.column_stack([x[known], others]),
            families[known],
            RISK / len(questions),
        )
        if effect is not None:
            n = (
                int((x == 1).sum())
                if set(np.unique(x[known])) <= {0.0, 1.0} and "mostly" in words
                else int(known.sum())
            )
            found.append(Effect(words, *effect, n, len(np.unique(families[known & (x != 0)]))))
    return sorted(found, key=lambda effect: (not effect.clear, -abs(effect.mean)))


def decided(space: Space, genome: Genome) -> dict[str, Value]:
    """`decisions` of a genome's network, remembered."""
    try:
        return _remembered(cast(Hashable, space), genome)
    except TypeError:  # somebody's own space that cannot be hashed
        return decisions(space.decode(genome))


@lru_cache(maxsize=20_000)
def _remembered(space: Any, genome: Genome) -> dict[str, Value]:
    return decisions(space.decode(genome))


def _questions(decided: Sequence[dict[str, Value]]) -> list[tuple[str, Floats, bool]]:
    """What is asked of each decision: in words, the column to ask with, whether it is one of size."""
    found: list[tuple[str, Floats, bool]] = []
    for name, (words, size) in NUMBERS.items():
        found.append(
            (words, np.array([one.get(name, np.nan) for one in decided], dtype=np.float64), size)
        )
    for name, words in WORDS.items():
        values = [one.get(name) for one in decided]
        for value in sorted({str(value) for value in values if value is not None}):
            column = [np.nan if own is None else float(own == value) for own in values]
            found.append((words.format(value), np.array(column), False))
    return found


def _answerable(x: Floats, families: Labels) -> bool:
    """Whether enough candidates of enough families are on either side."""
    known = np.isfinite(x)
    if known.sum() < 2 * LEAST:
        return False
    middle = np.median(x[known])
    sides = [known & (x > middle), known & (x <= middle)]
    if not sides[0].any():
        sides = [known & (x < middle), known & (x >= middle)]
    return all(side.sum() >= LEAST and len(np.unique(families[side])) >= FAMILIES for side in sides)


def _circumstances(entries: Sequence[Entry], size: bool) -> Floats:
    """What accuracies also follow from, shape (entries, columns); for decisions of size without the
    size itself.
    """
    rows = []
    for entry in entries:
        proposal, e = entry.candidate.proposal, entry.evaluation
        assert e is not None
        budget = proposal.budget
        epochs = budget.epochs if budget is not None else len(e.curve)
        row = [np.log(max(1, epochs)), float(bool(proposal.inherits)), np.log1p(entry.number)]
        row += [] if size else [np.log(max(1.0, e.metrics[name])) for name in ("params", "macs")]
        rows.append(row)
    return np.array(rows, dtype=np.float64)
