"""Parquet as Hugging Face writes it. The only reader that needs pyarrow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanonas.data.sources.base import CHUNK, PARTS, Decoded, Labels, numbered
from nanonas.data.sources.decoding import Files, decode_all
from nanonas.data.sources.pixels import Encoded
from nanonas.errors import DataError


@dataclass(frozen=True)
class Parquet:
    """A file, or a folder of files (or with a folder ``data`` of files) named ``train…``,
    ``validation…`` and ``test…``.

    Images are in a column ``image`` or ``img``, as Hugging Face writes them (struct of bytes and
    path) or as plain bytes; labels, integers from 0, in ``label``, ``labels`` or ``fine_label``.
    Class names are read from the schema's metadata if it has them.
    """

    path: Path

    def files(self) -> list[Path]:
        """The files of all parts."""
        return [path for paths in self._by_part().values() for path in paths]

    def decode(self, image_size: int | None, cache: Path, skip_broken: bool = False) -> Decoded:
        """Streams the files, which are never whole in memory. Raises as `Reader.decode` does."""
        by_part = self._by_part()
        image, label = self._columns(by_part["train"][0])
        parts = {
            name: self._part(paths, image, label, skip_broken) for name, paths in by_part.items()
        }
        names = self._class_names(by_part["train"][0], label) or numbered(parts["train"].labels)
        return decode_all(parts, names, image_size, str(self.path), (), skip_broken)

    def _by_part(self) -> dict[str, list[Path]]:
        """The files of each part, sorted. Raises `DataError` where none is for training."""
        if self.path.is_file():
            return {"train": [self.path]}
        files = parquet_files(self.path)
        by_part: dict[str, list[Path]] = {}
        for part, words in PARTS.items():
            pattern = re.compile(rf"({'|'.join(words)})([-_.].*)?\.parquet")
            if paths := [path for path in files if pattern.fullmatch(path.name.lower())]:
                by_part[part] = paths
        if "train" not in by_part:
            raise DataError(
                f"{str(self.path)!r} needs a file named train….parquet, but has "
                f"{', '.join(path.name for path in files)}; rename it, or name one file as the data"
            )
        return by_part

    def _open(self, path: Path) -> Any:
        """A pyarrow.parquet.ParquetFile, which pyarrow doesn't type. Raises `DataError`."""
        try:
            import pyarrow.parquet
        except ImportError:
            raise DataError(
                f"reading {str(path)!r} needs pyarrow: pip install 'nanonas[parquet]'"
            ) from None
        try:
            return pyarrow.parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{str(path)!r} cannot be read as parquet: {error}; get it anew"
            ) from None

    def _columns(self, path: Path) -> tuple[str, str]:
        """The names of the columns of images and of labels."""
        with self._open(path) as file:
            columns = file.schema_arrow.names
        image = next((name for name in ("image", "img") if name in columns), None)
        label = next((name for name in ("label", "labels", "fine_label") if name in columns), None)
        if image is None or label is None:
            raise DataError(
                f"{str(path)!r} must have a column image or img and a column label, labels or "
                f"fine_label, but has {', '.join(columns)}"
            )
        return image, label

    def _part(self, paths: list[Path], image: str, label: str, skip_broken: bool) -> Files:
        """All labels of the files, and their images one chunk at a time."""
        labels: list[Labels] = []
        for path in paths:
            with self._open(path) as file:
                if label not in file.schema_arrow.names or image not in file.schema_arrow.names:
                    raise DataError(
                        f"{str(path)!r} must have the columns {image} and {label}, as the other "
                        "files have"
                    )
                column = file.read([label]).column(label)
            values = column.to_numpy()
            if values.dtype.kind not in "ui":  # a null turns the whole column into floats
                raise DataError(
                    f"{label} in {str(path)!r} must hold a whole number in each row, but is "
                    f"{column.type}"
                )
            labels.append(values.astype(np.int64))
        return Files(np.concatenate(labels), lambda: self._encoded(paths, image, skip_broken))

    def _encoded(
        self, paths: list[Path], column: str, skip_broken: bool = False
    ) -> Iterator[list[Encoded]]:
        """The images of the files, `CHUNK` at most at a time.

        Raises `DataError` for a row without one, which with `skip_broken` is an empty one.
        """
        for path in paths:
            row = 0
            with self._open(path) as file:
                for batch in file.iter_batches(CHUNK, columns=[column]):
                    chunk: list[Encoded] = []
                    for value in batch.column(0).to_pylist():
                        content = value.get("bytes") if isinstance(value, dict) else value
                        if skip_broken and not isinstance(content, bytes):
                            content = b""
                        if not isinstance(content, bytes):
                            raise DataError(
                                f"row {row} of {column} in {str(path)!r} holds no image's bytes, "
                                f"but {content!r:.40}; embed the images when writing the file"
                            )
                        chunk.append(Encoded(f"row {row} of {path}", content))
                        row += 1
                    yield chunk

    def _class_names(self, path: Path, label: str) -> tuple[str, ...] | None:
        """From Hugging Face's metadata; None without it."""
        with self._open(path) as file:
            metadata = file.schema_arrow.metadata or {}
        try:
            names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
        except (KeyError, TypeError, ValueError):
            return None
        return tuple(str(name) for name in names)


def parquet_files(folder: Path) -> list[Path]:
    """The parquet files in a folder, or else in its folder ``data``; sorted."""
    return sorted(folder.glob("*.parquet")) or sorted(folder.glob("data/*.parquet"))
