"""What a reader of images must offer, and what it returns.

Images come as a stream of decoded chunks, so that a data set larger than memory can be written to
the cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nanonas.errors import DataError

Labels = NDArray[np.int64]
CHUNK = 512  # images decoded at a time: enough for a thread pool, 77 MB at 224x224 in colour

PARTS = {  # what folders and files of a part may be called, in lower case
    "train": ("train", "training"),
    "valid": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Form:
    """What all images of a data set have in common."""

    channels: int  # 1 or 3, or as many as a backbone's map has
    height: int
    width: int


@dataclass(frozen=True)
class Depth:
    """How values of more than 8 bits become 8 bits: one rule for all images of a data set."""

    integers_up_to: int | None = None  # the highest there is; None: no such integers
    floats_up_to: int | None = None  # 1 or 255: the range that they lie in; None: no floats

    @property
    def shift(self) -> int:
        """Of integers, to the right: the upper 8 of the bits in use are kept."""
        return max(0, (self.integers_up_to or 0).bit_length() - 8)

    @property
    def scale(self) -> float:
        """Of floats, which are rounded then."""
        return 255 / (self.floats_up_to or 255)


# How an image was stored, as bits that are added up.
GREY, DEEP, PALETTE, CMYK, TRANSPARENT, TURNED = (1 << bit for bit in range(6))


@dataclass(frozen=True)
class Rows:
    """What is known of each image besides its pixels, in order; nothing of those from arrays."""

    # within the source: "cat/a.jpg", or "row 3 of train.parquet"
    names: tuple[str, ...] = ()
    # (N, 2): width and height as they were, upright
    sizes: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    # (N,): sums of `GREY`, `DEEP`, …
    marks: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))

    def where(self, mask: NDArray[np.bool_]) -> Rows:
        """Those of a mask, (N,)."""
        if not self.names:
            return self
        names = tuple(name for name, kept in zip(self.names, mask, strict=True) if kept)
        return Rows(names, self.sizes[mask], self.marks[mask])

    def __add__(self, other: Rows) -> Rows:
        return Rows(
            self.names + other.names,
            np.concatenate([self.sizes, other.sizes]),
            np.concatenate([self.marks, other.marks]),
        )


@dataclass(frozen=True)
class Part:
    """The images of one part of a source, in order."""

    labels: Labels  # (N,)
    # (B, H, W, C) each, N images in total; can be iterated once
    chunks: Iterable[NDArray[np.uint8]]
    rows: Rows = field(default_factory=Rows)
    groups: tuple[str, ...] | None = None  # of each image, where groups are asked for


@dataclass(frozen=True)
class Decoded:
    """The content of a source. Labels are not checked yet."""

    class_names: tuple[str, ...]
    form: Form
    train: Part
    valid: Part | None = None
    test: Part | None = None
    sizes: str = ""  # of the images as they were: "24×24 to 640×480"; empty: those of `form`
    remarks: tuple[str, ...] = ()  # what else is to be said of them, such as what was passed over
    depth: Depth = Depth()  # how deep images became 8 bits
    broken: tuple[str, ...] = ()  # "NAME: REASON" of images that were passed over


class Reader(Protocol):
    """Reads one source. Its `repr` is part of the cache's key, so it must show every option."""

    def files(self) -> list[Path]:
        """The files that the images are read from.

        Their names, sizes and modification times decide whether a cached copy is fresh.
        """

    def decode(
        self,
        image_size: int | None,
        cache: Path,
        skip_broken: bool = False,
        groups: str | None = None,
    ) -> Decoded:
        """Starts decoding everything.

        Args:
            image_size: side in pixels of the square to scale to; None for the images' own size.
            cache: the root folder of the cache, for downloads.
            skip_broken: whether images that cannot be read are passed over, where each is a file or
                a row of its own. A class, of a part, without any other is an error all the same.
            groups: what says which images belong together (see `sources.groups`); None: each is on
                its own.

        Raises:
            DataError: the source cannot be used; also while the chunks are iterated.
        """


def numbered(labels: Labels) -> tuple[str, ...]:
    """Names for classes without names: their numbers. `labels` has shape (N,).

    Raises:
        DataError: a label is above 100,000, so that the labels cannot be numbers of classes.
    """
    highest = int(labels.max()) if len(labels) else -1
    if highest > 100_000:
        raise DataError(
            f"labels must number the classes from 0 without gaps, but one is {highest}; renumber "
            "them"
        )
    return tuple(str(number) for number in range(highest + 1))
