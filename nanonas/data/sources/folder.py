"""A folder of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanonas.data.sources.base import CHUNK, PARTS, Decoded
from nanonas.data.sources.decoding import Encoded, Files, decode_all
from nanonas.errors import DataError

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)


@dataclass(frozen=True)
class Folder:
    """``root/CLASS/*`` or ``root/{train,val,test}/CLASS/*``. What is deeper in a class's folder
    belongs to it.

    Hidden files and files that are no images by their suffix are passed over.
    """

    root: Path

    def files(self) -> list[Path]:
        return [
            path
            for classes in self._tree().values()
            for paths in classes.values()
            for path in paths
        ]

    def decode(self, image_size: int | None, cache: Path) -> Decoded:
        tree = self._tree()
        names = tuple(tree["train"])
        if len(names) < 2:
            raise DataError(
                f"{str(self.root)!r} must have 2 or more classes with images, but has "
                f"{', '.join(names) or 'none'}; "
                "make one folder for each class: ROOT/CLASS/*.png, or ROOT/train/CLASS/*.png"
            )
        parts: dict[str, Files] = {}
        for name, classes in tree.items():
            unknown = sorted(set(classes) - set(names))
            if unknown:
                raise DataError(
                    f"{str(self.root / name)!r} has a class {unknown[0]!r} that the training "
                    "images lack; "
                    f"they have {', '.join(names)}"
                )
            pairs = [
                (path, names.index(label)) for label, paths in classes.items() for path in paths
            ]
            parts[name] = Files(
                np.array([label for _, label in pairs], np.int64),
                _chunked([path for path, _ in pairs]),
            )
        return decode_all(parts, names, image_size, str(self.root))

    def _tree(self) -> dict[str, dict[str, list[Path]]]:
        """Paths by part and class, all sorted; parts and classes without images are left out, but
        for "train".
        """
        top = _subfolders(self.root)
        by_part = {
            part: next(
                (folder for folder in top if folder.name.lower() in names and _subfolders(folder)),
                None,
            )
            for part, names in PARTS.items()
        }  # a folder "train" of images alone is a class: the railway kind
        if by_part["train"] is None:
            return {"train": _classes(top)}
        found = {
            part: _classes(_subfolders(folder))
            for part, folder in by_part.items()
            if folder is not None
        }
        return {part: classes for part, classes in found.items() if classes or part == "train"}


def _subfolders(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _classes(folders: list[Path]) -> dict[str, list[Path]]:
    found = {folder.name: _images_below(folder) for folder in folders}
    return {name: paths for name, paths in found.items() if paths}


def _images_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        images = (
            name
            for name in sorted(files)
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        )
        found.extend(Path(parent, name) for name in images)
    return found


def _raise(error: OSError) -> None:
    """os.walk would pass over a folder that cannot be read, and a class would be missing without a
    word.
    """
    raise error


def _chunked(paths: list[Path]) -> Callable[[], Iterator[list[Encoded]]]:
    def chunks() -> Iterator[list[Encoded]]:
        for start in range(0, len(paths), CHUNK):
            yield [Encoded(str(path), path) for path in paths[start : start + CHUNK]]

    return chunks
