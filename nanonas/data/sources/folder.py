"""A folder of images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache as cached
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from nanonas.data.sources.base import CHUNK, PARTS, Decoded
from nanonas.data.sources.decoding import Files, decode_all
from nanonas.data.sources.groups import with_groups
from nanonas.data.sources.pixels import STUBS, Encoded, opened_image
from nanonas.errors import DataError
from nanonas.text import number_of

# What people add to the name of a part: training_set, test-images, seg_train …
_FILLERS = ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "split", "seg")
_NO_CLASSES = ("__MACOSX", "__pycache__")  # that archives and Python leave


@dataclass(frozen=True)
class Folder:
    """``root/CLASS/*`` or ``root/{train,val,test}/CLASS/*``; deeper files belong to the class too.

    Hidden files are ignored. What Pillow can read is an image, whatever its suffix; what is passed
    over is counted and said.
    """

    root: Path

    def files(self) -> list[Path]:
        """All images, by part and class."""
        files: list[Path] = []
        for classes in self._tree.values():
            for content in classes.values():
                files += content.images
        return files

    def decode(
        self,
        image_size: int | None,
        cache: Path,
        skip_broken: bool = False,
        groups: str | None = None,
    ) -> Decoded:
        """Classes are numbered in the order of their names. Raises as `Reader.decode` does."""
        tree = self._tree
        for part, classes in tree.items():
            for name, content in classes.items():
                if not content.images and (part == "train" or content.passed):
                    raise DataError(
                        f"the class {name!r} in {str(self.root)!r} has no image that can be read"
                        f"{_in_words(content.passed, ': ')}; convert its files to PNG or JPEG, or "
                        "take the folder out"
                    )
        names = tuple(tree["train"])
        if len(names) < 2:
            raise DataError(
                f"{str(self.root)!r} must have 2 or more classes with images, but has "
                f"{', '.join(names) or 'none'}; make one folder for each class: "
                f"ROOT/CLASS/*.png, or ROOT/train/CLASS/*.png{self._deeper(names)}"
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
            for name, content in classes.items():
                labels += [names.index(name)] * len(content.images)
                images += content.images
            if images or part == "train":
                parts[part] = Files(np.array(labels, np.int64), _chunked(images))
        passed = Counter(path.suffix.lower() or path.name for path in _files(self.root))
        for classes in tree.values():
            for content in classes.values():
                passed += content.passed
        also = [_in_words(passed)] if passed else []
        decoded = decode_all(parts, names, image_size, str(self.root), also, skip_broken)
        return with_groups(decoded, groups)

    @cached_property
    def _tree(self) -> dict[str, dict[str, _Content]]:
        """What each class of each part holds, all sorted; there always is a part "train"."""
        by_part = _parts(self.root)
        if not by_part:
            return {"train": _classes(subfolders(self.root))}
        return {part: _classes(subfolders(folder)) for part, folder in by_part.items()}

    def _deeper(self, names: tuple[str, ...]) -> str:
        """The end of a sentence: where the classes may be, if they lie one folder deeper."""
        top = subfolders(self.root)
        if len(names) == 1 and len(top) == 1 and len(subfolders(top[0])) > 1:
            return f"; perhaps you meant {str(top[0])!r}"
        return ""


# --- parts ----------------------------------------------------------------------------------------


def _parts(root: Path) -> dict[str, Path]:
    """The folder of each part; empty where the folders are classes.

    Raises:
        DataError: they can be read as parts and as classes, or two are the same part.
    """
    top = subfolders(root)
    named = {folder: part_of(folder.name) for folder in top}
    like = {folder: part for folder, part in named.items() if part is not None}
    with_classes = [folder for folder in like if subfolders(folder)]
    if not with_classes:
        if len(like) == len(top) > 1 and len({prefix for prefix, _ in like.values()}) == 1:
            raise _ambiguous(
                root, like, "parts of a data set whose images are not sorted into classes"
            )
        return {}  # a folder "train" of images alone is a class: photographs of trains
    others = [folder for folder in top if folder not in like and _contents(folder).images]
    if others:
        raise _ambiguous(root, with_classes, "parts of a data set", others)
    by_part: dict[str, Path] = {}
    prefixes = set()
    for folder, (prefix, part) in like.items():
        prefixes.add(prefix)
        if part in by_part:
            raise DataError(
                f"{str(root)!r} has two folders of {part} images, {by_part[part].name!r} and "
                f"{folder.name!r}; keep one, or put their images together"
            )
        by_part[part] = folder
    if len(prefixes) > 1 or "train" not in by_part or len(with_classes) < len(like):
        raise _ambiguous(root, like, "parts of a data set")
    return {part: _unwrapped(by_part[part]) for part in PARTS if part in by_part}


def _ambiguous(
    root: Path, folders: Iterable[Path], as_parts: str, beside: Iterable[Path] = ()
) -> DataError:
    """The refusal of folders that can be read in two ways, with both."""
    names, others = (", ".join(path.name for path in paths) for paths in (folders, beside))
    apart = f" beside {others}" if others else ""
    return DataError(
        f"in {str(root)!r} the folder(s) {names}{apart} can be read as classes, or as {as_parts}; "
        "for classes, rename them so that no name is that of a part; for parts, make "
        "ROOT/train/CLASS/*, ROOT/val/CLASS/* and ROOT/test/CLASS/*, and nothing else beside them"
    )


def part_of(name: str) -> tuple[tuple[str, ...], str] | None:
    """What stands before and after the name of a part in a folder's name, and the part; None for a
    name without one: `training_set` is ((), "train"), `birds-test` is (("birds",), "test").
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    found = [(place, part) for place, word in enumerate(words) if (part := _part_word(word))]
    if len(found) != 1 or found[0][0] not in (0, len(words) - 1):
        return None
    place, part = found[0]
    rest = [word for word in words[:place] + words[place + 1 :] if word not in _FILLERS]
    return tuple(rest), part


def _part_word(word: str) -> str | None:
    bare = [word, word.removesuffix("s")]
    bare += [word.removesuffix(filler) for filler in _FILLERS]
    return next((part for part, known in PARTS.items() if any(b in known for b in bare)), None)


def _unwrapped(folder: Path) -> Path:
    """The folder, or the one in it that wraps everything once more: seg_train/seg_train/CLASS."""
    inside = subfolders(folder)
    return inside[0] if len(inside) == 1 and inside[0].name == folder.name else folder


# --- classes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Content:
    """What is in a class's folder, and below it."""

    images: list[Path] = field(default_factory=list)
    passed: Counter[str] = field(default_factory=Counter)  # suffixes of what is no image


def subfolders(folder: Path) -> list[Path]:
    """The visible folders in a folder, sorted."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name not in _NO_CLASSES
    )


def _files(folder: Path) -> list[Path]:
    """The visible files in a folder."""
    return [path for path in folder.iterdir() if path.is_file() and path.name[:1] != "."]


def _classes(folders: list[Path]) -> dict[str, _Content]:
    """What each folder holds, by its name."""
    return {folder.name: _contents(folder) for folder in folders}


def _contents(folder: Path) -> _Content:
    """All visible images in a folder and below it, also where links lead, in a fixed order."""
    content = _Content()
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.suffix.lower() in image_suffixes() or _is_image(path):
                content.images.append(path)
            else:
                content.passed[path.suffix.lower() or name] += 1
    return content


@cached
def image_suffixes() -> frozenset[str]:
    """Those of the formats that Pillow reads: such a file is an image, though a broken one."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in known if kind in Image.OPEN and kind not in STUBS)


def _is_image(path: Path) -> bool:
    """Whether Pillow knows a file by its first bytes."""
    try:
        with opened_image(Encoded(str(path), path)):
            return True
    except Exception:  # noqa: BLE001  each format raises its own
        return False


def _in_words(suffixes: Counter[str], before: str = "") -> str:
    """ "8 .heic, 2 .txt": the most frequent first; empty for none."""
    most = suffixes.most_common(5)
    words = [f"{number} {suffix}" for suffix, number in most]
    if rest := suffixes.total() - sum(number for _, number in most):
        words.append(number_of(rest, "other"))
    return before + ", ".join(words) if words else ""


def _raise(error: OSError) -> None:
    """For os.walk, which would skip an unreadable folder: a class would silently be missing."""
    raise error


def _chunked(paths: list[Path]) -> Callable[[], Iterator[list[Encoded]]]:
    """A function that iterates over the paths, `CHUNK` at a time, from the start on each call."""

    def chunks() -> Iterator[list[Encoded]]:
        for start in range(0, len(paths), CHUNK):
            yield [Encoded(str(path), path) for path in paths[start : start + CHUNK]]

    return chunks
