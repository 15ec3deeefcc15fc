"""Small pictures that are kept with a trained network, so that its errors can be looked at when
the images are gone: final/pictures.npz.

    errors        uint8 (k, H, W, C): test images, those that it was most sure of and wrong
    error_rows    int64 (k,): which of the test images they are
    plain         uint8 (m, H, W, C): some training images, as the network sees them
    augmented     uint8 (m, H, W, C): the same, as the training's augmentation may show them
    labels        int64 (m,): their classes
    full_size     int64 (2,): height and width that the network sees; these may be smaller
    augmentation  what the augmentation does, in words
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.arrays import read_arrays, write_arrays
from nanonas.errors import DataError

PICTURES = "pictures.npz"  # in the folder of a final training
SIDE = 48  # pixels at most: a sign that is mirrored is still seen, and a page stays small
MOST = 64  # pictures of a kind
_BYTES = 4 * MOST * SIDE * SIDE * 3  # of a file, more than enough


@dataclass(frozen=True, eq=False)
class Thumbnails:
    """Small pictures of test and training images; see this module for the file.

    Raises:
        DataError: shapes or values do not fit each other.
    """

    errors: NDArray[np.uint8]  # (k, H, W, C)
    error_rows: Integers  # (k,)
    plain: NDArray[np.uint8]  # (m, H, W, C)
    augmented: NDArray[np.uint8]  # (m, H, W, C)
    labels: Integers  # (m,)
    full_size: tuple[int, int]  # height and width of what the network sees
    augmentation: str = ""  # in words; "": there is none

    def __post_init__(self) -> None:
        for name, pixels in (("errors", self.errors), ("plain", self.plain)):
            shape = pixels.shape
            small = len(shape) == 4 and shape[0] <= MOST and max(shape[1:3]) <= SIDE
            if not small or shape[3] not in (1, 3) or pixels.dtype != np.uint8:
                raise DataError(
                    f"{name} must be uint8 (at most {MOST}, at most {SIDE}, at most {SIDE}, 1 or "
                    f"3), but is {pixels.dtype} {shape}"
                )
        if self.augmented.shape != self.plain.shape or self.augmented.dtype != np.uint8:
            raise DataError(f"augmented must be uint8 {self.plain.shape}, as plain is")
        for name, numbers, pixels in (
            ("error_rows", self.error_rows, self.errors),
            ("labels", self.labels, self.plain),
        ):
            if numbers.shape != (len(pixels),) or numbers.dtype != np.int64:
                raise DataError(f"{name} must be int64 ({len(pixels)},), one for each picture")
            if len(numbers) and numbers.min() < 0:
                raise DataError(f"{name} must be 0 or more, but one is {numbers.min()}")

    @property
    def shrunk(self) -> bool:
        """Whether they are smaller than what the network sees."""
        return self.plain.shape[1:3] != self.full_size

    def write(self, path: Path) -> None:
        """Writes the file. Raises `RunError` where that cannot be done."""
        write_arrays(
            path,
            errors=self.errors,
            error_rows=self.error_rows,
            plain=self.plain,
            augmented=self.augmented,
            labels=self.labels,
            full_size=np.array(self.full_size, np.int64),
            augmentation=np.array(self.augmentation),
        )


def read_thumbnails(path: Path) -> Thumbnails:
    """The pictures in a file.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
    """
    arrays: dict[str, Any] = read_arrays(path, _BYTES)
    try:
        height, width = map(int, arrays.pop("full_size"))
        words = str(arrays.pop("augmentation"))
        return Thumbnails(**arrays, full_size=(height, width), augmentation=words)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{str(path)!r} holds no pictures of this version of nanonas ({error}); train the "
            "network again, or delete the file"
        ) from None
