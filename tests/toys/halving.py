"""A space, a ladder of budgets and a measure for tests of strategies around others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Objective,
    State,
    Strategy,
    Told,
    rng_for,
)
from nanonas.spaces.nano import NanoSpace
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.around.halving import ladder
from nanonas.strategies.evolution import Evolution
from nanonas.strategies.nsga2 import NSGA2
from nanonas.strategies.random import RandomSearch

SPACE = NanoSpace((1, 8, 8), 3, channels=2, length=8)
RUNGS = ladder(Budget(9), eta=3, number=3)
BOTH = (Objective(), Objective("params", maximize=False))


def promise(candidate: Candidate) -> float:
    """The accuracy that a genome is heading for."""
    return 0.2 + 0.6 * float(np.random.default_rng([7, *candidate.proposal.genome]).random())


def measured(candidate: Candidate) -> Evaluation:
    """A little noise on the lower rungs; each eleventh candidate fails."""
    budget = candidate.proposal.budget
    assert budget is not None
    if candidate.number % 11 == 7:
        return Evaluation(candidate.number, State.FAILED, reason="bad luck")
    noise = np.random.default_rng(candidate.number).normal(0, 0.1 / budget.epochs)
    final = promise(candidate) * (0.6 + 0.4 * budget.epochs / 9) + noise
    curve = tuple(Epoch(2 - final, final) for _ in range(budget.begin, budget.epochs))
    metrics = {"accuracy": final, "params": float(sum(candidate.proposal.genome))}
    return Evaluation(candidate.number, State.COMPLETE, metrics, curve)


def driven(
    strategy: Strategy, total: int, measure: Callable[[Candidate], Evaluation] = measured
) -> tuple[list[Candidate], list[Evaluation], list[int]]:
    """Candidates, evaluations, and how many were told when each was asked."""
    asked: list[Candidate] = []
    told: list[Told] = []
    counts: list[int] = []
    for number in range(total):
        while len(told) < strategy.needs(number):
            candidate = asked[len(told)]
            told.append(Told(candidate, measure(candidate), candidate.asked_after))
            strategy.tell(told[-1])
        proposal = strategy.ask(number, rng_for(0, number), asked[len(told) :])
        asked.append(Candidate(number, proposal, str(proposal.genome), len(told)))
        counts.append(len(told))
    return asked, [measure(candidate) for candidate in asked], counts


def wrapped(lag: int = 4) -> dict[str, Strategy]:
    return {
        "random": RandomSearch(SPACE, 9),
        "aging": AgingEvolution(SPACE, population_size=9, lag=lag),
        "evolution": Evolution(SPACE, population_size=9),
        "nsga2": NSGA2(SPACE, BOTH, population_size=9, lag=lag),
    }
