"""Decoded images on disk: plain .npy files in a folder, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from loguru import logger
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.holdout import held_out_groups
from nanonas.data.sources import Decoded, Labels, Part, Rows
from nanonas.errors import DataError, InvalidInput

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_GROUPS = ("groups_train", "groups_test")  # there where images were grouped
_ROWS = "rows.npz"
DAMAGED = (OSError, EOFError, ValueError)  # what numpy and json raise for files that are not whole
_DAY = 86_400  # seconds
_UNUSED = 30 * _DAY  # what nobody has used for so long is removed
_BOUND, _GIGABYTES = "NANONAS_CACHE_GB", 10.0  # of all copies together
TEST_SHARE = 0.2  # of the images, where a source has no test set


@contextmanager
def reading(source: str) -> Iterator[None]:
    """Turns what libraries and the system raise while a source is read into a `DataError`."""
    try:
        yield
    except InvalidInput:
        raise
    except (OSError, ValueError) as error:  # pyarrow's are both
        raise DataError(
            f"{source!r} cannot be read: {error}; check its files and permissions"
        ) from None


def fill(
    folder: Path,
    decoded: Decoded,
    name: str,
    source: str,
    more: Mapping[str, Any] | None = None,
    beside: Callable[[Path], None] | None = None,
) -> None:
    """Writes decoded images into a folder of the cache.

    They are written into a folder beside it, which is renamed once it is whole, so that no other
    process sees half of it. Then copies that nobody uses are removed: those unused for 30 days,
    and, the longest unused first, those beyond 10 GB in all, or $NANONAS_CACHE_GB. What was used
    within a day stays, for a process may be using it.

    Args:
        folder: in the cache; replaced if it exists.
        decoded: the images, read once.
        name: of the data set.
        source: as the user named it, for messages.
        more: what else is known of them, or known better, as JSON has it.
        beside: writes more files into the folder, given its path.

    Raises:
        OSError: the cache cannot be written.
        DataError: the source cannot be read, or has too few images for a test set; or
            $NANONAS_CACHE_GB is no number.
    """
    with _filling(folder) as part:
        about = {
            "name": name,
            "source": source,
            "class_names": decoded.class_names,
            "sizes": decoded.sizes,
            "remarks": decoded.remarks,
            "depth": asdict(decoded.depth),
            "broken": decoded.broken,
            **_write(part, decoded, source),
            **(more or {}),
        }
        if beside is not None:
            beside(part)
        _write_about(part, about)


def keep(folder: Path, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes images that are decoded already into a folder of the cache, as `fill` does.

    Args:
        about: what is known of them, as JSON has it.
        arrays: the four of them, by name.

    Raises:
        OSError, DataError: as `fill`.
    """
    with _filling(folder) as part:
        for name, array in arrays.items():
            np.save(part / f"{name}.npy", array)
        _write_about(part, about)


