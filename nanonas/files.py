"""Paths as users write them, and files that are written whole or not at all: into a part file
beside them, then renamed into place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanonas.errors import ConfigError, RunError


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

    Raises:
        RunError: no permission, no space left, no such folder.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise RunError(
            f"{str(path)!r} cannot be written: {error.strerror or error}; free space or "
            "permissions, then go on"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is not there, or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8. Raises `RunError` as `replacing` does."""
    with replacing(path) as part:
        # a path that is not UTF-8 holds what a file in UTF-8 cannot
        part.write_text(text, encoding="utf-8", errors="replace")
