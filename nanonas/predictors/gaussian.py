"""A Gaussian process over groups of features, with length scales by marginal likelihood."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from typing_extensions import ParamSpec

from nanonas.core import Floats, Integers
from nanonas.errors import ConfigError
from nanonas.predictors.normal_scores import NormalScores

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
T = TypeVar("T")

NOISE = 0.1  # prior variance of a measured score around the truth; scores have variance 1
DOUBT = 0.25  # prior standard deviation of the logarithm of each hyperparameter
JITTER = 1e-6  # added to the kernel's diagonal, so that equal networks leave it invertible
_IN_CACHE = 16_384  # elements of an array that fits into a core's cache together with a few others
_MEASURED = 300  # networks between which distances are measured, at most


def _one_thread(method: Callable[P, T]) -> Callable[P, T]:
    """Runs a method in one thread: a second one makes matrices this small take twice as long, and
    the cores are busy training.
    """

    @functools.wraps(method)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with _threads().limit(limits=1, user_api="blas"):
            return method(*args, **kwargs)

    return limited


@functools.cache
def _threads() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - loads its own BLAS, which the controller has to see
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@dataclass
class GaussianProcess:
    """Gaussian process regression on the `NormalScores` of the losses: Rasmussen & Williams 2006,
    chapters 2 and 5, http://gaussianprocess.org/gpml.

    Features come in groups that belong together. Each group g has a Matérn 5/2 kernel k_g with its
    own length scale, and the process has their ANOVA kernel, Π (1 + a_g k_g) / (1 + a_g): effects
    of each group alone, and interactions as far as the data ask for them (Durrande et al. 2013,
    https://arxiv.org/abs/1106.6159). Length scales, weights a_g and noise maximise the marginal
    likelihood times a prior, log-normal around 1 (noise: 0.1), which makes the process useful from
    the first network on.

    Distances are relative to each group's median distance between the networks of `reference`, or
    between the fitted ones: no constant here depends on a search space.

    An exact process costs n³. Of more than `points` networks it keeps the best ones for half of
    `points`, and for the other half the rest, evenly over their ranks; and it learns
    hyperparameters from `tuned_on` networks, chosen likewise.

    Args:
        groups: how many features each group has, in order; None: all are one group.
        reference: features of networks drawn from the space, shape (m, features), to scale
            distances by, or what draws them when they are needed; None: the fitted networks.
        points: networks to keep at most, 2 or more.
        tuned_on: networks to learn hyperparameters from at most, 2 or more.

    Raises:
        ConfigError: `points` or `tuned_on` is below 2, or a group is empty.
    """

    groups: Sequence[int] | None = None
    reference: Floats | Callable[[], Floats] | None = field(default=None, repr=False)
    points: int = 1000
    tuned_on: int = 200
    _scores: NormalScores | None = field(default=None, repr=False)
    # (features,): the median distance of each feature's group
    _units: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    # (2 groups + 1,): logarithms of length scales, weights and noise
    _log: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    # (n, features), divided by _units
    _features: Floats = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    # (n, n): of the kernel K with noise
    _cholesky: Floats = field(default_factory=lambda: np.zeros((0, 0)), repr=False)
    # (n,): K⁻¹ scores
    _solved: Floats = field(default_factory=lambda: np.zeros(0), repr=False)

    def __post_init__(self) -> None:
        for what, value in (("points", self.points), ("tuned_on", self.tuned_on)):
            if value < 2:
                raise ConfigError(
                    f"{what} must be 2 or more for a Gaussian process, but is {value}"
                )
        if self.groups is not None and (not self.groups or min(self.groups) < 1):
            raise ConfigError(
                f"every group must have 1 feature or more, but they have {list(self.groups)}"
            )

    @property
    def name(self) -> str:
        return "gaussian"

    @_one_thread
    def fit(self, features: Floats, losses: Floats) -> None:
        """Learns from n networks, 1 or more: features (n, features), finite losses (n,)."""
        reference = self.reference() if callable(self.reference) else self.reference
        self._units = self._measured(features if reference is None else reference)
        rows = _spread(losses, self.tuned_on)
        scores = NormalScores.of(losses).score(losses[rows])
        self._log = self._learnt(features[rows] / self._units, scores)
        self.update(features, losses)

    @_one_thread
    def update(self, features: Floats, losses: Floats) -> None:
        """As `fit`, but keeps the hyperparameters of the last fit."""
        from scipy.linalg import cho_solve

        assert len(self._log), "fit comes before update"
        self._scores = NormalScores.of(losses)
        rows = _spread(losses, self.points)
        scores = self._scores.score(losses[rows])
        self._features = features[rows] / self._units
        kernel = self._kernel(self._features)
        kernel[np.diag_indices_from(kernel)] += np.exp(self._log[-1]) + JITTER
        self._cholesky = np.asarray(np.linalg.cholesky(kernel), dtype=np.float64)
        self._solved = cho_solve((self._cholesky, True), scores, check_finite=False)

    @_one_thread
    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the losses of m networks, shape (m,) each; the deviation
        is that of the true loss, without noise (equations 2.25 and 2.26).
        """
        from scipy.linalg import solve_triangular

        assert self._scores is not None, "fit comes before predict"
        if len(features) == 0:
            return np.zeros(0), np.zeros(0)
        kernel = self._kernel(features / self._units)  # (m, n)
        half = solve_triangular(self._cholesky, kernel.T, lower=True, check_finite=False)  # (n, m)
        variance = 1.0 - np.einsum("nm,nm->m", half, half)
        std = np.sqrt(np.maximum(variance, 0.0))
        return self._scores.expected(kernel @ self._solved, std)

    # --- the kernel -------------------------------------------------------------------------------

    def _slices(self, width: int) -> list[slice]:
        """The features of each group. Raises `ConfigError` unless they are `width` in total."""
        ends = np.cumsum(self.groups if self.groups is not None else [width])
        if ends[-1] != width:
            raise ConfigError(f"the groups have {ends[-1]} features, but the networks have {width}")
        return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _measured(self, features: Floats) -> Floats:
        """For each feature the median distance within its group, (features,), between up to 300 of
        the networks; 1 where all are equal.
        """
        units = np.ones(features.shape[1])
        step = max(1, -(-len(features) // _MEASURED))
        sample = features[::step]
        pairs = np.triu_indices(len(sample), 1)
        for group in self._slices(features.shape[1]):
            squares = _squares(sample[:, group], sample[:, group])[pairs]
            distinct = squares[squares > 1e-12]
            if len(distinct):
                median = np.median(squares)  # 0 where most networks are equal in this group
                units[group] = np.sqrt(median if median > 1e-12 else distinct.mean())
        return units

    def _distances(self, a: Floats, b: Floats) -> list[Floats]:
        """The squared distances in each group: shape (len(a), len(b)) each."""
        return [_squares(a[:, group], b[:, group]) for group in self._slices(a.shape[1])]

    def _kernel(self, features: Floats) -> Floats:
        """The kernel between m networks and those kept, shape (m, n).

        In blocks of rows that stay in the cache: 5 times as fast as all at once.
        """
        kernel = np.ones((len(features), len(self._features)))
        rows = max(1, _IN_CACHE // kernel.shape[1])
        for start in range(0, len(kernel), rows):
            block = kernel[start : start + rows]
            squares = self._distances(features[start : start + rows], self._features)
            weights = np.exp(self._log[len(squares) :])
            for square, log_scale, weight in zip(squares, self._log, weights, strict=False):
                block *= (1 + weight * _matern(square, log_scale)[0]) / (1 + weight)
        return kernel

    # --- learning ---------------------------------------------------------------------------------

    def _learnt(self, features: Floats, scores: Floats) -> Floats:
        """The logarithms of the most probable length scales, weights and noise, for features
        divided by their units.
        """
        from scipy.optimize import minimize

        squares = self._distances(features, features)
        prior = np.append(np.zeros(2 * len(squares)), np.log(NOISE))
        optimum = minimize(
            _surprise,
            prior,
            (squares, scores, prior),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 30},
        )
        learnt: Floats = optimum.x
        return learnt


def _surprise(
    log: Floats, squares: Sequence[Floats], scores: Floats, prior: Floats
) -> tuple[float, Floats]:
    """The negative log posterior of the hyperparameters, and its gradient (equations 5.8 and 5.9).

    Args:
        log: logarithms of length scales, weights and noise, shape (2 groups + 1,).
        squares: squared distances in each group, shape (n, n) each.
        scores: shape (n,).
        prior: the mean of `log`.
    """
    from scipy.linalg import cho_solve

    n, groups = len(scores), len(squares)
    kernel = np.ones((n, n))
    by_scale: list[Floats] = []  # derivatives of log(kernel) by the log of each length scale
    by_weight: list[Floats] = []  # and of each weight
    for square, log_scale, weight in zip(squares, log, np.exp(log[groups:]), strict=False):
        part, slope = _matern(square, log_scale)
        factor = 1 + weight * part
        kernel *= factor / (1 + weight)
        by_scale.append(weight * slope / factor)
        by_weight.append(weight * (part / factor - 1 / (1 + weight)))
    noise = np.exp(log[-1])
    cholesky = np.linalg.cholesky(kernel + (noise + JITTER) * np.eye(n))
    inverse = cho_solve((cholesky, True), np.eye(n), check_finite=False)
    solved = inverse @ scores
    off = (log - prior) / DOUBT
    surprise = scores @ solved / 2 + np.log(np.diag(cholesky)).sum() + off @ off / 2
    by_kernel = (inverse - np.outer(solved, solved)) / 2  # (n, n): derivative by the kernel
    by_log_kernel = by_kernel * kernel
    gradient = [np.vdot(by_log_kernel, slope) for slope in (*by_scale, *by_weight)]
    by_noise = noise * np.trace(by_kernel)
    return float(surprise), np.array([*gradient, by_noise]) + off / DOUBT


def _matern(squares: Floats, log_scale: float) -> tuple[Floats, Floats]:
    """The Matérn 5/2 kernel of squared distances (equation 4.17), and its derivative by the
    logarithm of the length scale; of the shape of `squares`.
    """
    scaled = squares * (5 * np.exp(-2 * log_scale))
    distance = np.sqrt(scaled)
    decay = np.exp(-distance)
    third = scaled / 3
    return (1 + distance + third) * decay, third * (1 + distance) * decay


def _squares(a: Floats, b: Floats) -> Floats:
    """The squared distances between the rows of a and b, shape (len(a), len(b))."""
    squares: Floats = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2 * a @ b.T
    return np.maximum(squares, 0, out=squares)


def _spread(losses: Floats, most: int) -> Integers:
    """The rows to keep of n networks, `most` at most: half of them the best, half of them the rest,
    evenly over their ranks.
    """
    order: Integers = np.argsort(losses, kind="stable")
    if len(order) <= most:
        return order
    best = most // 2
    rest = np.linspace(best, len(order) - 1, most - best).round().astype(np.int64)
    return np.concatenate([order[:best], order[rest]])
