"""Intervals: scipy and simulations are the oracles of what they cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, binomtest, ttest_1samp

from nanonas.core import Floats
from nanonas.maths.intervals import (
    bootstrap,
    mean_interval,
    median_interval,
    slope_interval,
    wilson,
    winsorised,
)

# --- means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 25])
def test_the_interval_of_a_mean_is_the_t_tests(n: int) -> None:
    values = list(np.random.default_rng(n).normal(0.3, 1, n))
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    mean, half = mean_interval(values)
    assert (mean - half, mean + half) == pytest.approx((expected.low, expected.high))


def test_one_value_has_no_interval() -> None:
    mean, half = mean_interval([0.7])
    assert mean == 0.7
    assert np.isnan(half)


# --- slopes ---------------------------------------------------------------------------------------


def test_without_columns_and_with_clusters_of_one_it_is_the_t_test() -> None:
    y = np.random.default_rng(0).normal(0.3, 1, 25)
    interval = slope_interval(y, np.empty((25, 0)), np.arange(25), 0.05)
    expected = ttest_1samp(y, 0).confidence_interval(0.95)
    assert interval is not None
    assert interval == pytest.approx((y.mean(), expected.low, expected.high))


def coverage(clusters: int, size: int, alike: float) -> float:
    """How often a 95 % interval covers a slope of 0.5, where the members of a cluster are alike in
    both x and noise.
    """
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        family = np.repeat(np.arange(clusters), size)
        x: Floats = alike * rng.normal(size=clusters)[family] + rng.normal(size=clusters * size)
        noise = alike * rng.normal(size=clusters)[family] + rng.normal(size=clusters * size)
        interval = slope_interval(0.5 * x + noise, x[:, None], family, 0.05)
        assert interval is not None
        _, low, high = interval
        covered += low <= 0.5 <= high
    return covered / 300


@pytest.mark.parametrize("alike", [0.0, 1.0, 3.0])
def test_intervals_cover_what_they_promise_for_relatives(alike: float) -> None:
    assert 0.90 <= coverage(20, 10, alike) <= 0.99


def test_columns_that_follow_from_each_other_do_not_hide_an_effect() -> None:
    rng = np.random.default_rng(0)
    x, other = rng.normal(size=80), rng.normal(size=80)
    y = 2 * x + other + rng.normal(size=80) / 10
    clusters = np.arange(80)
    alone = slope_interval(y, np.column_stack([x, other]), clusters, 0.05)
    redundant = np.column_stack([x, other, 3 - 2 * other, np.ones(80)])
    assert slope_interval(y, redundant, clusters, 0.05) == pytest.approx(alone)


def test_a_slope_that_is_not_identified_is_none() -> None:
    y = np.arange(6.0)
    apart = np.arange(6)
    constant = np.ones((6, 1))
    same_effect = np.column_stack([y, 2 * y])  # as much the other column's
    one_cluster = np.zeros(6, dtype=np.int64)
    assert slope_interval(y, constant, apart, 0.05) is None
    assert slope_interval(y, same_effect, apart, 0.05) is None
    assert slope_interval(y, y[:, None], one_cluster, 0.05) is None


def test_a_slope_that_one_cluster_alone_tells_is_none() -> None:
    y = np.arange(6.0)
    clusters = np.array([0, 1, 2, 3, 4, 4])
    only_in_the_last = np.array([0.0, 0, 0, 0, 1, 1])
    assert slope_interval(y, only_in_the_last[:, None], clusters, 0.05) is None


# --- outliers and means ---------------------------------------------------------------------------


def test_one_that_diverged_does_not_decide() -> None:
    values = np.array([0.1, *np.linspace(0.8, 0.9, 99)])
    assert winsorised(values).min() > 0.79
    assert winsorised(values)[10:].tolist() == values[10:].tolist()


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(5, 2, (400, 3))
    mean, low, high = bootstrap(values)
    error = values.std(axis=0) / 20  # of a mean of 400; normal, by the central limit theorem
    assert mean == pytest.approx(values.mean(axis=0))
    assert low == pytest.approx(mean - 1.96 * error, abs=0.2 * error.max())
    assert high == pytest.approx(mean + 1.96 * error, abs=0.2 * error.max())


def test_the_bootstrap_always_draws_the_same() -> None:
    values = np.random.default_rng(0).random((5, 2))
    first, second = bootstrap(values), bootstrap(values)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


# --- shares ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "n"), [(0, 10), (5, 10), (97, 100), (300, 300)])
def test_wilsons_interval_is_scipys(right: int, n: int) -> None:
    expected = binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-4)


# --- medians --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [*range(6, 40), 500, 3000])
def test_the_medians_interval_is_the_narrowest_of_its_kind_that_keeps_95_percent(n: int) -> None:
    values = np.random.default_rng(n).permutation(n).astype(float)
    median, low, high = median_interval(values.tolist())
    assert median == np.median(values)
    assert low == n - 1 - high  # as many values beyond it on both sides: `low` of them
    assert 1 - 2 * binom.cdf(low, n, 0.5) >= 0.95 - 1e-9
    assert 1 - 2 * binom.cdf(low + 1, n, 0.5) < 0.95


def test_too_few_values_for_an_interval_have_their_whole_range() -> None:
    assert median_interval([3.0]) == (3.0, 3.0, 3.0)
    assert median_interval([2.0, 9.0, 1.0, 4.0]) == (3.0, 1.0, 9.0)
