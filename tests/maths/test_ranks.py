"""Rank statistics: scipy is the oracle, a simulation that of tau's interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau, mannwhitneyu, spearmanr

from nanonas.maths.ranks import Correlation, kendall, rank_sum, spearman

# --- Kendall's tau --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_tau_is_scipys_with_ties_too(pairs: list[tuple[int, int]]) -> None:
    predicted, measured = np.array(pairs, dtype=np.float64).T
    correlation = kendall(predicted, measured)
    expected = kendalltau(predicted, measured).statistic
    assert correlation.tau == pytest.approx(0.0 if np.isnan(expected) else expected, abs=1e-12)
    assert -1 <= correlation.low <= correlation.tau + 1e-12
    assert correlation.tau - 1e-12 <= correlation.high <= 1
    assert correlation.n == len(pairs)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=40))
def test_the_interval_is_that_of_comparing_each_with_each(pairs: list[tuple[int, int]]) -> None:
    predicted, measured = np.array(pairs, dtype=np.float64).T
    n, correlation = len(pairs), kendall(predicted, measured)
    signs = [np.sign(np.subtract.outer(values, values)) for values in (predicted, measured)]
    untied = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    if untied == 0:
        assert correlation == Correlation(0, -1, 1, n)
        return
    concordance = (signs[0] * signs[1]).sum(axis=1)
    tau = concordance.sum() / untied
    spread = ((concordance - concordance.mean()) ** 2).sum()
    variance = 2 / (n * (n - 1)) * (2 * (n - 2) / (n * (n - 1) ** 2) * spread + max(0, 1 - tau**2))
    half = 1.96 * max(np.sqrt(variance), 1 / n)
    assert correlation == Correlation(tau, max(-1, tau - half), min(1, tau + half), n)


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
def test_ties_alone_say_nothing(n: int) -> None:
    correlation = kendall(np.ones(n), np.arange(n, dtype=np.float64))
    assert correlation == Correlation(0, -1, 1, n)


@pytest.mark.parametrize(("rho", "n"), [(0.0, 20), (0.0, 80), (0.5, 40), (0.8, 40)])
def test_the_interval_covers_the_truth_about_95_times_of_100(rho: float, n: int) -> None:
    rng = np.random.default_rng(0)
    truth = 2 / np.pi * np.arcsin(rho)  # of a bivariate normal distribution
    covered = 0
    for _ in range(1000):
        x, y = rng.standard_normal((2, n))
        correlation = kendall(x, rho * x + np.sqrt(1 - rho**2) * y)
        covered += correlation.low <= truth <= correlation.high
    assert 0.92 <= covered / 1000 <= 0.98


def test_it_reads_as_one_would_say_it() -> None:
    assert str(kendall(np.arange(4.0), np.array([0.0, 2.0, 1.0, 3.0]))).startswith("τ +0.67 [")


@pytest.mark.parametrize(
    ("tau", "n", "worthless"), [(-0.1, 9, False), (0.0, 10, True), (0.1, 10, False)]
)
def test_a_predictor_is_called_worthless_only_after_ten_pairs(
    tau: float, n: int, worthless: bool
) -> None:
    assert Correlation(tau, -1, 1, n).worthless is worthless


# --- Spearman's correlation -----------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=40))
def test_spearman_is_scipys_with_ties_too(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=np.float64).T
    constant = len(set(a)) == 1 or len(set(b)) == 1
    expected = 0.0 if constant else spearmanr(a, b).statistic
    assert spearman(a, b) == pytest.approx(expected, abs=1e-12)


# --- two samples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_rank_sum_is_scipys(shift: float) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=20).round(1), (rng.normal(size=15) + shift).round(1)
    expected = mannwhitneyu(b, a, alternative="greater", method="asymptotic").pvalue
    assert rank_sum(list(a), list(b)) == pytest.approx(expected)


def test_two_samples_of_one_value_do_not_differ() -> None:
    assert rank_sum([1.0, 1.0], [1.0, 1.0, 1.0]) == 0.5
