"""The loop. The oracle is the uninterrupted run of one process; whatever else happens must come to
the same store.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from toys.engine import (
    BUDGET,
    CONFIG,
    SPACE,
    STRATEGIES,
    Interrupting,
    Shuffled,
    SteadyBest,
    ToySpace,
    UntilDeadline,
    by_number,
    ones,
    score,
    study,
)

from nanonas.core import (
    DEVICE_LOST,
    Budget,
    Candidate,
    Evaluation,
    Proposal,
    Pulse,
    State,
    Strategy,
    Told,
    rng_for,
)
from nanonas.engine.evaluators.attempt import attempt
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Study, Why
from nanonas.errors import ConfigError, Exhausted, RunError, reason_for
from nanonas.networks.limits import Limits
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.random import RandomSearch

TOTAL = 24


@pytest.fixture(params=STRATEGIES)
def make(request: pytest.FixtureRequest) -> Callable[[], Strategy]:
    return STRATEGIES[request.param]


def run(
    path: Path, strategy: Strategy, evaluator: object = None, total: int = TOTAL, **options: object
) -> Study:
    made = study(path, strategy, evaluator or SerialEvaluator(score), **options)  # type: ignore[arg-type]
    try:
        made.run(total)
    finally:
        made.store.close()
    return made


@pytest.mark.parametrize("slots", [2, 3, 16])
def test_many_workers_come_to_the_same_store(
    make: Callable[[], Strategy], tmp_path: Path, slots: int
) -> None:
    run(tmp_path / "one.db", make())
    run(tmp_path / "many.db", make(), Shuffled(slots, seed=slots))
    assert by_number(tmp_path / "many.db") == by_number(tmp_path / "one.db")


@pytest.mark.parametrize("at", [0, 1, 4, 5, 11, TOTAL - 1])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_run_cut_anywhere_resumes_to_the_same_end(
    make: Callable[[], Strategy], tmp_path: Path, at: int, slots: int
) -> None:
    run(tmp_path / "whole.db", make())
    evaluator = Shuffled(slots, seed=at, measure=Interrupting(at))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut.db", make(), evaluator)
    assert evaluator.closed
    with RunStore.read(tmp_path / "cut.db") as store:
        assert len(store.evaluations()) == at
        assert [event.kind for event in store.events()] == ["started", "interrupted"]
    run(tmp_path / "cut.db", make(), Shuffled(3, seed=0))
    assert by_number(tmp_path / "cut.db") == by_number(tmp_path / "whole.db")


def test_a_strategy_hears_exactly_what_it_needs_when_it_is_asked(tmp_path: Path) -> None:
    strategy = SteadyBest(SPACE, lag=4)
    asked: list[tuple[int, int, list[int]]] = []
    plain = strategy.ask

    def ask(number: int, rng: np.random.Generator, pending: object) -> Proposal:
        asked.append((number, len(strategy.told), [c.number for c in pending]))  # type: ignore[attr-defined]
        return plain(number, rng, pending)  # type: ignore[arg-type]

    strategy.ask = ask  # type: ignore[method-assign]
    made = run(tmp_path / "a.db", strategy, Shuffled(3, seed=1))
    for number, told, pending in asked:
        assert told == strategy.needs(number)
        assert pending == list(range(told, number))
    with RunStore.read(made.store.path) as store:
        assert [c.asked_after for c in store.candidates()] == [
            strategy.needs(n) for n in range(TOTAL)
        ]


def test_going_on_in_the_same_process(tmp_path: Path) -> None:
    run(tmp_path / "whole.db", SteadyBest(SPACE))
    parts = study(tmp_path / "parts.db", SteadyBest(SPACE), SerialEvaluator(score))
    assert [parts.run(n).why for n in (5, 5, TOTAL)] == [Why.EVALUATIONS] * 3
    parts.store.close()
    assert by_number(tmp_path / "parts.db") == by_number(tmp_path / "whole.db")


def test_whose_weights_are_needed_is_what_it_was_when_a_run_is_resumed(tmp_path: Path) -> None:
    def made() -> Study:
        strategy = AgingEvolution(SPACE, population_size=3, lag=2)
        return study(tmp_path / "study.db", strategy, SerialEvaluator(score))

    whole = made()
    whole.run(12)
    needed = whole.needed()
    assert needed is not None
    assert 1 <= len(needed) <= 5  # three that live, and two that were not told
    whole.store.close()
    resumed = made()
    assert resumed.needed() == frozenset(range(12))  # it was told nothing yet
    resumed.run(12)
    assert resumed.needed() == needed
    resumed.store.close()


def test_generations(tmp_path: Path) -> None:
    made = study(tmp_path / "g.db", STRATEGIES["evolution"](), Shuffled(3, seed=0))
    end = made.run(generations=3)
    assert (end.why, end.message) == (Why.GENERATIONS, "3 generations are evaluated")
    assert len(made.store.latest()) == 5 + 4 + 4  # one of each later population of 5 is the elite
    assert made.run(evaluations=15, generations=9).why is Why.EVALUATIONS
    made.store.close()


def test_no_network_is_evaluated_twice_under_one_budget(
    make: Callable[[], Strategy], tmp_path: Path
) -> None:
    made = run(tmp_path / "d.db", make(), Shuffled(4, seed=2), total=60)
    with RunStore.read(made.store.path) as store:
        seen = [(c.key, c.proposal.budget) for c in store.candidates()]
        assert len(set(seen)) == len(seen) == 60
        assert all(c.key == SPACE.decode(c.proposal.genome).key for c in store.candidates())


def test_limits_hold_and_counts_are_stored_for_every_state(tmp_path: Path) -> None:
    limits = Limits(max_params=9_000, max_macs=500_000)
    made = run(tmp_path / "l.db", SteadyBest(SPACE), limits=limits)
    with RunStore.read(made.store.path) as store:
        assert {e.state for e in store.evaluations()} >= {State.COMPLETE, State.FAILED}
        for candidate, (number, evaluation) in zip(
            store.candidates(), store.latest().items(), strict=True
        ):
            network = SPACE.decode(candidate.proposal.genome)
            assert candidate.number == number
            assert (evaluation.metrics["params"], evaluation.metrics["macs"]) == (
                network.params,
                network.macs,
            )
            assert network.params <= 9_000
            assert network.macs <= 500_000


def test_a_small_space_ends_the_run(tmp_path: Path) -> None:
    tiny = ToySpace(depth=1, widths=2)
    made = study(tmp_path / "t.db", RandomSearch(tiny), SerialEvaluator(ones), tiny)
    end = made.run(evaluations=100)
    assert end.why is Why.EXHAUSTED
    assert end.message == (
        "the space 'toy' is exhausted: all of 10,020 draws are among the 3 candidates asked "
        "before; "
        "choose a larger space for a longer search"
    )
    assert len(made.store.latest()) == 3
    assert made.store.events()[-1].details["why"] == "exhausted"
    made.store.close()


def test_limits_can_end_the_run(tmp_path: Path) -> None:
    tiny = ToySpace(depth=1, widths=2)
    made = study(
        tmp_path / "t.db",
        RandomSearch(tiny),
        SerialEvaluator(ones),
        tiny,
        limits=Limits(max_params=200),
    )
    end = made.run(evaluations=100)
    made.store.close()
    assert end.why is Why.EXHAUSTED
    assert (
        "from the space 'toy' exceed at most 200 parameters, and the others are among the 2 "
        "candidates" in end.message
    )
    assert end.message.endswith(
        "the smallest network beyond them has 306 parameters and 13,904 MACs, so raise the limits "
        "or choose another "
        "space"
    )


def test_limits_that_no_network_meets_are_an_error(tmp_path: Path) -> None:
    tiny = ToySpace(depth=1, widths=2)
    made = study(
        tmp_path / "t.db", RandomSearch(tiny), SerialEvaluator(ones), tiny, limits=Limits(1, 1)
    )
    with pytest.raises(Exhausted) as error:
        made.run(evaluations=100)
    made.store.close()
    assert str(error.value) == (
        "the limits are exhausted: 10,020 of 10,020 draws from the space 'toy' exceed at most 1 "
        "parameters and at "
        "most 1 MACs; the smallest network beyond them has 40 parameters and 30 MACs, so raise "
        "the limits or choose "
        "another space"
    )


def test_limits_are_positive() -> None:
    with pytest.raises(
        ConfigError, match="max_params must be 1 or more, but is 0; leave it out for no limit"
    ):
        Limits(max_params=0)
    with pytest.raises(
        ConfigError, match="max_memory_mb must be above 0, but is 0; leave it out for no limit"
    ):
        Limits(max_memory_mb=0)


def test_a_strategy_that_repeats_itself_gets_random_genomes(tmp_path: Path) -> None:
    @dataclass
    class Stubborn(RandomSearch):
        def ask(self, number: int, rng: np.random.Generator, pending: object) -> Proposal:
            return Proposal((1, 1, 1, 1), (0,) if number else ())

    made = run(tmp_path / "s.db", Stubborn(SPACE), SerialEvaluator(ones), total=5)
    with RunStore.read(made.store.path) as store:
        first, *others = store.candidates()
        assert first.proposal.genome == (1, 1, 1, 1)
        assert all(c.proposal.parents == () for c in others)
        assert others[0].proposal.genome == SPACE.sample(rng_for(7, 1))


def test_what_is_drawn_instead_of_a_child_inherits_as_it_would_have(tmp_path: Path) -> None:
    """A child that inherits may have a shorter budget; a training from scratch has the study's."""

    @dataclass
    class Stubborn(RandomSearch):
        def ask(self, number: int, rng: np.random.Generator, pending: object) -> Proposal:
            if number == 0:
                return Proposal((1, 1, 1, 1))
            return Proposal((2, 1, 1, 1), (0,), replace(BUDGET, epochs=1), inherits=(0,))

    made = run(tmp_path / "s.db", Stubborn(SPACE), SerialEvaluator(ones), total=5)
    with RunStore.read(made.store.path) as store:
        proposals = [candidate.proposal for candidate in store.candidates()]
    assert [proposal.inherits for proposal in proposals] == [()] + [(0,)] * 4
    assert [proposal.budget for proposal in proposals] == [BUDGET] + [replace(BUDGET, epochs=1)] * 4
    assert len({proposal.genome for proposal in proposals}) == 5


