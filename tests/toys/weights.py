"""A measure that keeps weights and begins with those of others, without any network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from nanonas.core import Candidate, Evaluation, Pulse, State


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
