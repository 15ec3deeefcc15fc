"""What a source of images is, and what it gives.

Images come as a stream of decoded chunks, so that a data set larger than the memory can be written
to the cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nanonas.errors import DataError

Labels = NDArray[np.int64]
CHUNK = 512  # images decoded at a time: enough for a thread pool, 77 MB at 224x224 in colour

PARTS = {  # names of the folders and files of a part, in lower case
    "train": ("train", "training"),
    "valid": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Form:
    """What all images of a data set have in common."""

    channels: int  # 1 or 3
    height: int
    width: int


@dataclass(frozen=True)
class Part:
    """The images of one part of a source, in order."""

    labels: Labels  # (N,)
    chunks: Iterable[
        NDArray[np.uint8]
    ]  # (B, H, W, C) each, N images together; can be gone through once


@dataclass(frozen=True)
class Decoded:
    """What a source holds."""

    class_names: tuple[str, ...]
    form: Form
    train: Part
    valid: Part | None = None
    test: Part | None = None


class Reader(Protocol):
    """Reads one source."""

    def files(self) -> list[Path]:
        """What the images depend on.

        Names, sizes and times of change of these decide whether a cache is fresh.
        """

    def decode(self, image_size: int | None, cache: Path) -> Decoded:
        """Everything in it. Raises `DataError`."""


def numbered(labels: Labels) -> tuple[str, ...]:
    """Names for classes that have none: their numbers."""
    highest = int(labels.max()) if len(labels) else -1
    if highest > 100_000:
        raise DataError(
            f"labels must number the classes from 0 without gaps, but one is {highest}; renumber "
            "them"
        )
    return tuple(str(number) for number in range(highest + 1))