def test_what_the_deadline_cuts_is_kept_not_told_and_trained_again(tmp_path: Path) -> None:
    strategy = SteadyBest(SPACE, lag=3)
    made = study(tmp_path / "d.db", strategy, SerialEvaluator(UntilDeadline(quick=4)))
    end = made.run(deadline=time.monotonic() + 1)
    assert end.why is Why.DEADLINE
    best = made.best() or pytest.fail("there is a best")
    evaluation = best.evaluation
    assert (best.candidate.number, evaluation.state, evaluation.accuracy) == (4, State.CUT, 0.9)
    assert {"params", "macs"} <= set(evaluation.metrics)
    assert len(strategy.told) < 4
    made.store.close()

    run(tmp_path / "d.db", SteadyBest(SPACE, lag=3), SerialEvaluator(ones))
    quick_then_ones = by_number(tmp_path / "d.db")

    def as_if_uncut(candidate: Candidate, pulse: Pulse) -> Evaluation:
        return (
            UntilDeadline(4)(candidate, pulse) if candidate.number < 4 else ones(candidate, pulse)
        )

    run(tmp_path / "whole.db", SteadyBest(SPACE, lag=3), SerialEvaluator(as_if_uncut))
    assert quick_then_ones == by_number(tmp_path / "whole.db")
    with RunStore.read(tmp_path / "d.db") as store:
        assert [e.state for e in store.evaluations() if e.number == 4] == [
            State.CUT,
            State.COMPLETE,
        ]


