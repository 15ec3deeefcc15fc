"""A predictor that is kept fitted to what was told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nanonas.core import (
    Floats,
    Prediction,
    Predictor,
)
from nanonas.predictors.normal_scores import NormalScores


def finite(losses: Floats) -> Floats:
    """A failure is a result as bad as the worst."""
    finite: Floats = np.where(np.isfinite(losses), losses, losses[np.isfinite(losses)].max())
    return finite


@dataclass(frozen=True)
class Model:
    """A fitted predictor, whose losses are scores."""

    predictor: Predictor
    unit: NormalScores

    def expected(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and deviation of the scores."""
        return self.predictor.predict(features)

    def prediction(self, features: Floats, chosen: bool) -> Prediction:
        """Of one network, shape (1, …), in the unit of the losses."""
        mean, std = self.unit.expected(*self.expected(features))
        return Prediction(float(mean[0]), float(std[0]), self.predictor.name, chosen)