def _write_about(folder: Path, about: Mapping[str, Any]) -> None:
    (folder / "about.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


@contextmanager
def _filling(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` at the end; see `fill`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    bound = _bound()
    _sweep_leftovers(folder.parent)
    part = folder.parent / f".{uuid.uuid4().hex}.part"
    part.mkdir()
    try:
        yield part
        try:
            part.rename(folder)
        except OSError:  # there is one already
            if not _whole(folder):
                shutil.rmtree(folder, ignore_errors=True)
                part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _sweep_unused(folder.parent, bound)


def _whole(folder: Path) -> bool:
    """Whether another process has written the same."""
    try:
        read_folder(folder)
    except DAMAGED:
        return False
    return True


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `fill` wrote: what is known of the images, and the four arrays, mapped read-only; with
    those of groups, if any.

    Raises one of `DAMAGED` where the folder is missing or not whole.
    """
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    _mark_used(folder)
    names = (*_ARRAYS, *_GROUPS) if about.get("grouped") else _ARRAYS
    return about, {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in names}


def read_rows(folder: Path) -> Rows:
    """What is known of each image, those of training first, then those of the test.

    Raises one of `DAMAGED` where the folder is missing or not whole.
    """
    with np.load(folder / _ROWS, allow_pickle=False) as stored:
        names = stored["names"].tobytes().decode("utf-8", "surrogateescape")
        return Rows(tuple(names.split("\0")[:-1]), stored["sizes"], stored["marks"])


def _write_rows(folder: Path, rows: Rows) -> None:
    """Writes them; names as bytes, each ended by 0: in an array of text all are equally wide."""
    words = "".join(f"{name}\0" for name in rows.names).encode("utf-8", "surrogateescape")
    names = np.frombuffer(words, np.uint8)
    np.savez(folder / _ROWS, names=names, sizes=rows.sizes, marks=rows.marks)


# --- what is no longer used -----------------------------------------------------------------------


def _last_used(folder: Path) -> float:
    """When a copy was used last, to a day: the time of its about.json."""
    about = folder / "about.json"
    return (about if about.exists() else folder).stat().st_mtime


def _mark_used(folder: Path) -> None:
    """Writes down that a copy is used; once a day is enough."""
    with suppress(OSError):  # a cache that is only read is not swept either
        if time.time() - _last_used(folder) > _DAY:
            os.utime(folder / "about.json")


def _bound() -> float:
    """How many bytes all copies may take. Raises `DataError` where the user's number is none."""
    given = os.environ.get(_BOUND) or str(_GIGABYTES)
    try:
        gigabytes = float(given)
    except ValueError:
        gigabytes = -1
    if not gigabytes >= 0:  # "not", because NaN compares as False
        raise DataError(f"{_BOUND} must be a number of gigabytes, 0 or more, but is {given!r}")
    return gigabytes * 1e9


def _sweep_unused(parent: Path, bound: float) -> None:
    """Removes copies that are unused for long, or that are too many; see `fill`."""
    copies: list[tuple[float, int, Path]] = []  # last use, bytes, where
    for folder in parent.glob("[!.]*"):
        with suppress(OSError):  # another process removed it first
            size = sum(path.stat().st_size for path in folder.iterdir())
            copies.append((_last_used(folder), size, folder))
    total, now = sum(size for _, size, _ in copies), time.time()
    for used, size, folder in sorted(copies):
        if now - used > _UNUSED or (total > bound and now - used > _DAY):
            total -= size
            gone = parent / f".{uuid.uuid4().hex}.part"  # so that no process opens half of it
            with suppress(OSError):
                folder.rename(gone)
                logger.debug("{}: unused for {:.0f} days, removed", folder, (now - used) / _DAY)
            shutil.rmtree(gone, ignore_errors=True)


def _sweep_leftovers(parent: Path) -> None:
    """Removes half-written folders that a killed process left more than a day ago."""
    for part in parent.glob(".*.part"):
        with suppress(OSError):  # another process removed it first
            if time.time() - part.stat().st_mtime > _DAY:
                shutil.rmtree(part, ignore_errors=True)


def _write(folder: Path, decoded: Decoded, source: str) -> dict[str, Any]:
    """Writes the arrays, and what is known of each row; returns mean, std, own_valid, fingerprint
    and whether images are grouped.

    The training part is streamed once: its images go to training, or, where the source has no test
    images, partly to the test set. Validation images are appended to the training images.
    """
    train, valid = decoded.train, decoded.valid
    test = decoded.test if decoded.test is not None and len(decoded.test.labels) > 0 else None
    shape = (decoded.form.height, decoded.form.width, decoded.form.channels)
    if test is None:
        held_out = _test_mask(decoded)
        y_test = train.labels[held_out]
    else:
        held_out = np.zeros(len(train.labels), bool)
        y_test = test.labels
    y_train = train.labels[~held_out]
    if valid is not None:
        y_train = np.concatenate([y_train, valid.labels])
    if not len(y_test):
        raise DataError(
            f"{source!r} has too few images to split off a test set; 3 of a class are the least"
        )
    moments = _Moments()
    with (
        (folder / "x_train.npy").open("wb") as train_file,
        (folder / "x_test.npy").open("wb") as test_file,
    ):
        to_train = _Sink(train_file, (len(y_train), *shape))
        to_test = _Sink(test_file, (len(y_test), *shape))
        done = 0
        for chunk in _chunks(train, source):
            mask = held_out[done : done + len(chunk)]
            done += len(chunk)
            to_test.write(chunk[mask])
            to_train.write(chunk[~mask])
            moments.add(chunk[~mask])
        for part, sink in ((valid, to_train), (test, to_test)):
            if part is not None:
                for chunk in _chunks(part, source):
                    sink.write(chunk)
    np.save(folder / "y_train.npy", y_train)
    np.save(folder / "y_test.npy", y_test)
    mean, std = moments.mean_and_std(source)
    digest = hashlib.sha256(
        json.dumps([decoded.class_names, shape, len(y_train), len(y_test)]).encode()
    )
    for content in (to_train.digest(), to_test.digest(), y_train.tobytes(), y_test.tobytes()):
        digest.update(content)
    test_rows = train.rows.where(held_out) if test is None else test.rows
    rows = train.rows.where(~held_out) + (Rows() if valid is None else valid.rows)
    _write_rows(folder, rows + test_rows)
    groups = _groups(decoded, held_out)
    if groups is not None:
        for name, ids in zip(_GROUPS, groups, strict=True):
            np.save(folder / f"{name}.npy", ids)
            digest.update(ids.tobytes())
    return {
        "mean": mean,
        "std": std,
        "own_valid": 0 if valid is None else len(valid.labels),
        "fingerprint": digest.hexdigest()[:16],
        "grouped": groups is not None,
        "own_test": test is not None,
    }


def _groups(
    decoded: Decoded, held_out: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """The groups of the rows of `x_train` and `x_test`, as numbers; None where there are none."""
    parts = [part for part in (decoded.train, decoded.valid, decoded.test) if part is not None]
    words = [word for part in parts for word in part.groups or ()]
    if not words:
        return None
    ids = np.unique(words, return_inverse=True)[1].astype(np.int32)
    first_test = len(ids) - len(decoded.test.labels) if decoded.test is not None else len(ids)
    apart = np.zeros(len(ids), bool)
    apart[: len(held_out)] = held_out
    apart[first_test:] = True
    return ids[~apart], ids[apart]


def _chunks(part: Part, source: str) -> Iterator[NDArray[np.uint8]]:
    """The part's chunks, (B, H, W, C) each; reading errors become a `DataError`."""
    iterator = iter(part.chunks)
    while True:
        with reading(source):
            chunk = next(iterator, None)
        if chunk is None:
            return
        yield chunk


class _Sink:
    """An .npy file of uint8 that is written piece by piece, and hashed on the way.

    Written, not memory-mapped: on a full disk a write raises, whereas storing into mapped memory
    kills the process.
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
    """Mean and standard deviation by channel, exact: from integer sums."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, np.int64(0), np.int64(0)

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Counts a chunk, (B, H, W, C)."""
        self._count += pixels.size // pixels.shape[3]
        self._sum = self._sum + pixels.sum((0, 1, 2), dtype=np.int64)
        self._squares = self._squares + np.square(pixels, dtype=np.int64).sum((0, 1, 2))

    def mean_and_std(self, source: str) -> tuple[list[float], list[float]]:
        """One number per channel each, in [0, 1].

        The deviation is one grey level at least, so that a constant channel can be divided by it.

        Raises:
            DataError: all images are of one colour.
        """
        mean = self._sum / self._count
        if np.array_equal(self._sum * self._sum, self._squares * self._count):
            raise DataError(
                f"all training images of {source!r} are of one colour, "
                f"{' '.join(f'{level:.0f}' for level in mean)} of 255: what they show is lost; "
                "look into the files, and save them as 8-bit grey or RGB"
            )
        variance = self._squares / self._count - mean**2
        return (mean / 255).tolist(), (np.sqrt(np.maximum(variance, 1.0)) / 255).tolist()


def _test_mask(decoded: Decoded) -> NDArray[np.bool_]:
    """Which images to split off as a test set, (N,): `TEST_SHARE` of each class; of groups, whole
    ones.

    Raises:
        DataError: a class has too few groups.
    """
    labels: Labels = decoded.train.labels
    rng = np.random.default_rng(0)  # a property of the data, not of a run
    if decoded.train.groups is not None:
        ids: Integers = np.unique(decoded.train.groups, return_inverse=True)[1]
        keep = 2 if decoded.valid is None else 1  # the others train, and validate
        return held_out_groups(labels, ids, TEST_SHARE, rng, decoded.class_names, keep)
    mask = np.zeros(len(labels), bool)
    for number in range(int(labels.max()) + 1):
        members = rng.permutation(np.flatnonzero(labels == number))
        mask[members[: round(TEST_SHARE * len(members))]] = True
    return mask
