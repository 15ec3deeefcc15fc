"""The Gaussian process: finite differences are the oracle of its learning, a dense solution that of
its posterior.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import gamma, kv

from nanonas.core import Floats
from nanonas.errors import ConfigError
from nanonas.predictors.gaussian import (
    DOUBT,
    JITTER,
    NOISE,
    GaussianProcess,
    _matern,
    _spread,
    _squares,
    _surprise,
)
from nanonas.predictors.normal_scores import STD_FLOOR, NormalScores

GROUPS = (2, 1, 3)


def drawn(n: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Features in three groups, and losses with an effect of the first two, some of them together,
    and noise.
    """
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, sum(GROUPS)))
    losses = np.sin(2 * x[:, 0]) + x[:, 2] * (1 + 0.5 * x[:, 1]) + 0.1 * rng.normal(size=n)
    return x, losses


def fitted(n: int = 40, **options: object) -> tuple[GaussianProcess, Floats, Floats]:
    x, losses = drawn(n)
    process = GaussianProcess(GROUPS, **options)  # type: ignore[arg-type]
    process.fit(x, losses)
    return process, x, losses


def kernel(a: Floats, b: Floats, log: Floats, groups: Sequence[int] = GROUPS) -> Floats:
    """The ANOVA kernel by its definition, each Matérn 5/2 by Bessel's function (Rasmussen &
    Williams, 4.14).
    """
    product, start = np.ones((len(a), len(b))), 0
    for number, size in enumerate(groups):
        own = slice(start, start := start + size)
        scale, weight = np.exp(log[number]), np.exp(log[len(groups) + number])
        argument = np.maximum(np.sqrt(2 * 2.5) * cdist(a[:, own], b[:, own]) / scale, 1e-9)
        matern = 2 ** (1 - 2.5) / gamma(2.5) * argument**2.5 * kv(2.5, argument)
        product *= (1 + weight * matern) / (1 + weight)
    return product


# --- learning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, losses = drawn(25, seed)
    squares = [_squares(x[:, own], x[:, own]) for own in (slice(0, 2), slice(2, 3), slice(3, 6))]
    scores, prior = NormalScores.of(losses).score(losses), np.append(np.zeros(6), np.log(NOISE))
    at, step = prior + rng.normal(size=7) / 2, 1e-5
    _, gradient = _surprise(at, squares, scores, prior)
    for place in range(7):
        there, back = (at + sign * step * (np.arange(7) == place) for sign in (1, -1))
        rise = (
            _surprise(there, squares, scores, prior)[0] - _surprise(back, squares, scores, prior)[0]
        )
        assert gradient[place] == pytest.approx(rise / (2 * step), rel=1e-5, abs=1e-6)


def test_the_surprise_is_minus_the_log_of_a_normal_density_and_of_the_prior() -> None:
    from scipy.stats import multivariate_normal, norm

    x, losses = drawn(12)
    squares = [_squares(x[:, own], x[:, own]) for own in (slice(0, 2), slice(2, 3), slice(3, 6))]
    scores, prior = NormalScores.of(losses).score(losses), np.append(np.zeros(6), np.log(NOISE))

    def by_definition(log: Floats) -> float:
        covariance = kernel(x, x, log) + (np.exp(log[-1]) + JITTER) * np.eye(12)
        return float(
            -multivariate_normal(np.zeros(12), covariance).logpdf(scores)
            - norm(prior, DOUBT).logpdf(log).sum()
        )

    a, b = prior + 0.3, prior - 0.4  # constants are left out: only differences count
    found = _surprise(a, squares, scores, prior)[0] - _surprise(b, squares, scores, prior)[0]
    assert found == pytest.approx(by_definition(a) - by_definition(b), rel=1e-6)


