"""What a training that was stopped early would have come to, from the trainings that were not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Epoch, Floats
from nanonas.errors import InvalidInput

Curve = Sequence[Epoch]

HANDFUL = 5  # with fewer complete curves the gain is taken for the same for all
# standard deviations at which an input is cut: what is stopped is often unlike what was not
FURTHEST = 3.0
STRENGTHS = 10.0 ** np.arange(
    -2, 6
)  # of the shrinkage, in curves; the last all but forgets the inputs


@dataclass
class CurveModel:
    """The final validation accuracy, as the last one seen and a gain that is linear in what the
    curve looks like.

    Its inputs are the sum of the training losses so far (SoTL: Ru et al. 2021,
    https://arxiv.org/abs/2006.04492), the last of them, the last validation accuracy, its rise in
    the last epoch, and the share of the epochs done. Each complete curve, cut where the partial one
    ends, is one example. Ridge regression in closed form draws the gain towards the mean gain, as
    strongly as makes the error on curves left out smallest. With fewer than 5 complete curves the
    gain is their mean, with none it is 0.
    """

    _curves: list[Curve] = field(default_factory=list, repr=False)
    _gains: dict[int, _Gain] = field(
        default_factory=dict, repr=False
    )  # by epochs seen, made when asked for

    def fit(self, curves: Sequence[Curve]) -> None:
        """Learns from complete curves, any number, and forgets those before.

        What is not finite is left out.
        """
        self._curves = [
            curve
            for curve in curves
            if np.isfinite([(e.train_loss, e.accuracy) for e in curve]).all()
        ]
        self._gains = {}

    def predict(self, curve: Curve, epochs: int) -> tuple[float, float]:
        """Mean, in [0, 1], and standard deviation of the accuracy after `epochs` epochs.

        The deviation is that of the errors on curves left out; while those are few, also of a guess
        in [last, 1]. A curve that is complete is its own prediction, of deviation 0.

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
            self._gains[seen] = _Gain.of(
                [whole for whole in self._curves if len(whole) > seen], seen
            )
        gain, variance = self._gains[seen].predict(_inputs(curve, seen, epochs))
        guess = (
            (1 - last) ** 2 / 3
        )  # squared distance of a uniform guess in [last, 1] from the last accuracy, expected
        errors = len(self._gains[seen].errors)
        weight = 1 / (1 + errors)  # in errors: the guess is for when there are hardly any
        std = np.sqrt((weight * guess + errors * variance) / (weight + errors))
        return float(np.clip(last + gain, 0, 1)), float(std)


@dataclass(frozen=True)
class _Gain:
    """A regularised line from the inputs of curves to their gains."""

    centre: Floats  # (inputs,)
    scale: Floats  # (inputs,)
    slopes: Floats  # (inputs,), of standardised inputs
    offset: float
    errors: Floats  # (n,), of each curve's gain, were it left out

    @classmethod
    def of(cls, curves: Sequence[Curve], seen: int) -> _Gain:
        if not curves:
            return cls(np.zeros(5), np.ones(5), np.zeros(5), 0.0, np.zeros(0))
        inputs = np.array([_inputs(curve[:seen], seen, len(curve)) for curve in curves])
        gains = np.array([curve[-1].accuracy - curve[seen - 1].accuracy for curve in curves])
        centre, spread = inputs.mean(axis=0), inputs.std(axis=0)
        scale = np.where(spread > 1e-9, spread, np.inf)  # what is the same for all says nothing
        x = _cut((inputs - centre) / scale)
        slopes, errors = _ridge(x, gains)
        return cls(centre, scale, slopes, float(gains.mean() - x.mean(axis=0) @ slopes), errors)

    def predict(self, inputs: Floats) -> tuple[float, float]:
        """The gain, and the mean squared error of gains left out."""
        known = np.where(np.isfinite(inputs), inputs, self.centre)
        gain = self.offset + _cut((known - self.centre) / self.scale) @ self.slopes
        return float(gain), float((self.errors**2).mean()) if len(self.errors) else 0.0


def _inputs(curve: Curve, seen: int, epochs: int) -> Floats:
    """What is read of the first `seen` epochs of `epochs`, shape (5,)."""
    rise = curve[seen - 1].accuracy - curve[seen - 2].accuracy if seen > 1 else 0.0
    losses = [epoch.train_loss for epoch in curve[:seen]]
    return np.array([sum(losses), losses[-1], curve[seen - 1].accuracy, rise, seen / epochs])


def _cut(standardised: Floats) -> Floats:
    return np.clip(standardised, -FURTHEST, FURTHEST)


def _ridge(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Slopes around the mean, and the errors of leave-one-out, at the strength where those are
    smallest.

    Both in closed form, from the singular values; the errors are PRESS residuals, Allen 1974.

    Args:
        x: shape (n, inputs), standardised.
        y: shape (n,).
    """
    n, residual = len(y), y - y.mean()
    if n < HANDFUL:
        return np.zeros(x.shape[1]), residual * n / (n - 1) if n > 1 else np.zeros(0)
    u, values, v = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    best: tuple[Floats, Floats] | None = None
    for strength in STRENGTHS:
        shrunk = values**2 / (values**2 + strength)
        leverage = 1 / n + (u**2 * shrunk).sum(axis=1)
        errors = (residual - u @ (shrunk * (u.T @ residual))) / (1 - leverage)
        if best is None or (errors**2).sum() <= (best[1] ** 2).sum():
            best = v.T @ (values / (values**2 + strength) * (u.T @ residual)), errors
    assert best is not None
    return best
