"""The images of a training, on its device: drawn from a data set, subsampled or shrunk."""

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

    x: Tensor  # uint8 (N, C, H, W), channels_last
    y: Tensor  # int64 (N,)
    mean: Tensor  # float32 (C,), in [0, 1]
    std: Tensor  # float32 (C,), above 0
    rows: Tensor | None = None  # int64 (M,): the images to use; None: all
    spec: DataSpec | None = None  # whose training images these are, for other processes
    names: tuple[str, ...] = ()  # of their files, where they are the test images of a folder

    def __len__(self) -> int:
        """How many images are used."""
        return len(self.y) if self.rows is None else len(self.rows)


def pictures(spec: DataSpec, device: str) -> tuple[Pictures, Pictures]:
    """The training and the validation images of a candidate, on the device; they share pixels.

    Raises:
        DataError, ConfigError: as `load` and `split`.
    """
    images = spec.load()
    parts = split(images, spec.seed, spec.valid_share, spec.train_images)
    both = final_pictures(spec, device)
    train = torch.from_numpy(parts.train).to(device)
    valid = torch.from_numpy(parts.valid).to(device)
    return replace(both, rows=train), replace(both, rows=valid)


def final_pictures(spec: DataSpec, device: str) -> Pictures:
    """All training images, validation included, on the device. Raises as `load`."""
    images = spec.load()
    found = _on_device(images, images.x_train, images.y_train, device)
    return replace(found, spec=spec.pinned_to(images))


def held_out_pictures(spec: DataSpec, device: str) -> Pictures:
    """The test images, on the device: for after the last epoch. Raises as `load`."""
    images = spec.load()
    found = _on_device(images, images.x_test, images.y_test, device)
    return replace(found, names=images.test_names)


def part(pictures: Pictures, share: float, seed: int) -> Pictures:
    """A random `share` in (0, 1] of the pictures, 2 at least; without a copy of their pixels."""
    generator = torch.Generator().manual_seed(seed)
    number = max(2, round(share * len(pictures)))
    shuffled = torch.randperm(len(pictures), generator=generator)
    chosen = shuffled[:number].sort().values.to(pictures.x.device)
    return replace(pictures, rows=chosen if pictures.rows is None else pictures.rows[chosen])


def shrunk(pictures: Pictures, image_size: int) -> Pictures:
    """A copy of the used pictures on the same device, scaled to `image_size` pixels a side
    (bilinear, antialiased).
    """
    x, y = pictures.x, pictures.y
    if pictures.rows is not None:
        x, y = x[pictures.rows], y[pictures.rows]
    size = (image_size, image_size)
    scaled: list[Tensor] = []
    for chunk in torch.split(x, 1000):  # as floats they take four times the memory
        floats = F.interpolate(chunk.float(), size=size, mode="bilinear", antialias=True)
        scaled.append(floats.round().clamp(0, 255).to(torch.uint8))
    small = torch.cat(scaled)  # (M, C, image_size, image_size)
    x = small.contiguous(memory_format=torch.channels_last)
    return replace(pictures, x=x, y=y, rows=None, spec=None)


def scaled(batch: Tensor, size: tuple[int, int]) -> Tensor:
    """A batch of images, (B, C, H, W) uint8, at another height and width: bilinear, antialiased.

    On the CPU without a way through floats: 0.3 ms instead of 2.1 for 128 images of 32×32 to 24×24
    (one Zen 4 core).
    """
    if batch.device.type == "cpu":
        return F.interpolate(batch, size=size, mode="bilinear", antialias=True)
    return F.interpolate(batch.float(), size=size, mode="bilinear", antialias=True)


def _on_device(images: Images, x: NDArray[np.uint8], y: Labels, device: str) -> Pictures:
    mean = torch.tensor(images.mean, dtype=torch.float32, device=device)
    std = torch.tensor(images.std, dtype=torch.float32, device=device)
    return Pictures(*to_device(x, y, device), mean, std)
