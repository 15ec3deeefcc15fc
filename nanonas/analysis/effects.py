"""Which edits and decisions go with better networks.

What is trained is not drawn at random, and a search trains families of relatives. So the figures
here are careful in three ways. Intervals are those for clusters: relatives count as one
observation as far as they are alike. They hold together: with all the questions that are asked,
the chance that one of the answers is wrong is 5 % (Bonferroni). And decisions are compared at
equal training, at an equal moment of the search and, but for those that make a network larger, at
equal size. What remains is an association, not a proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.analysis.lineage import Step
from nanonas.analysis.record import Entry, Record
from nanonas.analysis.remembered import of_networks
from nanonas.core import Floats, State
from nanonas.maths.intervals import Labels, slope_interval, winsorised
from nanonas.networks.decisions import NUMBERS, WORDS, Value, decisions

LEAST = 8  # candidates with and without a decision, and children by a kind of edit
FAMILIES = 5  # that must be there, with and without
RISK = 0.05  # that one or more of all the intervals of a table do not hold what they are for


@dataclass(frozen=True)
class Effect:
    """What goes with a decision, or came of an edit, in accuracy; its interval holds with all
    others of its table.

    Attributes:
        n: candidates that have it (of a number: all), or children.
        families: clusters that they are in.
        better: of an edit, the share of children that were better than their parents.
    """

    words: str
    mean: float
    low: float
    high: float
    n: int
    families: int
    better: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def credit(record: Record, steps: Sequence[Step]) -> list[Effect]:
    """What each kind of edit earned over what an edit earned on average: children's accuracies
    minus their parents'.

    Parents were chosen because they were good, partly by luck, so the average child is worse
    whatever was edited, or better where it trains for longer; hence over the average, by whether
    weights were inherited. Children of one parent are a cluster. Kinds of fewer than 8 children are
    left out; the largest gain first.
    """
    bred = [(step, step.gain) for step in steps if step.bred and step.gain is not None]
    if len(bred) < LEAST:
        return []
    better = np.array([gain > 0 for _, gain in bred])
    gains = _without_outliers([gain for _, gain in bred])
    warm = np.array([bool(record.entries[step.number].proposal.inherits) for step, _ in bred])
    for group in (warm, ~warm):
        gains[group] -= gains[group].mean() if group.any() else 0.0
    kinds = np.array([step.kind for step, _ in bred])
    parents = np.array([step.parent for step, _ in bred])
    asked = [kind for kind in np.unique(kinds) if (kinds == kind).sum() >= LEAST]
    if len(asked) < 2:
        return []  # one kind alone is the average
    earned = []
    for kind in asked:
        of_kind = kinds == kind
        n = int(of_kind.sum())
        effect = _interval(gains[of_kind], np.empty((n, 0)), parents[of_kind], len(asked))
        if effect is not None:
            families = len(np.unique(parents[of_kind]))
            share = float(better[of_kind].mean())
            earned.append(Effect(str(kind), *effect, n, families, share))
    return sorted(earned, key=lambda effect: -effect.mean) if len(earned) > 1 else []


def effects(record: Record, families: Sequence[int], sample: Iterable[int]) -> list[Effect]:
    """How accuracy goes with each decision, in those that were trained to the end; the largest
    effects first.

    A word against all the others, a number as its slope. Families are the clusters. Only of
    decisions that 8 candidates and more, in 5 families and more, took, and as many did not.

    Args:
        families: of each candidate, the random or hand-made one that it goes back to.
        sample: the candidates to look at, by number.
    """
    entries = [record.entries[number] for number in sample if _completed(record.entries[number])]
    if len(entries) < 2 * LEAST:
        return []
    family = np.array([families[entry.number] for entry in entries])
    accuracies = _without_outliers([entry.accuracy for entry in entries])
    decisions_taken = [of_networks(decisions, record.space, entry.genome) for entry in entries]
    questions = [
        question
        for question in _questions(decisions_taken)
        if _answerable(question.x, family) and np.ptp(question.x) > 0
    ]
    answers = []
    for question in questions:
        known = np.isfinite(question.x)
        x = question.x[known]
        asked = [entry for entry, has in zip(entries, known, strict=True) if has]
        columns = np.column_stack([x, _circumstances(asked, question.size)])
        effect = _interval(accuracies[known], columns, family[known], len(questions))
        if effect is not None:
            n = int((x == 1).sum()) if question.word else len(x)
            having = len(np.unique(family[known][x != 0]))
            answers.append(Effect(question.words, *effect, n, having))
    return sorted(answers, key=lambda effect: (not effect.clear, -abs(effect.mean)))


def _without_outliers(values: Sequence[float | None]) -> Floats:
    """Accuracies or gains of which one that diverged decides nothing."""
    return winsorised(np.array(values, dtype=np.float64))


def _interval(
    y: Floats, x: Floats, clusters: Labels, questions: int
) -> tuple[float, float, float] | None:
    """Of one of so many questions, whose intervals are to hold together (Bonferroni)."""
    return slope_interval(y, x, clusters, RISK / questions)


def _completed(entry: Entry) -> bool:
    evaluation = entry.evaluation
    complete = evaluation is not None and evaluation.state is State.COMPLETE
    return complete and entry.accuracy is not None


@dataclass(frozen=True)
class _Question:
    """A decision as a column of a regression.

    Attributes:
        x: shape (entries,); NaN where an entry did not decide it.
        size: whether a network's size follows from it.
        word: whether it asks for a word, 1 against 0, and not for a number.
    """

    words: str
    x: Floats
    size: bool
    word: bool


def _questions(taken: Sequence[dict[str, Value]]) -> list[_Question]:
    """What is asked of each decision."""
    questions = []
    for name, (words, size) in NUMBERS.items():
        column = np.array([values.get(name, np.nan) for values in taken], dtype=np.float64)
        questions.append(_Question(words, column, size, word=False))
    for name, words in WORDS.items():
        answers = [values.get(name) for values in taken]
        for answer in sorted({str(answer) for answer in answers if answer is not None}):
            same = [np.nan if other is None else float(other == answer) for other in answers]
            questions.append(_Question(words.format(answer), np.array(same), False, word=True))
    return questions


def _answerable(x: Floats, family: Labels) -> bool:
    """Whether enough candidates of enough families are on either side."""
    known = np.isfinite(x)
    if known.sum() < 2 * LEAST:
        return False
    middle = np.median(x[known])
    sides = [known & (x > middle), known & (x <= middle)]
    if not sides[0].any():
        sides = [known & (x < middle), known & (x >= middle)]
    return all(side.sum() >= LEAST and len(np.unique(family[side])) >= FAMILIES for side in sides)


def _circumstances(entries: Sequence[Entry], size: bool) -> Floats:
    """What accuracies also follow from, shape (entries, columns); for decisions of size without the
    size itself.
    """
    rows = []
    for entry in entries:
        budget, evaluation = entry.proposal.budget, entry.evaluation
        assert evaluation is not None
        epochs = budget.epochs if budget is not None else len(evaluation.curve)
        inherits = float(bool(entry.proposal.inherits))
        row = [np.log(max(1, epochs)), inherits, np.log1p(entry.number)]
        if not size:
            row += [np.log(max(1.0, entry.metrics[name])) for name in ("params", "macs")]
        rows.append(row)
    return np.array(rows, dtype=np.float64)
