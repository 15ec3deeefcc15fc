"""Candidates that are measured without training: whose numbers and weights follow from the genome,
from the seed and from each byte of what they begin with.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from chaos.fate import Fate, meet
from nanonas.core import Candidate, Epoch, Evaluation, Pulse, State, training_seed
from nanonas.files import replacing, weights_in
from nanonas.networks.limits import Limits

_BATCHES, _SECONDS = 4, 0.004  # of a training, and for each of them


@dataclass(frozen=True)
class Pretended:
    """A `training.trial.Trial` without PyTorch."""

    seed: int
    weights: Path
    fate: Fate | None = None  # of the process that measures
    limits: Limits = field(default_factory=Limits)
    measured: frozenset[str] = frozenset()

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        meet(self.fate)
        proposal = candidate.proposal
        begun = [_content(weights_in(self.weights, number)) for number in proposal.begins_with]
        for _ in range(_BATCHES):
            pulse()
            time.sleep(_SECONDS)
        seed = training_seed(self.seed, candidate.number)
        digest = hashlib.sha256(json.dumps([seed, proposal.genome, begun]).encode()).digest()
        if digest[0] < 16:
            raise ValueError(f"candidate {candidate.number} diverged")
        numbers = np.frombuffer(digest * 500, np.uint8).astype(np.float32)
        tensors = {"classifier.weight": numbers}
        about = {"genome": json.dumps(proposal.genome), "image_size": ""}
        with replacing(weights_in(self.weights, candidate.number)) as part:
            part.write_bytes(save(tensors, about))
        state = State.PRUNED if digest[0] > 240 else State.COMPLETE
        accuracy = int.from_bytes(digest[1:3], "big") / 2**16
        lacks = None if "" not in begun else "begun from scratch, for weights cannot be read"
        curve = (Epoch(1.0, accuracy),)
        return Evaluation(candidate.number, state, {"accuracy": accuracy}, curve, 0.0, lacks)


def _content(path: Path) -> str:
    """What weights are, as words; none where they cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return hashlib.sha256(file.get_tensor("classifier.weight").tobytes()).hexdigest()
    except (OSError, SafetensorError):
        return ""
