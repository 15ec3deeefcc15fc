"""The screened search of several objectives: what is chosen, and what a front comes to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys.screened import NANO, Knowing, Nearest, accuracy, screened, train

from nanonas.config.files import configure
from nanonas.config.parts import make_strategy
from nanonas.core import (
    Budget,
    Candidate,
    Evaluation,
    Floats,
    Genome,
    Objective,
    Proposal,
    Pulse,
    State,
    Strategy,
    Told,
    losses_of,
    rng_for,
)
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import RunError
from nanonas.maths.pareto import hypervolume
from nanonas.networks.limits import Limits
from nanonas.predictors.gaussian import GaussianProcess
from nanonas.strategies.around.screened import Screened
from nanonas.strategies.nsga2 import NSGA2
from nanonas.strategies.random import RandomSearch

PARAMS, LATENCY = (Objective(name, maximize=False) for name in ("params", "latency"))
BOTH = (Objective(), PARAMS)
COUNTS = {"params": attrgetter("params")}


def weighing(
    predictor: Any = Nearest, costs: tuple[Objective, ...] = (PARAMS,), lag: int = 1, **options: Any
) -> Screened:
    """A small screened search of accuracy and costs."""
    objectives = (Objective(), *costs)
    wrapped = NSGA2(NANO, objectives, population_size=6, lag=lag)
    return screened(predictor, wrapped, objectives=objectives, counts=COUNTS, **options)


def measured(candidate: Candidate) -> Evaluation:
    """Trained to its end, with a latency and, as a study adds it, the number of parameters."""
    genome = candidate.proposal.genome
    network = NANO.decode(genome)
    metrics = {"accuracy": accuracy(genome), "params": float(network.params)}
    metrics["latency"] = 1 + network.macs / 1000 + 0.1 * genome[0]
    return Evaluation(candidate.number, State.COMPLETE, metrics)


def driven(strategy: Strategy, total: int) -> list[Told]:
    """A search without a study; nothing is tried twice."""
    told: list[Told] = []
    keys: set[str] = set()
    for number in range(total):
        rng = rng_for(2, number)
        proposal = strategy.ask(number, rng, [])
        while NANO.decode(proposal.genome).key in keys:
            proposal = Proposal(NANO.sample(rng))
        key = NANO.decode(proposal.genome).key
        keys.add(key)
        candidate = Candidate(number, proposal, key, number)
        told.append(Told(candidate, measured(candidate), number))
        strategy.tell(told[-1])
    return told


def chosen(each: Told) -> bool:
    predicted = each.candidate.proposal.predicted
    return predicted is not None and predicted.chosen


def area(told: list[Told]) -> float:
    """The hypervolume of accuracy and the logarithm of parameters."""
    losses: Floats = losses_of([each.evaluation for each in told], BOTH)
    losses[:, 1] = np.log(losses[:, 1])
    return hypervolume(losses, [0.0, np.log(1000)])


@pytest.mark.parametrize("make", [Knowing, GaussianProcess], ids=["knowing", "gaussian"])
def test_its_front_is_better_than_those_of_random_search_and_of_what_it_screens(
    make: Callable[[], Any],
) -> None:
    wrapped = NSGA2(NANO, BOTH, population_size=6)
    reached = area(driven(weighing(make), 40))
    assert reached > 1.02 * area(driven(RandomSearch(NANO), 40))
    assert reached > area(driven(wrapped, 40))


def test_it_chooses_what_promises_most_of_what_was_not_tried_and_is_allowed() -> None:
    def small(genome: Genome) -> bool:
        return NANO.decode(genome).params <= 250

    strategy = weighing(Knowing, allowed=small)
    told = driven(strategy, 20)
    assert sum(map(chosen, told)) >= 10
    assert all(small(each.candidate.proposal.genome) for each in told if chosen(each))
    proposal = strategy.ask(20, rng_for(0, 20), [])
    rng = rng_for(0, 20)
    strategy.strategy.ask(20, rng, [])
    options, features = strategy._options(20, rng, [], 20)
    genomes = [option.genome for option in options]
    assert strategy._front is not None
    promises = strategy._front.improvements(genomes, features, [], True)
    tried = {each.candidate.key for each in told}
    left = [
        promise
        for genome, promise in zip(genomes, promises, strict=True)
        if small(genome) and NANO.decode(genome).key not in tried
    ]
    assert promises[genomes.index(proposal.genome)] == max(left) > 0


def test_predictions_are_of_the_accuracy() -> None:
    told = driven(weighing(Knowing, costs=(LATENCY, PARAMS)), 30)
    for each in told[20:]:
        predicted = each.candidate.proposal.predicted
        assert predicted is not None
        assert predicted.mean == pytest.approx(-each.evaluation.metrics["accuracy"], abs=0.1)


# --- whole runs -----------------------------------------------------------------------------------


def stored(path: Path) -> list[object]:
    with RunStore.read(path) as store:
        return [
            *store.candidates(),
            *(replace(e, seconds=0.0) for _, e in sorted(store.latest().items())),
        ]


def run(path: Path, evaluator: SerialEvaluator) -> None:
    """Of accuracy, latency and parameters, three in flight; resumed where it was begun."""
    try:
        store = RunStore.resume(path, {"search": {}})
    except RunError:
        store = RunStore.begin(path, {"search": {}})
    strategy, limits = weighing(costs=(LATENCY, PARAMS), lag=3), Limits(max_params=400)
    with store:
        Study(NANO, strategy, evaluator, store, Budget(3), seed=3, limits=limits).run(24)


def timed(candidate: Candidate, pulse: Pulse) -> Evaluation:
    """As `train`, where some fail and some are pruned, with a latency."""
    latency = measured(candidate).metrics["latency"]
    evaluation = train(candidate)
    return replace(evaluation, metrics={**evaluation.metrics, "latency": latency})


@pytest.mark.parametrize("at", [5, 19])
def test_a_run_cut_anywhere_resumes_to_the_same_end(tmp_path: Path, at: int) -> None:
    left = iter(range(at))

    def interrupted(candidate: Candidate, pulse: Pulse) -> Evaluation:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return timed(candidate, pulse)

    run(tmp_path / "whole.db", SerialEvaluator(timed, slots=2))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.db", SerialEvaluator(interrupted, slots=2))
    run(tmp_path / "cut.db", SerialEvaluator(timed, slots=3))
    assert stored(tmp_path / "cut.db") == stored(tmp_path / "whole.db")
    candidates = [each for each in stored(tmp_path / "cut.db") if isinstance(each, Candidate)]
    assert any(each.proposal.predicted for each in candidates)


# --- the configuration ----------------------------------------------------------------------------


def test_several_objectives_screen_nsga2_and_accuracy_comes_first() -> None:
    search = configure(objectives=("params", "latency", "accuracy"), population=9, lag=4).search
    strategy: Any = make_strategy(search, NANO)
    assert isinstance(strategy, Screened)
    assert isinstance(strategy.strategy, NSGA2)
    assert (strategy.strategy.population_size, strategy.strategy.lag) == (9, 4)
    assert [each.name for each in strategy.objectives] == ["accuracy", "params", "latency"]
    network = NANO.decode(NANO.sample(rng_for(0, 0)))
    counted = {name: count(network) for name, count in strategy.counts.items()}
    assert counted == {"params": network.params}
    both: Any = make_strategy(configure(screens="nsga2").search, NANO)
    assert [each.name for each in both.objectives] == ["accuracy", "params"]
