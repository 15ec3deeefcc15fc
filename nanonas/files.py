"""Paths as users write them, and files that are written whole or not at all, also where the power
fails: into a part file beside them, which is on the disk before it is renamed into place.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nanonas.errors import ConfigError, Unwritten


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


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is not there, or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8. Raises `Unwritten` as `replacing` does."""
    with replacing(path) as part:
        # a path that is not UTF-8 holds what a file in UTF-8 cannot
        part.write_text(text, encoding="utf-8", errors="replace")
