"""The audit of predictions: scipy is the oracle of tau."""

from __future__ import annotations

from random import Random

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
from nanonas.predictors.audit import Audit, audited, audited_scores
from nanonas.predictors.audit import predictions as rows_of

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


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(State)), max_size=30),
    st.randoms(use_true_random=False),
    st.integers(1, 12),
)
def test_told_in_any_order_it_is_the_audit_of_the_last_by_number(
    evaluated: list[tuple[int, int, State]], order: Random, window: int
) -> None:
    every = [
        told(n, measured / 10, Prediction(mean / 10, 0.1, "stub"), state)
        for n, (mean, measured, state) in enumerate(evaluated)
    ]
    audit = Audit(window=window)
    for one in order.sample(every, len(every)):
        audit.tell(one)
    last = [row[1:] for row in rows_of(every, Objective()).get("stub", [])[-window:]]
    expected = {"stub": kendall(*np.array(last).T)} if len(last) >= 3 else {}
    assert audit.correlations() == audited(every, Objective(), window) == expected


# --- scores that cost nothing ---------------------------------------------------------------------


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
    assert found.tau == pytest.approx(1)
    assert found.n == 4


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
