"""A small space, quick measures that misbehave on demand, and strategies: what the engine's tests
run on.

Measures are classes and functions of this module, not of a test file, so that worker processes can
import them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Evaluator,
    Genome,
    Measure,
    Objective,
    Proposal,
    Pulse,
    Shape,
    State,
    Strategy,
    Told,
    steady,
)
from nanonas.engine.evaluators.attempt import attempt
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import GenomeError, RunError
from nanonas.networks.network import Draft, Network, classifier
from nanonas.spaces.base import Space
from nanonas.spaces.choices import point_mutation
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.evolution import Evolution
from nanonas.strategies.random import RandomSearch

BUDGET = Budget(epochs=2)
CONFIG: dict[str, dict[str, object]] = {
    "search": {"seed": 7, "space": {"name": "toy", "depth": 4}},
    "run": {"workers": 1},
}


@dataclass(frozen=True)
class ToySpace(Space):
    """Up to `depth` convolutions with 4, 8, … filters; 0 is no layer at all, so genomes can share a
    network.
    """

    input_shape: Shape = (3, 8, 8)
    depth: int = 4
    widths: int = 6  # genes are 0 … widths
    name = "toy"

    def sample(self, rng: np.random.Generator) -> Genome:
        return tuple(int(gene) for gene in rng.integers(0, self.widths + 1, self.depth))

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        return point_mutation(genome, self.widths + 1, rng)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        place = int(rng.integers(1, self.depth)) if self.depth > 1 else 0
        return (*a[:place], *b[place:])

    def decode(self, genome: Genome) -> Network:
        if len(genome) != self.depth:
            raise GenomeError(
                f"a genome of this space has {self.depth} genes, but {genome} has {len(genome)}"
            )
        draft, x = Draft(self.input_shape, self.classes), "input"
        for gene in genome:
            if gene:
                x = draft.add("conv", x, filters=4 * gene, kernel=3, stride=1, groups=1, bias=False)
        return classifier(draft, x)


SPACE = ToySpace()


@dataclass
class SteadyBest(Strategy):
    """Mutates the best of those told; up to `lag` candidates are in flight."""

    space: ToySpace
    lag: int = 3
    told: list[Told] = field(default_factory=list)

    def needs(self, number: int) -> int:
        return steady(number, self.lag)

    def generation(self, number: int) -> int:
        return number // 5

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        measured = [told for told in self.told if told.evaluation.accuracy is not None]
        if not measured:
            return Proposal(self.space.sample(rng))
        best = min(measured, key=lambda told: (Objective().loss(told.evaluation), told.number))
        parent = best.candidate
        return Proposal(
            self.space.mutate(parent.proposal.genome, rng), (parent.number,), Budget(1 + number % 2)
        )

    def tell(self, told: Told) -> None:
        assert told.evaluation.state is not State.CUT
        assert told.candidate.number == told.evaluation.number == len(self.told)
        self.told.append(told)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "random": lambda: RandomSearch(SPACE, population_size=5),
    "steady": lambda: SteadyBest(SPACE),
    "evolution": lambda: Evolution(SPACE, population_size=5),
    "aging": lambda: AgingEvolution(SPACE, population_size=5, lag=4),
}


def score(candidate: Candidate, pulse: Pulse) -> Evaluation:
    """An accuracy that follows from the genome, with every state that a measure can return."""
    pulse()
    genome = candidate.proposal.genome
    if sum(genome) % 7 == 3:
        raise RuntimeError(f"genome {genome} cannot be trained")
    state = State.PRUNED if sum(genome) % 5 == 1 else State.COMPLETE
    accuracy = 1 / (1 + sum((gene - 3.3) ** 2 for gene in genome))
    reason = "below chance" if state is State.PRUNED else None
    return Evaluation(
        candidate.number,
        state,
        {"accuracy": accuracy},
        (Epoch(0.1 + accuracy, accuracy),),
        0.0,
        reason,
    )


def ones(candidate: Candidate, pulse: Pulse) -> Evaluation:
    """All equally good."""
    return Evaluation(candidate.number, State.COMPLETE, {"accuracy": 1.0})


def jittery(candidate: Candidate, pulse: Pulse) -> Evaluation:
    """`score`, in a time that differs from call to call."""
    time.sleep(int.from_bytes(os.urandom(1), "big") / 255 * 0.02)
    return score(candidate, pulse)


@dataclass(frozen=True)
class Lasting:
    """`score`, after so many seconds."""

    seconds: float

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        time.sleep(self.seconds)
        return score(candidate, pulse)


@dataclass
class Shuffled:
    """Answers in another order than it was asked, from `slots` at once: what workers of different
    speed look like.
    """

    slots: int
    seed: int
    measure: Measure = score
    queue: list[Candidate] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        assert len(self.queue) < self.slots
        self.queue.append(candidate)

    def result(self, timeout: float | None = None) -> Evaluation | None:
        candidate = self.queue.pop(int(self.rng.integers(len(self.queue))))
        return attempt(self.measure, candidate, lambda: True)

    def close(self) -> None:
        self.closed = True


@dataclass
class Interrupting:
    """`score`, until Ctrl-C is pressed during call number `at`."""

    at: int
    calls: int = 0

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        self.calls += 1
        if self.calls > self.at:
            raise KeyboardInterrupt
        return score(candidate, pulse)


@dataclass(frozen=True)
class Misbehaving:
    """`score`, but for candidate `number`; `folder` counts how often its measurement was begun,
    across processes.
    """

    number: int
    how: str  # "kill", "exit", "hang", "raise", "memory", "hoard"
    folder: Path
    times: int = 1_000_000  # how often it misbehaves

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        if candidate.number == self.number:
            begun = len(list(self.folder.glob("begun-*")))
            (self.folder / f"begun-{begun}").touch()
            if begun < self.times:
                self.misbehave(pulse)
        return score(candidate, pulse)

    def misbehave(self, pulse: Pulse) -> None:
        pulse()
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "exit":
            print("these were my last words", flush=True)
            os._exit(3)
        elif self.how == "hang":
            time.sleep(60)
        elif self.how == "raise":
            raise ValueError("bad architecture\nwith details")
        elif self.how == "memory":
            raise MemoryError
        elif self.how == "hoard":
            hoarded = np.ones(40_000_000)  # 305 MiB
            time.sleep(60)
            del hoarded


@dataclass(frozen=True)
class UntilDeadline:
    """The first `quick` candidates at once, the others until the pulse says stop."""

    quick: int

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        evaluation = Evaluation(candidate.number, State.COMPLETE, {"accuracy": 0.5})
        if candidate.number < self.quick:
            return evaluation
        while pulse():
            time.sleep(0.01)
        return Evaluation(
            candidate.number, State.CUT, {"accuracy": 0.9}, reason="the time was over"
        )


class Unloadable:
    """Cannot be unpickled in a worker."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return __import__, ("a_module_that_is_not_there",)

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        raise AssertionError


