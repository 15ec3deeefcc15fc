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
from nanonas.files import replacing, require_plain

MOST = 2**30  # bytes of all arrays together
_LISTED = 2**20  # bytes of an archive's list of what it holds: ten thousand arrays
_HEADER = 2**16  # bytes of an array's own description
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # as numpy does; others take memory to unpack


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
        require_arrays(path, most, "biufU")
        with zipfile.ZipFile(path) as archive:
            return {
                member.filename.removesuffix(".npy"): _array(archive.read(member))
                for member in archive.infolist()
            }
    except Exception as error:  # noqa: BLE001  zip, zlib, struct and numpy each raise their own
        raise DataError(
            f"{str(path)!r} cannot be read: {error!s:.300}; train the network again, or delete the "
            "file"
        ) from None


def require_arrays(path: Path, most: int, kinds: str = "biufUS") -> None:
    """Looks at what an archive says of its arrays, before any is read.

    Args:
        most: bytes that they may take together.
        kinds: of their values, as numpy has them.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no archive, or holds too much, or something else than such arrays. Of what
            is damaged `zipfile` and `numpy` raise other errors, too.
    """
    require_plain(path)
    with _Listing(path, "rb") as listing:
        members = zipfile.ZipFile(listing).infolist()
    size = sum(member.file_size for member in members)
    if size > most:
        raise ValueError(f"it holds {size:,} bytes, but {most:,} are the most")
    if len({member.filename for member in members}) < len(members):
        raise ValueError("it holds two arrays of one name")
    with zipfile.ZipFile(path) as archive:
        for member in members:
            if member.compress_type not in _PACKED:
                raise ValueError(f"{member.filename:.80} is packed in a way that numpy never uses")
            with archive.open(member) as file:
                _described(io.BytesIO(file.read(_HEADER)), member.file_size, kinds)


class _Listing(io.FileIO):
    """An archive's file while what it holds is listed: an entry of 46 bytes takes ten times as much
    of memory.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Raises ValueError where more is asked for than any list of arrays takes."""
        if size is not None and size > _LISTED:
            raise ValueError(f"its list of arrays has {size:,} bytes, but {_LISTED:,} are the most")
        return super().read(size) or b""


_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,  # a long one
}
_Described = tuple[tuple[int, ...], bool, "np.dtype[Any]", int]


def _described(file: io.BytesIO, size: int, kinds: str) -> _Described:
    """What an .npy file of `size` bytes says of its array: its shape, whether it is stored by
    columns, the type of its values, and where these begin. Raises ValueError for what is none.
    """
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"an array is in the format {version}, but (1, 0) is expected")
    shape, by_columns, dtype = _HEADERS[version](file)
    if dtype.hasobject or dtype.kind not in kinds or not dtype.itemsize:
        raise ValueError(f"an array holds {dtype!s:.80}, but numbers or texts are expected")
    number, rest = math.prod(shape), size - file.tell()
    if number * dtype.itemsize != rest or min(shape, default=0) < 0:
        raise ValueError(f"an array of {shape!s:.80} values of {dtype!s:.80} has {rest:,} bytes")
    return shape, by_columns, dtype, file.tell()


def _array(content: bytes) -> NDArray[Any]:
    """An array from the bytes of an .npy file. Raises ValueError for what is none."""
    shape, by_columns, dtype, start = _described(io.BytesIO(content), len(content), "biufU")
    number = math.prod(shape)
    if not number:  # frombuffer refuses it
        return np.zeros(shape, dtype)
    flat = np.frombuffer(content, dtype, number, start)
    return flat.reshape(shape, order="F" if by_columns else "C")
