"""From encoded images of any size and format to arrays of one form."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nanonas.data.sources.base import (
    CHUNK,
    CMYK,
    DEEP,
    GREY,
    PALETTE,
    TRANSPARENT,
    TURNED,
    Decoded,
    Depth,
    Form,
    Labels,
    Part,
    Rows,
)
from nanonas.data.sources.orientation import ROTATED, UPRIGHT, orientation_of
from nanonas.data.sources.pixels import (
    Encoded,
    decode,
    fitted,
    opened_image,
    pillow,
    reason_unread,
)
from nanonas.errors import DataError
from nanonas.machine import cores

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_DEEP = ("I", "F")  # how the modes begin that have more than 8 bits
_NAMED = 10  # broken images that a message names
_SAID = 3  # of those that are passed over, in the line that says what was found
# with which any image is decoded, only to see whether it can be
_TRIAL = (Form(3, 32, 32), Depth(2**16 - 1, 255))


class _Broken:
    """Collects the images that cannot be read, so that all of them can be named at once."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def add(self, image: Encoded, error: Exception) -> None:
        self._reasons[image.name] = reason_unread(error)

    def __contains__(self, image: Encoded) -> bool:
        return image.name in self._reasons

    @property
    def lines(self) -> tuple[str, ...]:
        """ "NAME: REASON" of each, sorted."""
        return tuple(f"{name}: {reason}" for name, reason in sorted(self._reasons.items()))

    def in_words(self, source: str) -> str:
        """ "12 broken (cat/a.jpg, cat/b.jpg, dog/c.jpg, …)"."""
        names = [name.replace(f"{source}{os.sep}", "") for name in sorted(self._reasons)]
        more = ", …" if len(names) > _SAID else ""
        return f"{len(names)} broken ({', '.join(names[:_SAID])}{more})"

    def check(self) -> None:
        """Raises `DataError` where there are any."""
        if not self._reasons:
            return
        (name, reason), *others = sorted(self._reasons.items())
        if not others:
            raise DataError(
                f"{name} cannot be read: {reason}; repair it or delete it, or --skip-broken passes "
                "over it"
            )
        names = [name for name, _ in others[: _NAMED - 1]]
        more = f" and {len(others) - len(names)} more" if len(others) > len(names) else ""
        raise DataError(
            f"{len(others) + 1} images cannot be read: {name} ({reason}), {', '.join(names)}{more}"
            "; repair or delete them, or --skip-broken passes over them"
        )


# --- what all images have in common ---------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What is known of an image before it is brought into form."""

    name: str
    grey: bool
    height: int  # upright
    width: int
    transparent: bool
    marks: int  # see `Rows`
    deep: _Deep | None = None  # for one of more than 8 bits a channel


@dataclass(frozen=True)
class _Deep:
    """The values of an image of more than 8 bits a channel."""

    name: str  # of the image, for messages
    low: float
    high: float
    whole: bool  # whether these are integers


def _inspected(image: Encoded) -> _Look:
    """Reads little more than the header of an image with 8 bits a channel; all of a deeper one."""
    with opened_image(image) as opened:
        width, height = opened.size
        orientation = orientation_of(opened)
        if orientation in ROTATED:
            width, height = height, width
        grey, transparent = opened.mode in _GREY, opened.has_transparency_data
        is_deep = opened.mode.startswith(_DEEP)
        marks = (
            GREY * grey
            + DEEP * is_deep
            + PALETTE * opened.mode.startswith("P")
            + CMYK * (opened.mode == "CMYK")
            + TRANSPARENT * transparent
            + TURNED * (orientation != UPRIGHT)
        )
        if not is_deep:
            return _Look(image.name, grey, height, width, transparent, marks)
        values = np.asarray(opened)
        low, high = float(values.min()), float(values.max())
        deep = _Deep(image.name, low, high, whole=opened.mode != "F")
        return _Look(image.name, grey, height, width, transparent, marks, deep)