class DeadOnArrival(Unloadable):
    """Ends its worker while it is unpickled there."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os._exit, (5,)


def environment(candidate: Candidate, pulse: Pulse) -> Evaluation:
    """Environment, signals and process of a worker, as metrics."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    metrics = {"threads": float(os.environ["OMP_NUM_THREADS"]), "ignores_interrupt": float(ignored)}
    return Evaluation(candidate.number, State.COMPLETE, {**metrics, "pid": float(os.getpid())})


def study(
    path: Path, strategy: Strategy, evaluator: Evaluator, space: ToySpace = SPACE, **options: object
) -> Study:
    """A study over the store at `path`, begun or resumed. The store is the caller's to close."""
    try:
        store = RunStore.resume(path, CONFIG)
    except RunError:  # nothing there, or killed before anything was
        store = RunStore.begin(path, CONFIG)
    return Study(space, strategy, evaluator, store, BUDGET, seed=7, **options)  # type: ignore[arg-type]


def by_number(path: Path, total: int = 1_000_000) -> list[object]:
    """What must be equal in two runs, of their first candidates: no times, no evaluations that were
    cut.
    """
    with RunStore.read(path) as store:
        results = [e for e in store.evaluations() if e.state is not State.CUT and e.number < total]
        assert len({e.number for e in results}) == len(results)
        results.sort(key=lambda evaluation: evaluation.number)
        told = [(e.number, e.state, dict(e.metrics), e.curve, e.reason) for e in results]
        return [*store.candidates()[:total], *told]
