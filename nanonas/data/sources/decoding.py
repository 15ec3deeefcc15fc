"""Encoded images, of any size and kind, into arrays of one form."""

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
_ROTATED = (5, 6, 7, 8)  # values of EXIF's orientation that exchange width and height
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Encoded:
    """A PNG, a JPEG, …: on the disk or in memory."""

    name: str  # what to call it when it is broken
    content: Path | bytes


def _opened(image: Encoded) -> Image.Image:
    return Image.open(
        image.content if isinstance(image.content, Path) else io.BytesIO(image.content)
    )


def _broken(image: Encoded, error: Exception) -> DataError:
    reason = "it is no image that Pillow knows" if "cannot identify" in str(error) else str(error)
    return DataError(f"{image.name} cannot be read: {reason}; repair it or delete it")


def _look(image: Encoded) -> tuple[bool, int, int]:
    """Whether an image is grey, its height and width; reads little more than its header."""
    try:
        with _opened(image) as opened:
            width, height = opened.size
            # Only JPEGs of cameras lie on their side; asking a PNG for its EXIF decodes it.
            if opened.format in ("JPEG", "MPO") and opened.getexif().get(_ORIENTATION) in _ROTATED:
                width, height = height, width
            return opened.mode in _GREY, height, width
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken(image, error) from None


def chosen_form(chunks: Iterable[list[Encoded]], image_size: int | None, source: str) -> Form:
    """The form to bring images into: colour if any is; `image_size` squared if given.

    Otherwise their own size if they all have the same one and no side is over 64; else 32 or 64
    squared, whichever
    fits: 64 if the smaller side of most images is at least that.
    """
    grey, sizes = True, []
    with ThreadPoolExecutor(cores()) as threads:
        for chunk in chunks:
            for is_grey, height, width in threads.map(_look, chunk):
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
        f"{chosen}x{chosen}; "
        "--image-size sets another size"
    )
    return Form(channels, chosen, chosen)


def decoded(images: Sequence[Encoded], form: Form) -> NDArray[np.uint8]:
    """(B, H, W, C): each image cut to the form's proportions around its middle, then scaled
    (bilinear, antialiased).
    """
    out = np.empty((len(images), form.height, form.width, form.channels), np.uint8)

    def decode(place: int) -> None:
        out[place] = _decode(images[place], form)

    _for_each(decode, len(images))
    return out


def _decode(image: Encoded, form: Form) -> NDArray[np.uint8]:
    try:
        with _opened(image) as opened:
            # A JPEG can be decoded at a half, a quarter or an eighth of its size: a camera's photo
            # ten times as fast. Twice what is needed is kept, so that scaling down still averages.
            longest = 2 * max(form.height, form.width)
            opened.draft("L" if form.channels == 1 else "RGB", (longest, longest))
            upright = (
                ImageOps.exif_transpose(opened) if opened.format in ("JPEG", "MPO") else opened
            )
            return _fitted(_converted(upright, form.channels), form)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _broken(image, error) from None


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """In 8 bits a channel, grey or RGB; transparency is dropped."""
    if image.mode.startswith("I"):  # 16 bits: Pillow would clip what is over 255
        image = Image.fromarray(
            (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        )
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # Pillow warns otherwise
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    if image.size != (form.width, form.height):
        image = ImageOps.fit(image, (form.width, form.height), Image.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.asarray(image, np.uint8).reshape(
        form.height, form.width, form.channels
    )
    return pixels


def resized(images: NDArray[np.uint8], form: Form) -> NDArray[np.uint8]:
    """(B, H, W, C) images in another size, as `decoded` would; the number of channels stays."""
    if images.shape[1:3] == (form.height, form.width):
        return images
    out = np.empty((len(images), form.height, form.width, form.channels), np.uint8)

    def resize(place: int) -> None:
        pixels = images[place, :, :, 0] if form.channels == 1 else images[place]
        out[place] = _fitted(Image.fromarray(np.ascontiguousarray(pixels)), form)

    _for_each(resize, len(images))
    return out


def _for_each(do: Callable[[int], None], number: int) -> None:
    """Calls `do` with 0 … `number` - 1 in threads: Pillow decodes and scales without the
    interpreter's lock.
    """
    workers = cores()

    def share(
        first: int,
    ) -> None:  # one task a thread, not an image: 4,096 small JPEGs in 0.42, not 0.53 s
        for place in range(first, number, workers):
            do(place)

    with ThreadPoolExecutor(workers) as threads:
        for _ in threads.map(share, range(workers)):
            pass


def array_part(x: NDArray[np.uint8], y: Labels, form: Form) -> Part:
    """A part made of (N, H, W, C) uint8 images that are in memory."""
    return Part(y, (resized(x[start : start + CHUNK], form) for start in range(0, len(x), CHUNK)))


def form_of(x: NDArray[np.uint8], image_size: int | None) -> Form:
    """`image_size` squared, or the size that (N, H, W, C) images have."""
    height, width, channels = x.shape[1:]
    return Form(channels, image_size or height, image_size or width)


@dataclass(frozen=True)
class Files:
    """Labels, and chunks of images that are encoded; `encoded` may be called more than once."""

    labels: Labels
    encoded: Callable[[], Iterator[list[Encoded]]]


def decode_all(
    parts: dict[str, Files], names: tuple[str, ...], image_size: int | None, source: str
) -> Decoded:
    """Looks at all images for their common form, then decodes them into it."""
    everything = (chunk for part in parts.values() for chunk in part.encoded())
    form = chosen_form(everything, image_size, source)

    def part(name: str) -> Part | None:
        if name not in parts:
            return None
        return Part(parts[name].labels, (decoded(chunk, form) for chunk in parts[name].encoded()))

    train = part("train")
    assert train is not None  # both readers see to it
    return Decoded(names, form, train, part("valid"), part("test"))
