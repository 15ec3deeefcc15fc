"""Which network of a search is best, where the highest of many figures is the luckiest.

A validation accuracy is what a network is worth, and luck: of the images, of the training. The
highest of many has more of the latter than of the former, and the more networks there are, the more
(the "optimizer's curse" of Smith & Winkler 2006, https://doi.org/10.1287/mnsc.1050.0451). What its
neighbours came to tells one from the other: a Gaussian process learns from all figures, and expects
of each network what is left of its figure without the luck. What that comes to on tables of trained
networks: `benchmarks/nasbench201.py choose`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nanonas.core import Floats, Genome, State, Told
from nanonas.engine.ranking import ranking
from nanonas.maths.ranks import kendall
from nanonas.predictors.gaussian import GaussianProcess

LEAST = 30  # networks trained alike; fewer say too little of each other, so that figures decide
_FOLDS = 4  # of a cross-validation
_BEST = _REST = 500  # of more networks than both, that many of the best and of the others are read


@dataclass(frozen=True)
class Expected:
    """A network that was trained to the end, and the accuracy in [0, 1] that is expected of it."""

    told: Told
    accuracy: float

    @property
    def number(self) -> int:
        """The candidate's number."""
        return self.told.number


def expected(
    told: Sequence[Told], process: Callable[[], GaussianProcess], read: Callable[[Genome], Floats]
) -> list[Expected]:
    """What is expected of the networks of a search, each once, the best first; ties go to the lower
    number.

    Of those that were trained to the end as the one with the highest figure was: under its budget,
    and with inherited weights or without, like it. What a stop rule has pruned there is learnt
    from. Figures of other trainings, such as those of lower rungs, are of something else.

    Args:
        told: every evaluation of a search, in any order.
        process: makes a new one.
        read: the features of a genome, `space.encode`: shape (features,).

    Returns:
        one for each network. None where there are fewer than `LEAST`, or where it cannot be told
        from all others, better than by chance, what one of them came to: then nothing is known of
        luck.
    """
    ranked = ranking(told)
    best = next((one for one in ranked if _whole(one)), None)
    if best is None:
        return []
    alike = [
        one
        for one in ranked
        if one.evaluation.state is not State.CUT and _training(one) == _training(best)
    ]
    if len({one.candidate.key for one in alike if _whole(one)}) < LEAST:
        return []
    others = alike[_BEST:]
    alike = alike[:_BEST] + others[:: max(1, -(-len(others) // _REST))]
    features = np.array([read(one.candidate.proposal.genome) for one in alike])
    losses = np.array([-(one.evaluation.accuracy or 0.0) for one in alike])
    if kendall(_of_others(features, losses, process), losses).tau <= _by_chance(len(losses)):
        return []
    means = _means(process(), features, losses, features)
    # to so many digits: the last ones are another machine's algebra
    accuracies = np.clip(-means, 0.0, 1.0).round(12)
    each = [
        Expected(one, float(accuracy))
        for one, accuracy in zip(alike, accuracies, strict=True)
        if _whole(one)
    ]
    found: dict[str, Expected] = {}
    for one in sorted(each, key=lambda one: (-one.accuracy, one.number)):
        found.setdefault(one.told.candidate.key, one)
    return list(found.values())


def _of_others(features: Floats, losses: Floats, process: Callable[[], GaussianProcess]) -> Floats:
    """The loss that is expected of each of n networks by those of the other folds: (n,)."""
    folds, means = np.arange(len(losses)) % _FOLDS, np.empty(len(losses))
    for fold in range(_FOLDS):
        own = folds == fold
        means[own] = _means(process(), features[~own], losses[~own], features[own])
    return means


def _by_chance(n: int) -> float:
    """Two standard deviations of Kendall's tau between independent orders of n, 2 or more: Kendall
    1938, https://doi.org/10.1093/biomet/30.1-2.81. The interval of `kendall` is of independent
    predictions, but those of a process go astray together.
    """
    return 2 * math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))


def _means(process: GaussianProcess, features: Floats, losses: Floats, asked: Floats) -> Floats:
    """The losses that are expected of the networks `asked` by a process that learns from others."""
    process.fit(features, losses)
    return process.predict(asked)[0]


def _whole(told: Told) -> bool:
    """Whether a network was trained to the end, and judged."""
    return told.judged and told.evaluation.state is State.COMPLETE


def _training(told: Told) -> Hashable:
    """Equal for candidates whose figures can be compared: how long, on what, and from where on they
    were trained.
    """
    budget, heir = told.candidate.proposal.budget, bool(told.candidate.proposal.inherits)
    if budget is not None:  # whatever it resumes, or is stopped by
        budget = replace(budget, begin=0, stop_epoch=0, stop_below=0.0)
    return budget, heir