def test_a_lost_device_ends_the_search_which_goes_on_as_if_it_had_been_there(
    tmp_path: Path,
) -> None:
    def lost(candidate: Candidate, pulse: Pulse) -> Evaluation:
        if candidate.number < 4:
            return ones(candidate, pulse)
        reason, metrics = "it is away", {DEVICE_LOST: 1.0}
        return Evaluation(candidate.number, State.CUT, metrics, reason=reason)

    strategy = SteadyBest(SPACE, lag=3)
    made = study(tmp_path / "l.db", strategy, SerialEvaluator(lost))
    end = made.run(evaluations=10)
    assert (end.why, end.message) == (
        Why.LOST,
        "it is away; resume the run when it is there again",
    )
    assert (made.best() or pytest.fail("there is a best")).evaluation.state is State.COMPLETE
    assert len(strategy.told) < 4
    made.store.close()
    run(tmp_path / "l.db", SteadyBest(SPACE, lag=3), SerialEvaluator(ones), total=10)
    run(tmp_path / "whole.db", SteadyBest(SPACE, lag=3), SerialEvaluator(ones), total=10)
    assert by_number(tmp_path / "l.db") == by_number(tmp_path / "whole.db")


def test_what_does_not_return_after_the_deadline_is_given_up(tmp_path: Path) -> None:
    @dataclass
    class Deaf(Shuffled):
        def result(self, timeout: float | None = None) -> Evaluation | None:
            assert timeout is not None
            time.sleep(timeout)
            return None

    evaluator = Deaf(2, seed=0)
    made = study(tmp_path / "g.db", RandomSearch(SPACE), evaluator, grace=0.1)
    end = made.run(deadline=time.monotonic() + 0.1)
    assert end.why is Why.DEADLINE
    assert "2 candidates did not stop in time and were given up" in end.message
    assert evaluator.closed
    assert [e.details for e in made.store.events() if e.kind == "given up"] == [{"numbers": [0, 1]}]
    assert made.best() is None
    made.store.close()


def test_nothing_is_begun_after_the_deadline(tmp_path: Path) -> None:
    made = study(tmp_path / "n.db", RandomSearch(SPACE), SerialEvaluator(ones))
    assert made.run(deadline=time.monotonic() - 1).why is Why.DEADLINE
    assert made.store.candidates() == []
    made.store.close()


