"""What is kept of the one look at the test set: every answer, and pictures of the worst ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nanonas.data.answers import PREDICTIONS, Answers
from nanonas.data.thumbnails import PICTURES, SIDE, Thumbnails
from nanonas.maths.calibration import confident_errors, scaling
from nanonas.text import number_of
from nanonas.training.augment import Augment
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import logits_of

EXAMINED = (PREDICTIONS, PICTURES)  # the files
ERRORS = 24  # test images that are kept as pictures
SAMPLES = 12  # training images


@dataclass(frozen=True)
class Examination:
    """A network's answers to the test images, and the pictures that go with them."""

    answers: Answers
    thumbnails: Thumbnails

    @property
    def accuracy(self) -> float:
        """The share of right answers, in [0, 1]."""
        right = self.answers.logits.argmax(axis=1) == self.answers.labels
        return int(right.sum()) / len(right)

    @property
    def balanced_accuracy(self) -> float:
        """The mean share of right answers over the classes that have test images, in [0, 1]."""
        right = self.answers.logits.argmax(axis=1) == self.answers.labels
        images = np.bincount(self.answers.labels)
        hits = np.bincount(self.answers.labels, weights=right)
        return float((hits[images > 0] / images[images > 0]).mean())

    @property
    def temperature(self) -> float | None:
        """What to divide logits by for calibrated probabilities; None where there are too few
        errors to tell, or where the cross-fitted temperature takes nothing off the loss.

        It is fitted to the test images, which chose nothing, and changes no answer: dividing leaves
        the largest logit the largest.
        """
        found = scaling(self.answers.logits, self.answers.labels)
        return found.temperature if found is not None and found.helps else None

    def write(self, folder: Path) -> None:
        """Writes predictions.npz and pictures.npz. Raises `RunError` where that cannot be done."""
        self.answers.write(folder / PREDICTIONS)
        self.thumbnails.write(folder / PICTURES)


def examine(module: nn.Module, train: Pictures, test: Pictures, recipe: Recipe) -> Examination:
    """Lets a trained module answer to the test images.

    Args:
        module: on the pictures' device; left in eval mode.
        train: the images that it was trained on, for samples of them.
        recipe: by which it was trained.
    """
    # what overflowed must not cost a training that has come to its end
    logits = np.nan_to_num(logits_of(module, test, recipe.precision).numpy())
    rows = torch.arange(len(test)) if test.rows is None else test.rows.cpu()
    labels = test.y[rows.to(test.y.device)].cpu().numpy()
    wrong = confident_errors(logits, labels, ERRORS)
    samples = _samples(train)
    seen, asked = _seen(train), _seen(test)
    if not len(seen.x) or not len(asked.x):  # what a backbone has seen is gone
        wrong, samples = wrong[:0], samples[:0]
    augment = _on_pixels(recipe.augment, train, seen)
    errors = asked.pixels(rows[torch.from_numpy(wrong)])
    generator = torch.Generator().manual_seed(0)
    plain = seen.pixels(samples)
    augmented = augment(seen.x, samples, generator)
    thumbnails = Thumbnails(
        _small(errors),
        wrong,
        _small(plain),
        _small(augmented),
        train.y[samples.to(train.y.device)].cpu().numpy(),
        (seen.x.shape[2], seen.x.shape[3]),
        _in_words(augment),
    )
    return Examination(Answers(logits, labels, test.names), thumbnails)


def _seen(pictures: Pictures) -> Pictures:
    """The same as people see them."""
    return pictures if pictures.shown is None else replace(pictures, x=pictures.shown)


def _on_pixels(augment: Augment, maps: Pictures, seen: Pictures) -> Augment:
    """What an augmentation of a backbone's maps is on the images that it has seen: each of the
    map's values stands for several of their pixels.
    """
    if seen is maps:
        return augment
    if not len(seen.x):
        return Augment()
    scale = seen.x.shape[2] // maps.x.shape[2]
    return replace(augment, crop=scale * augment.crop, cutout=scale * augment.cutout, fill=(128,))


def _samples(train: Pictures) -> Tensor:
    """Rows of some training images, (M,) on the CPU: of as many classes as there is place for, as
    many of each; always the same.
    """
    rows = torch.arange(len(train)) if train.rows is None else train.rows.cpu()
    labels = train.y.cpu()[rows]
    shuffled = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    taken: dict[int, int] = {}  # of each class, so far
    order = []
    for place in shuffled.tolist():
        label = int(labels[place])
        taken[label] = taken.get(label, 0) + 1
        order.append((taken[label], place))
    # the first of every class, then the second of every class, …
    chosen = [place for _, place in sorted(order, key=lambda one: one[0])][:SAMPLES]
    return rows[sorted(chosen, key=lambda place: int(labels[place]))]


def _small(images: Tensor) -> NDArray[np.uint8]:
    """(B, H, W, C) of (B, C, H, W) uint8, shrunk to `SIDE` pixels where they are larger."""
    height, width = images.shape[2:]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(scale * height)), max(1, round(scale * width))
    if not len(images):
        images = images.new_zeros(0, images.shape[1], *size)  # which interpolate refuses
    elif scale < 1:
        floats = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True)
        images = floats.round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())


def _in_words(augment: Augment) -> str:
    """What an augmentation does; "" for nothing."""
    words = []
    if augment.crop:
        words.append(f"moved by up to {number_of(augment.crop, 'pixel')}")
    if augment.flip:
        words.append("mirrored left to right in half of the cases")
    if augment.cutout:
        words.append(f"a square of {number_of(augment.cutout, 'pixel')} painted over")
    return ", ".join(words)
