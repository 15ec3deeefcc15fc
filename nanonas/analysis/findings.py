"""The findings of a run: which edits and decisions go with better networks, what inherited weights
and predictions were worth, and who came from whom; each analysis is made once.

What is trained is not drawn at random, and a search trains families of relatives. So the figures
here are careful in three ways. Intervals are those for clusters: relatives count as one
observation as far as they are alike. They hold together: with all the questions that are asked,
the chance that one of the answers is wrong is 5 % (Bonferroni). And decisions are compared at
equal training, at an equal moment of the search and, but for those that make a network larger, at
equal size. What remains is an slope_interval, not a proof.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, cast

import numpy as np

from nanonas.analysis.lineage import Step, Tree, step, tree
from nanonas.analysis.record import Entry, Record, decoded
from nanonas.core import Floats, Genome, Objective, State, Told
from nanonas.maths.intervals import Labels, slope_interval, winsorised
from nanonas.maths.ranks import Correlation, kendall
from nanonas.networks.decisions import NUMBERS, WORDS, Value, decisions
from nanonas.predictors.audit import audited, audited_scores
from nanonas.spaces.base import Space

LEAST = 8  # candidates with and without a decision, and children by a kind of edit
FAMILIES = 5  # that must be there, with and without
RISK = 0.05  # that one or more of all the intervals of a table do not hold what they are for
MEASURED = 3  # twins: fewer say nothing of a head start


@dataclass(frozen=True)
class Findings:
    """A run, analysed. What figures, tables and words say of a run, they read here.

    An analysis is made when it is first read, and kept.
    """

    record: Record
    _steps: dict[int, Step] = field(default_factory=dict, init=False, repr=False, compare=False)

    def step(self, number: int) -> Step:
        """How one candidate came about: about 2 ms where it is asked for the first time."""
        if number not in self._steps:
            self._steps[number] = step(self.record, number)
            # for `effects`, while its network is at hand
            decided(self.record.space, self.record.entries[number].genome)
        return self._steps[number]

    @property
    def steps(self) -> list[Step]:
        """How each candidate came about, by number."""
        return [self.step(entry.number) for entry in self.record.entries]

    @cached_property
    def tree(self) -> Tree:
        """Who came from whom."""
        return tree(self.record)

    @cached_property
    def credit(self) -> list[Effect]:
        """What each kind of edit earned over the average child, the largest gain first."""
        return credit(self.record, self.steps)

    @cached_property
    def effects(self) -> list[Effect]:
        """How accuracy goes with each decision, the largest effect first."""
        return effects(self.record, self.tree.families)

    @cached_property
    def predictors(self) -> dict[str, Correlation]:
        """How the last predictions of each predictor, by name, came out."""
        return audited(self.record.told, Objective())

    @cached_property
    def free_scores(self) -> dict[str, Correlation]:
        """How well the free scores, such as the number of parameters, rank the networks."""
        return audited_scores(self.record.told, Objective())

    @cached_property
    def twins(self) -> list[tuple[Told, Told]]:
        """Candidates with inherited weights, each with the same network from scratch."""
        return twins(self.record.told)

    @cached_property
    def head_start(self) -> HeadStart | None:
        """What inheriting did to accuracies and to their order; None for fewer than 3 twins."""
        return head_start(self.twins)

    @property
    def trade_offs(self) -> list[str]:
        """The metrics that are weighed against accuracy: the other objectives, or parameters."""
        names = [objective.name for objective in self.record.objectives]
        return [name for name in names if name != "accuracy"] or ["params"]


# --- effects --------------------------------------------------------------------------------------


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
    gains = winsorised(np.array([gain for _, gain in bred], dtype=np.float64))
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
        risk = RISK / len(asked)
        effect = slope_interval(gains[of_kind], np.empty((n, 0)), parents[of_kind], risk)
        if effect is not None:
            families = len(np.unique(parents[of_kind]))
            share = float(better[of_kind].mean())
            earned.append(Effect(str(kind), *effect, n, families, share))
    return sorted(earned, key=lambda effect: -effect.mean) if len(earned) > 1 else []


def effects(record: Record, families: Sequence[int]) -> list[Effect]:
    """How accuracy goes with each decision, in all that were trained to the end; the largest
    effects first.

    A word against all the others, a number as its slope. Families are the clusters. Only of
    decisions that 8 candidates and more, in 5 families and more, took, and as many did not.

    Args:
        families: of each candidate, the random one that it goes back to.
    """
    entries = [entry for entry in record.trained if _completed(entry)]
    if len(entries) < 2 * LEAST:
        return []
    family = np.array([families[entry.number] for entry in entries])
    accuracies = winsorised(np.array([entry.accuracy for entry in entries], dtype=np.float64))
    decisions_taken = [decided(record.space, entry.genome) for entry in entries]
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
        risk = RISK / len(questions)
        effect = slope_interval(accuracies[known], columns, family[known], risk)
        if effect is not None:
            n = int((x == 1).sum()) if question.word else len(x)
            having = len(np.unique(family[known][x != 0]))
            answers.append(Effect(question.words, *effect, n, having))
    return sorted(answers, key=lambda effect: (not effect.clear, -abs(effect.mean)))


def _completed(entry: Entry) -> bool:
    evaluation = entry.evaluation
    complete = evaluation is not None and evaluation.state is State.COMPLETE
    return complete and entry.accuracy is not None


def decided(space: Space, genome: Genome) -> dict[str, Value]:
    """`decisions` of a genome's network, remembered."""
    try:
        return _remembered(cast(Hashable, space), genome)
    except TypeError:  # a space of the user's own that cannot be hashed
        return _remembered.__wrapped__(space, genome)


@lru_cache(maxsize=20_000)
def _remembered(space: Any, genome: Genome) -> dict[str, Value]:
    return decisions(decoded(space, genome))


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


# --- twins ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HeadStart:
    """Children that began with inherited weights, against the same networks from scratch.

    Attributes:
        mean: of the children's accuracies minus those from scratch.
        error: the standard error of that.
        correlation: of the two.
    """

    mean: float
    error: float
    correlation: Correlation

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f} points, {self.correlation}"


def twins(told: Sequence[Told]) -> list[tuple[Told, Told]]:
    """Pairs of a candidate that inherited weights and the same network from scratch, in the order
    of the latter.

    A twin has the network of its only parent again, without inherited weights; both were trained to
    the end.
    """
    complete = [one for one in told if one.evaluation.state is State.COMPLETE]
    measured = [one for one in complete if one.evaluation.accuracy is not None]
    heirs = {one.number: one for one in measured if one.candidate.proposal.inherits}
    pairs: list[tuple[Told, Told]] = []
    for one in measured:
        proposal = one.candidate.proposal
        if not proposal.from_scratch or len(proposal.parents) != 1:
            continue
        heir = heirs.get(proposal.parents[0])
        if heir is not None and heir.candidate.key == one.candidate.key:
            pairs.append((heir, one))
    return pairs


def head_start(pairs: Sequence[tuple[Told, Told]]) -> HeadStart | None:
    """What inheriting did to accuracies and to their order, by `twins`; None for fewer than 3."""
    if len(pairs) < MEASURED:
        return None
    accuracies = [
        (heir.evaluation.accuracy or 0.0, twin.evaluation.accuracy or 0.0) for heir, twin in pairs
    ]
    children, scratch = np.array(accuracies).T
    gain = children - scratch
    error = float(gain.std(ddof=1) / len(gain) ** 0.5)
    return HeadStart(float(gain.mean()), error, kendall(children, scratch))
