"""Images and labels that lie in memory, as arrays or paths, brought into a form that a search can
read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.errors import DataError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Scaling:
    """How the numbers of an array become pixels from 0 to 255, and flat rows become images.

    Args:
        top: the number that becomes 255; None: the numbers are pixels already.
        shape: (height, width) or (height, width, channels) of images that come as flat rows; None:
            they come as images.
    """

    top: float | None
    shape: Sequence[int] | None = None

    @classmethod
    def of(cls, x: Any, shape: Sequence[int] | None = None) -> Scaling:
        """That of training images: uint8 stays as it is, numbers up to 1 are scaled by 255, and
        others so that the highest becomes 255.

        Args:
            x: (N, H, W), (N, H, W, C), or, with `shape`, (N, features).

        Raises:
            DataError: as `pixels`; or there is no number above 0.
        """
        scaling = cls(None, shape)
        numbers = scaling._images(x)
        if numbers.dtype == np.uint8:
            return scaling
        _check_numbers(numbers)
        top = float(numbers.max(initial=0))
        if top == 0:
            raise DataError("X holds no number above 0; pass images that show something")
        return cls(max(top, 1.0), scaling.shape)

    def pixels(self, x: Any) -> NDArray[np.uint8]:
        """Images as pixels: (N, H, W) or (N, H, W, C).

        Numbers above those of the training images count as the highest of them.

        Raises:
            DataError: the shape is not that of images, or a number is negative, NaN or infinite.
        """
        numbers = self._images(x)
        if numbers.dtype == np.uint8 and self.top is None:
            return np.asarray(numbers, np.uint8)
        _check_numbers(numbers)
        scaled = np.asarray(numbers, np.float64) * (255 / (255 if self.top is None else self.top))
        return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)

    def _images(self, x: Any) -> NDArray[Any]:
        """(N, H, W) or (N, H, W, C), whatever the numbers are."""
        array = np.asarray(x)
        if array.dtype.kind not in "buif":
            raise DataError(
                f"X must be an array of numbers, but is {array.dtype} of shape {array.shape}; pass "
                "images of one shape, or a list of the paths of their files"
            )
        if self.shape is not None:
            features, shape = int(np.prod(self.shape)), tuple(self.shape)
            if array.ndim != 2 or array.shape[1] != features:
                raise DataError(
                    f"X must have the shape (N, {features}) for images of shape {shape}, but has "
                    f"{array.shape}; correct image_shape, or leave it out for images"
                )
            return array.reshape(len(array), *shape)
        if array.ndim == 2:
            raise DataError(
                f"X has the shape {array.shape}: flat rows need image_shape=(height, width) or "
                "(height, width, channels)"
            )
        if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3)):
            raise DataError(
                "X must have the shape (N, height, width) or (N, height, width, channels) with 1 "
                f"or 3 channels, but has {array.shape}"
            )
        return array


def _check_numbers(x: NDArray[Any]) -> None:
    """Raises `DataError` for numbers that are no brightness."""
    if not np.isfinite(x).all():
        raise DataError("X must hold numbers, but some are NaN or infinite; leave those images out")
    if x.size and x.min() < 0:
        raise DataError(
            f"X must hold brightnesses of 0 or more, but holds {x.min():g}; if a mean was "
            "subtracted, pass the images as they were before: nanonas normalises them itself"
        )


def are_paths(x: Any) -> bool:
    """Whether images are given as the paths of their files."""
    if isinstance(x, np.ndarray) and x.dtype.kind not in "OU":
        return False
    return (
        isinstance(x, Sequence | np.ndarray)
        and len(x) > 0
        and all(isinstance(path, str | Path) for path in x)
    )


def held_out(labels: Integers, share: float, seed: int) -> Mask:
    """Which images to set apart for a test: a share of each class, at least one of it.

    Args:
        labels: (N,) whole numbers from 0.
        share: in (0, 1).

    Returns:
        (N,), true where an image is set apart.

    Raises:
        DataError: a class has one image only.
    """
    rng, apart = np.random.default_rng(seed), np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        if len(places) < 2:
            raise DataError(
                f"class {label} has {len(places)} image, but 2 are the least: one to learn from, "
                "one to be tested with"
            )
        number = min(len(places) - 1, max(1, round(share * len(places))))
        apart[rng.permutation(places)[:number]] = True
    return apart


def write_images(
    path: Path, pixels: NDArray[np.uint8], labels: Integers, names: Sequence[str], test: Mask
) -> None:
    """Writes images as an .npz that `load` reads.

    Args:
        pixels: (N, H, W) or (N, H, W, C).
        labels: (N,) whole numbers from 0.
        names: of the classes.
        test: (N,), true for test images.
    """
    np.savez(
        path,
        x_train=pixels[~test],
        y_train=labels[~test],
        x_test=pixels[test],
        y_test=labels[test],
        class_names=np.array(list(names)),
    )


def link_files(
    folder: Path, paths: Sequence[str | Path], labels: Integers, classes: int, test: Mask
) -> None:
    """Makes a folder of links to image files that `load` reads: train/CLASS and test/CLASS, where
    classes are numbers with leading zeros, which keep their order.

    Raises:
        DataError: a file is not there.
    """
    width = len(str(classes - 1))
    for place, (path, label) in enumerate(zip(paths, labels, strict=True)):
        target = Path(path).absolute()
        if not target.is_file():
            raise DataError(f"{str(path)!r} is no file; take it out of X, or correct its path")
        part = folder / ("test" if test[place] else "train") / f"{label:0{width}d}"
        part.mkdir(parents=True, exist_ok=True)
        (part / f"{place:08d}-{target.name}").symlink_to(target)
