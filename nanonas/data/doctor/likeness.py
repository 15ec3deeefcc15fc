"""Images compared with each other: which are copies, and whether they may be mirrored. Kept beside
the decoded copy, so that it is done once.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.doctor.copies import near_copies, same_pixels
from nanonas.data.doctor.mirrors import Mirrored, mirrored_classes
from nanonas.data.doctor.thumbnails import Thumbnails, thumbnails
from nanonas.data.images import Images
from nanonas.errors import NanonasError
from nanonas.files import replacing

_VERSION = 1  # of what is compared, and how: raise it where that changes
_FILE = "doctor.npz"


@dataclass(frozen=True)
class Likeness:
    """What comparing images has shown. Rows are numbered through: those of `x_train`, then those of
    `x_test`.
    """

    rows: Integers  # (n,): those that were looked at, ascending
    same: Integers  # (n,): equal numbers for equal pixels
    near: Integers  # (n,): equal numbers for copies, or nearly
    mirrored: tuple[Mirrored, ...]


@dataclass(frozen=True)
class Subject:
    """The images that are compared.

    Args:
        images: all of them.
        most: how many to look at; the first of each class and part where there are more, so that
            what lies side by side stays so.
    """

    images: Images
    most: int | None = None

    @cached_property
    def labels(self) -> Integers:
        """Of all rows, (N + M,)."""
        return np.concatenate([self.images.y_train, self.images.y_test])

    @cached_property
    def rows(self) -> Integers:
        """Those that are looked at, ascending, (n,)."""
        number = len(self.labels)
        if self.most is None or number <= self.most:
            return np.arange(number)
        share, train = self.most / number, len(self.images.y_train)
        chosen: list[Integers] = []
        for label in range(self.images.classes):
            places = np.flatnonzero(self.labels == label)
            parts = (places[places < train], places[places >= train])
            chosen += [part[: round(share * len(part))] for part in parts]
        return np.sort(np.concatenate(chosen))

    @cached_property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """Of the rows, (n, H, W, C) in two arrays."""
        train = len(self.images.y_train)
        first, second = self.rows[self.rows < train], self.rows[self.rows >= train] - train
        whole = len(self.rows) == len(self.labels)
        if whole:
            return [self.images.x_train, self.images.x_test]
        return [self.images.x_train[first], self.images.x_test[second]]

    @cached_property
    def thumbs(self) -> Thumbnails:
        """Of the rows."""
        return thumbnails(self.pixels)

    def compared(self) -> Likeness:
        """What comparing them shows: read where it was done before, else done, and kept."""
        known = _read(self.images.folder)
        if known is not None and (
            len(known.rows) == len(self.labels) or np.array_equal(known.rows, self.rows)
        ):
            return known
        same = same_pixels(self.pixels)
        near = near_copies(self.thumbs, same)
        mirrored = mirrored_classes(self.thumbs, self.labels[self.rows])
        made = Likeness(self.rows, same, near, mirrored)
        _write(self.images.folder, made)
        return made


def _read(folder: Path | None) -> Likeness | None:
    """What was found before; None where nothing was, or by another version."""
    if folder is None:
        return None
    try:
        with np.load(folder / _FILE, allow_pickle=False) as stored:
            about: dict[str, Any] = json.loads(stored["about"].tobytes())
            if about["version"] != _VERSION:
                return None
            mirrored = tuple(Mirrored(**one) for one in about["mirrored"])
            return Likeness(stored["rows"], stored["same"], stored["near"], mirrored)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None


def _write(folder: Path | None, made: Likeness) -> None:
    if folder is None:
        return
    about = {"version": _VERSION, "mirrored": [asdict(one) for one in made.mirrored]}
    words = np.frombuffer(json.dumps(about).encode(), np.uint8)
    try:
        with replacing(folder / _FILE) as part, part.open("wb") as file:
            np.savez(file, about=words, rows=made.rows, same=made.same, near=made.near)
    except NanonasError as error:  # a cache that cannot be written: it is done again
        logger.debug("{}", error)
