"""From one encoded image, of any size and format, to pixels of a form: one rule for all images of a
data set, and for those that its networks see later.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nanonas.data.sources.base import Depth, Form
from nanonas.data.sources.orientation import upright
from nanonas.errors import DataError, reason_for
from nanonas.files import require_plain

_PIXELS = "NANONAS_MAX_PIXELS"
_BYTES = 2**30  # of a file: more than any image has that `_PIXELS` allows
# Formats that Pillow recognises and cannot draw, or not without another program: what is PostScript
# would be run by Ghostscript.
STUBS = frozenset(("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"))


@dataclass(frozen=True)
class Encoded:
    """A PNG, a JPEG, …: on disk or in memory."""

    name: str  # for messages
    content: Path | bytes


def opened_image(image: Encoded) -> Image.Image:
    """Its header is read; pixels follow when they are asked for."""
    if isinstance(image.content, bytes):
        return Image.open(io.BytesIO(image.content), formats=_formats())
    if (size := require_plain(image.content)) > _BYTES:
        raise ValueError(f"it has {size:,} bytes, but {_BYTES:,} are the most of an image")
    opened = Image.open(image.content, formats=_formats())
    if opened.format != "TIFF":
        return opened
    opened.close()  # Pillow 13 maps a plain TIFF into memory with its sides exchanged
    return Image.open(io.BytesIO(image.content.read_bytes()), formats=_formats())


def _formats() -> tuple[str, ...]:
    """Those of all images, as Pillow names them."""
    Image.init()  # the first time only
    return tuple(name for name in Image.ID if name not in STUBS)


def reason_unread(error: Exception) -> str:
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


@contextmanager
def pillow() -> Iterator[None]:
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


def decode(image: Encoded, form: Form, depth: Depth) -> NDArray[np.uint8]:
    """(H, W, C): upright, on white, cropped around the centre to the form's proportions, then
    scaled (bilinear, antialiased).
    """
    with opened_image(image) as opened:
        # A JPEG can be decoded at a half, a quarter or an eighth of its size: a photograph ten
        # times as fast. Twice the needed size is kept, so that scaling down still averages.
        longest = 2 * max(form.height, form.width)
        opened.draft("L" if form.channels == 1 else "RGB", (longest, longest))
        opened.load()
        return fitted(converted(upright(opened), form.channels, depth), form)


def converted(image: Image.Image, channels: int, depth: Depth) -> Image.Image:
    """Grey or RGB, 8 bits per channel; what is transparent becomes white.

    Raises:
        DataError: the image is deep, and `depth` knows nothing of such.
    """
    if image.mode.startswith("I"):  # Pillow would clip values above 255
        whole = np.asarray(image)
        if depth.integers_up_to is None and whole.max() > 255:
            raise DataError(
                f"an image holds values up to {whole.max()}, but those that its network was trained"
                " on have 8 bits; scale it to [0, 255]"
            )
        values = whole.clip(0).astype(np.uint32) >> depth.shift
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        if depth.floats_up_to is None:
            raise DataError(
                "an image holds floats, but those that its network was trained on have 8 bits; "
                "scale it to [0, 255] and save it as 8 bits"
            )
        scaled = np.rint(np.asarray(image) * depth.scale)
        image = Image.fromarray(scaled.clip(0, 255).astype(np.uint8))
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        drawn = image.convert("RGBA")
        ground = Image.new("RGBA", drawn.size, "white")
        image = Image.alpha_composite(ground, drawn).convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def fitted(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    """(H, W, C), cropped around the centre and scaled where the size differs."""
    if image.size != (form.width, form.height):
        image = ImageOps.fit(image, (form.width, form.height), Image.Resampling.BILINEAR)
    pixels: NDArray[np.uint8] = np.asarray(image, np.uint8).reshape(
        form.height, form.width, form.channels
    )
    return pixels
