"""How a camera was held: the one EXIF tag that changes an image.

Read here, not by Pillow, which stumbles over other tags of a block that say nothing of the pixels.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

ROTATED = (5, 6, 7, 8)  # that exchange width and height
_TAG = 0x0112
UPRIGHT = 1
# the codes of the types that an orientation can have
_TYPES = {1: "B", 3: "H", 4: "I"}
_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, of an image whose header is read; 1 where nothing is said, or
    nothing that can be understood.
    """
    if image.format == "TIFF":
        return UPRIGHT  # Pillow turns it, and has exchanged its sides already
    exif = image.info.get("exif")
    if isinstance(exif, bytes) and (found := _in_exif(exif.removeprefix(b"Exif\0\0"))):
        return found
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    said = _XMP.search(xmp.encode() if isinstance(xmp, str) else xmp)
    return int(said.group(1)) if said else UPRIGHT


def upright(image: Image.Image) -> Image.Image:
    """The image as it was seen. It has to be decoded: a PNG may say it behind its pixels."""
    turn = _TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def _in_exif(block: bytes) -> int | None:
    """The orientation in a TIFF header and what follows (EXIF 2.32, 4.6); None where there is no
    valid one.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return None
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return None
    (number,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, min(start + 2 + 12 * number, len(block) - 11), 12):
        tag, kind, count = struct.unpack_from(f"{order}HHI", block, place)
        if tag == _TAG and kind in _TYPES and count == 1:
            (value,) = struct.unpack_from(f"{order}{_TYPES[kind]}", block, place + 8)
            return value if 1 <= value <= 8 else None
    return None
