"""The nouns of a search, and the seams between them.

Everything here is an immutable value or a Protocol; nothing imports torch or touches a disk.

    Space --sample, mutate, crossover--> Genome --ask--> Candidate --evaluate--> Evaluation
    --tell--> Strategy
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

Genome = tuple[int, ...]  # integers that only their space can read; hashable, JSON-able
Shape = tuple[int, ...]  # (channels, height, width) of images and feature maps, or (features,)


class State(str, enum.Enum):
    """How an evaluation ended. A candidate without an Evaluation is still running."""

    COMPLETE = "complete"  # trained for its whole budget
    PRUNED = "pruned"  # stopped early by its own rule; its metrics are those at the stop
    # stopped by the run's deadline, and can be the best; or not begun, because the device that
    # measures was lost. No strategy is told, and a resumed run tries it again
    CUT = "cut"
    INFEASIBLE = "infeasible"  # breaks a hard limit that had to be measured
    FAILED = "failed"  # raised, hung, ran out of memory or lost its worker; `reason` says which


DEVICE_LOST = "device_lost"
"""The metric, 1.0, of a candidate that is CUT because the device that measures was lost."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long one candidate may train, and the rule that stops it early."""

    epochs: int  # passes over the training images
    stop_epoch: int = 0  # the rule is looked at once, after this epoch or later; 0 = never
    # what it is judged by, in [0, 1]; below it the candidate is pruned there
    stop_below: float = 0.0
    begin: int = 0  # how many of the epochs the candidate that this one resumes has done already
    share: float = 1.0  # of the training images, in (0, 1]
    image_size: int | None = None  # pixels a side that images are shrunk to; None: as they are
    # of training, without what it resumes: a network gets as many epochs, or the share of one, as
    # are predicted to take so long, at most `MOST_EPOCHS`; None: `epochs` count
    seconds: float | None = None

    @property
    def length(self) -> str:
        """How long it trains, in words, as in "10 epochs" or "12.5 s"."""
        if self.seconds is not None:
            return f"{self.seconds:.3g} s"
        return f"{self.epochs} epochs" if self.epochs != 1 else "1 epoch"


MOST_EPOCHS = 1000  # of a training that is bound by seconds: tiny images are seen often enough


@dataclass(frozen=True)
class Prediction:
    """What a predictor expected of a candidate before it was trained."""

    mean: float  # of the loss, as `Objective.loss` has it: lower is better
    std: float  # of the predictor's doubt, not of the training's noise
    by: str = ""  # the predictor's name
    chosen: bool = True  # whether the candidate was chosen because of it


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a strategy asks for."""

    genome: Genome
    parents: tuple[int, ...] = ()  # numbers of the candidates it was bred from
    budget: Budget | None = None  # None: the study's own
    predicted: Prediction | None = None  # None: no predictor was asked
    # number of the candidate, of the same genome, whose training goes on
    resumes: int | None = None
    # numbers of the candidates whose weights it begins with, as far as they fit
    inherits: tuple[int, ...] = ()
    # asked for by a user, in the place of what the strategy would have proposed
    planted: bool = False
    # the name of the hand-made network that it is, in the place of a random one; "": it is none
    ancestor: str = ""
    # found by another run, in the place of a random one
    recalled: bool = False

    @property
    def begins_with(self) -> tuple[int, ...]:
        """Numbers of the candidates whose weights its training begins with."""
        return self.inherits if self.resumes is None else (self.resumes,)

    @property
    def from_scratch(self) -> bool:
        """Whether its training begins without the weights of an earlier one."""
        return not self.begins_with


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposal that was taken, and when."""

    number: int  # 0-based, dense, unique in the run
    proposal: Proposal  # with its budget filled in
    key: str  # `Network.key`: the same key, the same network
    # how many evaluations the strategy had been told; 0 where it was not asked
    asked_after: int = 0
    generation: int = 0  # 0-based, as the strategy counted when the candidate was asked
    # whether it was evaluated before, and is trained once more for its weights alone: no limit is
    # looked at again, for what is measured differs each time
    again: bool = False

    @property
    def identity(self) -> tuple[str, Budget | None, bool]:
        """What must not be tried twice: a network, under one budget, with or without inherited
        weights.
        """
        return self.key, self.proposal.budget, bool(self.proposal.inherits)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One point of a learning curve."""

    train_loss: float  # mean over the epoch's training images, nats, label smoothing included
    accuracy: float  # on the validation images, in [0, 1]; as `Evaluation.accuracy`


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What became of a candidate.

    ``metrics`` holds "params" and "macs" (counts, always there once a study has seen it) and, where
    training got that far, "accuracy" (validation, in [0, 1]): what the run's ``metric`` says, which
    is the balanced accuracy in some. Then "plain_accuracy" is the share of all images.
    """

    number: int  # of the candidate
    state: State
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Epoch, ...] = ()
    seconds: float = 0.0  # wall clock on the worker
    reason: str | None = None  # one sentence, for every state but COMPLETE
    traceback: str | None = None  # of what raised

    @property
    def accuracy(self) -> float | None:
        """What it is judged by, in [0, 1]: the validation accuracy, or the balanced one where the
        run's metric is that; None where none was measured.
        """
        return self.metrics.get("accuracy")


