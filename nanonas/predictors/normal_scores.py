"""A scale of losses without outliers, and the way back.

For predictors that minimise a squared error.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from nanonas.core import Floats

STD_FLOOR = 0.01  # in scores, whose standard deviation is 1: the least that a predictor may claim


@dataclass(frozen=True)
class NormalScores:
    """Rankits, Bliss 1967: the rank of a loss among those seen, as the quantile of a normal
    distribution at (rank - 1/2) / n.

    A few networks diverge, and most of the others lie close together; a squared error of the losses
    themselves is mostly about the few. Between the losses seen the scale is linear; beyond them it
    continues with the slope from the median to the end. So it is strictly increasing, and does not
    depend on the unit of the losses.
    """

    losses: Floats  # (k,), the distinct losses seen, ascending
    scores: Floats  # (k,), ascending

    @classmethod
    def of(cls, losses: Floats) -> NormalScores:
        """Fitted to n losses, 1 or more, finite, shape (n,). Equal losses share their mean rank."""
        distinct, counts = np.unique(np.asarray(losses, dtype=np.float64), return_counts=True)
        quantiles = (np.cumsum(counts) - counts / 2) / counts.sum()
        return cls(distinct, np.array([NormalDist().inv_cdf(quantile) for quantile in quantiles]))

    def score(self, losses: Floats) -> Floats:
        """From losses to scores, of the same shape."""
        return _mapped(losses, self.losses, self.scores)

    def loss(self, scores: Floats) -> Floats:
        """From scores to losses, of the same shape."""
        return _mapped(scores, self.scores, self.losses)

    def moments(self, members: Floats) -> tuple[Floats, Floats]:
        """As `expected`, from the scores that an ensemble predicts, shape (members, m)."""
        return self.expected(members.mean(axis=0), members.std(axis=0))

    def expected(self, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the losses, from those of the scores; shape (m,) each.

        The mean is the loss at the mean score, which keeps the order of the scores. The deviation
        is half the distance between the losses one deviation above and below, and never 0.
        """
        std = np.maximum(std, STD_FLOOR)
        high, low = self.loss(mean + std), self.loss(mean - std)
        return self.loss(mean), (high - low) / 2


def _mapped(x: Floats, xs: Floats, ys: Floats) -> Floats:
    """The polyline through the ascending points (xs, ys), continued beyond both ends; with slope 1
    through a single point.
    """
    x = np.asarray(x, dtype=np.float64)
    below, above = _slope(xs, ys, 0), _slope(xs, ys, -1)
    beyond = below * np.minimum(x - xs[0], 0) + above * np.maximum(x - xs[-1], 0)
    mapped: Floats = np.interp(x, xs, ys) + beyond
    return mapped


def _slope(xs: Floats, ys: Floats, end: int) -> float:
    """The slope from the middle to an end, 0 or -1."""
    middle = len(xs) // 2 if end == 0 else (len(xs) - 1) // 2
    run = xs[middle] - xs[end]
    return float((ys[middle] - ys[end]) / run) if run else 1.0
