"""What NSGA-II promises beyond the contract of a strategy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from math import sqrt
from typing import Any

import numpy as np
import pytest

from nanonas.core import (
    Candidate,
    Evaluation,
    Genome,
    Objective,
    Proposal,
    State,
    Strategy,
    Told,
    losses_of,
    rng_for,
)
from nanonas.errors import ConfigError
from nanonas.maths.pareto import crowding, hypervolume, ranks
from nanonas.spaces.nano import NAMES, NanoSpace
from nanonas.strategies.nsga2 import NSGA2
from nanonas.strategies.random import RandomSearch

SPACE = NanoSpace((1, 8, 8), 3, channels=2, length=8)
BOTH = (Objective(), Objective("params", maximize=False))
THREE = (*BOTH, Objective("macs", maximize=False))


def measured(candidate: Candidate) -> Evaluation:
    """Metrics by chance, coarse, so that there are ties; each fifth fails, each fourth is pruned,
    some lack one.
    """
    number, rng = candidate.number, np.random.default_rng(candidate.number)
    if number % 5 == 3:
        return Evaluation(number, State.FAILED, reason="bad luck")
    if number % 11 == 10:
        return Evaluation(number, State.COMPLETE, {"params": 1.0, "macs": 1.0})
    metrics = {name: float(rng.integers(12)) for name in ("accuracy", "params", "macs")}
    return Evaluation(number, State.PRUNED if number % 4 == 2 else State.COMPLETE, metrics)


def driven(
    strategy: Strategy, total: int, measure: Callable[[Candidate], Evaluation] = measured
) -> Iterator[tuple[Candidate, list[Told]]]:
    """Each candidate of a search, one after the other, with what was told before it."""
    told: list[Told] = []
    for number in range(total):
        candidate = Candidate(
            number, strategy.ask(number, rng_for(0, number), []), str(number), number
        )
        yield candidate, told
        told.append(Told(candidate, measure(candidate), number))
        strategy.tell(told[-1])


def best_first(alive: list[Evaluation], objectives: tuple[Objective, ...]) -> list[Evaluation]:
    """By rank and room, those that were pruned behind the others."""
    groups = [[e for e in alive if (e.state is State.PRUNED) == pruned] for pruned in (False, True)]
    ordered: list[Evaluation] = []
    for group in groups:
        losses = losses_of(group, objectives)
        rank = ranks(losses)
        room = crowding(losses, rank)
        places = sorted(range(len(group)), key=lambda i: (rank[i], -room[i], group[i].number))
        ordered += [group[i] for i in places]
    return ordered


def population(told: list[Told], size: int, objectives: tuple[Objective, ...]) -> list[Evaluation]:
    """Who is alive, best first: each joins, and the last by rank and room leaves."""
    alive: list[Evaluation] = []
    for evaluation in (one.evaluation for one in told):
        if evaluation.state is not State.FAILED and "accuracy" in evaluation.metrics:
            alive = best_first([*alive, evaluation], objectives)[:size]
    return best_first(alive, objectives)


@pytest.mark.parametrize("objectives", [BOTH, THREE])
def test_parents_are_alive_and_win_as_binary_tournaments_are_won(
    objectives: tuple[Objective, ...],
) -> None:
    strategy = NSGA2(SPACE, objectives, population_size=8)
    *_, (last, told) = driven(strategy, 61)
    pool, draws = [e.number for e in population(told, 8, objectives)], 3000
    asked = [strategy.ask(last.number, rng_for(seed, 1), []) for seed in range(draws)]
    assert {parent for proposal in asked for parent in proposal.parents} == set(pool)
    wins = Counter(proposal.parents[0] for proposal in asked)
    for place, number in enumerate(pool):  # the better of two drawn with replacement
        share = ((8 - place) ** 2 - (7 - place) ** 2) / 64
        assert wins[number] / draws == pytest.approx(
            share, abs=4 * sqrt(share * (1 - share) / draws)
        )


class Drawn(np.random.Generator):
    """Draws one place for all who take part in a tournament."""

    def __init__(self, place: int) -> None:
        super().__init__(np.random.PCG64(0))
        self.place = place

    def integers(self, *arguments: Any, **more: Any) -> Any:
        return (
            np.array([self.place] * 2)
            if more.get("size") == 2
            else super().integers(*arguments, **more)
        )


def test_the_population_is_the_best_by_rank_and_room_all_along() -> None:
    strategy = NSGA2(SPACE, THREE, population_size=8)
    for candidate, told in driven(
        strategy, 80
    ):  # after 76 and 77 a leaving member makes room that changes the order
        alive = [evaluation.number for evaluation in population(told, 8, THREE)]
        if candidate.number < 8:
            assert candidate.proposal.parents == ()
        elif candidate.number > 60:
            asked = [strategy.ask(candidate.number, Drawn(place), []).parents for place in range(8)]
            assert asked == [(number,) for number in alive]
        else:
            assert set(candidate.proposal.parents) <= set(alive)


def test_a_pruned_network_is_behind_all_others_however_small() -> None:
    strategy = NSGA2(SPACE, BOTH, population_size=2)
    for number, (state, accuracy, params) in enumerate(
        [(State.PRUNED, 0.1, 1.0), (State.COMPLETE, 0.5, 10.0), (State.COMPLETE, 0.4, 20.0)]
    ):
        metrics = {"accuracy": accuracy, "params": params}
        candidate = Candidate(number, Proposal((number,) * 8), "")
        strategy.tell(Told(candidate, Evaluation(number, state, metrics)))
    parents = {
        parent for seed in range(50) for parent in strategy.ask(3, rng_for(seed, 3), []).parents
    }
    assert parents == {1, 2}


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_crossover_rate_is_the_share_of_children_with_two_parents(rate: float) -> None:
    strategy = NSGA2(SPACE, BOTH, population_size=20, crossover_rate=rate)
    *_, (last, _) = driven(strategy, 41)
    pairs = [
        len(strategy.ask(last.number, rng_for(seed, 2), []).parents) == 2 for seed in range(500)
    ]
    assert np.mean(pairs) == (0 if rate == 0 else pytest.approx(1 - 1 / 20, abs=0.05))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: NSGA2(SPACE, BOTH[:1]),
            "nsga2 needs two objectives or more, but has accuracy; add for instance",
        ),
        (
            lambda: NSGA2(SPACE, ()),
            "nsga2 needs two objectives or more, but has none; add for instance params",
        ),
        (
            lambda: NSGA2(SPACE, BOTH, population_size=1),
            "population must be 2 or more for nsga2, but is 1",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], NSGA2], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        make()


def test_it_covers_more_of_the_trade_off_than_random_search() -> None:
    space = NanoSpace((1, 8, 8), 3, channels=2, length=12)

    def trade_off(candidate: Candidate) -> Evaluation:
        """Convolutions help, and cost parameters."""
        genome: Genome = candidate.proposal.genome
        accuracy = sum(NAMES[gene] in ("conv3x3", "sep_conv3x3") for gene in genome) / len(genome)
        params = float(space.decode(genome).params)
        return Evaluation(
            candidate.number, State.COMPLETE, {"accuracy": accuracy, "params": params}
        )

    def covered(strategy: Strategy) -> float:
        *_, (_, told) = driven(strategy, 201, trade_off)
        losses = losses_of([one.evaluation for one in told], BOTH)
        return hypervolume(losses, (0.0, most))

    most = float(space.decode((NAMES.index("conv3x3"),) * 12).params)
    assert covered(NSGA2(space, BOTH, population_size=10)) > 1.2 * covered(RandomSearch(space))
