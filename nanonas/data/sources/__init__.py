"""Where images come from: a table from the name of a source, or the kind of a path, to its reader.

A new source is one file here and one entry in `SOURCES`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanonas.data.sources.base import Decoded, Depth, Form, Labels, Part, Reader, Rows
from nanonas.data.sources.cifar import CIFAR
from nanonas.data.sources.folder import Folder
from nanonas.data.sources.hub import PREFIX, Hub
from nanonas.data.sources.npz import Npz
from nanonas.data.sources.parquet import Parquet, is_parquet_folder
from nanonas.data.sources.saved import Saved, is_saved_folder
from nanonas.data.sources.tables import asked
from nanonas.errors import DataError
from nanonas.files import in_full

__all__ = [
    "SOURCES",
    "Decoded",
    "Depth",
    "Form",
    "Labels",
    "Part",
    "Reader",
    "Rows",
    "Source",
    "find_reader",
]


@dataclass(frozen=True)
class Source:
    """A kind of source: how to recognise it, and its reader."""

    what: str  # described for users
    knows: Callable[[str], bool]  # whether a name or a path is one of this kind
    reader: Callable[[str], Reader]  # of that name or path
    built_in: bool = False  # known by its own name, not by a path


def _path(source: str) -> Path:
    return in_full(Path(source)).resolve()


def _place(source: str) -> Path:
    """The path of a source whose columns may be named behind it."""
    return _path(asked(source)[0])


def _is_parquet(source: str) -> bool:
    path = _place(source)
    if path.is_dir():
        return is_parquet_folder(path)
    return path.suffix.lower() == ".parquet" and path.is_file()


SOURCES: dict[str, Source] = {
    "digits": Source(
        "UCI handwritten digits: 1,797 grey images of 8x8, 10 classes; comes with nanonas",
        lambda source: source == "digits",
        lambda source: Npz(Path(__file__).parents[1] / "digits.npz"),
        built_in=True,
    ),
    "cifar10": Source(
        "CIFAR-10: 60,000 colour images of 32x32, 10 classes; 170 MB are downloaded once",
        lambda source: source == "cifar10",
        lambda source: CIFAR["cifar10"],
        built_in=True,
    ),
    "cifar100": Source(
        "CIFAR-100: 60,000 colour images of 32x32, 100 classes; 169 MB are downloaded once",
        lambda source: source == "cifar100",
        lambda source: CIFAR["cifar100"],
        built_in=True,
    ),
    "npz": Source(
        "a file NAME.npz with x_train, y_train and, if any, x_valid, y_valid, x_test, y_test",
        lambda source: source.lower().endswith(".npz") and _path(source).is_file(),
        lambda source: Npz(_path(source)),
    ),
    "hub": Source(
        "a data set of the Hugging Face hub: hf://USER/NAME, or hf://USER/NAME@REVISION:CONFIG",
        lambda source: source.startswith(PREFIX),
        lambda source: Hub.of(*asked(source)),
    ),
    "saved": Source(
        "a folder that save_to_disk of Hugging Face's datasets has written",
        lambda source: is_saved_folder(_place(source)),
        lambda source: Saved(_place(source), asked(source)[1]),
    ),
    "parquet": Source(
        "a file NAME.parquet, or a folder with train….parquet and, if any, validation… and "
        "test….parquet, or with these one folder deeper",
        _is_parquet,
        lambda source: Parquet(_place(source), asked(source)[1]),
    ),
    "folder": Source(
        "a folder of images, one folder for each class: ROOT/CLASS/* or "
        "ROOT/{train,val,test}/CLASS/*",
        lambda source: _path(source).is_dir(),
        lambda source: Folder(_path(source)),
    ),
}


def find_reader(source: str) -> tuple[str, Reader]:
    """The kind of a source, a key of `SOURCES`, and its reader.

    Raises:
        DataError: no name at all, an unknown one, a missing path, or one that no reader recognises.
        ConfigError: the path begins with a home folder that is not known.
    """
    if not source.strip():  # as a path it would be the working directory
        raise DataError(
            "the source of images is empty (--data); name a folder of images, an .npz, parquet or "
            "a built-in set such as digits"
        )
    for kind, candidate in SOURCES.items():
        if candidate.knows(source):
            return kind, candidate.reader(source)
    path = in_full(Path(source))
    named = [kind for kind, candidate in SOURCES.items() if candidate.built_in]
    choices = (
        f"{', '.join(named)}, a folder of images, an .npz file, a .parquet file or folder, or "
        f"{PREFIX}USER/NAME"
    )
    if path.exists():
        raise DataError(f"{source!r} is no data that can be read; expected {choices}")
    near = difflib.get_close_matches(source.lower(), named, 1, 0.5)
    if near:
        raise DataError(
            f"data {source!r} is unknown; perhaps you meant {near[0]!r}; expected {choices}"
        )
    if path.suffix or len(path.parts) > 1:
        raise DataError(
            f"{source!r} does not exist (looked in {str(Path.cwd())!r}); expected {choices}"
        )
    raise DataError(f"data {source!r} is neither a name nor a path that exists; expected {choices}")


def is_built_in(source: str) -> bool:
    """Whether a source is the name of a built-in data set, not a path."""
    return source in SOURCES and SOURCES[source].built_in


def is_path(source: str) -> bool:
    """Whether a source is a path, not the name of a data set."""
    return not (is_built_in(source) or source.startswith(PREFIX))


def absolute(source: str) -> str:
    """A source so that it is found from anywhere: a path as an absolute one.

    Raises `DataError` as `find_reader`.
    """
    if Path(source).is_absolute():  # it may be gone since its images were decoded
        return source
    find_reader(source)  # raises where there is none
    if not is_path(source):
        return source
    place, _ = asked(source)
    return f"{_path(place)}{source[len(place) :]}"


def path_of(source: str) -> Path | None:
    """Where a source lies; None for the name of a data set."""
    return _place(source) if is_path(source) else None


def title(source: str) -> str:
    """What a data set is called in a line, and by which folder of the cache it is known."""
    path = path_of(source)
    if path is not None:
        return path.stem
    return Hub.of(*asked(source)).title if source.startswith(PREFIX) else source


def shadowed(source: str) -> str | None:
    """What is to be said of a file or folder that cannot be named so, because a built-in data set
    has its name; None: there is none.
    """
    if not is_built_in(source) or not Path(source).exists():
        return None
    return (
        f"{source} is the built-in data set; for what lies in {str(Path.cwd() / source)!r}, write "
        f".{os.sep}{source}"
    )
