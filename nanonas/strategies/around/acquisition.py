"""How promising a prediction is."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Literal

import numpy as np

from nanonas.core import (
    Floats,
)

Acquisition = Literal["ucb", "ei", "thompson"]


def _ucb(
    mean: Floats, std: Floats, best: float, explore: float, rng: np.random.Generator
) -> Floats:
    return mean - explore * std


def _ei(mean: Floats, std: Floats, best: float, explore: float, rng: np.random.Generator) -> Floats:
    std = np.maximum(std, 1e-9)
    z = (best - mean) / std
    normal = NormalDist()
    improvement = [s * (u * normal.cdf(u) + normal.pdf(u)) for u, s in zip(z, std, strict=True)]
    return -np.array(improvement)


def _thompson(
    mean: Floats, std: Floats, best: float, explore: float, rng: np.random.Generator
) -> Floats:
    drawn: Floats = mean + std * rng.standard_normal(len(mean))
    return drawn


ACQUISITIONS: dict[str, Callable[[Floats, Floats, float, float, np.random.Generator], Floats]] = {
    "ucb": _ucb,
    "ei": _ei,
    "thompson": _thompson,
}
