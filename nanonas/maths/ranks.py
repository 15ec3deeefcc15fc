"""How well one order agrees with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import Floats


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b with a 95 % interval: 1 is the same order, 0 none, -1 the reverse."""

    tau: float
    low: float
    high: float
    n: int  # pairs of a prediction and a measurement

    @property
    def worthless(self) -> bool:
        """Whether enough has been seen to say so, and it was no better than chance."""
        return self.n >= 10 and self.tau <= 0

    def __str__(self) -> str:
        return f"τ {self.tau:+.2f} [{self.low:+.2f}, {self.high:+.2f}] of {self.n}"


def kendall(predicted: Floats, measured: Floats) -> Correlation:
    """The correlation of n predictions, 2 or more, with what was measured, shape (n,) each;
    infinities may be ties.

    Kendall 1945, https://doi.org/10.1093/biomet/33.3.239. The interval is normal with the variance
    of Noether's estimator (Hollander & Wolfe 1999, Nonparametric Statistical Methods, 8.32), which
    unlike the one under independence holds for every tau.
    """
    n = len(predicted)
    signs = [
        1.0 * np.greater.outer(values, values) - np.less.outer(values, values)
        for values in (predicted, measured)
    ]
    concordance = (signs[0] * signs[1]).sum(axis=1)  # of each candidate with all others
    untied = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    if untied == 0:
        return Correlation(0.0, -1.0, 1.0, n)
    tau = float(concordance.sum() / untied)
    spread = float(((concordance - concordance.mean()) ** 2).sum())
    variance = (
        2 / (n * (n - 1)) * (2 * (n - 2) / (n * (n - 1) ** 2) * spread + max(0.0, 1 - tau**2))
    )
    half = 1.96 * max(
        float(np.sqrt(variance)), 1 / n
    )  # of a few that are all in order: not yet a certainty
    return Correlation(tau, max(-1.0, tau - half), min(1.0, tau + half), n)


def rank_sum(a: Sequence[float], b: Sequence[float]) -> float:
    """The probability that b, if it were like a, would come out as much better as it did, or more.

    Mann & Whitney 1947, https://doi.org/10.1214/aoms/1177730491, one-sided, in the normal
    approximation with ties.
    """
    from scipy.special import ndtr

    both = np.array([*a, *b])
    _, places, counts = np.unique(both, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2  # the mean rank of each value, from 1
    n, (na, nb) = len(both), (len(a), len(b))
    u = middle[places[na:]].sum() - nb * (nb + 1) / 2
    variance = na * nb / 12 * (n + 1 - (counts**3 - counts).sum() / (n * (n - 1)))
    return 0.5 if variance <= 0 else float(ndtr((na * nb / 2 + 0.5 - u) / np.sqrt(variance)))
