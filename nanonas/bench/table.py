"""A search without training: a table of networks that were trained before, and a simulated clock.

    table = read_table(path)
    evaluator = TableEvaluator(table)
    study = Study(TableSpace(table), strategy, evaluator, store, Budget(evaluator.epochs))
    study.run(150)

A search of days takes a second, and can be repeated until its luck is averaged out. Rows whose
networks are the same count once: the first one answers for all. Accuracies lie in [0, 1], times are
in seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Floats,
    Genome,
    Integers,
    Shape,
    State,
)
from nanonas.errors import ConfigError, DataError, GenomeError
from nanonas.networks.network import Network
from nanonas.spaces.base import Space

_DRAWS = 100  # of a child until it is in the table; then one of its rows is drawn


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers to queries: of each row one trial, drawn at random if there are several."""

    accuracy: Floats  # (rows, trials): on the validation images; NaN where there was no such trial
    seconds: Floats  # (rows,): of one training
    epochs: int  # of one training
    curves: Floats | None = None  # (rows, trials, epochs, 2): training loss, validation accuracy

    @property
    def means(self) -> Floats:
        """The accuracy of each row, the mean over its trials: shape (rows,)."""
        means: Floats = np.nanmean(self.accuracy, axis=1)
        return means


@dataclass(frozen=True, eq=False)
class Table:
    """Trained networks of one space. Of rows with the same network the first one answers for all.

    Args:
        name: for messages and figures.
        space: that the genomes are of.
        genomes: one per row.
        answers: by objective; the first is the default.
        columns: further numbers, shape (rows,) each: "test_acc" in [0, 1], "params", "macs", …

    Raises:
        DataError: no rows, the same genome twice, or a genome of another space.
    """

    name: str
    space: Space
    genomes: tuple[Genome, ...]
    answers: Mapping[str, Answers]
    columns: Mapping[str, Floats] = field(default_factory=dict)
    # the key of every genome that was looked up
    _keys: dict[Genome, str] = field(default_factory=dict, init=False, repr=False)
    # the first row of each network, by key
    _rows: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.genomes:
            raise DataError(
                f"the table {self.name!r} has no rows; give one with a network at least"
            )
        for row, genome in enumerate(self.genomes):
            if genome in self._keys:
                first = self.genomes.index(genome)
                raise DataError(
                    f"the rows {first} and {row} of the table {self.name!r} are the same; keep one "
                    "of them"
                )
            try:
                self._rows.setdefault(self.key(genome), row)
            except GenomeError as error:
                raise DataError(
                    f"row {row} of the table {self.name!r} cannot be read: {error}"
                ) from None

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The rows that answer, one per network, ascending."""
        return tuple(self._rows.values())

    def key(self, genome: Genome) -> str:
        """Equal for genomes of one network.

        Raises `GenomeError`.
        """
        if genome not in self._keys:
            self._keys[genome] = self.space.key(genome)
        return self._keys[genome]

    def find(self, genome: Genome) -> int | None:
        """The row that answers for the genome; None if its network is not in the table.

        Raises `GenomeError`.
        """
        return self._rows.get(self.key(genome))

    def answers_to(self, objective: str | None = None) -> Answers:
        """The answers to an objective; None: the first. Raises `ConfigError` for an unknown one."""
        name = next(iter(self.answers)) if objective is None else objective
        if name not in self.answers:
            raise ConfigError(
                f"objective is {name!r}, but the table {self.name!r} has {', '.join(self.answers)}"
            )
        return self.answers[name]


# --- the seams of a search ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TableSpace(Space):
    """The space of a table, restricted to the networks in the table.

    Children are drawn until one is in the table; after 100 draws a random network of the table is
    taken instead.
    """

    input_shape: Shape = field(init=False)
    classes: int = field(init=False)
    table: Table

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", self.table.space.input_shape)
        object.__setattr__(self, "classes", self.table.space.classes)

    @property
    def name(self) -> str:
        return self.table.space.name

    def genomes(self) -> Iterator[Genome]:
        """One genome of each network in the table, in the order of its rows."""
        return (self.table.genomes[row] for row in self.table.rows)

    def key(self, genome: Genome) -> str:
        """Equal for genomes of one network. Raises `GenomeError`."""
        return self.table.key(genome)

    def sample(self, rng: np.random.Generator) -> Genome:
        """A genome of the table, uniformly over its networks."""
        return self.table.genomes[self.table.rows[int(rng.integers(len(self.table.rows)))]]

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child in the table with another network, unless the table has only one."""
        return self._inside(
            lambda: self.table.space.mutate(genome, rng), rng, self.table.find(genome)
        )

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """A child of both in the table; it may be a parent's network."""
        return self._inside(lambda: self.table.space.crossover(a, b, rng), rng)

    def decode(self, genome: Genome) -> Network:
        """The network. Raises `GenomeError`."""
        return self.table.space.decode(genome)

    @property
    def groups(self) -> tuple[int, ...]:
        """As the table's space has it."""
        return self.table.space.groups

    def encode(self, genome: Genome) -> Floats:
        """As the table's space has it."""
        return self.table.space.encode(genome)

    def tokens(self, genome: Genome) -> Integers:
        """As the table's space has it."""
        return self.table.space.tokens(genome)

    def describe(self, genome: Genome) -> list[str]:
        """As the table's space has it."""
        return self.table.space.describe(genome)

    @property
    def operation_names(self) -> tuple[str, ...]:
        """As the table's space has it."""
        return self.table.space.operation_names

    def operations(self, genome: Genome) -> frozenset[str]:
        """As the table's space has it."""
        return self.table.space.operations(genome)

    def _inside(
        self, draw: Callable[[], Genome], rng: np.random.Generator, but: int | None = None
    ) -> Genome:
        for _ in range(_DRAWS):
            child = draw()
            if self.table.find(child) not in (None, but):
                return child
        rows = [row for row in self.table.rows if row != but] or self.table.rows
        return self.table.genomes[rows[int(rng.integers(len(rows)))]]


