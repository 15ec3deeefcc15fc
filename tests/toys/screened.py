"""Predictors that are quick and whose answers are known, and searches that they screen.

Classes of this module, not of a test file, so that two of those can import them, and so that they
can be pickled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanonas.core import (
    Candidate,
    Epoch,
    Evaluation,
    Floats,
    Genome,
    Predictor,
    Pulse,
    State,
    Strategy,
)
from nanonas.spaces.base import Space
from nanonas.spaces.nano import NanoSpace
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.around.screened import Screened

NANO = NanoSpace((1, 8, 8), 3, channels=2, length=6)
SMALL: dict[str, Any] = {
    **{"opening": 6, "tournament": 3, "proposals": 3, "elite": 2, "mutants": 3, "samples": 3},
    "audit_every": 10,
}


@dataclass
class Nearest:
    """Expects what the nearest network that it knows had, and doubts it by the distance."""

    name: str = "nearest"
    given: list[tuple[Floats, Floats]] = field(
        default_factory=list
    )  # to it and its copies, the last one last

    def fit(self, features: Floats, losses: Floats) -> None:
        assert np.isfinite(losses).all()
        self.known = features, losses
        self.given.append(self.known)

    update = fit

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        known, losses = self.known
        shared = min(
            features.shape[1], known.shape[1]
        )  # sequences may be longer than all that were known
        apart = np.abs(features[:, None, :shared] - known[None, :, :shared])
        apart = apart.reshape(len(features), len(known), -1).sum(axis=2)
        return losses[apart.argmin(axis=1)], 0.01 + apart.min(axis=1) / known[0].size


@dataclass
class Knowing:
    """Knows how good a network is; the reverse, while it was given fewer than `reversed_until`
    networks.
    """

    reversed_until: int = 0
    name: str = "knowing"
    line: tuple[float, float] = (0.0, 0.0)  # the score over the worth

    def fit(self, features: Floats, losses: Floats) -> None:
        slope, offset = np.polyfit(worth(features), losses, 1)
        if len(losses) < self.reversed_until:
            slope, offset = -slope, 2 * float(losses.mean()) - offset
        self.line = float(slope), float(offset)

    update = fit

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        slope, offset = self.line
        return slope * worth(features) + offset, np.full(len(features), 0.1)


def worth(features: Floats) -> Floats:
    """What a network is worth, of its features, shape (n, features): any smooth function of all of
    them.
    """
    weights = np.random.default_rng(5).normal(size=features.shape[1])
    found: Floats = features @ weights / 10
    return found


def accuracy(genome: Genome, space: Space = NANO) -> float:
    """In (0, 1), and rising with the worth."""
    return float(1 / (1 + np.exp(-worth(space.encode(genome)[None])[0])))


def train(candidate: Candidate, pulse: Pulse = lambda: True) -> Evaluation:
    """Trains networks of `NANO`; some fail, some are pruned."""
    number, reached = candidate.number, accuracy(candidate.proposal.genome)
    if number % 7 == 5:
        return Evaluation(number, State.FAILED, reason="bad luck")
    pruned = number % 5 == 4
    curve = tuple(Epoch(1 - share * reached, share * reached) for share in (0.5, 0.8, 1.0))[
        : 1 if pruned else 3
    ]
    state = State.PRUNED if pruned else State.COMPLETE
    return Evaluation(number, state, {"accuracy": curve[-1].accuracy}, curve)


def screened(
    predictor: type[Predictor] | Any = Nearest,
    strategy: Strategy | None = None,
    space: Space = NANO,
    lag: int = 1,
    **options: Any,
) -> Screened:
    """A small screened search, over aging evolution unless another strategy is given."""
    wrapped = strategy or AgingEvolution(space, population_size=6, lag=lag)
    return Screened(space, wrapped, predictor, **{**SMALL, **options})
