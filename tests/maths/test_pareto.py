"""Several objectives at once: the definitions, spelt out one pair at a time, are the oracle."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri

from nanonas.core import (
    Budget,
    Candidate,
    Evaluation,
    Floats,
    Integers,
    Objective,
    Proposal,
    State,
    Told,
    losses_of,
)
from nanonas.engine.ranking import front_of
from nanonas.maths import pareto
from nanonas.maths.pareto import (
    crowding,
    expected_improvement,
    front,
    hypervolume,
    hypervolume_subset,
    ranks,
)

SOME = st.sampled_from(
    [-math.inf, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, 3.5, math.inf]
)  # few: so that there are ties
REAL = st.floats(-1e6, 1e6)


@st.composite
def tables(draw: st.DrawFn, values: st.SearchStrategy[float] = SOME | REAL) -> Floats:
    """Losses of 0 to 12 networks in 1 to 4 objectives."""
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(values, min_size=width, max_size=width), max_size=12))
    return np.array(rows, dtype=np.float64).reshape(len(rows), width)


def dominates(a: Floats, b: Floats) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(
        x < y for x, y in zip(a, b, strict=True)
    )


def sorted_by_hand(losses: Floats) -> list[int]:
    rank, left, level = [-1] * len(losses), set(range(len(losses))), 0
    while left:
        best = {i for i in left if not any(dominates(losses[j], losses[i]) for j in left)}
        for i in best:
            rank[i] = level
        left, level = left - best, level + 1
    return rank


def crowding_by_hand(losses: Floats, rank: Integers) -> list[float]:
    """Front by front, objective by objective, neighbour by neighbour; copies left out."""
    distances = [0.0] * len(losses)
    for level in set(rank.tolist()):
        members: list[int] = []
        for i in np.flatnonzero(rank == level).tolist():
            if not any((losses[i] == losses[j]).all() for j in members):
                members.append(i)
        for column in losses.T.tolist():
            ordered = sorted(members, key=lambda i, column=column: column[i])  # type: ignore[misc]
            low, high = column[ordered[0]], column[ordered[-1]]
            distances[ordered[0]] = distances[ordered[-1]] = math.inf
            if low < high and math.isfinite(low) and math.isfinite(high):
                for before, i, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
                    distances[i] += (column[after] - column[before]) / (high - low)
    return distances


@given(tables())
def test_ranks_are_fronts_of_what_is_left(losses: Floats) -> None:
    assert ranks(losses).tolist() == sorted_by_hand(losses)
    assert ranks(losses).dtype == np.int64


@given(tables())
def test_the_front_is_what_nothing_dominates(losses: Floats) -> None:
    assert front(losses).tolist() == [not any(dominates(b, a) for b in losses) for a in losses]


@given(tables())
def test_crowding_is_the_room_between_neighbours(losses: Floats) -> None:
    rank = ranks(losses)
    expected = crowding_by_hand(losses, rank)
    if (
        losses.shape[1] < 3
    ):  # with more, members of a front may tie, and then which one is at the end is not defined
        assert crowding(losses, rank) == pytest.approx(expected)
    ends = np.isinf(crowding(losses, rank))
    assert ends.sum() <= 2 * losses.shape[1] * len(set(rank.tolist()))
    assert all(ends[rank == level].any() for level in set(rank.tolist()))


@given(tables(REAL.filter(lambda x: abs(x) > 1)), st.integers(0, 100))
def test_crowding_does_not_depend_on_the_order_of_rows(losses: Floats, seed: int) -> None:
    losses = np.unique(losses, axis=0)
    order = np.random.default_rng(seed).permutation(len(losses))
    rank = ranks(losses)
    assert crowding(losses[order], rank[order]) == pytest.approx(crowding(losses, rank)[order])


def test_ties_at_the_end_of_an_objective_do_not_depend_on_the_order_of_rows() -> None:
    losses = np.array(
        [[2, 2, 2], [2, 3, -2], [2, 1.5, 3]]
    )  # the first objective is the same for all
    rank = ranks(losses)
    for order in itertools.permutations(range(3)):
        again = losses[list(order)]
        assert (
            crowding(again, rank[list(order)]).tolist()
            == crowding(losses, rank)[list(order)].tolist()
        )


def test_copies_have_no_room_of_their_own() -> None:
    losses = np.array([[0.0, 4], [1, 2], [1, 2], [4, 0], [0, 4]])
    assert crowding(losses, ranks(losses)).tolist() == [math.inf, 2.0, 0.0, math.inf, 0.0]


def volume_by_hand(losses: Floats, reference: list[float]) -> float:
    """The cells of the grid through all losses that some row dominates, added up."""
    rows = [
        row
        for row in losses.tolist()
        if all(x < limit for x, limit in zip(row, reference, strict=True))
    ]
    axes = [sorted({*(row[k] for row in rows), limit}) for k, limit in enumerate(reference)]
    total = 0.0
    for cell in np.ndindex(*(len(axis) - 1 for axis in axes)):
        corner = [axis[i] for axis, i in zip(axes, cell, strict=True)]
        if any(all(x <= c for x, c in zip(row, corner, strict=True)) for row in rows):
            total += math.prod(axis[i + 1] - axis[i] for axis, i in zip(axes, cell, strict=True))
    return total


@given(tables(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5, math.inf]) | st.floats(0, 4)))
def test_the_hypervolume_is_what_is_dominated(losses: Floats) -> None:
    reference = [3.0, 2.5, 4.0, 3.0][: losses.shape[1]]
    assert hypervolume(losses, reference) == pytest.approx(
        volume_by_hand(losses, reference), abs=1e-9
    )


def added_up(losses: Floats, rows: tuple[int, ...], reference: list[float]) -> float:
    return volume_by_hand(losses[list(rows)], reference)


@given(tables(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]) | st.floats(0, 4)), st.data())
@settings(max_examples=60, deadline=None)
def test_a_subset_dominates_as_much_as_any_of_its_size(losses: Floats, data: st.DataObject) -> None:
    reference = [3.0, 2.5, 4.0, 3.0][: losses.shape[1]]
    losses = losses[:6]
    places = st.sets(st.integers(0, len(losses) - 1), max_size=1) if len(losses) else st.just(set())
    first = sorted(data.draw(places))
    number = data.draw(st.integers(len(first), 4))
    rows = hypervolume_subset(losses, number, reference, first)
    assert rows == sorted(set(rows))
    assert len(rows) == min(number, len(losses))
    assert set(first) <= set(rows)
    subsets = itertools.combinations(range(len(losses)), len(rows))
    best = max(added_up(losses, one, reference) for one in subsets if {*first} <= {*one})
    assert added_up(losses, tuple(rows), reference) == pytest.approx(best, abs=1e-9)


def test_of_a_large_front_the_subset_is_chosen_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each adds the most: what the first adds is what it dominates, and so on."""
    losses = np.column_stack([x := np.linspace(0, 1, 12), (1 - x) ** 2])
    best = hypervolume_subset(losses, 4, [1.2, 1.2], [11])
    monkeypatch.setattr(pareto, "_SUBSETS", 0)
    rows, expected = hypervolume_subset(losses, 4, [1.2, 1.2], [11]), [11]
    while len(expected) < 4:
        left = [row for row in range(12) if row not in expected]
        volumes = [hypervolume(losses[[*expected, row]], [1.2, 1.2]) for row in left]
        expected.append(left[int(np.argmax(volumes))])
    assert rows == sorted(expected)
    greedy, whole = (hypervolume(losses[one], [1.2, 1.2]) for one in (rows, best))
    assert (1 - 1 / math.e) * whole <= greedy <= whole


