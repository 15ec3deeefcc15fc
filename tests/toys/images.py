"""Small images, and files of them, for the tests of sources."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanonas.data.sources import Labels

Pixels = NDArray[np.uint8]


def pixels(number: int, *shape: int, seed: int = 0) -> Pixels:
    """Random images, (number, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (number, *shape), dtype=np.uint8)


def labels(number: int, classes: int = 2) -> Labels:
    """0, 1, …, classes - 1, 0, 1, …: (number,)."""
    return np.arange(number) % classes


def png(path: Path, array: NDArray[Any], **options: Any) -> None:
    """Writes an image in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def image_folder(
    root: Path,
    classes: tuple[str, ...] = ("cat", "dog"),
    number: int = 10,
    shape: tuple[int, ...] = (12, 12, 3),
) -> Path:
    """A folder of images: `number` in each class."""
    for place, name in enumerate(classes):
        for index, array in enumerate(pixels(number, *shape, seed=place)):
            png(root / name / f"{index:02}.png", array)
    return root


def npz(path: Path, **arrays: NDArray[Any]) -> str:
    """An archive of 20 grey training images, unless `arrays` says otherwise; returns its path."""
    everything: dict[str, NDArray[Any]] = {
        "x_train": pixels(20, 10, 10),
        "y_train": labels(20),
        **arrays,
    }
    np.savez(path, **everything)  # type: ignore[arg-type]
    return str(path)


def encoded(array: NDArray[Any]) -> bytes:
    """An image as the bytes of a PNG."""
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()
