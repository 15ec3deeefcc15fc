"""The images of a training, on its device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nanonas.data.images import DataSpec, Images
from nanonas.data.sources import Labels
from nanonas.data.split import split
from nanonas.training.augment import to_device


@dataclass(frozen=True)
class Pictures:
    """Images on a device, with their labels and how to normalise them."""

    x: Tensor  # uint8 (N, C, H, W), channels last
    y: Tensor  # int64 (N,)
    mean: Tensor  # float32 (C,), in [0, 1]
    std: Tensor
    rows: Tensor | None = None  # int64 (M,): the images that count; None: all

    def __len__(self) -> int:
        return len(self.y) if self.rows is None else len(self.rows)


def pictures(spec: DataSpec, device: str) -> tuple[Pictures, Pictures]:
    """What to train a candidate on and what to judge it by, on the device; they share their pixels.

    Raises as `load` and `split`.
    """
    images = spec.load()
    parts = split(images, spec.seed, spec.valid_share, spec.train_images)
    everything = _on_device(images, images.x_train, images.y_train, device)
    train, valid = (torch.from_numpy(rows).to(device) for rows in (parts.train, parts.valid))
    return replace(everything, rows=train), replace(everything, rows=valid)


def final_pictures(spec: DataSpec, device: str) -> Pictures:
    """All training images, validation included, on the device. Raises as `load`."""
    images = spec.load()
    return _on_device(images, images.x_train, images.y_train, device)


def held_out_pictures(spec: DataSpec, device: str) -> Pictures:
    """The test images, on the device: for after the last epoch. Raises as `load`."""
    images = spec.load()
    return _on_device(images, images.x_test, images.y_test, device)


def part(pictures: Pictures, share: float, seed: int) -> Pictures:
    """A random `share` in (0, 1] of the pictures, at least 2 of them."""
    draw = torch.Generator().manual_seed(seed)
    chosen = (
        torch.randperm(len(pictures), generator=draw)[: max(2, round(share * len(pictures)))]
        .sort()
        .values
    )
    chosen = chosen.to(pictures.x.device)
    return replace(pictures, rows=chosen if pictures.rows is None else pictures.rows[chosen])


def shrunk(pictures: Pictures, image_size: int) -> Pictures:
    """The pictures that count, `image_size` pixels a side: antialiased, a copy of their own on the
    same device.
    """
    x, y = (t if pictures.rows is None else t[pictures.rows] for t in (pictures.x, pictures.y))
    some = [
        F.interpolate(part.float(), size=(image_size, image_size), mode="bilinear", antialias=True)
        for part in torch.split(x, 1000)  # as floats they are four times as large
    ]
    small = torch.cat([part.round().clamp(0, 255).to(torch.uint8) for part in some])
    return replace(pictures, x=small.contiguous(memory_format=torch.channels_last), y=y, rows=None)


def _on_device(images: Images, x: NDArray[np.uint8], y: Labels, device: str) -> Pictures:
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=device)
        for values in (images.mean, images.std)
    )
    return Pictures(*to_device(x, y, device), mean, std)
