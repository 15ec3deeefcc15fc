"""Parquet as Hugging Face writes it. The only reader that needs pyarrow."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanonas.data.sources.base import CHUNK, PARTS, Decoded, Labels, numbered
from nanonas.data.sources.decoding import Files, decode_all
from nanonas.data.sources.folder import image_suffixes, part_of, subfolders
from nanonas.data.sources.groups import with_groups
from nanonas.data.sources.pixels import Encoded
from nanonas.errors import DataError
from nanonas.files import parsed_json, require_plain

_FEW = 1000  # entries of a folder that are looked at
_ROWS = 2**27  # of a file: its labels take 1 GiB
_GROUP = 2**32  # bytes of a row group, unpacked


@dataclass(frozen=True)
class Parquet:
    """A file, or a folder of files named ``train…``, ``validation…`` and ``test…``; they may also
    lie one folder deeper, all in one (``data/train-00000-of-00002.parquet``), or in a folder for
    each part (``train/0000.parquet``).

    Images are in a column ``image`` or ``img``, as Hugging Face writes them (struct of bytes and
    path) or as plain bytes; labels, integers from 0, in ``label``, ``labels`` or ``fine_label``.
    Class names are read from the schema's metadata if it has them.
    """

    path: Path

    def files(self) -> list[Path]:
        """The files of all parts."""
        return [path for paths in self._by_part().values() for path in paths]

    def decode(
        self,
        image_size: int | None,
        cache: Path,
        skip_broken: bool = False,
        groups: str | None = None,
    ) -> Decoded:
        """Streams the files, which are never whole in memory. Raises as `Reader.decode` does."""
        by_part = self._by_part()
        image, label = self._columns(by_part["train"][0])
        parts = {
            name: self._part(paths, image, label, skip_broken) for name, paths in by_part.items()
        }
        names = self._class_names(by_part["train"][0], label) or numbered(parts["train"].labels)
        decoded = decode_all(parts, names, image_size, str(self.path), (), skip_broken)
        return with_groups(decoded, groups)

    def _by_part(self) -> dict[str, list[Path]]:
        """The files of each part, sorted.

        Raises `DataError` where none is for training, or where they can be read in two ways.
        """
        if self.path.is_file():
            return {"train": [self.path]}
        places = _places(self.path)
        deeper = [place for place in places if place != self.path]
        if deeper and (images := _with_images(self.path)):
            raise DataError(
                f"{str(self.path)!r} can be read as parquet files in "
                f"{', '.join(place.name for place in deeper)}, or as a folder of images in "
                f"{', '.join(images)}; move the one or the other elsewhere"
            )
        if all(place != self.path and part_of(place.name) for place in places):
            return self._by_folder(places)
        if len(places) > 1:
            raise self._ambiguous(places)
        ((place, files),) = places.items()
        by_part: dict[str, list[Path]] = {}
        for path in files:
            if part := _part_of_file(path):
                by_part.setdefault(part, []).append(path)
        if "train" not in by_part:
            raise DataError(
                f"{str(place)!r} needs a file named train….parquet, but has "
                f"{', '.join(path.name for path in files)}; rename it, or name one file as the data"
            )
        return {part: by_part[part] for part in PARTS if part in by_part}

    def _by_folder(self, places: dict[Path, list[Path]]) -> dict[str, list[Path]]:
        """As `_by_part`, for files that lie in a folder for each part."""
        by_part: dict[str, list[Path]] = {}
        folders: dict[str, Path] = {}
        for place, files in places.items():
            _, part = part_of(place.name) or ("", "")
            if part in folders:
                raise self._ambiguous({folders[part]: [], place: []})
            for path in files:
                if _part_of_file(path) not in (None, part):
                    raise DataError(
                        f"{path.name} in {str(place)!r} can be read as {part} images, by its "
                        f"folder, or as {_part_of_file(path)} images, by its name; rename one"
                    )
            folders[part], by_part[part] = place, files
        if "train" not in by_part:
            raise DataError(
                f"{str(self.path)!r} has no parquet files to train on, but only the folder(s) "
                f"{', '.join(place.name for place in places)}; name one of their files as the data"
            )
        return {part: by_part[part] for part in PARTS if part in by_part}

    def _ambiguous(self, places: Iterable[Path]) -> DataError:
        """The refusal of files in several places, which may be one data set or several."""
        names = [
            "in the folder itself" if place == self.path else f"in {place.name}" for place in places
        ]
        return DataError(
            f"{str(self.path)!r} has parquet files {' and '.join(names)}; name one of them as the "
            "data, or put all files of a data set into one folder"
        )

    def _open(self, path: Path) -> Any:
        """A pyarrow.parquet.ParquetFile, which pyarrow doesn't type. Raises `DataError`."""
        try:
            import pyarrow.parquet
        except ImportError:
            raise DataError(
                f"reading {str(path)!r} needs pyarrow: pip install 'nanonas[parquet]'"
            ) from None
        with self._explained(path):
            require_plain(path)
            file = pyarrow.parquet.ParquetFile(path)
            require_sizes(file.metadata)
            return file

    @contextmanager
    def _explained(self, path: Path) -> Iterator[None]:
        """Whatever pyarrow raises while it reads a file, as a sentence. Raises `DataError`."""
        import pyarrow

        try:
            yield
        except DataError:
            raise
        except (OSError, ValueError, pyarrow.ArrowException) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{str(path)!r} cannot be read as parquet: {reason:.200}; get it anew"
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
                with self._explained(path):
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
                batches = file.iter_batches(CHUNK, columns=[column])
                while True:
                    with self._explained(path):
                        batch = next(batches, None)
                        values = None if batch is None else batch.column(0).to_pylist()
                    if values is None:
                        break
                    chunk: list[Encoded] = []
                    for value in values:
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
            said = parsed_json(metadata[b"huggingface"].decode("utf-8"))
            names = said["info"]["features"][label]["names"]
        except (KeyError, TypeError, ValueError):
            return None
        if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
            return None
        return tuple(str(name) for name in names)


