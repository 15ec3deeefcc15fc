"""The scale of normal scores: quantiles of ranks, and an exact way back."""

from __future__ import annotations

import numpy as np
import pytest

from nanonas.predictors.normal_scores import STD_FLOOR, NormalScores


def test_scores_are_the_quantiles_of_the_ranks() -> None:
    losses = np.random.default_rng(0).lognormal(size=99)
    scores = NormalScores.of(losses).score(losses)
    assert scores[np.argsort(losses)[49]] == pytest.approx(0, abs=1e-12)
    assert scores.mean() == pytest.approx(0, abs=1e-9)
    assert scores.std() == pytest.approx(1, abs=0.03)
    np.testing.assert_array_equal(np.argsort(scores), np.argsort(losses))


@pytest.mark.parametrize(
    "losses", [[3.0], [3.0, 3.0], [1.0, 2.0], [1.0, 1.0, 5.0], [0.1, 0.2, 0.3, 0.35, 1e6]]
)
def test_the_way_back_is_the_inverse_and_both_rise_beyond_the_ends(losses: list[float]) -> None:
    scale = NormalScores.of(np.array(losses))
    np.testing.assert_allclose(scale.loss(scale.score(np.array(losses))), losses)
    there = np.linspace(-4, 4, 101)
    assert (np.diff(scale.loss(there)) > 0).all()
    np.testing.assert_allclose(scale.score(scale.loss(there)), there, atol=1e-6)


def test_an_ensembles_deviation_is_never_nothing() -> None:
    scale = NormalScores.of(np.arange(10.0))
    mean, std = scale.moments(np.zeros((5, 3)))
    np.testing.assert_allclose(mean, 4.5)
    slope = (scale.loss(np.array(0.01)) - scale.loss(np.array(-0.01))) / 0.02
    np.testing.assert_allclose(std, STD_FLOOR * slope)
