"""What a trained network says of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from nanonas.core import Floats
from nanonas.data.preprocessing import Picture
from nanonas.errors import RunError
from nanonas.training.modules import NetworkModule

BATCH = 256  # images at once


def probabilities(module: NetworkModule, images: Sequence[Picture], batch: int = BATCH) -> Floats:
    """The probability of each class for each image, (images, classes), in float64.

    Args:
        module: in eval mode, on the CPU, with its `preprocessing`.
        images: as of `Preprocessing.pixels`; they are decoded a batch at a time.

    Raises:
        RunError: the module does not know how its images are prepared.
        DataError: an image cannot be read.
    """
    rule = module.preprocessing
    if rule is None:
        raise RunError(
            "this network does not know how its images are prepared, because an earlier version "
            "saved it; train it again with `nanonas train`"
        )
    rows = [np.empty((0, len(rule.class_names)))]
    with torch.inference_mode():
        for some in _batches(images, batch):
            logits = module(torch.from_numpy(rule.batch(some)))
            rows.append(torch.softmax(logits.double(), dim=1).numpy())
    return np.concatenate(rows)


def _batches(images: Sequence[Picture], size: int) -> Iterator[Sequence[Picture]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]
