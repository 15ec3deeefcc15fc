"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nanonas.training.augment import Augment


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of a training but its number of epochs."""

    batch_size: int = 128
    lr: float = 0.3  # at the top of the cycle
    warmup: float = 0.2  # share of all steps on the way up, in [0, 1)
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of weights; not of biases and batch norms
    label_smoothing: float = 0.1  # in [0, 1)
    # The gradient's norm is clipped to this, 0: never. With 2 a random chain without batch norm
    # survives the peak of the learning rate.
    clip_norm: float = 2.0
    augment: Augment = field(default_factory=Augment)
    precision: str = "float32"  # or "bfloat16": mixed precision by autocast
    deterministic: bool = (
        False  # kernels of CUDA that add in a fixed order; those of CPUs always do
    )


def one_cycle(progress: float, warmup: float) -> float:
    """The factor of the learning rate, in [0, 1]: a linear warm-up from 0.05, then half a cosine to
    0.

    Smith & Topin 2018, https://arxiv.org/abs/1708.07120.

    Args:
        progress: share of the steps that are done, in [0, 1].
        warmup: share of the steps on the way up, in [0, 1).
    """
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