def test_ten_failures_for_one_reason_end_the_run_and_others_do_not(tmp_path: Path) -> None:
    def no_disk(candidate: Candidate, pulse: Pulse) -> Evaluation:
        raise OSError("no such disk")

    letters = itertools.count(ord("a"))

    def never_the_same(candidate: Candidate, pulse: Pulse) -> Evaluation:
        # letters: numbers do not make reasons differ, since paths and bytes contain some
        raise ValueError(chr(next(letters)))

    message = (
        "the first 10 candidates all failed with 'OSError: no such disk': remove the reason and "
        "begin again"
    )
    with pytest.raises(RunError, match=message):
        run(tmp_path / "f.db", RandomSearch(SPACE), Shuffled(3, 0, no_disk))
    run(
        tmp_path / "f.db", RandomSearch(SPACE), SerialEvaluator(ones)
    )  # who has mended it can go on
    run(tmp_path / "v.db", STRATEGIES["evolution"](), SerialEvaluator(never_the_same))
    with RunStore.read(tmp_path / "v.db") as store:
        assert [e.state for e in store.evaluations()] == [State.FAILED] * TOTAL
        assert all(e.traceback and "never_the_same" in e.traceback for e in store.evaluations())


def test_observers_see_what_is_stored(tmp_path: Path) -> None:
    seen: list[Progress] = []
    made = study(tmp_path / "o.db", SteadyBest(SPACE), Shuffled(2, seed=0))

    def observe(progress: Progress) -> None:
        assert made.store.evaluations()[-1] == progress.told.evaluation
        seen.append(progress)

    made.run(TOTAL, observe=observe)
    assert [p.evaluated for p in seen] == list(range(1, TOTAL + 1))
    assert all(
        p.told.candidate.number == p.told.evaluation.number
        and p.told.candidate.generation == p.told.number // 5
        for p in seen
    )
    assert seen[-1].best == (made.best() or pytest.fail("there is a best"))
    assert (seen[-1].asked, seen[-1].running) == (TOTAL, 0)
    made.store.close()


def test_a_strategy_that_needs_the_impossible_is_told_so(tmp_path: Path) -> None:
    @dataclass
    class Clairvoyant(RandomSearch):
        def needs(self, number: int) -> int:
            return number + 1

    made = study(tmp_path / "c.db", Clairvoyant(SPACE), SerialEvaluator(ones))
    with pytest.raises(RunError, match="needs evaluations of candidates that it was not asked for"):
        made.run(3)
    made.store.close()


def test_ranking() -> None:
    def scored(
        number: int, state: State, accuracy: float | None, image_size: int | None = None
    ) -> Told:
        budget = Budget(3, image_size=image_size)
        metrics = {} if accuracy is None else {"accuracy": accuracy}
        candidate = Candidate(number, Proposal((number,), budget=budget), "key")
        return Told(candidate, Evaluation(number, state, metrics))

    told = [
        scored(5, State.COMPLETE, 0.5),
        scored(1, State.CUT, 0.9),
        scored(1, State.COMPLETE, 0.4),  # the one that counts
        scored(2, State.PRUNED, 0.5),
        scored(3, State.FAILED, 0.99),
        scored(4, State.COMPLETE, float("nan")),
        scored(0, State.COMPLETE, None),
        scored(6, State.CUT, 0.6),
    ]
    assert [ranked.number for ranked in ranking(told)] == [6, 2, 5, 1]
    shrunk = scored(7, State.COMPLETE, 0.95, image_size=8)
    assert [ranked.number for ranked in ranking([*told, shrunk])] == [6, 2, 5, 1, 7]


def test_the_store_keeps_the_budget_of_the_study(tmp_path: Path) -> None:
    made = run(tmp_path / "b.db", RandomSearch(SPACE), total=3)
    with RunStore.read(made.store.path) as store:
        assert [c.proposal.budget for c in store.candidates()] == [BUDGET] * 3
        assert store.config == CONFIG


def test_attempts() -> None:
    candidate = Candidate(3, Proposal((1, 1, 1, 1)), "key")

    class OutOfMemoryError(RuntimeError):
        """As torch calls its own."""

    assert reason_for(ValueError("first line\nsecond")) == "ValueError: first line"
    assert reason_for(MemoryError()) == "out of memory (MemoryError)"
    assert reason_for(OutOfMemoryError("CUDA")) == "out of memory (OutOfMemoryError: CUDA)"
    assert reason_for(RuntimeError("DefaultCPUAllocator: no")).startswith(
        "out of memory (RuntimeError"
    )
    for wrong in (
        lambda c, p: None,
        lambda c, p: Evaluation(4, State.COMPLETE),
        lambda c, p: exit(1),
    ):
        assert attempt(wrong, candidate, lambda: True).state is State.FAILED  # type: ignore[arg-type]
    seconds = attempt(ones, candidate, lambda: True).seconds
    assert 0 < seconds < 1
