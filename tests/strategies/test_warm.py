"""The warm start beyond the contract of strategies: what is promoted, what the wrapped strategy
hears, whole runs.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nanonas.config.parts import make_strategy
from nanonas.config.schema import SearchConfig
from nanonas.core import Budget, Candidate, Evaluation, Proposal, Pulse, State, rng_for
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import End, Progress, Study, Why
from nanonas.errors import ConfigError, RunError
from nanonas.report.terminal import tables
from nanonas.report.terminal.progress import SearchProgress
from nanonas.spaces.nano import NanoSpace
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.around.warm import WarmStart
from nanonas.strategies.evolution import Evolution
from nanonas.strategies.local import LocalSearch

SPACE = NanoSpace((1, 8, 8), 3, channels=2, length=8)
POOL, FIRST = 20, 8


def warm(**options: object) -> WarmStart:
    return WarmStart(Evolution(SPACE, population_size=FIRST), SPACE, POOL, FIRST, **options)  # type: ignore[arg-type]


def score(candidate: Candidate, pulse: Pulse = lambda: True) -> Evaluation:
    """A measure that scores what is only to be scored, and trains the rest; every seventh fails."""
    number = candidate.number
    if number % 7 == 3:
        return Evaluation(number, State.FAILED, reason="bad luck")
    draw = np.random.default_rng([number, *candidate.proposal.genome])
    found = (
        {"accuracy": draw.random()}
        if candidate.trained
        else {"synflow": draw.random(), "naswot": draw.random()}
    )
    return Evaluation(number, State.COMPLETE, found)


def scored(strategy: WarmStart) -> list[tuple[Candidate, Evaluation]]:
    """Asks for the whole pool and tells its scores."""
    told = []
    for number in range(POOL):
        candidate = Candidate(number, strategy.ask(number, rng_for(0, number), []), str(number))
        told.append((candidate, score(candidate)))
    for candidate, evaluation in told:
        strategy.tell(candidate, evaluation)
    return told


# --- the pool -------------------------------------------------------------------------------------


def test_the_pool_is_random_scored_only_and_asked_all_at_once() -> None:
    strategy = warm()
    for number in range(POOL):
        assert strategy.needs(number) == 0
        assert strategy.ask(number, rng_for(0, number), []) == Proposal(
            SPACE.sample(rng_for(0, number)), budget=Budget(0)
        )
    assert strategy.needs(POOL) == POOL
    assert {strategy.generation(number) for number in range(POOL + FIRST)} == {0}
    assert strategy.generation(POOL + FIRST) == 1


@pytest.mark.parametrize(("share", "top"), [(0.0, 0), (0.5, 4), (0.75, 6), (1.0, 8)])
def test_the_best_of_the_pool_and_the_first_of_the_others_are_trained(
    share: float, top: int
) -> None:
    strategy = warm(by=("synflow", "params"), top_share=share)
    alive = [(c, e) for c, e in scored(strategy) if e.state is State.COMPLETE]

    def place(own: tuple[Candidate, Evaluation]) -> tuple[int, int]:
        flow, params = own[1].metrics["synflow"], SPACE.decode(own[0].proposal.genome).params
        better = sum(e.metrics["synflow"] > flow for _, e in alive)
        return better + sum(SPACE.decode(c.proposal.genome).params > params for c, _ in alive), own[
            0
        ].number

    best = [candidate for candidate, _ in sorted(alive, key=place)[:top]]
    expected = [*best, *[candidate for candidate, _ in alive if candidate not in best]][:FIRST]
    asked = [strategy.ask(POOL + n, rng_for(0, POOL + n), []) for n in range(FIRST)]
    assert asked == [
        Proposal(candidate.proposal.genome, (candidate.number,)) for candidate in expected
    ]


def test_what_has_no_score_ranks_last() -> None:
    strategy = warm(by=("naswot",), top_share=1.0)
    for number in range(POOL):
        candidate = Candidate(number, strategy.ask(number, rng_for(0, number), []), str(number))
        found = {} if number < 14 else {"naswot": -5.0 - number}
        strategy.tell(candidate, Evaluation(number, State.COMPLETE, found))
    parents = [strategy.ask(POOL + n, rng_for(0, n), []).parents[0] for n in range(FIRST)]
    assert parents == [14, 15, 16, 17, 18, 19, 0, 1]


# --- the wrapped strategy -------------------------------------------------------------------------


@pytest.mark.parametrize("lag", [1, 4])
def test_the_strategy_hears_what_was_trained_as_if_there_were_no_pool(lag: int) -> None:
    def aging() -> AgingEvolution:
        return AgingEvolution(SPACE, population_size=FIRST, lag=lag)

    strategy, bare = WarmStart(aging(), SPACE, POOL, FIRST), aging()
    scored(strategy)
    asked: list[Candidate] = []
    told = 0
    for number in range(60):
        assert strategy.needs(POOL + number) == POOL + bare.needs(number)
        assert strategy.generation(POOL + number) == bare.generation(number)
        for candidate in asked[told : bare.needs(number)]:
            evaluation = score(candidate)
            strategy.tell(candidate, evaluation)
            own = replace(candidate, number=candidate.number - POOL)
            bare.tell(own, replace(evaluation, number=own.number))
        told = bare.needs(number)
        proposal = strategy.ask(POOL + number, rng_for(1, number), asked[told:])
        if number >= FIRST:
            expected = bare.ask(number, rng_for(1, number), asked[told:])
            assert proposal == replace(
                expected, parents=tuple(POOL + parent for parent in expected.parents)
            )
        asked.append(Candidate(POOL + number, proposal, str(number), POOL + told))


def test_the_strategy_says_how_long_the_best_of_the_pool_are_trained() -> None:
    class Short(Evolution):
        def ask(self, number: int, rng: np.random.Generator, pending: object) -> Proposal:
            return replace(super().ask(number, rng, []), budget=Budget(3 + number))

    strategy = WarmStart(Short(SPACE, population_size=FIRST), SPACE, POOL, FIRST)
    scored(strategy)
    asked = [strategy.ask(POOL + n, rng_for(0, n), []) for n in range(FIRST)]
    assert [proposal.budget for proposal in asked] == [Budget(3 + n) for n in range(FIRST)]
    assert all(proposal.parents for proposal in asked)


def test_pending_is_numbered_as_the_strategy_numbers() -> None:
    seen: list[Candidate] = []

    class Listening(Evolution):
        def ask(self, number: int, rng: np.random.Generator, pending: object) -> Proposal:
            seen.extend(pending)  # type: ignore[call-overload]
            return super().ask(number, rng, [])

    strategy = WarmStart(Listening(SPACE, population_size=2), SPACE, POOL, 2)
    scored(strategy)
    pending = [Candidate(POOL + n, Proposal((0,) * 8, (2, POOL)), "key", POOL + n) for n in (3, 4)]
    strategy.ask(POOL + 5, rng_for(0, 0), pending)
    assert [(c.number, c.proposal.parents, c.asked_after) for c in seen] == [
        (3, (0,), 3),
        (4, (0,), 4),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": 0}, "pool and first must be 1 or more for a warm start, but are 0 and 8"),
        ({"first": 0}, "pool and first must be 1 or more for a warm start, but are 20 and 0"),
        ({"top_share": 1.5}, "top_share must lie in [0, 1], but is 1.5"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        WarmStart(Evolution(SPACE), SPACE, **{"pool": POOL, "first": FIRST, **options})  # type: ignore[arg-type]
    assert str(error.value) == message


def test_the_configuration_warms_up_any_strategy() -> None:
    config = SearchConfig(strategy="aging", population=7, warm_pool=30)
    made = make_strategy(config, SPACE)
    assert isinstance(made, WarmStart)
    assert (made.pool, made.first, type(made.strategy)) == (30, 7, AgingEvolution)
    assert isinstance(make_strategy(replace(config, warm_pool=0), SPACE), AgingEvolution)


# --- whole runs -----------------------------------------------------------------------------------


def run(
    path: Path, measure: object = score, evaluations: int | None = 12, **options: object
) -> tuple[End, list[Progress]]:
    try:
        store = RunStore.resume(path, {"search": {}})
    except RunError:
        store = RunStore.begin(path, {"search": {}})
    seen: list[Progress] = []
    with store:
        study = Study(SPACE, warm(), SerialEvaluator(measure, slots=3), store, Budget(2))  # type: ignore[arg-type]
        return study.run(evaluations, observe=seen.append, **options), seen  # type: ignore[arg-type]


def stored(path: Path) -> list[object]:
    with RunStore.read(path) as store:
        return [*store.candidates(), *(replace(e, seconds=0.0) for e in store.latest().values())]


def test_evaluations_are_those_that_are_trained(tmp_path: Path) -> None:
    end, seen = run(tmp_path / "a.db")
    assert (end.why, end.message) == (Why.EVALUATIONS, "12 candidates are evaluated")
    with RunStore.read(tmp_path / "a.db") as store:
        candidates, evaluations = store.candidates(), store.evaluations()
    assert [c.proposal.budget for c in candidates] == [Budget(0)] * POOL + [Budget(2)] * 12
    assert {e.number for e in ranking(evaluations)} == {
        n for n in range(POOL, POOL + 12) if n % 7 != 3
    }
    assert [p.evaluated for p in seen] == [0] * POOL + list(range(1, 13))
    assert run(tmp_path / "a.db", evaluations=15)[0].message == "15 candidates are evaluated"
    assert run(tmp_path / "a.db", evaluations=None, generations=2)[0].why is Why.GENERATIONS
    assert len(stored(tmp_path / "a.db")) == 2 * (
        POOL + 15
    )  # two generations, of 8 and of 7 new ones


@pytest.mark.parametrize("at", [0, 5, POOL - 1, POOL + 1, POOL + 9])
def test_a_run_cut_anywhere_resumes_to_the_same_end(tmp_path: Path, at: int) -> None:
    left = iter(range(at))

    def interrupted(candidate: Candidate, pulse: Pulse) -> Evaluation:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return score(candidate)

    run(tmp_path / "whole.db")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.db", interrupted)
    run(tmp_path / "cut.db")
    assert stored(tmp_path / "cut.db") == stored(tmp_path / "whole.db")


def test_a_summary_and_a_progress_count_what_is_scored_apart(tmp_path: Path) -> None:
    known = {
        "strategy": "evolution",
        "space": "nano",
        "data": "digits",
        "seed": 0,
        "epochs": 2,
        "precision": "float32",
    }
    with RunStore.begin(tmp_path / "a.db", {"search": known}) as store:
        seen: list[Progress] = []
        study = Study(SPACE, warm(), SerialEvaluator(score), store, Budget(2))
        study.run(12, observe=seen.append)
        failed = [n for n in range(POOL + 12) if n % 7 == 3]
        pool = POOL - sum(n < POOL for n in failed)
        said = f"{POOL + 12 - pool} candidates: {POOL + 12 - pool - len(failed)} complete, {len(failed)} failed; "
        assert f"{said}{pool} scored; " in tables.summary(store)
    progress = SearchProgress(Console(file=io.StringIO()), 12, None, None)
    for one in seen[:POOL]:
        progress.show(one)
    words = progress._line().split(" · ")
    assert words[:2] == ["generation 1", f"{pool} scored"]
    assert {"0 done", f"{POOL - pool} failed", "no result yet"} <= set(words)
    for one in seen[POOL:]:
        progress.show(one)
    assert f"{12 + POOL - pool - len(failed)} done" in progress._line()
    assert progress.seconds_left() == 0


def test_local_search_starts_from_the_best_of_the_first_generation() -> None:
    local = LocalSearch(SPACE)
    strategy = WarmStart(local, SPACE, pool=12, first=6)
    accuracies = [0.5, 0.9, 0.3, 0.4, 0.2, 0.1]
    for number in range(18):
        candidate = Candidate(
            number, strategy.ask(number, rng_for(0, number), []), str(number), asked_after=number
        )
        metrics = (
            {"naswot": float(number)} if number < 12 else {"accuracy": accuracies[number - 12]}
        )
        strategy.tell(
            candidate, Evaluation(number, State.COMPLETE, {"params": 1.0, "macs": 1.0, **metrics})
        )
    (parent,) = strategy.ask(18, rng_for(0, 18), []).parents
    assert parent == 13


def test_a_pool_larger_than_the_space_ends_nothing(tmp_path: Path) -> None:
    space = NanoSpace((1, 8, 8), 3, channels=1, length=2)  # 64 networks
    strategy = WarmStart(AgingEvolution(space, population_size=4), space, pool=80, first=4)
    with RunStore.begin(tmp_path / "study.db", {}) as store:
        end = Study(space, strategy, SerialEvaluator(score), store, Budget(1)).run(10)
        assert end.why is Why.EVALUATIONS
        assert sum(candidate.trained for candidate in store.candidates()) == 10
