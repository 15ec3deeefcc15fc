"""Rank statistics: how well one order agrees with another, and which of two samples is higher."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import Floats, Integers
from nanonas.maths.intervals import Z


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b with a 95 % interval: 1 is the same order, 0 no relation, -1 the reverse."""

    tau: float
    low: float
    high: float
    n: int  # pairs of a prediction and a measurement

    @property
    def worthless(self) -> bool:
        """Whether 10 or more pairs show an order that is no better than chance."""
        return self.n >= 10 and self.tau <= 0

    def __str__(self) -> str:
        return f"τ {self.tau:+.2f} [{self.low:+.2f}, {self.high:+.2f}] of {self.n}"


def kendall(predicted: Floats, measured: Floats) -> Correlation:
    """The rank correlation of n predictions, 2 or more, with their measurements.

    Kendall's tau-b, 1945, https://doi.org/10.1093/biomet/33.3.239. The interval is normal with the
    variance of Noether's estimator (Hollander & Wolfe 1999, Nonparametric Statistical Methods,
    8.32), which unlike the variance under independence holds for every tau.

    Args:
        predicted: shape (n,); infinite values tie with each other.
        measured: shape (n,), likewise.
    """
    n = len(predicted)
    predicted_places, measured_places = _places(predicted), _places(measured)  # (n,) each
    # (n,): of each with all others, how many more pairs are in the same order than in the reverse
    concordance = _concordance(predicted_places, measured_places)
    untied = np.sqrt(_untied(predicted_places) * _untied(measured_places))
    if untied == 0:
        return Correlation(0.0, -1.0, 1.0, n)
    tau = float(concordance.sum() / untied)
    spread = float(((concordance - concordance.mean()) ** 2).sum())
    variance = (
        2 / (n * (n - 1)) * (2 * (n - 2) / (n * (n - 1) ** 2) * spread + max(0.0, 1 - tau**2))
    )
    # A few pairs in perfect order are no certainty yet: the standard error is 1/n at least.
    half = Z * max(float(np.sqrt(variance)), 1 / n)
    return Correlation(tau, max(-1.0, tau - half), min(1.0, tau + half), n)


def _places(values: Floats) -> Integers:
    """The place of each value among the distinct ones: (n,)."""
    places: Integers = np.unique(values, return_inverse=True)[1]
    return places


def _untied(places: Integers) -> float:
    """How many ordered pairs have different places."""
    return float(len(places) ** 2 - (np.bincount(places) ** 2).sum())


def _concordance(a: Integers, b: Integers) -> Floats:
    """For each of n, from how many others it differs in the same direction by both, less those from
    which it differs in opposite directions: (n,). A long run has ten thousand pairs: too many to
    compare each with each.
    """
    same, opposite = _lower(a, b) + _lower(-a, -b), _lower(a, -b) + _lower(-a, b)
    return (same - opposite).astype(np.float64)


def _lower(a: Integers, b: Integers) -> Integers:
    """How many others are lower than each by both a and b: (n,)."""
    order = np.lexsort((-b, a))  # of equals by a the highest by b first: they do not count
    lower, before = np.zeros(len(a), dtype=np.int64), list[int]()
    for place, value in zip(order, b[order].tolist(), strict=True):
        lower[place] = bisect_left(before, value)
        insort(before, value)
    return lower


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation of two samples, shape (n,) each, in [-1, 1]; ties have their mean
    rank. 0 where all of either are equal.
    """
    ranks = np.array([_mean_ranks(a), _mean_ranks(b)])  # (2, n)
    if len(a) < 2 or np.any(ranks.min(axis=1) == ranks.max(axis=1)):
        return 0.0
    return float(np.corrcoef(ranks)[0, 1])


def _mean_ranks(values: Floats) -> Floats:
    """The rank of each value, from 1; equal ones share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


def rank_sum(a: Sequence[float], b: Sequence[float]) -> float:
    """The p-value of the one-sided test that b tends to be higher than a.

    Mann & Whitney 1947, https://doi.org/10.1214/aoms/1177730491, in the normal approximation with a
    correction for ties and for continuity.
    """
    from scipy.special import ndtr

    pooled = np.array([*a, *b])
    counts = np.unique(pooled, return_counts=True)[1]
    n, na, nb = len(pooled), len(a), len(b)
    u = _mean_ranks(pooled)[na:].sum() - nb * (nb + 1) / 2
    variance = na * nb / 12 * (n + 1 - (counts**3 - counts).sum() / (n * (n - 1)))
    if variance <= 0:
        return 0.5
    return float(ndtr((na * nb / 2 + 0.5 - u) / np.sqrt(variance)))
