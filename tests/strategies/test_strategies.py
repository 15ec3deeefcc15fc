"""The contract of a strategy, for all of them, and what each algorithm promises beyond it."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from math import comb, sqrt
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys.screened import screened

from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Objective,
    Proposal,
    Pulse,
    State,
    Strategy,
    Told,
    rng_for,
)
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.needed import needed
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import ConfigError
from nanonas.predictors.gaussian import GaussianProcess
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NAMES, NanoSpace
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.around.halving import Halving, ladder
from nanonas.strategies.around.inheriting import Inheriting
from nanonas.strategies.around.screened import Screened
from nanonas.strategies.evolution import Evolution
from nanonas.strategies.local import LocalSearch
from nanonas.strategies.nsga2 import NSGA2
from nanonas.strategies.random import RandomSearch

NANO = NanoSpace((1, 8, 8), 3, channels=2, length=8)
LAYERS = LayersSpace((1, 8, 8), 3)
BOTH = (Objective(), Objective("params", maximize=False))


def screened_both(space: Space, lag: int) -> Screened:
    """A screened search of accuracy and parameters."""
    wrapped = NSGA2(space, BOTH, population_size=6, lag=lag)
    counts = {"params": attrgetter("params")}
    return screened(strategy=wrapped, space=space, objectives=BOTH, counts=counts)


STRATEGIES: dict[str, Callable[[Space], Strategy]] = {
    "random": lambda space: RandomSearch(space, 6),
    "evolution": lambda space: Evolution(space, population_size=6),
    "evolution, the smallest": lambda space: Evolution(space, population_size=2),
    "evolution, large elite": lambda space: Evolution(space, population_size=7, elite_size=5),
    "aging": lambda space: AgingEvolution(space, population_size=6),
    "aging, four in flight": lambda space: AgingEvolution(space, population_size=6, lag=4),
    "aging, more in flight than alive": lambda space: AgingEvolution(
        space, population_size=2, lag=9
    ),
    "nsga2": lambda space: NSGA2(space, BOTH, population_size=6),
    "nsga2, the smallest, nine in flight": lambda space: NSGA2(
        space, BOTH, population_size=2, lag=9
    ),
    "local": lambda space: LocalSearch(space, population_size=6, patience=8),
    "local, four in flight": lambda space: LocalSearch(space, population_size=6, lag=4),
}
STRATEGIES |= {
    "screened": lambda space: screened(space=space),
    "screened, lag 4": lambda space: screened(space=space, lag=4),
    "screened, gaussian": lambda space: screened(GaussianProcess, space=space, lag=2),
    "screened, two objectives, lag 4": lambda space: screened_both(space, lag=4),
    "screened over evolution": lambda space: screened(
        strategy=Evolution(space, population_size=6), space=space, reads="tokens"
    ),
}
RUNGS = ladder(Budget(9), eta=3, number=3)
STRATEGIES |= {
    "halving aging": lambda space: Halving(
        AgingEvolution(space, population_size=6, lag=4), RUNGS, lag=4
    ),
    "halving evolution, lag 2": lambda space: Halving(
        Evolution(space, population_size=6), RUNGS, eta=2, lag=2
    ),
    "halving nsga2": lambda space: Halving(
        NSGA2(space, BOTH, population_size=6), RUNGS, objectives=BOTH
    ),
    "inheriting evolution": lambda space: Inheriting(
        Evolution(space, population_size=6), Budget(4), 0.5
    ),
    "inheriting local": lambda space: Inheriting(
        LocalSearch(space, population_size=6, lag=4), None, 1.0
    ),
    "halving inheriting screened, two objectives": lambda space: Halving(
        Inheriting(screened_both(space, lag=2), Budget(4), 0.5), RUNGS, objectives=BOTH, lag=3
    ),
    "halving inheriting screened": lambda space: Halving(
        Inheriting(screened(space=space, lag=2), Budget(4), 0.5), RUNGS, lag=3
    ),
}
SPACES: dict[str, Space] = {"nano": NANO, "layers": LAYERS}
FACTORIES = {
    f"{strategy}, {space}": (lambda make=make, over=over: make(over))
    for strategy, make in STRATEGIES.items()
    for space, over in SPACES.items()
}


@pytest.fixture(params=FACTORIES)
def make(request: pytest.FixtureRequest) -> Callable[[], Strategy]:
    return FACTORIES[request.param]


def measured(candidate: Candidate) -> Evaluation:
    """Some metrics, different for every candidate; each fifth fails, each seventh is pruned."""
    number = candidate.number
    if number % 5 == 3:
        return Evaluation(number, State.FAILED, reason="bad luck")
    state = State.PRUNED if number % 7 == 2 else State.COMPLETE
    accuracy, params = np.random.default_rng(number).random(2).tolist()
    return Evaluation(
        number, state, {"accuracy": accuracy, "params": params}, (Epoch(1.0, accuracy),)
    )


def failing(candidate: Candidate) -> Evaluation:
    return Evaluation(candidate.number, State.FAILED, reason="always")


def opens(strategy: Strategy, told: list[Told]) -> bool:
    """Whether a screened search has heard of no training: then it takes the largest of some random
    networks.
    """
    wrapped = strategy
    while isinstance(wrapped, (Halving, Inheriting)):
        wrapped = wrapped.strategy
    return isinstance(wrapped, Screened) and not told


def space_of(strategy: Any) -> Space:
    """Its own, or that of the strategy it wraps."""
    space: Space = strategy.space if hasattr(strategy, "space") else space_of(strategy.strategy)
    return space


def driven(
    strategy: Strategy,
    total: int,
    measure: Callable[[Candidate], Evaluation] = measured,
    seed: int = 0,
) -> Iterator[tuple[Candidate, list[Told]]]:
    """What a study does, without duplicates, limits and budgets: each candidate with what was told
    before it.
    """
    asked: list[Candidate] = []
    told: list[Told] = []
    for number in range(total):
        while len(told) < strategy.needs(number):
            candidate = asked[len(told)]
            told.append(Told(candidate, measure(candidate), candidate.asked_after))
            strategy.tell(told[-1])
        proposal = strategy.ask(number, rng_for(seed, number), asked[len(told) :])
        asked.append(Candidate(number, proposal, str(proposal.genome), len(told)))
        yield asked[-1], list(told)


# --- the contract ---------------------------------------------------------------------------------


def test_needs_and_generations_never_fall_and_nothing_needs_itself(
    make: Callable[[], Strategy],
) -> None:
    strategy = make()
    needs = [strategy.needs(number) for number in range(200)]
    generations = [strategy.generation(number) for number in range(200)]
    assert all(0 <= need <= number for number, need in enumerate(needs))
    assert needs == sorted(needs)
    assert generations == sorted(generations)
    assert set(generations) == set(range(generations[-1] + 1))


def test_asking_changes_nothing(make: Callable[[], Strategy]) -> None:
    strategy = make()
    asked: list[Candidate] = []
    for candidate, told in driven(strategy, 30):
        before, pending = pickle.dumps(strategy), asked[len(told) :]
        again = strategy.ask(candidate.number, rng_for(0, candidate.number), pending)
        for seed in range(1, 4):
            strategy.ask(candidate.number, rng_for(seed, candidate.number), pending)
        asked.append(candidate)
        assert again == candidate.proposal
        assert pickle.dumps(strategy) == before


def test_the_state_is_a_fold_over_what_was_told(make: Callable[[], Strategy]) -> None:
    strategy, fresh = make(), make()
    *_, (_, told) = driven(strategy, 40)
    for one in told:
        fresh.tell(one)
    for seed in range(20):
        assert fresh.ask(40, rng_for(seed, 40), []) == strategy.ask(40, rng_for(seed, 40), [])


def test_the_same_seed_proposes_the_same_and_another_does_not(make: Callable[[], Strategy]) -> None:
    first, again, other = (
        [c.proposal for c, _ in driven(make(), 30, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_proposals_are_genomes_of_the_space_and_parents_were_told_and_did_not_fail(
    make: Callable[[], Strategy],
) -> None:
    strategy = make()
    for candidate, told in driven(strategy, 40):
        space_of(strategy).decode(candidate.proposal.genome)
        alive = {one.number for one in told if not one.lost}
        assert set(candidate.proposal.parents) <= alive
        assert len(set(candidate.proposal.parents)) == len(candidate.proposal.parents)


def test_what_is_asked_for_begins_with_weights_that_were_kept(
    make: Callable[[], Strategy],
) -> None:
    """Weights go as soon as they are not needed, and do not come again. Of those that were asked,
    the last two are not evaluated when the next one is bred.
    """
    strategy = make()
    asked, kept, told = list[Candidate](), set[int](), 0
    inherits = "Inheriting" in repr(strategy)  # else any parent might be inherited from
    for number in range(40):
        while told < strategy.needs(number):
            candidate = asked[told]
            strategy.tell(Told(candidate, measured(candidate), candidate.asked_after))
            kept.add(told)
            told += 1
        untold, evaluated = asked[told:], range(number - 2)
        named, most = strategy.may_need(), strategy.most_needed
        wanted = needed(strategy, untold, evaluated.__contains__)
        if named is None or wanted is None:  # those of all stay
            assert (named, wanted, most) == (None, None, None)
            return
        assert most is None or len(named) <= most
        kept &= wanted
        for candidate in untold:
            assert candidate.number in wanted
            assert candidate.number in evaluated or kept >= {*candidate.proposal.begins_with}
        for seed in (2, 1, 0):
            proposal = strategy.ask(number, rng_for(seed, number), untold)
            assert kept >= {*proposal.begins_with, *(() if inherits else proposal.parents)}
        asked.append(Candidate(number, proposal, str(proposal.genome), told))
    assert len(kept) < told or not told


def test_when_everything_fails_a_strategy_goes_on_at_random(make: Callable[[], Strategy]) -> None:
    strategy = make()
    for candidate, told in driven(strategy, 40, failing):
        if opens(strategy, told):
            continue
        budget = candidate.proposal.budget  # a warm start's pool has its own, and halving
        genome = space_of(strategy).sample(rng_for(0, candidate.number))
        assert candidate.proposal == Proposal(genome, budget=budget)


# --- generational evolution -----------------------------------------------------------------------


@pytest.mark.parametrize(("population", "elite"), [(2, 1), (6, 1), (7, 5), (30, 3), (100, 10)])
def test_the_elite_is_not_evaluated_again(population: int, elite: int) -> None:
    strategy = Evolution(NANO, population_size=population, elite_size=elite)
    sizes = Counter(map(strategy.generation, range(population + 4 * (population - elite))))
    assert sizes == {0: population, **dict.fromkeys(range(1, 5), population - elite)}
    for number in range(
        population + 4 * (population - elite)
    ):  # asked when all earlier generations are in
        earlier = [n for n in range(number) if strategy.generation(n) < strategy.generation(number)]
        assert strategy.needs(number) == len(earlier)


@pytest.mark.parametrize(
    ("population", "elite"), [(2, 1), (5, 1), (14, 1), (15, 2), (30, 3), (100, 10)]
)
def test_the_elite_is_a_tenth_and_one_at_least(population: int, elite: int) -> None:
    assert Evolution(NANO, population_size=population).elite_size == elite


def breeders(told: list[Told], strategy: Evolution) -> list[int]:
    """Who may be a parent, best first, by brute force: the best quarter of the last generation, and
    the elite.
    """

    def best(some: list[Told]) -> list[Told]:
        usable = [one for one in some if not one.lost]
        return sorted(usable, key=lambda one: (-one.evaluation.metrics["accuracy"], one.number))

    last = max(strategy.generation(one.number) for one in told)
    generation = best([one for one in told if strategy.generation(one.number) == last])
    quarter = generation[: max(2, round(strategy.parents_share * len(generation)))]
    elite = best(told)[: strategy.elite_size]
    breeding = {one.number for one in [*quarter, *elite]}
    return [one.number for one in best(told) if one.number in breeding]


def test_parents_are_the_best_quarter_and_the_elite_and_win_as_tournaments_are_won() -> None:
    strategy = Evolution(NANO, population_size=24, elite_size=2)
    *_, (first, told) = driven(strategy, 24 + 3 * 22 + 1)
    assert strategy.needs(first.number) == first.number
    pool, draws = breeders(told, strategy), 4000
    asked = [strategy.ask(first.number, rng_for(seed, 1), []) for seed in range(draws)]
    assert {parent for proposal in asked for parent in proposal.parents} == set(pool)
    wins = Counter(proposal.parents[0] for proposal in asked)
    size, k = len(pool), strategy.tournament_size
    for place, number in enumerate(pool):  # the best of k draws with replacement
        share = ((size - place) ** k - (size - place - 1) ** k) / size**k
        assert wins[number] / draws == pytest.approx(
            share, abs=4 * sqrt(share * (1 - share) / draws)
        )


def test_only_the_last_generation_and_the_elite_are_parents_all_along() -> None:
    strategy = Evolution(NANO, population_size=10)
    for candidate, told in driven(strategy, 60):
        assert set(candidate.proposal.parents) <= set(breeders(told, strategy) if told else [])


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_crossover_rate_is_the_share_of_children_with_two_parents(rate: float) -> None:
    strategy = Evolution(NANO, population_size=20, tournament_size=1, crossover_rate=rate)
    *_, (_, told) = driven(strategy, 21)
    size, draws = len(breeders(told, strategy)), 2000
    both = (
        sum(len(strategy.ask(20, rng_for(seed, 2), []).parents) == 2 for seed in range(draws))
        / draws
    )
    share = rate * (1 - 1 / size)  # the same parent drawn twice has one child of its own
    assert both == pytest.approx(share, abs=4 * sqrt(share * (1 - share) / draws))


def test_a_child_of_one_parent_differs_from_it_by_a_mutation() -> None:
    strategy = Evolution(NANO, population_size=10, crossover_rate=0.0)
    genomes: dict[int, tuple[int, ...]] = {}
    for candidate, _ in driven(strategy, 50):
        genome = genomes[candidate.number] = candidate.proposal.genome
        for parent in candidate.proposal.parents:
            assert sum(a != b for a, b in zip(genome, genomes[parent], strict=True)) == 1


def test_the_elite_has_each_network_once() -> None:
    strategy = Evolution(NANO, population_size=30, elite_size=3)
    for number in range(30):
        genome = NANO.sample(
            rng_for(0, max(3, number))
        )  # 0 to 3 are one network: 0.9, 0.8, 0.7, 0.6
        evaluation = Evaluation(number, State.COMPLETE, {"accuracy": 0.9 - 0.01 * number})
        strategy.tell(Told(Candidate(number, Proposal(genome), str(genome)), evaluation))
    assert [told.number for told in strategy._elite] == [0, 4, 5]


# --- aging evolution ------------------------------------------------------------------------------


def alive(told: list[Told], population: int) -> list[int]:
    """The youngest that could be trained, best first."""
    youngest = [one for one in told if not one.lost][-population:]
    ordered = sorted(youngest, key=lambda one: -one.evaluation.metrics["accuracy"])
    return [one.number for one in ordered]


@pytest.mark.parametrize("lag", [1, 5])
def test_the_oldest_dies_and_the_best_of_the_whole_population_is_the_parent(lag: int) -> None:
    strategy = AgingEvolution(NANO, population_size=8, sample_size=8, lag=lag)
    for candidate, told in driven(strategy, 80):
        bred = candidate.number >= 8
        assert candidate.proposal.parents == (tuple(alive(told, 8)[:1]) if bred else ())


@pytest.mark.parametrize("sample", [1, 3, 9])
def test_the_parent_is_the_best_of_a_sample_of_those_alive(sample: int) -> None:
    strategy = AgingEvolution(NANO, population_size=10, sample_size=sample)
    *_, (last, told) = driven(strategy, 50)
    pool, draws = alive(told, 10), 3000
    wins = Counter(strategy.ask(last.number, rng_for(seed, 3), []).parents for seed in range(draws))
    assert {number for parents in wins for number in parents} <= set(pool)
    for place, number in enumerate(pool):  # the best of `sample` drawn without replacement
        share = comb(10 - 1 - place, sample - 1) / comb(10, sample)
        assert wins[(number,)] / draws == pytest.approx(
            share, abs=4 * sqrt(share * (1 - share) / draws)
        )


@pytest.mark.parametrize(("population", "sample"), [(2, 2), (7, 2), (8, 2), (12, 3), (64, 16)])
def test_the_sample_is_a_quarter_and_two_at_least(population: int, sample: int) -> None:
    assert AgingEvolution(NANO, population_size=population).sample_size == sample


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (
            lambda: Evolution(NANO, population_size=1),
            "population must be 2 or more for evolution, but is 1",
        ),
        (
            lambda: Evolution(NANO, population_size=5, elite_size=5),
            "elite_size must lie in [1, 4] for a population of 5, but is 5",
        ),
        (
            lambda: Evolution(NANO, population_size=5, elite_size=0),
            "elite_size must lie in [1, 4] for a population of 5, but is 0",
        ),
        (
            lambda: AgingEvolution(NANO, population_size=1),
            "population must be 2 or more for aging evolution, but is 1",
        ),
        (
            lambda: AgingEvolution(NANO, population_size=4, sample_size=5),
            "sample_size must lie in [1, population=4], but is 5",
        ),
        (
            lambda: AgingEvolution(NANO, population_size=4, sample_size=0),
            "sample_size must lie in [1, population=4], but is 0",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(make_one: Callable[[], Strategy], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make_one()
    assert str(error.value) == message


# --- whether it is of any use ---------------------------------------------------------------------


def share_of_conv3x3(candidate: Candidate, pulse: Pulse) -> Evaluation:
    genome = candidate.proposal.genome
    accuracy = sum(NAMES[gene] == "conv3x3" for gene in genome) / len(genome)
    return Evaluation(candidate.number, State.COMPLETE, {"accuracy": accuracy})


def test_evolution_beats_random_search(tmp_path: Path) -> None:
    space = NanoSpace((1, 8, 8), 3, channels=1, length=12)

    def best(name: str, strategy: Strategy, seed: int) -> float:
        with RunStore.begin(tmp_path / f"{name}-{seed}.db", {"search": {"seed": seed}}) as store:
            Study(space, strategy, SerialEvaluator(share_of_conv3x3), store, Budget(1), seed).run(
                80
            )
            return ranking(store.told())[0].evaluation.metrics["accuracy"]

    reached = {
        name: np.mean([best(name, STRATEGIES[name](space), seed) for seed in range(5)])
        for name in ("random", "evolution", "aging")
    }
    assert reached["evolution"] > reached["random"] + 0.1
    assert reached["aging"] > reached["random"] + 0.1
