"""Folders of images with faults: films that leak, arrows that must not be mirrored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanonas.data.images import load
from toys.images import Pixels, png


def scenes(number: int, side: int = 24, seed: int = 0) -> Pixels:
    """Smooth random colour images that are not like each other, (number, side, side, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(number, 5, 5, 3))
    places = np.linspace(0, 4, side)
    low = np.minimum(places.astype(int), 3)
    weights = np.zeros((side, 5))
    weights[np.arange(side), low] = 1 - (places - low)
    weights[np.arange(side), low + 1] = places - low
    smooth = np.einsum("yi,nijc,xj->nyxc", weights, coarse, weights)
    return noisy(128 + 50 * smooth, 2, seed)


def noisy(images: NDArray[np.generic], deviation: float, seed: int = 0) -> Pixels:
    """The images with noise of so many levels."""
    rng = np.random.default_rng(seed)
    moved = np.asarray(images, float) + rng.normal(scale=deviation, size=images.shape)
    made: Pixels = np.rint(moved).clip(0, 255).astype(np.uint8)
    return made


def film_folder(root: Path, films: int = 8, frames: int = 6, classes: int = 2) -> Path:
    """Films of each class, of nearly equal frames: ROOT/CLASS/film03_0001.png."""
    for label in range(classes):
        for film, scene in enumerate(scenes(films, seed=label)):
            for frame in range(frames):
                path = root / f"class{label}" / f"film{film:02}_{frame:04}.png"
                png(path, noisy(scene, 4, seed=frame))
    return root


def arrows(number: int, side: int = 24, seed: int = 0) -> tuple[Pixels, NDArray[np.int64]]:
    """Triangles that point to the left (0) and to the right (1), on noise, in colour."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 2
    rows, columns = np.mgrid[:side, :side]
    x = rng.integers(0, 60, (number, side, side, 3))
    for place in range(number):
        size, across = rng.integers(side // 4, side // 3 + 1), rng.integers(-2, 3)
        middle = side // 2 + rng.integers(-2, 3)
        along = columns - side // 2 - across
        along = along if y[place] == 0 else -along
        inside = (np.abs(rows - middle) <= (along + size) / 2) & (along <= size)
        x[place][inside] += 150
    return x.astype(np.uint8), y


def leaking_digits(root: Path, originals: int = 12, copies: int = 6, test: int = 15) -> Path:
    """Digits in films of near copies to train on, ROOT/train/CLASS/film_frame.png, and others,
    ROOT/test/CLASS/*.png, that are on their own.
    """
    images, rng = load("digits"), np.random.default_rng(0)
    for label in range(images.classes):
        # neighbours are written by one hand
        places = rng.permutation(np.flatnonzero(images.y_train == label))[: originals + test]
        for film, place in enumerate(places):
            for frame in range(copies if film < originals else 1):
                part = "train" if film < originals else "test"
                name = f"film{film:03}_{frame:02}.png"
                pixels = noisy(images.x_train[place, :, :, 0], 6, seed=frame)
                png(root / part / str(label) / name, pixels)
    return root
