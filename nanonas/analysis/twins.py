"""Pairs of the same network, with inherited weights and from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import State, Told
from nanonas.maths.ranks import Correlation, kendall


@dataclass(frozen=True)
class HeadStart:
    """Children that began with inherited weights, against the same networks from scratch."""

    mean: float  # of the children's accuracies minus those from scratch
    error: float  # standard error of that
    correlation: Correlation  # of the two

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f} points, {self.correlation}"


def twins(told: Sequence[Told]) -> list[tuple[Told, Told]]:
    """Pairs of a candidate that inherited weights and the same network from scratch, in the order
    of the latter.

    A twin has the network of its only parent again, without inherited weights; both were trained to
    the end.
    """
    whole = [one for one in told if one.evaluation.state is State.COMPLETE]
    measured = [one for one in whole if one.evaluation.accuracy is not None]
    heirs = {one.number: one for one in measured if one.candidate.proposal.inherits}
    pairs: list[tuple[Told, Told]] = []
    for one in measured:
        proposal = one.candidate.proposal
        if not proposal.from_scratch or len(proposal.parents) != 1:
            continue
        heir = heirs.get(proposal.parents[0])
        if heir is not None and heir.candidate.key == one.candidate.key:
            pairs.append((heir, one))
    return pairs


def head_start(told: Sequence[Told]) -> HeadStart | None:
    """What inheriting did to accuracies and to their order, by the twins of
    `strategies.inheriting`; from 3 of them on.

    Mean and standard error of the gain in accuracy over the pairs of `twins`.
    """
    pairs = [
        (heir.evaluation.accuracy or 0.0, twin.evaluation.accuracy or 0.0)
        for heir, twin in twins(told)
    ]
    if len(pairs) < 3:
        return None
    children, scratch = np.array(pairs).T
    gain = children - scratch
    return HeadStart(
        float(gain.mean()), float(gain.std(ddof=1) / len(gain) ** 0.5), kendall(children, scratch)
    )
