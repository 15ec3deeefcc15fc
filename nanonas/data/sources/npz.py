"""Images and labels in a numpy archive. Nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.data.arrays import require_arrays
from nanonas.data.sources.base import (
    CHUNK,
    PARTS,
    Decoded,
    Depth,
    Form,
    Labels,
    Part,
    numbered,
)
from nanonas.data.sources.decoding import resized
from nanonas.data.sources.stored import Stored, stored, unreadable
from nanonas.errors import DataError
from nanonas.machine import free_memory
from nanonas.text import number_of


@dataclass(frozen=True)
class Npz:
    """``x_train``, ``y_train`` and, if any, ``x_valid``, ``y_valid``, ``x_test``, ``y_test``,
    ``class_names``. Parts may have their other usual names: ``x_val``, ``y_dev``, ….

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; integers in [0, 255],
    or floats in [0, 1]. Labels are (N,) integers from 0. Groups are an array of any name, with a
    whole number or a word for each training image; with _valid and _test behind it for the others.
    """

    path: Path

    def files(self) -> list[Path]:
        """The archive."""
        return [self.path]

    def decode(
        self,
        image_size: int | None,
        cache: Path,
        skip_broken: bool = False,
        groups: str | None = None,
    ) -> Decoded:
        """Streams the images, which are never whole in memory, unless they are in Fortran's order.

        Raises `DataError` as `Reader.decode` does.
        """
        arrays = self._arrays()
        pairs: dict[str, tuple[_Pixels, Labels]] = {}
        shape: tuple[int, ...] | None = None
        called = self._called(arrays)
        together = self._groups(arrays, called, groups)
        passed = [
            key
            for key in self._passed_over(arrays, called)
            if groups is None or key not in _names_of_groups(groups, called)
        ]
        for part, name in called.items():
            x, y = self._images(arrays, f"x_{name}"), self._labels(arrays, f"y_{name}")
            where = f"x_{name} in {str(self.path)!r}"
            if x.shape[0] != len(y):
                raise DataError(
                    f"{where} has {number_of(x.shape[0], 'image')}, but y_{name} has "
                    f"{number_of(len(y), 'label')}; they must match"
                )
            shape = shape or x.shape[1:]
            if x.shape[1:] != shape:
                raise DataError(
                    f"{where} has images of shape {x.shape[1:]}, but x_{called['train']} of "
                    f"{shape}; they must match"
                )
            pairs[part] = (x, y)
        height, width, channels = pairs["train"][0].shape[1:]
        form = Form(channels, image_size or height, image_size or width)
        parts = {
            name: Part(y, map(partial(resized, form=form), x.chunks()), groups=together.get(name))
            for name, (x, y) in pairs.items()
        }
        names = self._class_names(arrays, {called[part]: y for part, (_, y) in pairs.items()})
        floats = any(arrays[f"x_{name}"].dtype.kind == "f" for name in called.values())
        return Decoded(
            names,
            form,
            parts["train"],
            parts.get("valid"),
            parts.get("test"),
            remarks=(f"passed over: {', '.join(passed)}",) if passed else (),
            depth=Depth(floats_up_to=1 if floats else None),
        )

    def _arrays(self) -> dict[str, Any]:
        """All arrays; those of images as `Stored`, where they can be read in pieces."""
        try:
            require_arrays(self.path, free_memory(), "biufcSUmMV")
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                found: dict[str, Any] = {}
                for key in archive.files:
                    member = f"{key}.npy"
                    streamed = None
                    if key.startswith("x_") and member in archive.zip.namelist():
                        streamed = stored(self.path, member)
                    found[key] = archive[key] if streamed is None else streamed
                return found
        except Exception as error:  # noqa: BLE001  zip, zlib, struct and numpy each raise their own
            if "holds object" in str(error):
                raise DataError(
                    f"{str(self.path)!r} holds object arrays, which are never unpickled; save "
                    "numbers: images of one shape as uint8, labels as whole numbers"
                ) from None
            raise unreadable(self.path, error) from None

    def _called(self, arrays: Mapping[str, Any]) -> dict[str, str]:
        """What each part of the archive is called there: {"train": "train", "valid": "val"}."""
        called: dict[str, str] = {}
        for part, names in PARTS.items():
            found = [name for name in names if {f"x_{name}", f"y_{name}"} & arrays.keys()]
            if len(found) > 1:
                raise DataError(
                    f"{str(self.path)!r} holds x_{found[0]} and x_{found[1]}, which both are names "
                    f"of its {part} images; keep one of them"
                )
            for name in found:
                called[part] = name
        for name in called.values():
            for key, other, what in (("x", "y", "labels"), ("y", "x", "images")):
                if f"{other}_{name}" not in arrays:
                    raise DataError(
                        f"{str(self.path)!r} holds {key}_{name} but no {other}_{name}; add the "
                        f"{what}"
                    )
        if "train" not in called:
            raise DataError(
                f"{str(self.path)!r} must hold x_train and y_train, but holds {sorted(arrays)}"
            )
        return called

    def _passed_over(self, arrays: Mapping[str, Any], called: Mapping[str, str]) -> list[str]:
        """Which arrays are not read. Raises `DataError` for what looks like images or labels:
        somebody counts on them.
        """
        known = {"class_names", *(f"{key}_{name}" for name in called.values() for key in "xy")}
        keys = sorted(arrays.keys() - known)
        for key in keys:
            if key.lower().startswith(("x_", "y_")):
                names = ", ".join(f"x_{name}" for part in PARTS.values() for name in part)
                raise DataError(
                    f"{str(self.path)!r} holds {key}, which is the name of no part; rename it (the "
                    f"names of images are {names}), or leave it out"
                )
        return keys

    def _groups(
        self, arrays: Mapping[str, Any], called: Mapping[str, str], groups: str | None
    ) -> dict[str, tuple[str, ...]]:
        """The group of each image, by part; empty where none are asked for. Images of a part that
        has no array of groups are on their own.
        """
        if groups is None:
            return {}
        keys = _names_of_groups(groups, called)
        together: dict[str, tuple[str, ...]] = {}
        for part, name in called.items():
            number = len(arrays[f"y_{name}"])
            key = next((key for key, of in keys.items() if of == part and key in arrays), None)
            if key is None and part == "train":
                raise DataError(
                    f"groups is {groups!r} (--groups), but {str(self.path)!r} has no such array; "
                    f"it has {', '.join(sorted(arrays))}"
                )
            values = np.array([f"{part} {row}" for row in range(number)])
            if key is not None:
                values = arrays[key]
            if values.shape != (number,) or values.dtype.kind not in "buiSU":
                raise DataError(
                    f"{key} in {str(self.path)!r} must hold a whole number or a word for each of "
                    f"the {number} images, but is {values.dtype} of shape {values.shape}"
                )
            together[part] = tuple(map(str, values.tolist()))
        return together

    def _images(self, arrays: Mapping[str, Any], key: str) -> _Pixels:
        """(N, H, W, C) uint8."""
        x, where = arrays[key], f"{key} in {str(self.path)!r}"
        last = x.ndim == 4 and x.shape[3] in (1, 3)
        first = x.ndim == 4 and not last and x.shape[1] in (1, 3)
        if x.ndim != 3 and not (last or first):
            raise DataError(
                f"{where} must be (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, "
                f"but is {x.shape}"
            )
        n, *rest = x.shape
        shape = (n, *rest, 1) if x.ndim == 3 else (n, *rest)
        if first:
            shape = (n, rest[1], rest[2], rest[0])

        def arranged() -> Iterator[NDArray[Any]]:
            for chunk in _chunks(x):
                if x.ndim == 3:
                    yield chunk[..., None]
                else:
                    yield chunk.transpose(0, 2, 3, 1) if first else chunk

        if x.dtype == np.uint8:
            return _Pixels(shape, arranged)
        if x.dtype.kind not in "buif":
            raise DataError(f"{where} must be uint8, or floats in [0, 1], but is {x.dtype}")
        low, high = _range(arranged(), where, x.size)
        top = 1 if x.dtype.kind in "bf" else 255
        if low < 0 or high > top:
            raise DataError(
                f"{where} must hold values in [0, {top}] as {x.dtype}, but holds {low} to {high}; "
                f"{_way_out(float(low), float(high), top)}"
            )

        def scaled() -> Iterator[NDArray[np.uint8]]:
            for chunk in arranged():
                if top == 255:
                    yield chunk.astype(np.uint8)
                else:
                    yield np.rint(chunk.astype(np.float32) * 255).astype(np.uint8)

        return _Pixels(shape, scaled)

    def _labels(self, arrays: Mapping[str, Any], key: str) -> Labels:
        """(N,)."""
        y = arrays[key]
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1 or y.dtype.kind not in "uif" or not np.array_equal(y, np.floor(y)):
            example = f" with values like {y.flat[0]!s}" if y.size else ""
            raise DataError(
                f"{key} in {str(self.path)!r} must be (N,) whole numbers from 0, but is {y.dtype} "
                f"of shape {y.shape}{example}"
            )
        labels: Labels = y.astype(np.int64)
        return labels

    def _class_names(self, arrays: Mapping[str, Any], labels: dict[str, Labels]) -> tuple[str, ...]:
        """The names of the classes; `labels` by what their part is called."""
        if "class_names" not in arrays:
            return numbered(next(iter(labels.values())))
        names = tuple(str(name) for name in arrays["class_names"].ravel())
        for part, y in labels.items():
            if len(y) and y.max() >= len(names):
                raise DataError(
                    f"class_names in {str(self.path)!r} has {len(names)} names, but the labels in "
                    f"y_{part} go up to {y.max()}; name all {y.max() + 1} classes, or correct the "
                    "labels"
                )
        return names


def _names_of_groups(groups: str, called: Mapping[str, str]) -> dict[str, str]:
    """The part that each array of groups is of, by what it may be called."""
    suffixed = {f"{groups}_{name}": part for part, name in called.items()}
    return {groups: "train", **suffixed}


@dataclass(frozen=True)
class _Pixels:
    """The images of a part, (N, H, W, C) uint8."""

    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[NDArray[np.uint8]]]  # `CHUNK` at most at a time


def _chunks(x: Any) -> Iterator[NDArray[Any]]:
    """An array, whole or `Stored`, in pieces of `CHUNK` rows at most."""
    if isinstance(x, Stored):
        return x.chunks()
    return (x[start : start + CHUNK] for start in range(0, len(x), CHUNK))


def _range(chunks: Iterator[NDArray[Any]], where: str, size: int) -> tuple[Any, Any]:
    """The lowest and the highest value of images, (B, H, W, C) at a time; 0 and 0 of none.

    Raises `DataError` where some are no numbers.
    """
    number, first, done = 0, None, 0
    ends: list[Any] = []
    for chunk in chunks:
        wrong = ~np.isfinite(chunk)
        if first is None and wrong.any():
            row = int(np.argmax(wrong.any(axis=(1, 2, 3))))
            first = (done + row, chunk[row][wrong[row]][0])
        number, done = number + int(wrong.sum()), done + len(chunk)
        if chunk.size:
            ends += [chunk.min(), chunk.max()]
    if first is not None:
        index, value = first
        raise DataError(
            f"{where} must hold numbers in [0, 1], but {number:,} of its {size:,} values are NaN "
            f"or infinite, the first, {value}, in image {index}; leave out such images, or put "
            "numbers there"
        )
    return min(ends, default=0), max(ends, default=0)


def _way_out(low: float, high: float, top: int) -> str:
    """What brings values from `low` to `high` into [0, top]."""
    if top == 255:
        signed = -128 <= low < 0 and high <= 127
        return "add 128 to them, as uint8" if signed else "scale them to uint8"
    if low >= 0:
        whole = next((most for most in (255, 4095, 65535) if high <= most), None)
        return f"divide them by {whole or 'the highest'}"
    if low >= -1 and high <= 1:
        return "if they are scaled to [-1, 1], save (x + 1) / 2"
    return "if a mean was subtracted and a deviation divided by, undo it: save x * deviation + mean"
