"""Small archives of plain arrays, .npz, as a run's folder keeps them.

What is read may come from strangers: nothing is unpickled, and nothing is allocated that the file
does not hold.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.errors import DataError
from nanonas.files import replacing

MOST = 2**30  # bytes of all arrays together


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Writes arrays into an archive, whole or not at all. Raises `RunError` as `replacing` does."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path, most: int = MOST) -> dict[str, NDArray[Any]]:
    """The arrays of an archive by name, read-only.

    Args:
        most: bytes that they may take together.

    Raises:
        DataError: there is no such file, it is damaged, too large, or holds anything but numbers
            and texts.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > most:
                raise ValueError(f"it holds {size:,} bytes, but {most:,} are the most")
            return {
                member.filename.removesuffix(".npy"): _array(archive.read(member))
                for member in archive.infolist()
            }
    except Exception as error:  # noqa: BLE001  zip, zlib, struct and numpy each raise their own
        raise DataError(
            f"{str(path)!r} cannot be read: {error}; train the network again, or delete the file"
        ) from None


def _array(content: bytes) -> NDArray[Any]:
    """An array from the bytes of an .npy file. Raises ValueError for what is none."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"an array is in the format {version}, but (1, 0) is expected")
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in "biufU" or not dtype.itemsize:
        raise ValueError(f"an array holds {dtype}, but numbers or texts are expected")
    number, rest = math.prod(shape), len(content) - file.tell()
    if number * dtype.itemsize != rest:
        raise ValueError(f"an array of {shape} values of {dtype} has {rest:,} bytes")
    if not number:  # frombuffer refuses it
        return np.zeros(shape, dtype)
    flat = np.frombuffer(content, dtype, number, file.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")