def test_what_is_infinitely_good_dominates_without_bounds() -> None:
    assert hypervolume(np.array([[-math.inf, 1, 1], [-math.inf, 1, 1]]), [2, 2, 2]) == math.inf
    assert hypervolume(np.array([[-math.inf, 3, 1]]), [2, 2, 2]) == 0


@st.composite
def doubted(draw: st.DrawFn) -> tuple[Floats, Floats, Floats, list[float]]:
    """Losses of some networks, those expected of another one, (1, objectives), their deviations,
    one or two of them above 0, and a reference.
    """
    losses = draw(tables(st.sampled_from([0.0, 0.5, 1.0, 2.0]) | st.floats(0, 4)))
    width = losses.shape[1]
    mean = np.array([draw(st.lists(st.floats(0, 4), min_size=width, max_size=width))])
    std = np.zeros((1, width))
    for column in draw(st.sets(st.integers(0, width - 1), min_size=1, max_size=2)):
        std[0, column] = draw(st.floats(0.01, 2))
    return losses, mean, std, [3.0, 2.5, 4.0, 3.0][:width]


@settings(deadline=None)
@given(doubted())
def test_what_is_known_is_expected_to_add_what_it_adds(
    given: tuple[Floats, Floats, Floats, list[float]],
) -> None:
    losses, known, std, reference = given
    (added,) = expected_improvement(known, np.zeros_like(std), losses, reference)
    gained = hypervolume(np.vstack([losses, known]), reference) - hypervolume(losses, reference)
    assert added == pytest.approx(gained, abs=1e-9)
    if any((row <= known[0]).all() for row in losses):
        assert added == 0


