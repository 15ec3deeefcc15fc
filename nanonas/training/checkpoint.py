"""The checkpoint of a training, in its folder."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from nanonas.errors import RunError
from nanonas.files import replacing

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, checkpoint: Mapping[str, Any]) -> None:
    """Replaces a folder's checkpoint; at no moment there is none. Raises `RunError`."""
    buffer = io.BytesIO()  # torch.save raises its own errors when the disk is full
    torch.save(checkpoint, buffer)
    with replacing(folder / CHECKPOINT) as part:
        part.write_bytes(buffer.getvalue())


def read_checkpoint(
    folder: Path, identity: Mapping[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """A folder's checkpoint, if it is that of this training; else None.

    Args:
        identity: what a checkpoint must have in common with the training to be continued.
        device: for its tensors.
    """
    try:
        checkpoint = torch.load(folder / CHECKPOINT, weights_only=True, map_location=device)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None  # missing or damaged; a damaged one is moved aside, not lost
    if isinstance(checkpoint, dict) and checkpoint.get("identity") == identity:
        return checkpoint
    return None


def make_room(folder: Path, names: Sequence[str]) -> None:
    """Creates a folder, and moves the files of an earlier training into a folder in it.

    Args:
        names: of the files that a training writes.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [folder / name for name in names if (folder / name).exists()]
        if earlier:
            number = 1
            while (aside := folder / f"earlier-{number}").exists():
                number += 1
            aside.mkdir()
            for path in earlier:
                path.rename(aside / path.name)
            logger.info("the training that was in {} before is kept in {}", folder, aside)
    except OSError as error:
        raise RunError(
            f"the folder {str(folder)!r} cannot be used: {error.strerror}; choose another one, or "
            "free space and permissions"
        ) from None
