"""What inherited weights were worth: children beside the same networks from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import State, Told
from nanonas.maths.ranks import Correlation, kendall

MEASURED = 3  # twins: fewer say nothing of a head start


@dataclass(frozen=True)
class HeadStart:
    """Children that began with inherited weights, against the same networks from scratch.

    Attributes:
        mean: of the children's accuracies minus those from scratch.
        error: the standard error of that.
        correlation: of the two.
    """

    mean: float
    error: float
    correlation: Correlation

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f} points, {self.correlation}"


def twins(told: Sequence[Told]) -> list[tuple[Told, Told]]:
    """Pairs of a candidate that inherited weights and the same network from scratch, in the order
    of the latter.

    A twin has the network of its only parent again, without inherited weights; both were trained to
    the end.
    """
    complete = [one for one in told if one.evaluation.state is State.COMPLETE]
    measured = [one for one in complete if one.evaluation.accuracy is not None]
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


def head_start(pairs: Sequence[tuple[Told, Told]]) -> HeadStart | None:
    """What inheriting did to accuracies and to their order, by `twins`; None for fewer than 3."""
    if len(pairs) < MEASURED:
        return None
    accuracies = [
        (heir.evaluation.accuracy or 0.0, twin.evaluation.accuracy or 0.0) for heir, twin in pairs
    ]
    children, scratch = np.array(accuracies).T
    gain = children - scratch
    error = float(gain.std(ddof=1) / len(gain) ** 0.5)
    return HeadStart(float(gain.mean()), error, kendall(children, scratch))
