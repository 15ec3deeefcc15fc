"""Answering from a table instead of training: networks that somebody has trained before, and a
clock that is simulated.

    table = read_table(path)  # of engine/table_files.py
    Study(TableSpace(table), strategy, TableEvaluator(table), store,
    Budget(table.answers_to().epochs)).run(150)

A search that takes days takes a second, and can be repeated until its luck is averaged out.
Networks that compute the same count once: the first row answers for all of them. A table's
accuracies lie in [0, 1], its times are in seconds.
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

_DRAWS = 100  # of children outside the table; then one of its rows is drawn


@dataclass(frozen=True, eq=False)
class Answers:
    """What a query is answered with: one of the row's trials, at random where there are several."""

    # (rows, trials): on the validation images, in [0, 1]; NaN where there was no such trial
    accuracy: Floats
    seconds: Floats  # (rows,): of one training
    epochs: int  # of one training
    curves: Floats | None = None  # (rows, trials, epochs, 2): training loss, validation accuracy

    @property
    def means(self) -> Floats:
        """The mean over a row's trials, shape (rows,): what the network is worth."""
        means: Floats = np.nanmean(self.accuracy, axis=1)
        return means


@dataclass(frozen=True, eq=False)
class Table:
    """Trained networks of one space. Rows of one network count once: the first of them answers for
    all.

    Raises:
        DataError: no rows, the same genome twice, or a genome of another space.
    """

    name: str
    space: Space
    genomes: tuple[Genome, ...]  # one a row
    answers: Mapping[str, Answers]  # by objective; the first is the default
    # (rows,) each; "test_acc" in [0, 1], params, macs, …
    columns: Mapping[str, Floats] = field(default_factory=dict)
    # of every genome that was looked up
    _keys: dict[Genome, str] = field(default_factory=dict, init=False, repr=False)
    # the first of each network, by key
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
                    f"the rows {first} and {row} of the table {self.name!r} are the same; keep one of them"
                )
            try:
                self._rows.setdefault(self.key(genome), row)
            except GenomeError as error:
                raise DataError(
                    f"row {row} of the table {self.name!r} cannot be read: {error}"
                ) from None

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """The rows that answer, one a network, ascending."""
        return tuple(self._rows.values())

    def key(self, genome: Genome) -> str:
        """Equal for genomes of one network: the space's own cheap key where it has one.

        Raises `GenomeError`.
        """
        if genome not in self._keys:
            cheap: Callable[[Genome], str] | None = getattr(self.space, "key", None)
            self._keys[genome] = self.space.decode(genome).key if cheap is None else cheap(genome)
        return self._keys[genome]

    def find(self, genome: Genome) -> int | None:
        """The row that answers for the genome; None where its network is not in the table.

        Raises `GenomeError`.
        """
        return self._rows.get(self.key(genome))

    def answers_to(self, objective: str | None = None) -> Answers:
        """The answers to an objective, by default the first.

        Raises `ConfigError` for one that the table has not.
        """
        name = next(iter(self.answers)) if objective is None else objective
        if name not in self.answers:
            raise ConfigError(
                f"objective is {name!r}, but the table {self.name!r} has {', '.join(self.answers)}"
            )
        return self.answers[name]


# --- the seams of a search ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TableSpace:
    """The table's space, restricted to the networks in the table.

    Children are drawn until one is in the table; where 100 are not, one of the table's other
    networks is taken.
    """

    table: Table

    @property
    def name(self) -> str:
        return self.table.space.name

    @property
    def input_shape(self) -> Shape:
        return self.table.space.input_shape

    @property
    def classes(self) -> int:
        return self.table.space.classes

    def genomes(self) -> Iterator[Genome]:
        """One genome of each network in the table, in the order of its rows."""
        return (self.table.genomes[row] for row in self.table.rows)

    def key(self, genome: Genome) -> str:
        """Equal for genomes of one network. Raises `GenomeError`."""
        return self.table.key(genome)

    def sample(self, rng: np.random.Generator) -> Genome:
        """A genome of the table, each as likely as the others."""
        return self.table.genomes[self.table.rows[int(rng.integers(len(self.table.rows)))]]

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child in the table, of another network; the only network of a table is its own child."""
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
    """An evaluator that looks candidates up, with `slots` workers whose time is simulated.

    The worker that would be done first is done first; `clock` is the time, in seconds, at which it
    was. A budget of fewer epochs than the table's gets the learning curve up to there where the
    table has curves, as does the stop rule; that is the beginning of a longer training, not the
    same as a short one. Where it has none, every answer is the whole training's. A deadline is of
    real time, and is not looked at.

    Args:
        objective: one of `table.answers`; None for the first.
        seed: of the choice among trials, together with a candidate's number.

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
        """Of the trainings that the objective is about."""
        return self._answers.epochs

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Starts a candidate now, as of `clock`."""
        evaluation = self._answer(candidate)
        heapq.heappush(
            self._running, (self.clock + evaluation.seconds, candidate.number, evaluation)
        )

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """The evaluation that is ready next; None when none runs. It never waits."""
        if not self._running:
            return None
        self.clock, _, evaluation = heapq.heappop(self._running)
        return evaluation

    def close(self) -> None:
        """Forgets what runs."""
        self._running.clear()

    def _answer(self, candidate: Candidate) -> Evaluation:
        row = self.table.find(candidate.proposal.genome)
        if row is None:
            return Evaluation(
                candidate.number, State.FAILED, reason="the table has no such network"
            )
        answers = self._answers
        trials = np.flatnonzero(~np.isnan(answers.accuracy[row]))
        draw = (
            np.random.default_rng([self.seed, candidate.number, 3]).integers(len(trials))
            if len(trials) > 1
            else 0
        )
        trial, seconds = int(trials[draw]), float(answers.seconds[row])
        if answers.curves is None:
            metrics = {"accuracy": float(answers.accuracy[row, trial])}
            return Evaluation(candidate.number, State.COMPLETE, metrics, seconds=seconds)
        curve = tuple(
            Epoch(float(loss), float(accuracy)) for loss, accuracy in answers.curves[row, trial]
        )
        state, curve, reason = _stopped(curve, candidate.proposal.budget)
        metrics = {"accuracy": curve[-1].accuracy}
        return Evaluation(
            candidate.number, state, metrics, curve, seconds * len(curve) / answers.epochs, reason
        )


def _stopped(
    curve: tuple[Epoch, ...], budget: Budget | None
) -> tuple[State, tuple[Epoch, ...], str | None]:
    """The curve as far as the budget and its stop rule let it come."""
    if budget is None:
        return State.COMPLETE, curve, None
    curve, stop = curve[: budget.epochs], budget.stop_epoch
    if 0 < stop <= len(curve) and curve[stop - 1].accuracy < budget.stop_below:
        reason = f"accuracy {curve[stop - 1].accuracy:.3f} is below {budget.stop_below:.3f} after epoch {stop}"
        return State.PRUNED, curve[:stop], reason
    return State.COMPLETE, curve, None
