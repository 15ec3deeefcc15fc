"""From encoded images of any size and format to arrays of one form."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np
from loguru import logger
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nanonas.data.sources.base import CHUNK, Decoded, Form, Labels, Part
from nanonas.errors import DataError
from nanonas.machine import cores

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_ORIENTATION = 0x0112  # EXIF's tag
_ROTATED = (5, 6, 7, 8)  # its values that exchange width and height


@dataclass(frozen=True)
class Encoded:
    """A PNG, a JPEG, …: on disk or in memory."""

    name: str  # for messages
    content: Path | bytes


def _opened(image: Encoded) -> Image.Image:
    if isinstance(image.content, Path):
        return Image.open(image.content)
    return Image.open(io.BytesIO(image.content))


def _broken(image: Encoded, error: Exception) -> DataError:
    """What to raise when Pillow raises `error`."""
    reason = "it is no image that Pillow knows" if "cannot identify" in str(error) else str(error)
    return DataError(f"{image.name} cannot be read: {reason}; repair it or delete it")


def _inspected(image: Encoded) -> tuple[bool, int, int]:
    """Whether an image is grey, its height and width; reads little more than its header."""
    try:
        with _opened(image) as opened:
            width, height = opened.size
            # Only JPEGs from cameras are rotated; reading the EXIF data of a PNG decodes it.
            if opened.format in ("JPEG", "MPO") and opened.getexif().get(_ORIENTATION) in _ROTATED:
                width, height = height, width
            return opened.mode in _GREY, height, width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken(image, error) from None


def chosen_form(chunks: Iterable[list[Encoded]], image_size: int | None, source: str) -> Form:
    """The form to bring images into: colour if any image is; `image_size` squared if given.

    Otherwise their own size if it is the same for all and no side is over 64; else 64 squared if
    the smaller side of most images is at least that, or 32 squared.

    Args:
        chunks: all images of the source.
        image_size: in pixels.
        source: for the log.

    Raises:
        DataError: an image cannot be read.
    """
    grey = True
    sizes: list[tuple[int, int]] = []
    with ThreadPoolExecutor(cores()) as threads:
        for chunk in chunks:
            for is_grey, height, width in threads.map(_inspected, chunk):
                grey = grey and is_grey
                sizes.append((height, width))
    channels = 1 if grey else 3
    if image_size is not None:
        return Form(channels, image_size, image_size)
    if len(set(sizes)) == 1 and max(sizes[0]) <= 64:
        return Form(channels, *sizes[0])
    sides = [min(size) for size in sizes]
    chosen = 64 if sides and median_low(sides) >= 64 else 32
    smallest, largest = min(sides, default=0), max((max(size) for size in sizes), default=0)
    logger.info(
        f"the images in {source} have sides from {smallest} to {largest} pixels and become "
        f"{chosen}x{chosen}; --image-size sets another size"
    )
    return Form(channels, chosen, chosen)


def decoded(images: Sequence[Encoded], form: Form) -> NDArray[np.uint8]:
    """The images as (B, H, W, C): cropped around the centre to the form's proportions, then scaled
    (bilinear, antialiased). Raises `DataError` for an image that cannot be read.
    """
    out = np.empty((len(images), form.height, form.width, form.channels), np.uint8)

    def decode(place: int) -> None:
        out[place] = _decode(images[place], form)

    _for_each(decode, len(images))
    return out


def _decode(image: Encoded, form: Form) -> NDArray[np.uint8]:
    try:
        with _opened(image) as opened:
            # A JPEG can be decoded at a half, a quarter or an eighth of its size: a photograph ten
            # times as fast. Twice the needed size is kept, so that scaling down still averages.
            longest = 2 * max(form.height, form.width)
            opened.draft("L" if form.channels == 1 else "RGB", (longest, longest))
            upright: Image.Image = opened
            if opened.format in ("JPEG", "MPO"):
                upright = ImageOps.exif_transpose(opened)
            return _fitted(_converted(upright, form.channels), form)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken(image, error) from None


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """Grey or RGB, 8 bits per channel; transparency is dropped."""
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip values above 255
        high_byte = np.asarray(image).astype(np.uint32) >> 8
        image = Image.fromarray(high_byte.clip(0, 255).astype(np.uint8))
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # otherwise Pillow warns
    mode = "L" if channels == 1 else "RGB"
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
    """(B, H, W, C) images scaled to the form's size as in `decoded`; C stays as it is."""
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
    parts: dict[str, Files], names: tuple[str, ...], image_size: int | None, source: str
) -> Decoded:
    """Inspects all images for their common form, then decodes them into it, chunk by chunk.

    Args:
        parts: "train" and, if any, "valid" and "test".
        names: of the classes.
        image_size: side in pixels of the square to scale to; None to choose, see `chosen_form`.
        source: for the log.

    Raises:
        DataError: an image cannot be read; also while the chunks are iterated.
    """
    all_chunks = (chunk for files in parts.values() for chunk in files.encoded())
    form = chosen_form(all_chunks, image_size, source)

    def part(files: Files) -> Part:
        return Part(files.labels, (decoded(chunk, form) for chunk in files.encoded()))

    made = {name: part(files) for name, files in parts.items()}
    return Decoded(names, form, made["train"], made.get("valid"), made.get("test"))