def _depth(images: Sequence[_Deep], source: str) -> tuple[Depth, list[str]]:
    """The rule that keeps what the data set's deep images hold, and what is said of it.

    Raises:
        DataError: values below 0, no numbers, or floats that are neither in [0, 1] nor [0, 255].
    """
    remarks: list[str] = []
    for deep in images:
        if not (deep.low >= 0 and deep.high < math.inf):  # "not", because NaN compares as False
            raise DataError(
                f"{deep.name} in {source!r} holds values from {deep.low:g} to {deep.high:g}, but 0 "
                "is the least; shift and scale all images to [0, 255]"
            )
    most = max((int(deep.high) for deep in images if deep.whole), default=None)
    if most is not None and most > 255:
        bits = most.bit_length()
        remarks.append(f"values up to {most:,} ({bits} bits), of which the upper 8 bits are kept")
    floats = [deep for deep in images if not deep.whole]
    top = None
    if floats:
        brightest = max(floats, key=lambda deep: deep.high)
        if brightest.high > 255:
            raise DataError(
                f"{brightest.name} in {source!r} holds floats up to {brightest.high:g}, but they "
                "must lie in [0, 1] or in [0, 255]; scale all images"
            )
        top = 1 if brightest.high <= 1 else 255
        remarks.append(f"floats in [0, {top}]")
    return Depth(most, top), remarks


@dataclass(frozen=True)
class _Common:
    """What inspecting all images has told."""

    form: Form
    depth: Depth
    sizes: str
    remarks: tuple[str, ...]
    rows: Rows  # of all parts, one after the other


def _rows(looks: Sequence[_Look], source: str) -> Rows:
    """What is kept of the images that can be read."""
    root = Path(source)
    within = f"{root if root.is_dir() else root.parent}{os.sep}"
    names = (look.name.replace(within, "").replace(os.sep, "/") for look in looks)
    sizes = np.array([(look.width, look.height) for look in looks], np.int32).reshape(-1, 2)
    return Rows(tuple(names), sizes, np.array([look.marks for look in looks], np.uint8))


def _in_common(
    chunks: Iterable[list[Encoded]],
    image_size: int | None,
    source: str,
    passed_over: _Broken | None = None,
) -> _Common:
    """The form to bring images into: colour if any image is; `image_size` squared if given.

    Otherwise their own size if it is the same for all and no side is over 64; else 64 squared if
    the smaller side of most images is at least that, or 32 squared.

    Args:
        passed_over: gets the images that cannot be read, which have no say. So that none is found
            later, each is decoded. None: they are an error.

    Raises:
        DataError: an image cannot be read.
    """
    broken = _Broken() if passed_over is None else passed_over
    looks: list[_Look] = []

    def look(image: Encoded) -> _Look | None:
        try:
            seen = _inspected(image)
            if passed_over is not None:
                with np.errstate(invalid="ignore"):
                    decode(image, *_TRIAL)
            return seen
        except Exception as error:  # noqa: BLE001  whatever it is, it needs the image's name
            broken.add(image, error)
            return None

    with pillow(), ThreadPoolExecutor(cores()) as threads:
        for chunk in chunks:
            looks += [seen for seen in threads.map(look, chunk) if seen is not None]
    if passed_over is None:
        broken.check()
    sizes = [(seen.height, seen.width) for seen in looks]
    channels = 1 if all(seen.grey for seen in looks) else 3
    depth, remarks = _depth([seen.deep for seen in looks if seen.deep is not None], source)
    if transparent := sum(seen.transparent for seen in looks):
        remarks.append(f"{transparent} with transparency, drawn on white")
    if image_size is not None:
        form = Form(channels, image_size, image_size)
    elif len(set(sizes)) == 1 and max(sizes[0]) <= 64:
        form = Form(channels, *sizes[0])
    else:
        sides = [min(size) for size in sizes]
        chosen = 64 if sides and median_low(sides) >= 64 else 32
        form = Form(channels, chosen, chosen)
        remarks.insert(0, f"which become {chosen}×{chosen} (--image-size sets another size)")
    rows = _rows(looks, source)
    return _Common(form, depth, _sizes_in_words(sizes), tuple(remarks), rows)


def _sizes_in_words(sizes: Sequence[tuple[int, int]]) -> str:
    """Of sizes (height, width): "24×24 to 640×480", the smallest and the largest area."""
    ends = [end(sizes, key=math.prod, default=(0, 0)) for end in (min, max)]
    return " to ".join(dict.fromkeys(f"{width}×{height}" for height, width in ends))


def resized(images: NDArray[np.uint8], form: Form) -> NDArray[np.uint8]:
    """(B, H, W, C) images scaled to the form's size as encoded ones are; C stays as it is."""
    if images.shape[1:3] == (form.height, form.width):
        return images
    out = np.empty((len(images), form.height, form.width, form.channels), np.uint8)

    def resize(place: int) -> None:
        pixels = images[place, :, :, 0] if form.channels == 1 else images[place]
        out[place] = fitted(Image.fromarray(np.ascontiguousarray(pixels)), form)

    _for_each(resize, len(images))
    return out


