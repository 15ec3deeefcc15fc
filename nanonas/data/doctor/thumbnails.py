"""Small pictures of images, by which they are compared."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

SIDE = 16  # of a thumbnail, pixels
_CHUNK_BYTES = 16_000_000  # of images that are worked on at once
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's "L"
_FLAT = 0.5  # levels of deviation: an image below is of one colour


@dataclass(frozen=True)
class Thumbnails:
    """Of N images."""

    small: NDArray[np.uint8]  # (N, SIDE, SIDE, C), scaled whatever their proportions

    @cached_property
    def grey(self) -> NDArray[np.float32]:
        """Each as a vector, (N, SIDE²), of length 1 and mean 0, so that products are correlations.

        An image of one colour has zeros.
        """
        flat = greyed(self.small).reshape(len(self.small), -1)
        flat -= flat.mean(axis=1, keepdims=True)
        lengths = np.linalg.norm(flat, axis=1, keepdims=True)
        flat /= np.maximum(lengths, 1e-6)
        flat[lengths[:, 0] <= _FLAT * SIDE] = 0
        return flat

    @cached_property
    def colour(self) -> NDArray[np.float32]:
        """The mean of each channel, (N, C)."""
        return np.asarray(self.small.mean(axis=(1, 2)), np.float32)


def thumbnails(parts: Iterable[NDArray[np.uint8]]) -> Thumbnails:
    """Thumbnails of the images of several arrays, (n, H, W, C) each, one after the other."""
    small: list[NDArray[np.uint8]] = []
    for images in parts:
        step = max(1, _CHUNK_BYTES // max(1, math.prod(images.shape[1:])))
        chunks = (images[start : start + step] for start in range(0, len(images), step))
        small += [_scaled(np.asarray(chunk, np.float32)) for chunk in chunks]
    return Thumbnails(np.concatenate(small))


def greyed(images: NDArray[np.generic]) -> NDArray[np.float32]:
    """(B, H, W) of (B, H, W, C) images, with 1 or 3 channels."""
    floats = np.asarray(images, np.float32)
    return floats[..., 0].copy() if floats.shape[3] == 1 else floats @ _GREY


def _scaled(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(B, SIDE, SIDE, C)."""
    rows, columns = (_resampling(size) for size in images.shape[1:3])
    made = [
        np.matmul(np.matmul(rows, images[..., channel]), columns.T)
        for channel in range(images.shape[3])
    ]
    pixels: NDArray[np.uint8] = np.rint(np.stack(made, axis=3)).clip(0, 255).astype(np.uint8)
    return pixels


@lru_cache(maxsize=16)
def _resampling(size: int) -> NDArray[np.float32]:
    """(SIDE, size): what scales `size` values to `SIDE`, bilinear and antialiased as Pillow."""
    scale = size / SIDE
    centres = (np.arange(SIDE) + 0.5) * scale
    away = np.abs(np.arange(size)[None] + 0.5 - centres[:, None]) / max(1.0, scale)
    weights = np.maximum(0, 1 - away)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
