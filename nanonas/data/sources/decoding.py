"""From encoded images of any size and format to arrays of one form."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nanonas.data.sources.base import CHUNK, Decoded, Form, Labels, Part
from nanonas.data.sources.orientation import ROTATED, orientation_of, upright
from nanonas.errors import DataError, reason_for
from nanonas.machine import cores

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_DEEP = ("I", "F")  # how the modes begin that have more than 8 bits
_NAMED = 10  # broken images that a message names
_PIXELS = "NANONAS_MAX_PIXELS"


@dataclass(frozen=True)
class Encoded:
    """A PNG, a JPEG, …: on disk or in memory."""

    name: str  # for messages
    content: Path | bytes


def _opened(image: Encoded) -> Image.Image:
    if isinstance(image.content, bytes):
        return Image.open(io.BytesIO(image.content))
    opened = Image.open(image.content)
    if opened.format != "TIFF":
        return opened
    opened.close()  # Pillow 13 maps a plain TIFF into memory with its sides exchanged
    return Image.open(io.BytesIO(image.content.read_bytes()))


def _reason(error: Exception) -> str:
    """What Pillow raised, for people. Each of its formats raises errors of its own."""
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return (
            f"it has more than {most:,} pixels, which may fill the memory; scale it down, or allow "
            f"so many by the environment variable {_PIXELS}"
        )
    if "cannot identify" in str(error):
        return "it is no image that Pillow knows"
    return str(error) if isinstance(error, OSError) and str(error) else reason_for(error)


class _Broken:
    """Collects the images that cannot be read, so that all of them can be named at once."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def add(self, image: Encoded, error: Exception) -> None:
        self._reasons[image.name] = _reason(error)

    def check(self) -> None:
        """Raises `DataError` where there are any."""
        if not self._reasons:
            return
        (name, reason), *others = sorted(self._reasons.items())
        if not others:
            raise DataError(f"{name} cannot be read: {reason}; repair it or delete it")
        names = [name for name, _ in others[: _NAMED - 1]]
        more = f" and {len(others) - len(names)} more" if len(others) > len(names) else ""
        raise DataError(
            f"{len(others) + 1} images cannot be read: {name} ({reason}), {', '.join(names)}{more}"
            "; repair or delete them"
        )


