"""Extrapolation of learning curves: power laws with known ends are the oracle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from toys.predictors import spearman

from nanonas.core import Epoch, Floats
from nanonas.errors import InvalidInput
from nanonas.predictors.curves import HANDFUL, CurveModel

Curve = tuple[Epoch, ...]


def power_laws(n: int, epochs: int = 12, noise: float = 0.0, seed: int = 0) -> list[Curve]:
    """Networks that learn fast or slowly, up to high or low: error = floor + (start - floor) ·
    epoch^-speed.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(1, epochs + 1)
    curves: list[Curve] = []
    for _ in range(n):
        floor, speed = rng.uniform(0.05, 0.4), rng.uniform(0.2, 1.5)
        error = floor + (0.9 - floor) * (time + 0.5) ** -speed
        accuracies = np.clip(1 - error + noise * rng.normal(size=epochs), 0, 1)
        losses = 2.3 * error * (1 + noise * rng.normal(size=epochs))
        curves.append(
            tuple(Epoch(float(a), float(b)) for a, b in zip(losses, accuracies, strict=True))
        )
    return curves


def ends(curves: list[Curve]) -> Floats:
    return np.array([curve[-1].accuracy for curve in curves])


def predicted(model: CurveModel, curves: list[Curve], seen: int) -> tuple[Floats, Floats]:
    mean, std = np.array([model.predict(curve[:seen], len(curve)) for curve in curves]).T
    return mean, std


def fitted(curves: list[Curve]) -> CurveModel:
    model = CurveModel()
    model.fit(curves)
    return model


@pytest.mark.parametrize("seen", [2, 3, 6])
def test_ends_of_clean_power_laws_are_foreseen(seen: int) -> None:
    model, new = fitted(power_laws(200)), power_laws(100, seed=1)
    mean, _ = predicted(model, new, seen)
    early = np.array([curve[seen - 1].accuracy for curve in new])
    assert spearman(mean, ends(new)) > max(0.95, spearman(early, ends(new)))
    assert (
        np.abs(mean - ends(new)).mean()
        < 0.3 * np.abs(early + (ends(new) - early).mean() - ends(new)).mean()
    )


@pytest.mark.parametrize("n", [1, 3, HANDFUL, 8, 20, 100])
@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_it_ranks_no_worse_than_the_last_accuracy(n: int, noise: float) -> None:
    better = []
    for seed in range(10):
        new = power_laws(100, noise=noise, seed=1000 + seed)
        mean, _ = predicted(fitted(power_laws(n, noise=noise, seed=seed)), new, 3)
        early = np.array([curve[2].accuracy for curve in new])
        better.append(spearman(mean, ends(new)) - spearman(early, ends(new)))
    assert np.mean(better) > (-0.02 if n < 20 else 0.0)


@pytest.mark.parametrize("n", [HANDFUL, 30, 300])
def test_its_deviation_is_that_of_its_errors(n: int) -> None:
    wrong = []
    for seed in range(10):
        new = power_laws(100, noise=0.02, seed=1000 + seed)
        mean, std = predicted(fitted(power_laws(n, noise=0.02, seed=seed)), new, 4)
        wrong.append(np.abs(mean - ends(new)) / std)
    assert 0.55 < np.mean(np.array(wrong) < 1) < 0.97
    assert np.mean(np.array(wrong) < 3) > 0.97


def test_without_curves_it_is_the_last_accuracy_and_anything_may_follow() -> None:
    mean, std = CurveModel().predict((Epoch(2.0, 0.3), Epoch(1.5, 0.4)), 10)
    assert mean == 0.4
    assert std == pytest.approx(0.6 / np.sqrt(3))


def test_few_curves_give_their_mean_gain() -> None:
    curves = power_laws(HANDFUL - 1)
    gain = np.mean([curve[-1].accuracy - curve[2].accuracy for curve in curves])
    mean, _ = fitted(curves).predict((Epoch(2.0, 0.1), Epoch(1.9, 0.2), Epoch(1.8, 0.25)), 12)
    assert mean == pytest.approx(0.25 + gain)


def test_a_whole_curve_is_its_own_prediction() -> None:
    curve = power_laws(1)[0]
    assert fitted(power_laws(20)).predict(curve, 12) == (curve[-1].accuracy, 0.0)


def test_leave_one_out_in_closed_form_is_leave_one_out() -> None:
    from nanonas.predictors.curves import STRENGTHS, _ridge

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(9, 3)), rng.normal(size=9)
    y += 2 * x[:, 0]

    def line(x: Floats, y: Floats, strength: float) -> tuple[Floats, float]:
        """Around the mean that the others have; the offset is not shrunk."""
        design = np.column_stack([x, np.ones(len(x))])
        slopes = np.linalg.solve(design.T @ design + strength * np.diag([1, 1, 1, 0]), design.T @ y)
        return slopes[:3], slopes[3]

    def left_out(strength: float) -> Floats:
        lines = [line(np.delete(x, i, axis=0), np.delete(y, i), strength) for i in range(9)]
        return np.array(
            [y[i] - (x[i] @ slopes + offset) for i, (slopes, offset) in enumerate(lines)]
        )

    slopes, errors = _ridge(x, y)
    best = min(STRENGTHS, key=lambda strength: (left_out(strength) ** 2).sum())
    np.testing.assert_allclose(errors, left_out(best))
    np.testing.assert_allclose(slopes, line(x, y, best)[0])


@pytest.mark.parametrize("n", [0, 1, 4, 5, 6, 50])
def test_what_is_strange_gives_numbers_in_range(n: int) -> None:
    strange = [
        (Epoch(1e6, 0.1), Epoch(1e9, 0.0)),
        (Epoch(float("nan"), 0.1), Epoch(float("inf"), 0.1)),
        (Epoch(2.3, 1.0),),
        (Epoch(2.3, 0.0),),
    ]
    same = [power_laws(1)[0]] * n
    broken: list[Curve] = [(Epoch(float("nan"), 0.1),) * 12]
    for model in (fitted(power_laws(n)), fitted(same), fitted(power_laws(n) + broken)):
        for curve in strange:
            mean, std = model.predict(curve, 12)
            assert 0 <= mean <= 1
            assert 0 <= std <= 1


def test_curves_of_other_budgets_are_understood() -> None:
    model = fitted(power_laws(60, epochs=6) + power_laws(60, epochs=24, seed=1))
    new = power_laws(100, epochs=24, seed=2)
    mean, _ = predicted(model, new, 3)
    assert spearman(mean, ends(new)) > 0.9
    short = [model.predict(curve[:3], 6)[0] for curve in new]
    assert np.mean(mean) > np.mean(short) + 0.02  # who trains longer gains more


def test_a_second_fit_forgets_the_first_and_pickles_stay_the_same() -> None:
    model, curve = fitted(power_laws(40, seed=3)), power_laws(1, seed=9)[0][:3]
    model.predict(curve, 12)
    model.fit(power_laws(20))
    assert model.predict(curve, 12) == fitted(power_laws(20)).predict(curve, 12)
    assert pickle.loads(pickle.dumps(model)).predict(curve, 12) == model.predict(curve, 12)


def test_a_curve_without_an_epoch_is_refused() -> None:
    with pytest.raises(InvalidInput) as error:
        CurveModel().predict((), 5)
    assert (
        str(error.value)
        == "a learning curve has 0 epochs, but needs 1 or more to go on from; leave it out"
    )