@dataclass(frozen=True, slots=True)
class Told:
    """A candidate and what became of it: what a strategy is told."""

    candidate: Candidate
    evaluation: Evaluation
    # how many evaluations the strategy knew when it proposed the candidate; 0 where it did not
    # propose it, so that it is no answer to what it knew
    informed_by: int = 0

    @property
    def number(self) -> int:
        """The candidate's number."""
        return self.candidate.number

    @property
    def lost(self) -> bool:
        """Whether nothing was measured that counts: it failed, or broke a measured limit."""
        return self.evaluation.state in (State.FAILED, State.INFEASIBLE)

    @property
    def judged(self) -> bool:
        """Whether it can be ranked by its accuracy: there is a finite one, and it is not lost."""
        accuracy = self.evaluation.accuracy
        return not self.lost and accuracy is not None and isfinite(accuracy)

    @property
    def comparable(self) -> bool:
        """Whether its accuracy can be compared with the others': judged, on images as they are."""
        return self.comparable_at(None)

    def comparable_at(self, image_size: int | None) -> bool:
        """Whether it was judged, on images of so many pixels a side; None: as they are."""
        budget = self.candidate.proposal.budget
        return self.judged and (None if budget is None else budget.image_size) == image_size


@dataclass(frozen=True)
class Objective:
    """A metric to get the best of."""

    name: str = "accuracy"
    maximize: bool = True

    def loss(self, evaluation: Evaluation) -> float:
        """The metric as something to minimise; infinite where it was not measured."""
        value = evaluation.metrics.get(self.name)
        if value is None or not isfinite(value):
            return float("inf")
        return -value if self.maximize else value


class Predictor(Protocol):
    """Predicts the losses of untrained networks from those of trained ones."""

    @property
    def name(self) -> str: ...

    def fit(self, features: Floats, losses: Floats) -> None:
        """Learns from n networks, and forgets what it learnt before.

        Args:
            features: shape (n, features), from `Space.encode`; a sequence model reads (n,
                steps, fields).
            losses: shape (n,), finite; lower is better, in any unit.
        """

    def update(self, features: Floats, losses: Floats) -> None:
        """As `fit`, but after it: with other networks, and without learning anew what takes long to
        learn.
        """

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the losses of m networks, shape (m,) each, in the unit of
        what was fitted.
        """


class Strategy(Protocol):
    """Decides what to try next.

    `ask` reads the state and never changes what it would answer; `tell` is the only thing that
    does, and only appends. So the state is a fold over the evaluations told, in order, and a run
    resumes by telling them again.
    """

    def needs(self, number: int) -> int:
        """How many evaluations, from number 0 on, it must have been told to be asked for `number`.

        At most `number`, and never less than for the number before.
        """

    def generation(self, number: int) -> int:
        """The generation, 0-based, that candidate `number` belongs to; never less than for the
        number before.
        """

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        """What to try as `number`. `pending` was asked and is not told yet, in number order."""

    def tell(self, told: Told) -> None:
        """Takes in the next evaluation, in number order."""

    def may_need(self) -> frozenset[int] | None:
        """Of the candidates that were told, the numbers of those that later proposals may name, as
        parents or to go on with: their weights stay, those of the others may be deleted. None: any.

        One that is not among them never is again, whatever is told.
        """
        return None

    @property
    def most_needed(self) -> int | None:
        """How many `may_need` names at most, however long the run; None: there is no bound."""
        return None


Pulse = Callable[[], bool]
"""Called by a measurement after every batch: says that it lives, and returns whether to go on.

False: the deadline has passed. Validate the network as it is and return `State.CUT`.
"""

Measure = Callable[[Candidate, Pulse], Evaluation]
"""Measures one candidate. Picklable where worker processes run it. May raise: the evaluator turns
that into a result."""


class Evaluator(Protocol):
    """Turns candidates into evaluations, here or elsewhere. A failure is a result, too; only
    `KeyboardInterrupt` is raised.
    """

    @property
    def slots(self) -> int:
        """How many candidates can run at once."""

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Starts a candidate, or queues it.

        `deadline` is when its pulse says to stop, as of `time.monotonic()`: a clock that nobody
        sets, and one for all processes of a machine.
        """

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """The next evaluation that is ready, in any order; None after `timeout` seconds without
        one.
        """

    def close(self) -> None:
        """Stops everything, at once. What runs is lost. May be called twice."""


def steady(number: int, lag: int) -> int:
    """What a steady-state strategy needs: all but the `lag - 1` candidates before `number`.

    1 = one after the other.
    """
    return max(0, number + 1 - lag)


def rng_for(seed: int, number: int) -> np.random.Generator:
    """The generator that candidate `number` of a run is bred with. No other stream is shared."""
    return np.random.default_rng([seed, number])


def training_seed(seed: int, number: int) -> int:
    """The seed that candidate `number` of a run is initialised and trained with: 32 bits, apart
    from `rng_for`'s.
    """
    return int(np.random.SeedSequence([seed, number, 1]).generate_state(1)[0])


def losses_of(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> Floats:
    """The losses of n evaluations: shape (n, objectives)."""
    rows = [[objective.loss(evaluation) for objective in objectives] for evaluation in evaluations]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))