def require_sizes(metadata: Any) -> None:
    """Looks at what a file says of its rows, before any is read.

    Args:
        metadata: of pyarrow, which doesn't type it.

    Raises:
        ValueError: they are more than any memory holds.
    """
    if metadata.num_rows > _ROWS:
        raise ValueError(f"it has {metadata.num_rows:,} rows, but {_ROWS:,} are the most")
    for place in range(metadata.num_row_groups):
        size = metadata.row_group(place).total_byte_size
        if not 0 <= size <= _GROUP:
            raise ValueError(
                f"its row group {place} has {size:,} bytes, but {_GROUP:,} are the most"
            )


def is_parquet_folder(folder: Path) -> bool:
    """Whether a folder is a data set of parquet files: in it, or one folder deeper."""
    return bool(_places(folder))


def _places(root: Path) -> dict[Path, list[Path]]:
    """The parquet files of a folder and of the folders in it, sorted, by where they lie.

    A folder for a part, or one of images, may hold parquet files beside them, such as features:
    these are none of a data set unless their names say so.
    """
    top = sorted(root.glob("*.parquet"))
    places = {root: top} if top else {}
    for folder in subfolders(root):
        paths = _entries(folder)
        files = sorted(path for path in paths if path.suffix == ".parquet")
        named = [path for path in files if _part_of_file(path)]
        if named or (files and not _is_image_folder(paths)):
            places[folder] = named or files
    return places


def _with_images(root: Path) -> list[str]:
    """The names of the folders in a folder that hold images, or folders of images."""

    def has_images(folder: Path) -> bool:
        return any(_is_image(path.name) for path in _entries(folder))

    folders = {folder.name: [folder, *subfolders(folder)] for folder in subfolders(root)}
    return [name for name, inside in folders.items() if any(map(has_images, inside))]


def _entries(folder: Path) -> list[Path]:
    """The first of what a folder holds: one of parquet files is never large, one of images is."""
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in itertools.islice(entries, _FEW)]


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in image_suffixes()


def _is_image_folder(paths: list[Path]) -> bool:
    """Whether these, what a folder holds, are images or folders of images."""
    return any(_is_image(path.name) for path in paths) or any(
        path.is_dir() and path.name[:1] != "." for path in paths
    )


def _part_of_file(path: Path) -> str | None:
    """The part that a file's name says: train-00000-of-00002.parquet; None: it says none."""
    for part, words in PARTS.items():
        if re.fullmatch(rf"({'|'.join(words)})([-_.].*)?\.parquet", path.name.lower()):
            return part
    return None
