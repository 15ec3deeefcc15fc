"""Measures that keep weights, begin with those of others, and look at images, without networks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nanonas.core import Candidate, Evaluation, Pulse, State
from nanonas.data.images import DataSpec


@dataclass(frozen=True)
class Heir:
    """Its accuracy and its weights follow from the weights that it begins with."""

    weights: Path

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        content = b"".join(
            (self.weights / f"{number}.safetensors").read_bytes()
            for number in candidate.proposal.inherits
        )
        own = hashlib.sha256(content).digest()
        (self.weights / f"{candidate.number}.safetensors").write_bytes(own)
        return Evaluation(candidate.number, State.COMPLETE, {"accuracy": own[0] / 255})


@dataclass(frozen=True)
class Looks:
    """How the images are there where it measures, as metrics."""

    data: DataSpec

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        images = self.data.load()
        pixels = images.x_train
        metrics = {
            "sum": float(pixels.sum()),
            "test": float(len(images.x_test)),
            "copied": float(pixels.flags.owndata or pixels.flags.writeable),
        }
        return Evaluation(candidate.number, State.COMPLETE, metrics)
