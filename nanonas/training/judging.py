"""How good a module is on the images that judge it, by the metric that a run asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nanonas.core import Pulse
from nanonas.maths.intervals import equivalent_trials
from nanonas.training.pictures import Pictures
from nanonas.training.train import answered


@dataclass(frozen=True)
class Judged:
    """How many images of each class were classified correctly."""

    hits: NDArray[np.int64]  # (classes,)
    images: NDArray[np.int64]  # (classes,)

    @property
    def accuracy(self) -> float:
        """The share of all images, in [0, 1]."""
        return int(self.hits.sum()) / int(self.images.sum())

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' shares, in [0, 1], over those that have images."""
        there = self.images > 0
        return float((self.hits[there] / self.images[there]).mean())

    def by(self, metric: str) -> float:
        """By "accuracy" or "balanced_accuracy"."""
        return self.accuracy if metric == "accuracy" else self.balanced_accuracy


def noise_images(images: NDArray[np.int64], metric: str) -> float:
    """On how many images an accuracy is as noisy as the metric is on so many of each class,
    (classes,).
    """
    if metric == "accuracy":
        return float(images.sum())
    return equivalent_trials(images[images > 0])


@torch.inference_mode()
def judged(
    module: nn.Module,
    pictures: Pictures,
    precision: str = "float32",
    pulse: Pulse = lambda: True,
) -> Judged:
    """A module's answers to pictures, counted by class: hits and images, (classes,) each, where
    classes are as many as the largest label needs.

    Args: as of `training.train.accuracy`.
    """
    classes = int(pictures.y.max()) + 1
    hits = torch.zeros(classes, dtype=torch.int64, device=pictures.y.device)
    images = torch.zeros_like(hits)
    for rows, logits in answered(module, pictures, precision, pulse):
        labels = pictures.y[rows]
        right = (logits.argmax(dim=1) == labels).long()
        hits.index_add_(0, labels, right)  # unlike an index of the right ones, without waiting
        images.index_add_(0, labels, torch.ones_like(right))
    return Judged(hits.cpu().numpy(), images.cpu().numpy())
