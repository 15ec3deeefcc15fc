"""Intervals that hold: for medians, shares, means, and differences between clusters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Floats

Labels = NDArray[np.int64]  # which cluster each belongs to
# the worst accuracies count as this quantile of them: one that diverged is not to decide everything
WINSOR = 0.05


def association(
    y: Floats, x: Floats, clusters: Labels, risk: float
) -> tuple[float, float, float] | None:
    """The slope of y on the first column of x, at equal others, and its interval; None where it
    cannot be told.

    Without columns it is the mean of y.

    Least squares with a constant. The variance is the jackknife's over clusters, of the estimators
    for them the most careful where clusters are few or unequal, with Student's t of one degree of
    freedom less than there are clusters (MacKinnon, Nielsen & Webb 2023,
    https://doi.org/10.1016/j.jeconom.2022.04.001). The usual sandwich held 89 % of what it should
    hold to 95 %, with 20 families of 10 that are much alike.

    Args:
        y: shape (n,).
        x: shape (n, columns).
        clusters: which cluster each belongs to, shape (n,).
        risk: that the interval does not hold the slope.
    """
    from scipy.special import stdtrit  # its stats take a second to import

    design = _independent(x)
    _, places = np.unique(clusters, return_inverse=True)
    groups = int(places.max()) + 1
    if design is None or len(y) <= design.shape[1] + 1 or groups < 2:
        return None
    columns = design.shape[1]
    squares = np.zeros((groups, columns, columns))
    products = np.zeros((groups, columns))
    np.add.at(squares, places, design[:, :, None] * design[:, None, :])
    np.add.at(products, places, design * y[:, None])
    try:
        slope = float(np.linalg.solve(squares.sum(axis=0), products.sum(axis=0))[0])
        left = (
            squares.sum(axis=0) - squares,
            products.sum(axis=0) - products,
        )  # without each of the clusters
        without = np.linalg.solve(left[0], left[1][:, :, None])[:, 0, 0]
    except np.linalg.LinAlgError:
        return None  # all that could tell is in one cluster
    variance = (groups - 1) / groups * float(((without - slope) ** 2).sum())
    half = float(stdtrit(groups - 1, 1 - risk / 2) * variance**0.5)
    return slope, slope - half, slope + half


def _independent(x: Floats) -> Floats | None:
    """The columns and a constant, without those that follow from others; None where the first one
    does.

    Of children that inherit, say, all train for fewer epochs: it need not be known which of the two
    it was.
    """
    scaled = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-12)
    kept: list[int] = []
    for place in [*range(1, x.shape[1]), 0][: x.shape[1]]:
        if np.linalg.matrix_rank(scaled[:, [*kept, place]], tol=1e-6 * len(x) ** 0.5) > len(kept):
            kept.append(place)
    if x.shape[1] and 0 not in kept:
        return None
    return np.column_stack([x[:, sorted(kept)], np.ones(len(x))])


def winsorised(values: Floats) -> Floats:
    """Without the extremes at the lower end: what is below the 5 % quantile counts as that."""
    return np.maximum(values, np.quantile(values, WINSOR))


_RESAMPLES = 2000  # of the bootstrap


def bootstrap(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean over runs and its 95 % percentile interval: (runs, points) -> three of (points,).

    Efron 1979, https://doi.org/10.1214/aos/1176344552; 2,000 resamples, always the same ones.
    """
    draws = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    weights = np.stack([np.bincount(draw, minlength=len(values)) for draw in draws]) / len(values)
    low, high = np.quantile(weights @ values, [0.025, 0.975], axis=0)
    return values.mean(axis=0), low, high


Z = 1.96  # of a 95 % interval


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n that was observed (Wilson 1927,
    https://doi.org/10.2307/2276774).
    """
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def median_interval(
    values: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """The median of independent values, and an interval that holds that of their distribution,
    whatever it is.

    From the r-th smallest to the r-th largest value, where r is the largest rank that keeps the
    confidence: below the median lie binomially many, B(n, 1/2). David & Nagaraja 2003, Order
    Statistics, section 7.1; for running times see Hoefler & Belli 2015,
    https://doi.org/10.1145/2807591.2807644. Fewer than six values have no such interval at 95 %:
    theirs is all that they span.

    Args:
        values: one or more.
        confidence: in (0, 1).
    """
    ordered, n = sorted(values), len(values)
    rank, below = (
        0,
        math.exp(-n * math.log(2)),
    )  # the probability that at most `rank` values lie below the median
    while below <= (1 - confidence) / 2:
        rank += 1
        below += math.exp(
            math.lgamma(n + 1) - math.lgamma(rank + 1) - math.lgamma(n - rank + 1) - n * math.log(2)
        )
    rank = max(rank, 1)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return median, ordered[rank - 1], ordered[n - rank]
