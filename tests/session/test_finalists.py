"""Who is trained from scratch at the end of a search, and what counts of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonas.core import Budget, Candidate, Evaluation, Measure, Proposal, Pulse, State, Told
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.store import RunStore
from nanonas.session.finalists import accuracies, finalists, train_finalists

HALF, WHOLE = Budget(2), Budget(4)
SOME = (0.5, 0.6, 0.4, 0.8, 0.7)


def told(
    number: int,
    key: str,
    accuracy: float | None,
    state: State = State.COMPLETE,
    budget: Budget = HALF,
    heir: bool = True,
) -> Told:
    proposal = Proposal((number,), (0,), budget, inherits=(0,) if heir else ())
    metrics = {"params": 100.0, "macs": 1000.0, "memory": 2.0} | (
        {} if accuracy is None else {"accuracy": accuracy}
    )
    return Told(Candidate(number, proposal, key), Evaluation(number, state, metrics))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore.begin(tmp_path / "study.db", {}) as opened:
        yield opened


class Scratch:
    """Each network's accuracy from scratch, by key; remembers who was trained."""

    def __init__(self, **accuracies: float | State) -> None:
        self.accuracies, self.trained = accuracies, list[Candidate]()

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        self.trained.append(candidate)
        found = self.accuracies[candidate.key]
        if isinstance(found, State):
            metrics = {} if found is State.FAILED else {"accuracy": 0.99}
            return Evaluation(candidate.number, found, metrics, reason="as it happens")
        return Evaluation(candidate.number, State.COMPLETE, {"accuracy": found})


def trained(
    chosen: list[Told],
    measure: Measure,
    store: RunStore,
    seen: list[tuple[int, float | None]] | None = None,
) -> list[tuple[int, float | None]]:
    def observe(candidate: Candidate, before: Evaluation, after: Evaluation) -> None:
        if seen is not None:
            assert candidate.number == before.number == after.number
            seen.append((candidate.number, after.accuracy))

    results = train_finalists(chosen, WHOLE, SerialEvaluator(measure), store, None, observe)
    assert all(one.candidate.number == one.evaluation.number for one in results)
    assert all(one.evaluation.metrics["params"] == 100 for one in results)
    return [(one.number, one.evaluation.accuracy) for one in results]


def points_of(one: Told) -> float:
    return one.evaluation.accuracy or 0.0


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 5), st.sampled_from(State)),
        max_size=12,
    ),
    st.integers(0, 5),
)
def test_the_best_networks_each_once_and_each_by_the_best_that_it_came_to(
    some: list[tuple[str, int | None, State]], number: int
) -> None:
    search = [
        told(n, key, None if points is None else points / 5, state)
        for n, (key, points, state) in enumerate(some)
    ]
    usable = [
        one
        for one in search
        if one.evaluation.accuracy is not None
        and one.evaluation.state.value in "complete pruned cut"
    ]
    best: dict[str, Told] = {}
    for one in usable:  # the first of equals
        key = one.candidate.key
        if key not in best or points_of(one) > points_of(best[key]):
            best[key] = one
    expected = sorted(best.values(), key=lambda one: (-points_of(one), one.number))
    assert finalists(search, number) == expected[:number]


def test_those_of_which_most_is_expected_come_first_and_each_network_once() -> None:
    search = [
        told(n, key, accuracy) for n, (key, accuracy) in enumerate(zip("abcab", SOME, strict=True))
    ]
    expected = [search[2], search[0]]
    assert finalists(search, 3, expected) == [search[2], search[0], search[4]]
    assert finalists(search, 1, expected) == [search[2]]
    assert finalists(search, 3) == [search[3], search[4], search[2]]