@dataclass
class TableEvaluator:
    """An evaluator that looks candidates up, with simulated workers.

    Results come in the order in which real workers would finish; `clock` is the simulated time of
    the last one, in seconds. Where the table has learning curves, a budget of fewer epochs, or a
    stop rule, gets the beginning of the curve: of a longer training, which differs from a short
    one. Without curves every answer is the whole training's. Deadlines are in real time and are
    ignored.

    Args:
        table: to look up in.
        objective: one of `table.answers`; None for the first.
        seed: of the choice among trials, together with the number of the candidate.
        slots: how many workers there are.

    Raises:
        ConfigError: the table has no such objective.
    """

    table: Table
    objective: str | None = None
    seed: int = 0
    slots: int = 1
    clock: float = field(default=0.0, init=False)
    _running: list[tuple[float, int, Evaluation]] = field(
        default_factory=list, init=False, repr=False
    )

    def __post_init__(self) -> None:
        self._answers = self.table.answers_to(self.objective)

    @property
    def epochs(self) -> int:
        """How many epochs the objective's trainings took."""
        return self._answers.epochs

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Starts a candidate now, as of `clock`."""
        evaluation = self._answer(candidate)
        heapq.heappush(
            self._running, (self.clock + evaluation.seconds, candidate.number, evaluation)
        )

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """The evaluation that finishes next; None when none is running. Never waits."""
        if not self._running:
            return None
        self.clock, _, evaluation = heapq.heappop(self._running)
        return evaluation

    def close(self) -> None:
        """Drops all running candidates."""
        self._running.clear()

    def _answer(self, candidate: Candidate) -> Evaluation:
        row = self.table.find(candidate.proposal.genome)
        if row is None:
            return Evaluation(
                candidate.number, State.FAILED, reason="the table has no such network"
            )
        answers = self._answers
        trial, seconds = self._trial(row, candidate.number), float(answers.seconds[row])
        if answers.curves is None:
            metrics = {"accuracy": float(answers.accuracy[row, trial])}
            return Evaluation(candidate.number, State.COMPLETE, metrics, seconds=seconds)
        curve = tuple(
            Epoch(float(loss), float(accuracy)) for loss, accuracy in answers.curves[row, trial]
        )
        state, curve, reason = _stopped(curve, candidate.proposal.budget)
        metrics = {"accuracy": curve[-1].accuracy}
        spent = seconds * len(curve) / answers.epochs
        return Evaluation(candidate.number, state, metrics, curve, spent, reason)

    def _trial(self, row: int, number: int) -> int:
        """Which trial of a row answers candidate `number`."""
        trials = np.flatnonzero(~np.isnan(self._answers.accuracy[row]))
        if len(trials) <= 1:
            return int(trials[0])
        rng = np.random.default_rng([self.seed, number, 3])  # apart from the streams of a search
        return int(trials[rng.integers(len(trials))])


def _stopped(
    curve: tuple[Epoch, ...], budget: Budget | None
) -> tuple[State, tuple[Epoch, ...], str | None]:
    """The state, the part of the curve that the budget and its stop rule allow, and the reason."""
    if budget is None:
        return State.COMPLETE, curve, None
    curve = curve[: budget.epochs]
    stop = budget.stop_epoch
    if 0 < stop <= len(curve) and curve[stop - 1].accuracy < budget.stop_below:
        accuracy = curve[stop - 1].accuracy
        reason = f"accuracy {accuracy:.3f} is below {budget.stop_below:.3f} after epoch {stop}"
        return State.PRUNED, curve[:stop], reason
    return State.COMPLETE, curve, None
