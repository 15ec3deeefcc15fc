"""Extrapolation of learning curves: from complete trainings to those that were stopped early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Epoch, Floats
from nanonas.errors import InvalidInput

Curve = Sequence[Epoch]

HANDFUL = 5  # with fewer complete curves the gain is taken to be the same for all
# Inputs are clipped at so many standard deviations: stopped trainings are often unlike the others.
FURTHEST = 3.0
# of the shrinkage, in curves; the last one all but ignores the inputs
STRENGTHS = 10.0 ** np.arange(-2, 6)
_INPUTS = 5


@dataclass
class CurveModel:
    """Predicts the final validation accuracy: the last one seen, plus a gain that is linear in
    features of the curve.

    The features are the sum of the training losses so far (SoTL: Ru et al. 2021,
    https://arxiv.org/abs/2006.04492), the last of them, the last validation accuracy, its rise in
    the last epoch, and the share of the epochs done. Each complete curve, cut where the partial one
    ends, is one example. Ridge regression shrinks the gain towards the mean gain, with the strength
    that has the smallest leave-one-out error. With fewer than 5 complete curves the gain is their
    mean, with none it is 0.
    """

    _curves: list[Curve] = field(default_factory=list, repr=False)
    # by epochs seen, fitted when first needed
    _gains: dict[int, _Gain] = field(default_factory=dict, repr=False)

    def fit(self, curves: Sequence[Curve]) -> None:
        """Learns from complete curves, any number, in place of those before.

        Curves with a value that is not finite are ignored.
        """
        self._curves = [curve for curve in curves if _is_finite(curve)]
        self._gains = {}

    def predict(self, curve: Curve, epochs: int) -> tuple[float, float]:
        """Mean, in [0, 1], and standard deviation of the accuracy after `epochs` epochs.

        The deviation is that of the leave-one-out errors; while they are few, it is mixed with that
        of a uniform guess between the last accuracy and 1. A complete curve is its own prediction,
        with deviation 0.

        Args:
            curve: the epochs so far, 1 or more.
            epochs: of the complete training.

        Raises:
            InvalidInput: the curve has no epoch.
        """
        if not curve:
            raise InvalidInput(
                "a learning curve has 0 epochs, but needs 1 or more to go on from; leave it out"
            )
        last, seen = curve[-1].accuracy, len(curve)
        if seen >= epochs:
            return last, 0.0
        if seen not in self._gains:
            longer = [complete for complete in self._curves if len(complete) > seen]
            self._gains[seen] = _Gain.of(longer, seen)
        model = self._gains[seen]
        gain, variance = model.predict(_inputs(curve, seen, epochs))
        guess = (1 - last) ** 2 / 3  # expected square of a gain that is uniform in [0, 1 - last]
        errors = len(model.errors)
        weight = 1 / (1 + errors)  # of the guess, in errors: it is for when there are hardly any
        std = np.sqrt((weight * guess + errors * variance) / (weight + errors))
        return float(np.clip(last + gain, 0, 1)), float(std)


@dataclass(frozen=True)
class _Gain:
    """Ridge regression from the features of curves after `seen` epochs to their gains."""

    centre: Floats  # (inputs,)
    scale: Floats  # (inputs,)
    slopes: Floats  # (inputs,), of standardised inputs
    offset: float
    errors: Floats  # (n,), leave-one-out

    @classmethod
    def of(cls, curves: Sequence[Curve], seen: int) -> _Gain:
        """Fitted to complete curves, any number, each longer than `seen`."""
        if not curves:
            nothing = np.zeros(_INPUTS)
            return cls(nothing, np.ones(_INPUTS), nothing, 0.0, np.zeros(0))
        inputs = np.array([_inputs(curve[:seen], seen, len(curve)) for curve in curves])
        gains = np.array([curve[-1].accuracy - curve[seen - 1].accuracy for curve in curves])
        centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
        scale = np.where(spread > 1e-9, spread, np.inf)  # an input that never changes counts as 0
        x = _clipped((inputs - centre) / scale)  # (n, inputs)
        slopes, errors = _ridge(x, gains)
        offset = float(gains.mean() - x.mean(axis=0) @ slopes)
        return cls(centre, scale, slopes, offset, errors)

    def predict(self, inputs: Floats) -> tuple[float, float]:
        """The gain, and the mean of the squared leave-one-out errors."""
        finite = np.where(np.isfinite(inputs), inputs, self.centre)
        gain = self.offset + _clipped((finite - self.centre) / self.scale) @ self.slopes
        variance = float((self.errors**2).mean()) if len(self.errors) else 0.0
        return float(gain), variance


def _is_finite(curve: Curve) -> bool:
    return bool(np.isfinite([(epoch.train_loss, epoch.accuracy) for epoch in curve]).all())


def _inputs(curve: Curve, seen: int, epochs: int) -> Floats:
    """The features of the first `seen` of `epochs` epochs, shape (inputs,)."""
    rise = curve[seen - 1].accuracy - curve[seen - 2].accuracy if seen > 1 else 0.0
    losses = [epoch.train_loss for epoch in curve[:seen]]
    return np.array([sum(losses), losses[-1], curve[seen - 1].accuracy, rise, seen / epochs])


def _clipped(standardised: Floats) -> Floats:
    return np.clip(standardised, -FURTHEST, FURTHEST)


def _ridge(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Ridge regression at the strength with the smallest leave-one-out error.

    In closed form, from the singular values; the errors are PRESS residuals, Allen 1974,
    https://doi.org/10.1080/00401706.1974.10489157.

    Args:
        x: shape (n, inputs), standardised.
        y: shape (n,).

    Returns:
        slopes around the mean, shape (inputs,), and leave-one-out errors, shape (n,), or (0,) for a
        single curve.
    """
    n = len(y)
    residual = y - y.mean()
    if n < HANDFUL:
        errors = residual * n / (n - 1) if n > 1 else np.zeros(0)
        return np.zeros(x.shape[1]), errors
    u, values, v = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    best: tuple[Floats, Floats] | None = None
    for strength in STRENGTHS:
        shrunk = values**2 / (values**2 + strength)
        leverage = 1 / n + (u**2 * shrunk).sum(axis=1)
        errors = (residual - u @ (shrunk * (u.T @ residual))) / (1 - leverage)
        if best is None or (errors**2).sum() <= (best[1] ** 2).sum():
            slopes = v.T @ (values / (values**2 + strength) * (u.T @ residual))
            best = slopes, errors
    assert best is not None
    return best
