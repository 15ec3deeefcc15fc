"""The findings of a run: which edits and decisions go with better networks, what inherited weights
and predictions were worth, and who came from whom; each analysis is made once.

What is trained is not drawn at random, and a search trains families of relatives. So the figures
here are careful in three ways. Intervals are those for clusters: relatives count as one
observation as far as they are alike. They hold together: with all the questions that are asked,
the chance that one of the answers is wrong is 5 % (Bonferroni). And decisions are compared at
equal training, at an equal moment of the search and, but for those that make a network larger, at
equal size. What remains is an association, not a proof.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, TypeVar, cast

import numpy as np

from nanonas.analysis.answers import Judgement
from nanonas.analysis.record import Entry, Record, decoded
from nanonas.core import Floats, Genome, Objective, State, Told
from nanonas.maths.intervals import Labels, slope_interval, winsorised
from nanonas.maths.ranks import Correlation, kendall
from nanonas.networks.decisions import NUMBERS, WORDS, Value, decisions
from nanonas.networks.edits import Edit, difference
from nanonas.networks.ops import Node
from nanonas.predictors.audit import audited, audited_scores
from nanonas.spaces.base import Space

LEAST = 8  # candidates with and without a decision, and children by a kind of edit
FAMILIES = 5  # that must be there, with and without
RISK = 0.05  # that one or more of all the intervals of a table do not hold what they are for
MEASURED = 3  # twins: fewer say nothing of a head start

# how a candidate came about, but for edits
RANDOM, PLANTED, CROSSED = "random", "planted by a person", "crossover"
HAND_MADE, RECALLED = "hand-made", "found by another run"
TWIN, RESUMED = "the same, from scratch", "trained on"

T = TypeVar("T")


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
            of_networks(decisions, self.record.space, self.record.entries[number].genome)
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

    @cached_property
    def judgement(self) -> Judgement | None:
        """What the trained winner gets wrong; None where its answers were not kept."""
        answers, names = self.record.answers, self.record.class_names
        return None if answers is None else Judgement(answers, names)

    @property
    def trade_offs(self) -> list[str]:
        """The metrics that are weighed against accuracy: the other objectives, or parameters."""
        names = [objective.name for objective in self.record.objectives]
        return [name for name in names if name != "accuracy"] or ["params"]


# --- lineage --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """How a candidate came about.

    Attributes:
        kind: that of its edits (see `Difference.kind`), or one of the constants above.
        parent: the first one.
        marks: "new" or "changed", by the name of a node of the child.
        gone: the parent's nodes that it lacks.
        gain: its accuracy minus its parent's.
    """

    number: int
    kind: str
    parent: int | None = None
    edits: tuple[Edit, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[Node, ...] = ()
    gain: float | None = None

    @property
    def bred(self) -> bool:
        """Whether it is one parent's child by edits, and not the same network again."""
        return self.parent is not None and self.kind not in (CROSSED, TWIN, RESUMED)


def step(record: Record, number: int) -> Step:
    """How one candidate came about; takes about 2 ms where it was not looked at before."""
    entry = record.entries[number]
    proposal = entry.proposal
    parent = next((ancestor for ancestor in proposal.parents if ancestor < number), None)
    if parent is None:
        kind = HAND_MADE if proposal.ancestor else RECALLED if proposal.recalled else RANDOM
        return Step(number, PLANTED if proposal.planted else kind)
    before = record.entries[parent]
    gain = None
    if entry.accuracy is not None and before.accuracy is not None:
        gain = entry.accuracy - before.accuracy
    if before.candidate.key == entry.candidate.key:
        again = TWIN if proposal.resumes is None else RESUMED
        return Step(number, again, parent, gain=gain)
    how = of_networks(difference, record.space, before.genome, entry.genome)
    kind = CROSSED if len(proposal.parents) > 1 else how.kind
    return Step(number, kind, parent, how.edits, how.marks, how.gone, gain)


@dataclass(frozen=True)
class Tree:
    """Who came from whom, by first parents; everything by number of the candidate.

    Attributes:
        families: the candidate, random or hand-made, that each goes back to.
        children: in the order of their numbers.
        way: the winner, its first parent, that one's first parent, …; empty without a winner.
        places: where each is drawn, from 0 up.
    """

    families: list[int]
    children: list[list[int]]
    way: list[int]
    places: list[float]


def tree(record: Record) -> Tree:
    """The tree of a run."""
    families: list[int] = []
    children: list[list[int]] = [[] for _ in record.entries]
    for entry in record.entries:
        parent = _first_parent(record, entry.number)
        if parent is None:
            families.append(entry.number)
        else:
            families.append(families[parent])
            children[parent].append(entry.number)
    way = ancestors(record, record.winner.number) if record.winner is not None else []
    roots = [number for number, root in enumerate(families) if number == root]
    return Tree(families, children, way, _places(roots, children, set(way)))


def _first_parent(record: Record, number: int) -> int | None:
    parents = record.entries[number].proposal.parents
    return parents[0] if parents and parents[0] < number else None


def ancestors(record: Record, number: int) -> list[int]:
    """A candidate, its first parent, that one's first parent, …"""
    way = [number]
    while (parent := _first_parent(record, way[-1])) is not None:
        way.append(parent)
    return way


def _places(roots: list[int], children: list[list[int]], spine: set[int]) -> list[float]:
    """A place for each candidate, so that lines of descent are straight and families together.

    The way to the winner (`spine`), and elsewhere the child with the most descendants, keeps its
    parent's place. The other children lie above and below it by turns, the first ones outermost:
    their lines are short and steep, and those of the later ones pass inside of them.
    """
    sizes = [1] * len(children)
    for number in reversed(range(len(children))):
        sizes[number] += sum(sizes[child] for child in children[number])

    def heavy(numbers: list[int]) -> int:
        return max(numbers, key=lambda number: (number in spine, sizes[number], -number))

    places = [0.0] * len(children)
    free, waiting = 0, [roots] if roots else []
    while waiting:
        siblings = waiting.pop()
        if len(siblings) > 1:
            middle = heavy(siblings)
            others = sorted(number for number in siblings if number != middle)
            ordered = [*others[::2], middle, *others[1::2][::-1]]
            waiting += [[number] for number in reversed(ordered)]
        elif children[siblings[0]]:
            waiting.append(children[siblings[0]])
        else:
            places[siblings[0]], free = float(free), free + 1
    for number in reversed(range(len(children))):
        if children[number]:
            places[number] = places[heavy(children[number])]
    return places


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


def effects(record: Record, families: Sequence[int]) -> list[Effect]:
    """How accuracy goes with each decision, in all that were trained to the end; the largest
    effects first.

    A word against all the others, a number as its slope. Families are the clusters. Only of
    decisions that 8 candidates and more, in 5 families and more, took, and as many did not.

    Args:
        families: of each candidate, the random or hand-made one that it goes back to.
    """
    entries = [entry for entry in record.trained if _completed(entry)]
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


# --- what is remembered ---------------------------------------------------------------------------


def of_networks(about: Callable[..., T], space: Space, *genomes: Genome) -> T:
    """What a function says of the networks of genomes; remembered, for it takes milliseconds."""
    try:
        result: T = _remembered(about, cast(Hashable, space), genomes)
    except TypeError:  # a space of the user's own that cannot be hashed
        result = _remembered.__wrapped__(about, space, genomes)
    return result


@lru_cache(maxsize=40_000)
def _remembered(about: Callable[..., Any], space: Any, genomes: tuple[Genome, ...]) -> Any:
    return about(*(decoded(space, genome) for genome in genomes))
