"""The audit of predictions: scipy is the oracle of tau, a simulation that of its interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from nanonas.core import (
    Budget,
    Candidate,
    Evaluation,
    Floats,
    Objective,
    Prediction,
    Proposal,
    State,
    Told,
)
from nanonas.maths.ranks import kendall
from nanonas.predictors.audit import audited, audited_scores

TRAINED, SCORED = Budget(3), Budget(0)


def told(
    number: int,
    accuracy: float | None,
    predicted: Prediction | None = None,
    state: State = State.COMPLETE,
    key: str | None = None,
    budget: Budget = TRAINED,
    **metrics: float,
) -> Told:
    found = metrics if accuracy is None else {"accuracy": accuracy, **metrics}
    candidate = Candidate(
        number, Proposal((number,), budget=budget, predicted=predicted), key or str(number)
    )
    return Told(candidate, Evaluation(number, state, found))


# --- Kendall's tau --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_tau_is_scipys_with_ties_too(pairs: list[tuple[int, int]]) -> None:
    predicted, measured = np.array(pairs, dtype=np.float64).T
    found = kendall(predicted, measured)
    expected = kendalltau(predicted, measured).statistic
    assert found.tau == pytest.approx(0.0 if np.isnan(expected) else expected, abs=1e-12)
    assert -1 <= found.low <= found.tau + 1e-12
    assert found.tau - 1e-12 <= found.high <= 1
    assert found.n == len(pairs)


def test_infinities_are_ties_and_worse_than_all_others() -> None:
    predicted = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    finite = np.array([1.0, 3.0, 2.0, 9.0, 9.0])
    assert kendall(predicted, np.where(finite == 9, np.inf, finite)) == kendall(predicted, finite)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_all_in_order_is_1_and_a_few_are_no_certainty(n: int) -> None:
    up = np.arange(n, dtype=np.float64)
    assert kendall(up, up).tau == pytest.approx(1)
    assert kendall(up, -up).tau == pytest.approx(-1)
    assert kendall(up, up).low <= 1 - 1.96 / n
    assert kendall(up, -up).high >= -1 + 1.96 / n


@pytest.mark.parametrize("n", [2, 3, 10])
def test_of_ties_alone_nothing_is_known(n: int) -> None:
    found = kendall(np.ones(n), np.arange(n, dtype=np.float64))
    assert (found.tau, found.low, found.high, found.n) == (0, -1, 1, n)


@pytest.mark.parametrize(("rho", "n"), [(0.0, 20), (0.0, 80), (0.5, 40), (0.8, 40)])
def test_the_interval_covers_the_truth_about_95_times_of_100(rho: float, n: int) -> None:
    rng = np.random.default_rng(0)
    truth = 2 / np.pi * np.arcsin(rho)  # of a bivariate normal distribution
    covered = 0
    for _ in range(1000):
        x, y = rng.standard_normal((2, n))
        found = kendall(x, rho * x + np.sqrt(1 - rho**2) * y)
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 1000 <= 0.98


def test_it_reads_as_one_would_say_it() -> None:
    assert str(kendall(np.arange(4.0), np.array([0.0, 2.0, 1.0, 3.0]))).startswith("τ +0.67 [")


# --- predictions ----------------------------------------------------------------------------------


def predictions(means: Floats, accuracies: Floats, by: str = "stub") -> list[Told]:
    pairs = zip(means, accuracies, strict=True)
    return [
        told(n, float(accuracy), Prediction(float(mean), 0.1, by))
        for n, (mean, accuracy) in enumerate(pairs)
    ]


def test_a_prediction_is_of_the_loss_and_each_predictor_has_its_own() -> None:
    rising = np.arange(5) / 10
    found = audited(
        [*predictions(-rising, rising, "good"), *predictions(rising, rising, "bad")], Objective()
    )
    assert {name: round(one.tau, 9) for name, one in found.items()} == {"good": 1, "bad": -1}
    assert audited([told(n, 0.5) for n in range(9)], Objective()) == {}
    assert audited(predictions(rising[:2], rising[:2]), Objective()) == {}


def test_failed_and_pruned_count_as_the_worst_and_cut_not_at_all() -> None:
    accuracies = np.array([0.9, 0.8, 0.7, 0.99, 0.5])
    some = predictions(-accuracies, accuracies)
    some[3] = told(
        3, 0.99, Prediction(-0.99, 0.1, "stub"), State.PRUNED
    )  # the most was expected of it
    some[4] = told(4, None, Prediction(-0.5, 0.1, "stub"), State.FAILED)
    found = audited(some, Objective())["stub"]
    assert found.tau == pytest.approx(
        kendalltau([-0.9, -0.8, -0.7, -0.99, -0.5], [0, 1, 2, 9, 9]).statistic
    )
    some[3] = told(3, 0.99, Prediction(-0.99, 0.1, "stub"), State.CUT)
    assert audited(some, Objective())["stub"].n == 4


def test_only_the_last_count() -> None:
    rng = np.random.default_rng(0)
    accuracies = rng.random(60)
    means = np.where(np.arange(60) < 40, accuracies, -accuracies)  # the reverse at first
    assert audited(predictions(means, accuracies), Objective(), window=20)[
        "stub"
    ].tau == pytest.approx(1)
    assert audited(predictions(means, accuracies), Objective(), window=60)["stub"].tau < 0


# --- scores that cost nothing -----------------------------------------------------------------------------


def test_counts_are_ranked_against_what_their_networks_reached() -> None:
    some = [told(n, n / 10, params=50 - n, macs=7) for n in (1, 3, 4, 5)]
    others = [told(20 + n, 0.01 * n, params=100 + n, macs=7) for n in range(3)]
    found = audited_scores([*some, *others], Objective())
    assert {name: one.n for name, one in found.items()} == {"params": 7, "macs": 7}
    params, accuracies = [49, 47, 46, 45, 100, 101, 102], [0.1, 0.3, 0.4, 0.5, 0.0, 0.01, 0.02]
    assert found["params"].tau == pytest.approx(kendalltau(params, accuracies).statistic)
    assert (found["macs"].tau, found["macs"].low, found["macs"].high) == (0, -1, 1)


def test_scores_say_nothing_of_trainings_that_went_on() -> None:
    every = [told(n, n / 10, params=float(n), macs=1.0) for n in range(4)]
    on = told(4, 0.99, params=0.0, macs=1.0, key="0")
    proposal = Proposal((0,), (0,), Budget(6, begin=3), resumes=0)
    every.append(Told(Candidate(4, proposal, "0"), on.evaluation))
    found = audited_scores(every, Objective())["params"]
    assert (found.tau, found.n) == (pytest.approx(1), 4)


def test_scores_count_failures_as_the_worst_and_need_three_trained_networks() -> None:
    some = [told(n, n / 10, params=n) for n in range(4)]
    some[3] = told(3, None, state=State.FAILED, params=3)  # the largest failed
    expected = kendalltau([0, 1, 2, 3], [0, 0.1, 0.2, -1]).statistic
    assert audited_scores(some, Objective())["params"].tau == pytest.approx(expected)
    assert audited_scores(some[:2], Objective()) == {}
    assert (
        audited_scores([told(n, None, budget=SCORED, params=n) for n in range(5)], Objective())
        == {}
    )