@settings(max_examples=30, deadline=None)
@given(doubted())
def test_the_expected_improvement_is_the_mean_over_what_may_come(
    given: tuple[Floats, Floats, Floats, list[float]],
) -> None:
    losses, mean, std, reference = given
    doubtful = np.flatnonzero(std[0])
    steps = 4000 if len(doubtful) == 1 else 150
    quantiles = ndtri((np.arange(steps) + 0.5) / steps)  # equally likely draws
    grids = np.meshgrid(*[quantiles] * len(doubtful))
    draws = np.repeat(mean, grids[0].size, axis=0)  # (draws, objectives)
    for column, grid in zip(doubtful, grids, strict=True):
        draws[:, column] += std[0, column] * grid.ravel()
    gains = expected_improvement(draws, np.zeros_like(draws), losses, reference)
    (expected,) = expected_improvement(mean, std, losses, reference)
    assert expected == pytest.approx(gains.mean(), rel=0.01, abs=0.01)


def test_what_is_infinitely_bad_is_expected_to_add_nothing() -> None:
    mean, std = np.array([[0.0, np.inf], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    first, second = expected_improvement(mean, std, np.array([[1.0, 1.0]]), [2.0, 2.0])
    assert first == 0 < second
    assert expected_improvement(mean[1:], std[1:], np.empty((0, 2)), [2.0, 2.0]) > second


# --- of evaluations -------------------------------------------------------------------------------

BOTH = (Objective(), Objective("params", maximize=False))


def evaluation(
    number: int, accuracy: float | None, params: float, state: State = State.COMPLETE
) -> Evaluation:
    known = {} if accuracy is None else {"accuracy": accuracy}
    return Evaluation(number, state, {"params": params, **known})


def test_losses_have_a_row_for_each_evaluation_and_a_column_for_each_objective() -> None:
    both = losses_of([evaluation(0, 0.5, 100), evaluation(1, None, 7)], BOTH)
    assert both.tolist() == [[-0.5, 100.0], [math.inf, 7.0]]
    assert losses_of([], BOTH).shape == (0, 2)


def told(evaluation: Evaluation, image_size: int | None = None) -> Told:
    budget = Budget(3, image_size=image_size)
    return Told(Candidate(evaluation.number, Proposal((0,), budget=budget), "key"), evaluation)


def test_the_front_keeps_the_order_and_all_of_equals() -> None:
    some = [
        told(evaluation(n, a, p))
        for n, (a, p) in enumerate([(0.9, 900), (0.9, 901), (0.7, 300), (0.7, 300), (0.1, 5)])
    ]
    assert [e.number for e in front_of(some[::-1], BOTH)] == [4, 3, 2, 0]
    assert front_of([], BOTH) == []


def test_what_was_pruned_is_on_the_front_only_where_everything_was() -> None:
    guess = told(evaluation(1, 0.1, 5, State.PRUNED))
    assert [e.number for e in front_of([told(evaluation(0, 0.9, 900)), guess], BOTH)] == [0]
    assert front_of([guess], BOTH) == [guess]


def test_what_was_measured_on_shrunk_images_is_on_the_front_only_where_everything_was() -> None:
    small = told(evaluation(0, 0.9, 1), image_size=8)
    whole, pruned = told(evaluation(1, 0.5, 5)), told(evaluation(2, 0.6, 2, State.PRUNED))
    assert front_of([small, whole, pruned], BOTH) == [whole]
    assert front_of([small, pruned], BOTH) == [pruned]
    assert front_of([small], BOTH) == [small]


def test_nanonas_starts_without_moocore() -> None:
    modules = "nanonas, nanonas.cli, nanonas.session.session, nanonas.strategies.nsga2"
    code = f"import {modules}, sys; sys.exit('moocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
