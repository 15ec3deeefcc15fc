"""Parquet as Hugging Face writes it."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nanonas.data.sources.base import PARTS, Decoded
from nanonas.data.sources.folder import image_suffixes, part_of, subfolders
from nanonas.data.sources.tables import Columns, Tables
from nanonas.errors import DataError

_FEW = 1000  # entries of a folder that are looked at


@dataclass(frozen=True)
class Parquet:
    """A file, or a folder of files named ``train…``, ``validation…`` and ``test…``; they may also
    lie one folder deeper, all in one (``data/train-00000-of-00002.parquet``), or in a folder for
    each part (``train/0000.parquet``).

    Images are in the column of the type ``Image``, or in ``image`` or ``img``; labels in that of
    the type ``ClassLabel``, or in ``label``, ``labels`` or ``fine_label``. See `Tables`.
    """

    path: Path
    columns: Columns = field(default_factory=Columns)

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
        tables = Tables(self.path, self._by_part(), self.columns)
        return tables.decode(image_size, skip_broken, groups)

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
