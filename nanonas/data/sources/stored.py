"""An array of an .npz, read piece by piece: it may be larger than the memory."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from nanonas.data.sources.base import CHUNK
from nanonas.errors import DataError

_BYTES = 64 * 2**20  # that are read at once, about


@dataclass(frozen=True)
class Stored:
    """An array in C order of plain numbers, which is not read yet."""

    path: Path  # of the archive
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    def chunks(self) -> Iterator[NDArray[Any]]:
        """`CHUNK` rows at most at a time, and few of large images.

        Raises `DataError` where the archive is damaged.
        """
        row = math.prod(self.shape[1:]) * self.dtype.itemsize  # bytes
        if row == 0:
            return
        step = max(1, min(CHUNK, _BYTES // row))
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self.member) as file:
                _header(cast(BinaryIO, file))
                for start in range(0, self.shape[0], step):
                    rows = min(step, self.shape[0] - start)
                    content = file.read(rows * row)
                    if len(content) < rows * row:
                        raise ValueError(f"{self.member} is shorter than it says")
                    yield np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:])
        except Exception as error:  # noqa: BLE001  zip, zlib and numpy each raise their own
            raise unreadable(self.path, error) from None


def stored(path: Path, member: str) -> Stored | None:
    """An array of an archive; None for one that can only be read as a whole.

    Raises what numpy and zipfile raise.
    """
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        header = _header(cast(BinaryIO, file))
    if header is None or header[1] or header[2].hasobject or not header[0]:
        return None
    return Stored(path, member, header[0], header[2])


def unreadable(path: Path, error: Exception) -> DataError:
    """What is said of an archive that cannot be read."""
    return DataError(
        f"{str(path)!r} cannot be read as .npz: {error!s:.300}; save it anew with numpy.savez"
    )


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]] | None:
    """Shape, whether in Fortran's order, and type; None for a version that has only structures."""
    version = npy.read_magic(file)
    if version == (1, 0):
        return npy.read_array_header_1_0(file)
    return npy.read_array_header_2_0(file) if version == (2, 0) else None