def test_each_is_trained_from_scratch_under_the_whole_budget_and_ranked_by_that(
    store: RunStore,
) -> None:
    chosen = [told(7, "a", 0.9), told(3, "b", 0.8), told(5, "c", 0.7)]
    measure, seen = Scratch(a=0.5, b=0.6, c=0.55), list[tuple[int, float | None]]()
    assert trained(chosen, measure, store, seen) == [(3, 0.6), (5, 0.55), (7, 0.5)]
    assert sorted(seen) == [(3, 0.6), (5, 0.55), (7, 0.5)]
    assert accuracies(store) == {3: 0.6, 5: 0.55, 7: 0.5}
    for candidate in measure.trained:
        proposal = candidate.proposal
        assert (proposal.budget, proposal.inherits, proposal.resumes) == (WHOLE, (), None)
        assert proposal.genome == (candidate.number,)


def test_what_is_known_of_an_earlier_session_is_not_trained_again(store: RunStore) -> None:
    chosen = [told(7, "a", 0.9), told(3, "b", 0.8)]
    trained(chosen[:1], Scratch(a=0.5), store)
    measure = Scratch(b=0.6)
    assert trained(chosen, measure, store) == [(3, 0.6), (7, 0.5)]
    assert [candidate.number for candidate in measure.trained] == [3]
    again = train_finalists(chosen, WHOLE, SerialEvaluator(Scratch()), store, None, lambda *_: None)
    assert [one.evaluation.metrics["memory"] for one in again] == [2, 2]
    assert len(store.events()) == 2


def test_what_the_search_itself_has_trained_from_scratch_is_not_trained_again(
    store: RunStore,
) -> None:
    whole = told(2, "c", 0.55, budget=WHOLE, heir=False)
    chosen = [
        told(7, "a", 0.9),
        whole,
        told(4, "d", 0.5, State.PRUNED, WHOLE, heir=False),
        told(5, "e", 0.4, budget=HALF),
    ]
    measure = Scratch(a=0.5, d=0.2, e=0.1)
    assert trained(chosen, measure, store) == [(2, 0.55), (7, 0.5), (4, 0.2), (5, 0.1)]
    assert [candidate.number for candidate in measure.trained] == [7, 4, 5]
    assert accuracies(store) == {2: 0.55, 7: 0.5, 4: 0.2, 5: 0.1}
    assert trained(chosen, Scratch(), store)[0] == (2, 0.55)
    assert len(store.events()) == 4


def test_what_the_search_has_trained_so_is_trained_again_where_its_weights_are_gone(
    store: RunStore,
) -> None:
    chosen = [told(n, key, 0.5, budget=WHOLE, heir=False) for n, key in ((2, "b"), (3, "c"))]
    measure = Scratch(b=0.5)
    evaluator = SerialEvaluator(measure)
    for gone in ({2}, set[int]()):
        results = train_finalists(chosen, WHOLE, evaluator, store, None, lambda *_: None, gone)
        assert [one.number for one in results] == [2, 3]
    assert [candidate.number for candidate in measure.trained] == [2]


def test_what_was_cut_or_failed_counts_for_nothing_and_is_trained_by_the_next_session(
    store: RunStore,
) -> None:
    chosen = [told(7, "a", 0.9), told(3, "b", 0.8), told(5, "c", 0.7), told(6, "d", 0.6)]
    seen = list[tuple[int, float | None]]()
    lost = Scratch(a=State.CUT, b=0.6, c=State.FAILED, d=State.PRUNED)
    assert trained(chosen, lost, store, seen) == [(3, 0.6)]
    assert len(seen) == 4
    assert accuracies(store) == {3: 0.6}
    assert trained(chosen, Scratch(a=0.7, c=0.1, d=0.2), store) == [
        (7, 0.7),
        (3, 0.6),
        (6, 0.2),
        (5, 0.1),
    ]


def test_nobody_is_left_where_the_time_was_up(store: RunStore) -> None:
    def cut(candidate: Candidate, pulse: Pulse) -> Evaluation:
        assert not pulse()
        return Evaluation(candidate.number, State.CUT, {"accuracy": 0.9}, reason="the time was up")

    chosen = [told(7, "a", 0.9), told(3, "b", 0.8)]
    assert train_finalists(chosen, WHOLE, SerialEvaluator(cut), store, 0.0, lambda *_: None) == []
    assert train_finalists([], WHOLE, SerialEvaluator(cut), store, 0.0, lambda *_: None) == []