@contextmanager
def _pillow() -> Iterator[None]:
    """Pillow without warnings of its own, and with as many pixels as the user allows."""
    allowed = os.environ.get(_PIXELS)
    if allowed and not allowed.isdigit():
        raise DataError(f"{_PIXELS} must be a number of pixels, but is {allowed!r}")
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        if allowed:
            Image.MAX_IMAGE_PIXELS = -(-int(allowed) // 2)  # Pillow refuses twice as many
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


# --- what all images have in common ---------------------------------------------------------------


@dataclass(frozen=True)
class _Look:
    """What is known of an image before it is brought into form."""

    grey: bool
    height: int  # upright
    width: int
    transparent: bool
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
    with _opened(image) as opened:
        width, height = opened.size
        if orientation_of(opened) in ROTATED:
            width, height = height, width
        grey, transparent = opened.mode in _GREY, opened.has_transparency_data
        if not opened.mode.startswith(_DEEP):
            return _Look(grey, height, width, transparent)
        values = np.asarray(opened)
        low, high = float(values.min()), float(values.max())
        deep = _Deep(image.name, low, high, whole=opened.mode != "F")
        return _Look(grey, height, width, transparent, deep)


@dataclass(frozen=True)
class _Depth:
    """How values of more than 8 bits become 8 bits: one rule for all images of a data set."""

    shift: int = 0  # of whole numbers, to the right
    scale: float = 1.0  # of floats


def _depth(images: Sequence[_Deep], source: str) -> tuple[_Depth, list[str]]:
    """The rule that keeps what the data set's deep images hold, and what is said of it.

    Raises:
        DataError: values below 0, no numbers, or floats that are neither in [0, 1] nor [0, 255].
    """
    shift, scale, remarks = 0, 1.0, []
    for deep in images:
        if not (deep.low >= 0 and deep.high < math.inf):  # "not", because NaN compares as False
            raise DataError(
                f"{deep.name} in {source!r} holds values from {deep.low:g} to {deep.high:g}, but 0 "
                "is the least; shift and scale all images to [0, 255]"
            )
    most = int(max((deep.high for deep in images if deep.whole), default=0))
    if most > 255:
        bits = most.bit_length()
        shift = bits - 8
        remarks.append(f"values up to {most:,} ({bits} bits), of which the upper 8 bits are kept")
    floats = [deep for deep in images if not deep.whole]
    if floats:
        brightest = max(floats, key=lambda deep: deep.high)
        if brightest.high > 255:
            raise DataError(
                f"{brightest.name} in {source!r} holds floats up to {brightest.high:g}, but they "
                "must lie in [0, 1] or in [0, 255]; scale all images"
            )
        top = 1 if brightest.high <= 1 else 255
        scale = 255 / top
        remarks.append(f"floats in [0, {top}]")
    return _Depth(shift, scale), remarks


@dataclass(frozen=True)
class _Common:
    """What inspecting all images has told."""

    form: Form
    depth: _Depth
    sizes: str
    remarks: tuple[str, ...]


def _in_common(chunks: Iterable[list[Encoded]], image_size: int | None, source: str) -> _Common:
    """The form to bring images into: colour if any image is; `image_size` squared if given.

    Otherwise their own size if it is the same for all and no side is over 64; else 64 squared if
    the smaller side of most images is at least that, or 32 squared.

    Raises:
        DataError: an image cannot be read.
    """
    broken = _Broken()
    looks: list[_Look] = []

    def look(image: Encoded) -> _Look | None:
        try:
            return _inspected(image)
        except Exception as error:  # noqa: BLE001  whatever it is, it needs the image's name
            broken.add(image, error)
            return None

    with _pillow(), ThreadPoolExecutor(cores()) as threads:
        for chunk in chunks:
            looks += [seen for seen in threads.map(look, chunk) if seen is not None]
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
    return _Common(form, depth, _sizes_in_words(sizes), tuple(remarks))


def _sizes_in_words(sizes: Sequence[tuple[int, int]]) -> str:
    """Of sizes (height, width): "24×24 to 640×480", the smallest and the largest area."""
    ends = [end(sizes, key=math.prod, default=(0, 0)) for end in (min, max)]
    return " to ".join(dict.fromkeys(f"{width}×{height}" for height, width in ends))


# --- decoding -------------------------------------------------------------------------------------


def _decode(image: Encoded, form: Form, depth: _Depth) -> NDArray[np.uint8]:
    """(H, W, C): upright, on white, cropped around the centre to the form's proportions, then
    scaled (bilinear, antialiased).
    """
    with _opened(image) as opened:
        # A JPEG can be decoded at a half, a quarter or an eighth of its size: a photograph ten
        # times as fast. Twice the needed size is kept, so that scaling down still averages.
        longest = 2 * max(form.height, form.width)
        opened.draft("L" if form.channels == 1 else "RGB", (longest, longest))
        opened.load()
        return _fitted(_converted(upright(opened), form.channels, depth), form)


def _converted(image: Image.Image, channels: int, depth: _Depth) -> Image.Image:
    """Grey or RGB, 8 bits per channel; what is transparent becomes white."""
    if image.mode.startswith("I"):  # Pillow would clip values above 255
        values = np.asarray(image).astype(np.uint32) >> depth.shift
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        scaled = np.rint(np.asarray(image) * depth.scale)
        image = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        drawn = image.convert("RGBA")
        ground = Image.new("RGBA", drawn.size, "white")
        image = Image.alpha_composite(ground, drawn).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    """(H, W, C), cropped around the centre and scaled where the size differs."""
    if image.size != (form.width, form.height):
        image = ImageOps.fit(image, (form.width, form.height), Image.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.asarray(image, np.uint8).reshape(
        form.height, form.width, form.channels
    )
    return pixels


def resized(images: NDArray[np.uint8], form: Form) -> NDArray[np.uint8]:
    """(B, H, W, C) images scaled to the form's size as encoded ones are; C stays as it is."""
    if images.shape[1:3] == (form.height, form.width):
        return images
    out = np.empty((len(images), form.height, form.width, form.channels), np.uint8)

    def resize(place: int) -> None:
        pixels = images[place, :, :, 0] if form.channels == 1 else images[place]
        out[place] = _fitted(Image.fromarray(np.ascontiguousarray(pixels)), form)

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
    remarks: Sequence[str] = (),
) -> Decoded:
    """Inspects all images for their common form, then decodes them into it, chunk by chunk.

    Args:
        parts: "train" and, if any, "valid" and "test".
        names: of the classes.
        image_size: side in pixels of the square to scale to; None to choose: the images' own size
            where all have it and no side is over 64, else 32 or 64.
        source: for messages.
        remarks: what else is to be said of the images.

    Raises:
        DataError: images cannot be read; also while the chunks are iterated.
    """
    common = _in_common(
        (chunk for files in parts.values() for chunk in files.encoded()), image_size, source
    )

    def chunks(files: Files) -> Iterator[NDArray[np.uint8]]:
        broken = _Broken()
        for chunk in files.encoded():
            yield _decoded(chunk, common, broken)
        broken.check()  # at the end, so that all are named

    made = {name: Part(files.labels, chunks(files)) for name, files in parts.items()}
    return Decoded(
        names,
        common.form,
        made["train"],
        made.get("valid"),
        made.get("test"),
        common.sizes,
        (*common.remarks, *remarks),
    )


def _decoded(images: Sequence[Encoded], common: _Common, broken: _Broken) -> NDArray[np.uint8]:
    """(B, H, W, C); what is broken is noted, and stays black."""
    form = common.form
    out = np.zeros((len(images), form.height, form.width, form.channels), np.uint8)

    def decode(place: int) -> None:
        try:
            out[place] = _decode(images[place], form, common.depth)
        except Exception as error:  # noqa: BLE001  whatever it is, it needs the image's name
            broken.add(images[place], error)

    with _pillow():
        _for_each(decode, len(images))
    return out
