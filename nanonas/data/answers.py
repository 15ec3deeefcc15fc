"""What a network answered to the test images: one file, final/predictions.npz.

    format   "nanonas-predictions-1"
    logits   float32 (images, classes), before any softmax
    labels   int64 (images,), what each image is, in [0, classes)
    names    texts (images,): the images' files, relative to the folder or archive that they came
             from; or (0,) where the images are no files, and each is known by its place

`numpy.load` reads it. The images are in the order of the test set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanonas.data.arrays import read_arrays, write_arrays
from nanonas.data.sources import Labels
from nanonas.errors import DataError

PREDICTIONS = "predictions.npz"  # in the folder of a final training
_FORMAT = "nanonas-predictions-1"


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network answered to the test images, as logits, beside what they are; see this module
    for the file.

    Raises:
        DataError: shapes or values do not fit each other.
    """

    logits: NDArray[np.float32]  # (images, classes), finite
    labels: Labels  # (images,), in [0, classes)
    names: tuple[str, ...] = ()  # of the images' files; empty: they have none

    def __post_init__(self) -> None:
        logits, labels = self.logits, self.labels
        if logits.ndim != 2 or min(logits.shape) < 1 or logits.dtype != np.float32:
            raise DataError(
                f"logits must be float32 (images, classes), but are {logits.dtype} {logits.shape}"
            )
        if labels.shape != logits.shape[:1] or labels.dtype != np.int64:
            raise DataError(
                f"labels must be int64 ({len(logits)},), as there are logits, but are "
                f"{labels.dtype} {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= logits.shape[1]:
            raise DataError(
                f"labels must be from 0 to {logits.shape[1] - 1}, but are from {labels.min()} to "
                f"{labels.max()}"
            )
        if not np.isfinite(logits).all():
            raise DataError("logits must be finite, but some are NaN or infinite")
        if self.names and len(self.names) != len(labels):
            raise DataError(
                f"there must be {len(labels)} names, one for each image, or none, but there are "
                f"{len(self.names)}"
            )

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.logits.shape[1])

    def name(self, row: int) -> str:
        """What an image is called: its file, or "test image 12", counted from 0."""
        return self.names[row] if self.names else f"test image {row}"

    def write(self, path: Path) -> None:
        """Writes the file. Raises `RunError` where that cannot be done."""
        write_arrays(
            path,
            format=np.array(_FORMAT),
            logits=self.logits,
            labels=self.labels,
            names=np.array(self.names, dtype=np.str_),
        )


def read_answers(path: Path) -> Answers:
    """The answers in a file.

    Raises:
        DataError: the file is missing, damaged, or holds something else.
    """
    arrays = read_arrays(path)
    missing = {"format", "logits", "labels", "names"} - arrays.keys()
    if missing or str(arrays["format"]) != _FORMAT:
        raise DataError(
            f"{str(path)!r} holds no predictions of this version of nanonas; train the network "
            "again"
        )
    try:
        names = tuple(map(str, arrays["names"].ravel()))
        return Answers(arrays["logits"], arrays["labels"], names)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}; train the network again") from None
