"""Losses on a scale on which no network is an outlier, and the way back.

For predictors that have no likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from nanonas.core import Floats

# in scores, which have a standard deviation of 1: no predictor is surer of itself than this
STD_FLOOR = 0.01


@dataclass(frozen=True)
class NormalScores:
    """Rankits, Bliss 1967: a loss's rank among those seen, as a normal distribution's quantile at
    (rank - 1/2) / n.

    A few networks diverge, and most of the others lie close together; a squared error of the losses
    themselves is mostly about the few. Between the losses seen the scale is linear; beyond them it
    goes on as from the median to the end. So it rises strictly, and follows any change of the
    losses' unit.
    """

    losses: Floats  # (k,), those seen, each once, rising
    scores: Floats  # (k,), rising

    @classmethod
    def of(cls, losses: Floats) -> NormalScores:
        """Fitted to n losses, 1 or more, finite. Equal losses share the rank in their middle."""
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
        """What an ensemble expects, from its members' scores, shape (members, m); see `expected`."""
        return self.expected(members.mean(axis=0), members.std(axis=0))

    def expected(self, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the losses, from those of the scores; shape (m,) each.

        The mean is the loss at the mean score, which keeps the scores' order; the deviation is half
        the way between the losses one deviation of the scores above and below, and never 0.
        """
        std = np.maximum(std, STD_FLOOR)
        return self.loss(mean), (self.loss(mean + std) - self.loss(mean - std)) / 2


def _mapped(x: Floats, xs: Floats, ys: Floats) -> Floats:
    """The line through rising (xs, ys), continued beyond both ends; of slope 1 through a single
    point.
    """
    x = np.asarray(x, dtype=np.float64)
    below, above = (_slope(xs, ys, end) for end in (0, -1))
    beyond = below * np.minimum(x - xs[0], 0) + above * np.maximum(x - xs[-1], 0)
    mapped: Floats = np.interp(x, xs, ys) + beyond
    return mapped


def _slope(xs: Floats, ys: Floats, end: int) -> float:
    """From the middle to one end."""
    middle = len(xs) // 2 if end == 0 else (len(xs) - 1) // 2
    run = xs[middle] - xs[end]
    return float((ys[middle] - ys[end]) / run) if run else 1.0