def test_matern_is_1_at_0_falls_and_its_slope_is_that_of_finite_differences() -> None:
    squares = np.array([0.0, 0.01, 1.0, 4.0, 100.0])
    value, slope = _matern(squares, 0.3)
    assert value[0] == 1
    assert (np.diff(value) < 0).all()
    differences = (_matern(squares, 0.3 + 1e-6)[0] - _matern(squares, 0.3 - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(slope, differences, atol=1e-8)


def test_what_is_learnt_beats_the_prior_and_a_group_without_effect_counts_less() -> None:
    process, _, losses = fitted(80)
    squares = process._distances(process._features, process._features)
    scores = NormalScores.of(losses).score(losses)[np.argsort(losses)]
    prior = np.append(np.zeros(6), np.log(NOISE))
    learnt, gradient = _surprise(process._log, squares, scores, prior)
    assert learnt < _surprise(prior, squares, scores, prior)[0]
    assert np.abs(gradient).max() < 0.1
    scales, weights = process._log[:3], process._log[3:6]
    assert weights[2] - scales[2] < min(weights[0] - scales[0], weights[1] - scales[1])


# --- the posterior --------------------------------------------------------------------------------


def dense(
    process: GaussianProcess, x: Floats, losses: Floats, new: Floats
) -> tuple[Floats, Floats]:
    """The posterior with the process's hyperparameters (Rasmussen & Williams, 2.25 and 2.26)."""
    x, new, scale = x / process._units, new / process._units, NormalScores.of(losses)
    covariance = kernel(x, x, process._log) + (np.exp(process._log[-1]) + JITTER) * np.eye(len(x))
    across = kernel(new, x, process._log)
    mean = across @ np.linalg.solve(covariance, scale.score(losses))
    variance = 1 - np.diag(across @ np.linalg.solve(covariance, across.T))
    return scale.expected(mean, np.sqrt(variance))


def test_mean_and_deviation_are_those_of_the_dense_solution() -> None:
    process, x, losses = fitted()
    new, _ = drawn(15, seed=1)
    np.testing.assert_allclose(process.predict(new), dense(process, x, losses, new), rtol=1e-6)


def test_an_update_keeps_what_was_learnt_and_forgets_the_networks() -> None:
    process, _, _ = fitted()
    learnt = process._log.copy()
    new, _ = drawn(15, seed=1)
    x, losses = drawn(50, seed=4)
    process.update(x, losses)
    np.testing.assert_array_equal(process._log, learnt)
    np.testing.assert_allclose(process.predict(new), dense(process, x, losses, new), rtol=1e-6)


def test_of_one_group_with_fixed_settings_it_is_scikit_learns() -> None:
    gaussian_process = pytest.importorskip("sklearn.gaussian_process")
    x, losses = drawn(30)
    process = GaussianProcess()
    process.fit(x, losses)
    scale, weight, noise = np.exp(process._log)
    kernels = gaussian_process.kernels
    whole = kernels.ConstantKernel(1 / (1 + weight)) + kernels.ConstantKernel(
        weight / (1 + weight)
    ) * kernels.Matern(scale, nu=2.5)
    oracle = gaussian_process.GaussianProcessRegressor(whole, alpha=noise + JITTER, optimizer=None)
    unit = NormalScores.of(losses)
    oracle.fit(x / process._units, unit.score(losses))
    new, _ = drawn(10, seed=2)
    expected = unit.expected(*oracle.predict(new / process._units, return_std=True))
    np.testing.assert_allclose(process.predict(new), expected, rtol=1e-6)


def test_where_nothing_disturbs_it_goes_through_what_it_has_seen_and_doubts_what_is_far() -> None:
    x = np.linspace(-2, 2, 60)[:, None]
    losses = np.sin(2 * x[:, 0])
    process = GaussianProcess()
    process.fit(x, losses)
    mean, std = process.predict(x)
    assert np.corrcoef(mean, losses)[0, 1] > 0.999
    np.testing.assert_allclose(mean, losses, atol=0.1)
    assert process.predict(np.array([[30.0]]))[1][0] > 3 * std.max()
    assert std.min() > STD_FLOOR * np.ptp(losses) / 100


def test_the_same_networks_in_another_order_give_the_same() -> None:
    process, x, losses = fitted()
    new, _ = drawn(9, seed=1)
    first = process.predict(new)
    process.fit(x, losses)
    np.testing.assert_array_equal(process.predict(new), first)
    process.fit(x[::-1], losses[::-1])
    np.testing.assert_allclose(process.predict(new), first, rtol=1e-6)


def test_distances_are_measured_in_those_of_the_reference() -> None:
    reference, _ = drawn(50, seed=3)
    process, *_ = fitted(reference=reference * 10)
    pairs = np.triu_indices(50, 1)
    for own in (slice(0, 2), slice(2, 3), slice(3, 6)):
        apart = 10 * cdist(reference[:, own], reference[:, own])[pairs]
        np.testing.assert_allclose(process._units[own], np.median(apart))


def test_groups_in_which_all_networks_are_equal_do_no_harm() -> None:
    x, losses = drawn(30)
    x[:, 2] = 5.0
    process = GaussianProcess(GROUPS)
    process.fit(x, losses)
    assert np.isfinite(process.predict(x)).all()


# --- many networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [5, 10, 31])
def test_of_more_than_it_can_keep_it_keeps_the_best_half_and_others_evenly(most: int) -> None:
    losses = np.random.default_rng(0).permutation(200).astype(np.float64)
    kept = losses[_spread(losses, most)]
    assert len(set(kept)) == most
    assert kept[: most // 2].tolist() == list(range(most // 2))
    rest = kept[most // 2 :]
    assert rest[-1] == 199
    assert np.ptp(np.diff(rest)) <= 1


def test_few_are_all_kept() -> None:
    assert sorted(_spread(np.array([3.0, 1.0, 2.0]), 3).tolist()) == [0, 1, 2]


def test_bounded_it_is_the_process_of_what_it_keeps_on_the_scale_of_all() -> None:
    x, losses = drawn(80)
    new, _ = drawn(20, seed=1)
    reference, _ = drawn(50, seed=2)
    bounded = GaussianProcess(GROUPS, reference, points=30)
    bounded.fit(x, losses)
    kept = _spread(losses, 30)
    assert len(bounded._features) == 30
    scale = NormalScores.of(losses)
    units = bounded._units
    covariance = kernel(x[kept] / units, x[kept] / units, bounded._log)
    covariance += (np.exp(bounded._log[-1]) + JITTER) * np.eye(30)
    mean = kernel(new / units, x[kept] / units, bounded._log) @ np.linalg.solve(
        covariance, scale.score(losses[kept])
    )
    np.testing.assert_allclose(bounded.predict(new)[0], scale.loss(mean), rtol=1e-6)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, "points must be 2 or more for a Gaussian process, but is 1"),
        ({"tuned_on": 0}, "tuned_on must be 2 or more for a Gaussian process, but is 0"),
        ({"groups": []}, "every group must have 1 feature or more, but they have []"),
        ({"groups": [2, 0]}, "every group must have 1 feature or more, but they have [2, 0]"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        GaussianProcess(**options)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_groups_must_fit_the_features() -> None:
    x, losses = drawn(10)
    with pytest.raises(ConfigError) as error:
        GaussianProcess((2, 2)).fit(x, losses)
    assert str(error.value) == "the groups have 4 features, but the networks have 6"
