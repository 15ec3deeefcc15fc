"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nanonas.training.augment import Augment


@dataclass(frozen=True)
class Recipe:
    """Everything about training but the network, the images and the number of epochs."""

    batch_size: int = 128
    lr: float = 0.3  # at the top of the cycle
    warmup: float = 0.2  # share of all steps on the way up, in [0, 1)
    momentum: float = 0.9
    weight_decay: float = 5e-4  # of weights; not of biases and batch norms
    label_smoothing: float = 0.1
    # the gradient's norm is cut to this: a random chain without batch norm survives its peak
    clip_norm: float = 2.0
    augment: Augment = field(default_factory=Augment)
    precision: str = "float32"  # or "bfloat16": mixed precision by autocast
    deterministic: bool = False  # CUDA's kernels that add in a fixed order; those of CPUs always do


def one_cycle(progress: float, warmup: float) -> float:
    """The learning rate's factor in [0, 1] at `progress` in [0, 1]: up linearly, down to 0 by half
    a cosine.

    Smith & Topin 2018, https://arxiv.org/abs/1708.07120.
    """
    if progress < warmup:
        return 0.05 + 0.95 * progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
