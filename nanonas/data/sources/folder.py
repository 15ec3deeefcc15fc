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
    """``root/CLASS/*`` or ``root/{train,val,test}/CLASS/*``; deeper files belong to the class too.

    Hidden files, and files without the suffix of an image, are ignored.
    """

    root: Path

    def files(self) -> list[Path]:
        """All images, by part and class."""
        files: list[Path] = []
        for classes in self._tree().values():
            for paths in classes.values():
                files += paths
        return files

    def decode(self, image_size: int | None, cache: Path) -> Decoded:
        """Classes are numbered in the order of their names. Raises as `Reader.decode` does."""
        tree = self._tree()
        names = tuple(tree["train"])
        if len(names) < 2:
            raise DataError(
                f"{str(self.root)!r} must have 2 or more classes with images, but has "
                f"{', '.join(names) or 'none'}; make one folder for each class: "
                "ROOT/CLASS/*.png, or ROOT/train/CLASS/*.png"
            )
        parts: dict[str, Files] = {}
        for part, classes in tree.items():
            unknown = sorted(set(classes) - set(names))
            if unknown:
                raise DataError(
                    f"{str(self.root / part)!r} has a class {unknown[0]!r} that the training "
                    f"images lack; they have {', '.join(names)}"
                )
            labels: list[int] = []
            images: list[Path] = []
            for name, paths in classes.items():
                labels += [names.index(name)] * len(paths)
                images += paths
            parts[part] = Files(np.array(labels, np.int64), _chunked(images))
        return decode_all(parts, names, image_size, str(self.root))

    def _tree(self) -> dict[str, dict[str, list[Path]]]:
        """Paths by part and class, all sorted, without parts and classes that have no images; there
        always is a part "train".
        """
        top = _subfolders(self.root)
        by_part: dict[str, Path] = {}
        for part, names in PARTS.items():
            for folder in top:
                # A folder "train" without subfolders is a class: photographs of trains.
                if folder.name.lower() in names and _subfolders(folder):
                    by_part[part] = folder
                    break
        if "train" not in by_part:
            return {"train": _classes(top)}
        tree = {part: _classes(_subfolders(folder)) for part, folder in by_part.items()}
        return {part: classes for part, classes in tree.items() if classes or part == "train"}


def _subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _classes(folders: list[Path]) -> dict[str, list[Path]]:
    """The images of each folder, by its name; folders without images are left out."""
    images = {folder.name: _images_below(folder) for folder in folders}
    return {name: paths for name, paths in images.items() if paths}


def _images_below(folder: Path) -> list[Path]:
    """All visible images in a folder and below it, in a fixed order."""
    images: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(parent, name) for name in sorted(files) if not name.startswith(".")]
        images += [path for path in paths if path.suffix.lower() in SUFFIXES]
    return images


def _raise(error: OSError) -> None:
    """For os.walk, which would skip an unreadable folder: a class would silently be missing."""
    raise error


def _chunked(paths: list[Path]) -> Callable[[], Iterator[list[Encoded]]]:
    """A function that iterates over the paths, `CHUNK` at a time, from the start on each call."""

    def chunks() -> Iterator[list[Encoded]]:
        for start in range(0, len(paths), CHUNK):
            yield [Encoded(str(path), path) for path in paths[start : start + CHUNK]]

    return chunks
