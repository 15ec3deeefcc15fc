"""What local search promises beyond the contract of a strategy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nanonas.core import (
    Budget,
    Candidate,
    Evaluation,
    Genome,
    Proposal,
    Pulse,
    State,
    Told,
    rng_for,
)
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import ConfigError
from nanonas.spaces.nano import NAMES, NanoSpace
from nanonas.strategies.local import LocalSearch
from nanonas.strategies.random import RandomSearch

SMALL = NanoSpace((1, 8, 8), 3, channels=1, length=3)  # each list has 21 neighbours
NEIGHBOURS = 21


def rugged(genome: Genome) -> float:
    """An accuracy, different for every genome: many are better than all their neighbours."""
    return float(np.random.default_rng(genome).random())


def neighbours(a: Genome, b: Genome) -> bool:
    return sum(x != y for x, y in zip(a, b, strict=True)) == 1


def told(
    strategy: LocalSearch, number: int, genome: Genome, accuracy: float | None, **more: object
) -> None:
    """Tells one evaluation; failed without an accuracy. `more`: parents, and informed_by, by
    default all before.
    """
    informed_by, parents = more.get("informed_by", number), more.get("parents", ())
    candidate = Candidate(number, Proposal(genome, parents), str(genome))  # type: ignore[arg-type]
    state = State.FAILED if accuracy is None else State.COMPLETE
    metrics = {} if accuracy is None else {"accuracy": accuracy}
    evaluation = Evaluation(number, state, metrics, reason=None if metrics else "bad luck")
    strategy.tell(Told(candidate, evaluation, informed_by))  # type: ignore[arg-type]


def parents(strategy: LocalSearch, number: int) -> tuple[int, ...]:
    return strategy.ask(number, rng_for(0, number), []).parents


def walked(
    strategy: LocalSearch, total: int, accuracy: Callable[[Genome], float | None] = rugged
) -> list[Candidate]:
    """All candidates of a search with `strategy.lag` in flight."""
    asked: list[Candidate] = []
    heard = 0
    for number in range(total):
        while heard < strategy.needs(number):
            candidate = asked[heard]
            told(
                strategy,
                heard,
                candidate.proposal.genome,
                accuracy(candidate.proposal.genome),
                parents=candidate.proposal.parents,
                informed_by=candidate.asked_after,
            )
            heard += 1
        proposal = strategy.ask(number, rng_for(0, number), asked[heard:])
        asked.append(Candidate(number, proposal, str(proposal.genome), heard))
    return asked


def test_the_first_better_neighbour_is_the_next_incumbent_and_all_are_tried_before_a_restart() -> (
    None
):
    incumbent: Candidate | None = None
    tried: set[Genome] = set()
    climbs = 0
    for candidate in walked(LocalSearch(SMALL, patience=1000), 300):
        genome = candidate.proposal.genome
        if candidate.proposal.parents:
            assert incumbent is not None
            assert candidate.proposal.parents == (incumbent.number,)
            assert neighbours(genome, incumbent.proposal.genome)
            assert genome not in tried
            better = rugged(genome) > rugged(incumbent.proposal.genome)
        else:
            if incumbent is not None:
                around = [other for other in tried if neighbours(other, incumbent.proposal.genome)]
                assert len(around) == NEIGHBOURS
            better, climbs = True, climbs + 1
        incumbent = candidate if better else incumbent
        tried.add(genome)
    assert climbs > 5


@pytest.mark.parametrize("lag", [1, 4])
def test_after_patience_mutants_in_vain_the_search_begins_elsewhere(lag: int) -> None:
    best = (0, 0, 0)
    strategy = LocalSearch(SMALL, patience=7, lag=lag)
    told(strategy, 0, best, 0.9)
    for number in range(1, 8):
        assert parents(strategy, number) == (0,)
        told(strategy, number, (number, 0, 0), 0.1 if number % 2 else None, parents=(0,))
    assert parents(strategy, 8) == ()


@pytest.mark.parametrize("lag", [2, 5])
def test_nothing_is_proposed_that_was_told_or_is_in_flight(lag: int) -> None:
    asked = walked(LocalSearch(SMALL, lag=lag), 200)
    for place, candidate in enumerate(asked):
        if candidate.proposal.parents:
            assert candidate.proposal.genome not in {
                earlier.proposal.genome for earlier in asked[:place]
            }


def test_the_best_of_those_drawn_together_is_the_start() -> None:
    strategy = LocalSearch(SMALL, lag=3)
    for number, accuracy in enumerate((0.2, 0.6, 0.4)):
        told(strategy, number, (number, 1, 1), accuracy, informed_by=0)
    assert parents(strategy, 3) == (1,)


def test_failures_and_what_has_no_accuracy_are_never_incumbents() -> None:
    strategy = LocalSearch(SMALL)
    told(strategy, 0, (0, 0, 0), None)
    evaluation = Evaluation(1, State.INFEASIBLE, {"accuracy": 0.9})
    strategy.tell(Told(Candidate(1, Proposal((1, 0, 0)), "1", 1), evaluation, 1))
    evaluation = Evaluation(2, State.COMPLETE, {"params": 5})
    strategy.tell(Told(Candidate(2, Proposal((2, 0, 0)), "2", 2), evaluation, 2))
    assert strategy.ask(3, rng_for(0, 3), []) == Proposal(SMALL.sample(rng_for(0, 3)))
    told(strategy, 3, (3, 0, 0), 0.1)
    told(strategy, 4, (4, 0, 0), None, parents=(3,))
    assert parents(strategy, 5) == (3,)


def test_what_an_earlier_climb_left_over_does_not_call_the_search_back() -> None:
    strategy = LocalSearch(SMALL, patience=1, lag=3)
    told(strategy, 0, (0, 0, 0), 0.8)
    told(strategy, 1, (1, 0, 0), 0.1, parents=(0,))  # that was all the patience
    told(strategy, 2, (5, 5, 5), 0.3)  # elsewhere
    told(strategy, 3, (2, 0, 0), 0.9, parents=(0,), informed_by=1)
    assert parents(strategy, 4) == (2,)


def test_a_draw_from_when_the_climb_seemed_over_does_not_end_it_once_it_goes_on() -> None:
    strategy = LocalSearch(SMALL, patience=1, lag=3)
    told(strategy, 0, (0, 0, 0), 0.5)
    told(strategy, 1, (1, 0, 0), 0.1, parents=(0,))
    assert parents(strategy, 3) == ()
    told(strategy, 2, (2, 0, 0), 0.7, parents=(0,), informed_by=1)  # in flight all the while
    told(strategy, 3, (5, 5, 5), 0.3, informed_by=2)
    assert parents(strategy, 4) == (2,)


def test_no_patience_is_refused() -> None:
    with pytest.raises(ConfigError, match="patience must be 1 or more for local search, but is 0"):
        LocalSearch(SMALL, patience=0)


def share_of_conv3x3(candidate: Candidate, pulse: Pulse) -> Evaluation:
    genome = candidate.proposal.genome
    accuracy = sum(NAMES[gene] == "conv3x3" for gene in genome) / len(genome)
    return Evaluation(candidate.number, State.COMPLETE, {"accuracy": accuracy})


def test_local_search_beats_random_search_where_there_is_one_hill(tmp_path: Path) -> None:
    space = NanoSpace((1, 8, 8), 3, channels=1, length=12)

    def best(name: str, strategy: LocalSearch | RandomSearch, seed: int) -> float:
        with RunStore.begin(tmp_path / f"{name}-{seed}.db", {"search": {"seed": seed}}) as store:
            Study(space, strategy, SerialEvaluator(share_of_conv3x3), store, Budget(1), seed).run(
                80
            )
            return ranking(store.told())[0].evaluation.metrics["accuracy"]

    local = np.mean([best("local", LocalSearch(space, lag=2), seed) for seed in range(5)])
    assert local > np.mean([best("random", RandomSearch(space), seed) for seed in range(5)]) + 0.1