def _for_each(do: Callable[[int], None], number: int) -> None:
    """Calls `do` with 0 … `number` - 1 in threads: Pillow decodes and scales without holding the
    interpreter's lock.

    One task per thread, not per image: 4,096 small JPEGs take 0.42 instead of 0.53 s.
    """
    workers = cores()

    def share(first: int) -> None:
        for place in range(first, number, workers):
            do(place)

    with ThreadPoolExecutor(workers) as threads:
        for _ in threads.map(share, range(workers)):
            pass


def array_part(x: NDArray[np.uint8], y: Labels, form: Form) -> Part:
    """A part of (N, H, W, C) uint8 images in memory, and their labels, (N,)."""
    chunks = (resized(x[start : start + CHUNK], form) for start in range(0, len(x), CHUNK))
    return Part(y, chunks)


def form_of(x: NDArray[np.uint8], image_size: int | None) -> Form:
    """`image_size` squared, or the own size of (N, H, W, C) images."""
    height, width, channels = x.shape[1:]
    return Form(channels, image_size or height, image_size or width)


@dataclass(frozen=True)
class Files:
    """A part of encoded images."""

    labels: Labels  # (N,)
    encoded: Callable[[], Iterator[list[Encoded]]]  # in chunks; each call starts anew


def decode_all(
    parts: dict[str, Files],
    names: tuple[str, ...],
    image_size: int | None,
    source: str,
    passed: Sequence[str] = (),
    skip_broken: bool = False,
) -> Decoded:
    """Inspects all images for their common form, then decodes them into it, chunk by chunk.

    Args:
        parts: "train" and, if any, "valid" and "test".
        names: of the classes.
        image_size: side in pixels of the square to scale to; None to choose: the images' own size
            where all have it and no side is over 64, else 32 or 64.
        source: for messages.
        passed: what the source has passed over, in words: "8 .heic".
        skip_broken: whether to pass over images that cannot be read, too.

    Raises:
        DataError: images cannot be read; also while the chunks are iterated. With `skip_broken`,
            none of a class in one of the parts can.
    """
    every = (chunk for files in parts.values() for chunk in files.encoded())
    broken = _Broken() if skip_broken else None
    common = _in_common(every, image_size, source, broken)
    if broken is not None and broken.lines:
        parts = {part: _sound(part, parts[part], broken, names, source) for part in parts}
        passed = (*passed, broken.in_words(source))
    remarks = (*common.remarks, f"passed over: {', '.join(passed)}") if passed else common.remarks

    def chunks(files: Files) -> Iterator[NDArray[np.uint8]]:
        unread = _Broken()
        for chunk in files.encoded():
            yield _decoded(chunk, common, unread)
        unread.check()  # at the end, so that all are named

    made: dict[str, Part] = {}
    place = np.arange(len(common.rows.names))
    for name, files in parts.items():
        done = sum(len(part.labels) for part in made.values())
        rows = common.rows.where((place >= done) & (place < done + len(files.labels)))
        made[name] = Part(files.labels, chunks(files), rows)
    return Decoded(
        names,
        common.form,
        made["train"],
        made.get("valid"),
        made.get("test"),
        common.sizes,
        remarks,
        common.depth,
        () if broken is None else broken.lines,
    )


def _sound(part: str, files: Files, broken: _Broken, names: tuple[str, ...], source: str) -> Files:
    """The files without broken ones. Raises `DataError` where a class has no other."""
    sound = [image not in broken for chunk in files.encoded() for image in chunk]
    labels = files.labels[np.array(sound, bool)]
    for label in np.setdiff1d(files.labels, labels):
        name = names[label] if 0 <= label < len(names) else str(label)
        raise DataError(
            f"the class {name!r} in {source!r} has no {part} image that can be read, of "
            f"{np.count_nonzero(files.labels == label)}; repair them, or take the class out"
        )

    def encoded() -> Iterator[list[Encoded]]:
        for chunk in files.encoded():
            yield [image for image in chunk if image not in broken]

    return Files(labels, encoded)


def _decoded(images: Sequence[Encoded], common: _Common, broken: _Broken) -> NDArray[np.uint8]:
    """(B, H, W, C); what is broken is noted, and stays black."""
    form = common.form
    out = np.zeros((len(images), form.height, form.width, form.channels), np.uint8)

    def decode_one(place: int) -> None:
        try:
            out[place] = decode(images[place], form, common.depth)
        except Exception as error:  # noqa: BLE001  whatever it is, it needs the image's name
            broken.add(images[place], error)

    with pillow():
        _for_each(decode_one, len(images))
    return out
