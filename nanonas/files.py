"""Paths as users write them, and files that are written whole or not at all, also where the power
fails: into a part file beside them, which is on the disk before it is renamed into place.

What is read may come from a stranger: only plain files are, and none that is larger than what we
write.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nanonas.errors import ConfigError, RunError, Unwritten

MOST = 2**23  # bytes of a text file: the names of 100,000 classes take a quarter of that, twice
_DEEPEST = 64  # lists and objects in each other, in JSON: what goes through it calls itself


def in_full(path: Path) -> Path:
    """A path without a leading "~". Raises `ConfigError` where that stands for no folder."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ConfigError(
            f"the home folder in {str(path)!r} is not known; name the folder in full, or set HOME"
        ) from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a part file to write; at the end it becomes `path`, or vanishes if anything was raised.
    When this returns, the file is on the disk, under its name.

    Raises:
        Unwritten: no permission, no space left, no such folder.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    except OSError as error:
        raise Unwritten(
            f"{str(path)!r} cannot be written: {error.strerror or error}; free space or "
            "permissions, then go on"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path, name: str = "*", *, all_of_them: bool = False) -> None:
    """Removes part files that killed processes have left in a folder, which need not be there.

    Args:
        name: of the files that they were to become, as a pattern.
        all_of_them: also those of processes that go on: where only the caller may write.
    """
    for part in folder.glob(f".{name}.part"):
        process = re.fullmatch(r"\..+\.(\d+)\.part", part.name)
        if process and (all_of_them or not _runs(int(process[1]))):
            with suppress(OSError):  # gone meanwhile, or not ours
                part.unlink()


def _runs(process: int) -> bool:
    """Whether another process of this number goes on, on this machine."""
    if process == os.getpid():
        return False  # in a container one that was there before has had the same number
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # of folders some file systems keep no such promise
            raise
    finally:
        os.close(descriptor)


def require_plain(path: Path) -> int:
    """The bytes of a plain file; a pipe would be waited for, and a device never ends.

    Raises:
        OSError: it is not there.
        ValueError: it is something else, or its name can be none.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise ValueError(f"it is no file, but {what}")
    return status.st_size


def contents(path: Path, most: int = MOST) -> bytes:
    """What a plain file holds.

    Args:
        most: bytes that it may have.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no plain file, or too large.
    """
    if path.is_dir():
        path.read_bytes()  # raises what the system says of it
    require_plain(path)
    with path.open("rb") as file:
        content = file.read(most + 1)  # its size may be said to be another
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes, which are the most")
    return content


def digest(path: Path) -> str:
    """16 hexadecimal digits of the SHA-256 of what a plain file holds, however large it is.

    Raises:
        RunError: it cannot be read.
    """
    found = hashlib.sha256()
    try:
        require_plain(path)
        with path.open("rb") as file:
            while piece := file.read(2**20):
                found.update(piece)
    except (OSError, ValueError) as error:
        raise RunError(f"{str(path)!r} cannot be read: {error}; see its permissions") from None
    return found.hexdigest()[:16]


def json_in(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: it is not there, or cannot be read.
        ValueError: it is no JSON, is too large, or too many lists lie in each other.
    """
    return parsed_json(contents(path).decode("utf-8"))


def parsed_json(text: str) -> Any:
    """What JSON says. Raises `ValueError` for what is none, or where too many lists and objects lie
    in each other.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [values]
    for _ in range(_DEEPEST):
        lists = [one.values() if isinstance(one, dict) else one for one in level if _holds(one)]
        level = [inner for one in lists for inner in one if _holds(inner)]
        if not level:
            return values
    raise ValueError(_TOO_DEEP)


_TOO_DEEP = f"more than {_DEEPEST} lists and objects lie in each other"


def _holds(value: object) -> bool:
    return isinstance(value, (dict, list))


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is not there, damaged, or `json_in` refuses it."""
    try:
        return json_in(path)
    except (OSError, ValueError):
        return None


def within(folder: Path, name: str) -> Path:
    """A file in a folder, or below it, by a name that a stranger may have written.

    Raises:
        RunError: the name leads elsewhere.
    """
    path = Path(name)
    if path.anchor or path.drive or ".." in path.parts or not path.parts or "\0" in name:
        raise RunError(
            f"{name!r:.80} must be a file in {str(folder)!r}, which names it, but leads elsewhere; "
            "correct the name there"
        )
    return folder / path


def weights_in(folder: Path, number: int) -> Path:
    """The file, in a folder of weights, of those of a candidate."""
    return folder / f"{number}.safetensors"


def earlier(folder: Path, number: int) -> Path:
    """Where a training's folder keeps what the training of that number, from 1, left in it."""
    return folder / f"earlier-{number}"


def earlier_in(folder: Path) -> list[Path]:
    """Those that are there, the oldest first."""
    found: list[Path] = []
    while (place := earlier(folder, len(found) + 1)).exists():
        found.append(place)
    return found


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8. Raises `Unwritten` as `replacing` does."""
    with replacing(path) as part:
        # a path that is not UTF-8 holds what a file in UTF-8 cannot
        part.write_text(text, encoding="utf-8", errors="replace")
