"""Decoded images on the disk: plain .npy files in a folder, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from nanonas.data.sources import Decoded, Labels, Part
from nanonas.errors import DataError

TEST_SHARE = 0.2  # of the images, where a source has no test set


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Makes a `DataError` of what goes wrong outside our own checks while a source is read."""
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's are both
        raise DataError(
            f"{source!r} cannot be read: {error}; check its files and permissions"
        ) from None


def fill(folder: Path, decoded: Decoded, name: str, source: str) -> None:
    """Writes a folder of the cache: into one beside it, renamed when whole, so that nobody sees
    half of it.

    Raises `OSError` when it cannot be written, `DataError` when the source cannot be read.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    part = folder.parent / f".{uuid.uuid4().hex}.part"
    part.mkdir()
    try:
        about = {
            "name": name,
            "source": source,
            "class_names": decoded.class_names,
            **_write(part, decoded, source),
        }
        (part / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # what is there was not whole
        try:
            part.rename(folder)
        except OSError:
            if not (
                folder / "about.json"
            ).exists():  # else another process was faster, with the same
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Removes what a killed process left half written more than a day ago."""
    for part in parent.glob(".*.part"):
        with suppress(OSError):  # another process was faster
            if time.time() - part.stat().st_mtime > 86_400:
                shutil.rmtree(part, ignore_errors=True)


def _write(folder: Path, decoded: Decoded, source: str) -> dict[str, Any]:
    """Writes the four arrays; returns what was found out on the way."""
    train, valid, test = decoded.train, decoded.valid, decoded.test
    form = (decoded.form.height, decoded.form.width, decoded.form.channels)
    has_test = test is not None and len(test.labels) > 0
    held = np.zeros(len(train.labels), bool) if has_test else _test_mask(train.labels)
    y_train = np.concatenate([train.labels[~held], *([valid.labels] if valid else [])])
    y_test = test.labels if test is not None and has_test else train.labels[held]
    if not len(y_test):
        raise DataError(
            f"{source!r} has too few images to split off a test set; 3 of a class are the least"
        )
    moments = _Moments()
    with (
        (folder / "x_train.npy").open("wb") as train_file,
        (folder / "x_test.npy").open("wb") as test_file,
    ):
        to_train = _Sink(train_file, (len(y_train), *form))
        to_test = _Sink(test_file, (len(y_test), *form))
        done = 0
        for chunk in _chunks(train, source):
            mask = held[done : done + len(chunk)]
            done += len(chunk)
            to_test.write(chunk[mask])
            to_train.write(chunk[~mask])
            moments.add(chunk[~mask])
        for other, sink in ((valid, to_train), (test if has_test else None, to_test)):
            for chunk in _chunks(other, source) if other else ():
                sink.write(chunk)
    np.save(folder / "y_train.npy", y_train)
    np.save(folder / "y_test.npy", y_test)
    mean, std = moments.mean_and_std()
    digest = hashlib.sha256(
        json.dumps([decoded.class_names, form, len(y_train), len(y_test)]).encode()
    )
    for content in (to_train.digest(), to_test.digest(), y_train.tobytes(), y_test.tobytes()):
        digest.update(content)
    own_valid = len(valid.labels) if valid else 0
    return {
        "mean": mean,
        "std": std,
        "own_valid": own_valid,
        "fingerprint": digest.hexdigest()[:16],
    }


def _chunks(part: Part, source: str) -> Iterator[NDArray[np.uint8]]:
    iterator = iter(part.chunks)
    while True:
        with reading(source):
            chunk = next(iterator, None)
        if chunk is None:
            return
        yield chunk


class _Sink:
    """An .npy file that is written piece by piece.

    Written, not mapped: on a full disk a write raises, where a store to mapped memory kills the
    process.
    """

    def __init__(self, file: BinaryIO, shape: tuple[int, ...]) -> None:
        self._file, self._hash = file, hashlib.blake2b(digest_size=16)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )

    def write(self, pixels: NDArray[np.uint8]) -> None:
        content = pixels.tobytes()
        self._file.write(content)
        self._hash.update(content)

    def digest(self) -> bytes:
        return self._hash.digest()


class _Moments:
    """Mean and standard deviation by channel, exactly, from whole-number sums."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, np.int64(0), np.int64(0)

    def add(self, pixels: NDArray[np.uint8]) -> None:
        self._count += pixels.size // pixels.shape[3]
        self._sum = self._sum + pixels.sum((0, 1, 2), dtype=np.int64)
        self._squares = self._squares + np.square(pixels, dtype=np.int64).sum((0, 1, 2))

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """In [0, 1].

        A channel that never changes gets one level's width, so that nothing is divided by 0.
        """
        mean = self._sum / self._count
        variance = self._squares / self._count - mean**2
        return (mean / 255).tolist(), (np.sqrt(np.maximum(variance, 1.0)) / 255).tolist()


def _test_mask(labels: Labels) -> NDArray[np.bool_]:
    """Which images to split off as a test set."""
    rng = np.random.default_rng(0)  # a constant of the data: no run's seed
    mask = np.zeros(len(labels), bool)
    for number in range(int(labels.max()) + 1):
        members = rng.permutation(np.flatnonzero(labels == number))
        mask[members[: round(TEST_SHARE * len(members))]] = True
    return mask
