"""How a network is trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from nanonas.core import Shape
from nanonas.training.augment import Augment

SMALL_SIDE = 0.75  # of the images' sides, while `Recipe.small_images` lasts
TINY_SIDE = 16  # pixels; images below are never made smaller


@dataclass(frozen=True)
class Recipe:
    """All hyperparameters of a training but its number of epochs."""

    batch_size: int = 128
    lr: float = 0.3  # of SGD at the top of the schedule
    warmup: float = 0.2  # share of all steps on the way up, in [0, 1)
    momentum: float = 0.9  # Nesterov's
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

    # Each of these is what was done before there was a choice.
    optimizer: str = "sgd"  # or "muon": convolutions before a norm by Muon, the rest by SGD
    muon_lr: float = 0.06  # of Muon at the top: the share of the weights that a step replaces
    schedule: str = "cosine"  # or "linear": the way down to 0
    bias_lr: float = 1.0  # factor of the learning rate of biases, those of norms included
    # per step, in [0, 1): what is judged and kept is a moving average of the weights; 0: they are
    average: float = 0.0
    # where images are flipped: each in every other epoch, beginning at random
    alternate_flip: bool = False
    # share of the steps, from the first, on images of `SMALL_SIDE`, in [0, 1]
    small_images: float = 0.0
    whiten: bool = False  # first convolutions begin as the main directions of patches
    dirac: bool = False  # later convolutions begin as the identity, as far as they have channels
    # or "weights": an image's loss counts by its class's share, so that all classes count alike
    balance: str = "none"
    # factor of the learning rates of what begins with the weights of a pretrained network, in
    # [0, 1]; 0: these stay as they are, statistics of norms included
    body_lr: float = 1.0

    @property
    def identity(self) -> str:
        """Equal for equal recipes.

        What is as it was before there was a choice is left out, so that trainings that were begun
        then are recognised.
        """
        values = [
            f"{key.name}={getattr(self, key.name)!r}"
            for place, key in enumerate(fields(self))
            if place < _FIRST_KEYS or getattr(self, key.name) != key.default
        ]
        return f"Recipe({', '.join(values)})"


_FIRST_KEYS = 10  # of `Recipe`, up to `deterministic`


def slower(recipe: Recipe, times: float) -> Recipe:
    """The recipe with all learning rates so many times lower."""
    return replace(recipe, lr=recipe.lr / times, muon_lr=recipe.muon_lr / times)


def recipe_at(recipe: Recipe, input_shape: Shape, image_size: int | None) -> Recipe:
    """The recipe for images shrunk to `image_size` pixels a side: crops and cutouts shrink with
    them, and they are not made smaller still at first.
    """
    if image_size is None:
        return recipe
    scale, augment = image_size / min(input_shape[1:]), recipe.augment
    crop = min(round(scale * augment.crop), image_size - 1)
    augment = replace(augment, crop=crop, cutout=round(scale * augment.cutout))
    return replace(recipe, augment=augment, small_images=0.0)


# --- the learning rate ----------------------------------------------------------------------------


def one_cycle(progress: float, warmup: float) -> float:
    """The factor of the learning rate, in [0, 1]: a linear warm-up from 0.05, then half a cosine to
    0.

    Smith & Topin 2018, https://arxiv.org/abs/1708.07120.

    Args:
        progress: share of the steps that are done, in [0, 1].
        warmup: share of the steps on the way up, in [0, 1).
    """
    if progress < warmup:
        return _warming(progress, warmup)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def linear_decay(progress: float, warmup: float) -> float:
    """As `one_cycle`, but in a straight line to 0 after the warm-up."""
    if progress < warmup:
        return _warming(progress, warmup)
    return (1 - progress) / (1 - warmup)


def _warming(progress: float, warmup: float) -> float:
    return 0.05 + 0.95 * progress / warmup


SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "cosine": one_cycle,
    "linear": linear_decay,
}
