"""The checkpoint of a training, in its folder: a file of safetensors, whose metadata holds what is
no tensor, as JSON. None of it is a pickle, so a stranger's runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from loguru import logger
from torch import Tensor

from nanonas.errors import RunError, reason_for
from nanonas.files import earlier, earlier_in, parsed_json
from nanonas.training.weights import read_weights, save_tensors
from nanonas.typed import Check, finite, fitting, mapping, maybe, text, whole

CHECKPOINT = "checkpoint.safetensors"
EARLIER = "checkpoint.pt"  # of earlier versions: a pickle, which is not read any more
_REST = "rest"  # of the metadata: what is no tensor
_TENSOR, _PAIRS = "<tensor>", "<pairs>"  # of an object that stands for something else


def save_checkpoint(folder: Path, checkpoint: Mapping[str, Any]) -> None:
    """Replaces a folder's checkpoint; at no moment there is none. Raises `RunError`.

    Args:
        checkpoint: numbers, texts and tensors, in lists and mappings.
    """
    tensors: dict[str, Tensor] = {}
    rest = json.dumps(_taken_apart(checkpoint, tensors))
    save_tensors(tensors, folder / CHECKPOINT, {_REST: rest})


def read_checkpoint(
    folder: Path, identity: Mapping[str, Any], device: torch.device
) -> dict[str, Any] | None:
    """A folder's checkpoint, if it is that of this training; else None.

    Args:
        identity: what a checkpoint must have in common with the training to be continued.
        device: for its tensors.
    """
    try:
        tensors, about = read_weights(folder / CHECKPOINT)
        made = _put_together(parsed_json(about.get(_REST, "")), tensors, device)
        checkpoint = fitting(made, "a checkpoint", _CHECKS | _SINCE, _CHECKS)
    except (RunError, ValueError, LookupError, TypeError):
        return None  # missing or damaged; a damaged one is moved aside, not lost
    return checkpoint if checkpoint["identity"] == _plain(identity) else None


@contextmanager
def fitting_checkpoint(folder: Path) -> Iterator[None]:
    """Around restoring what `read_checkpoint` has read. Raises `RunError` where its tensors are not
    those of the training, because it was changed by hand.
    """
    try:
        yield
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(
            f"{str(folder / CHECKPOINT)!r} cannot be continued ({reason_for(error):.200}): delete "
            "it, and the training begins again"
        ) from None


def _one_or_more(value: Any, what: str) -> int:
    return whole(value, what, 1)


_TRAINING: dict[str, Check] = {
    "epoch": whole,
    "epochs": finite,
    "module": mapping,
    "optimizer": mapping,
}
_CHECKS: dict[str, Check] = {
    "identity": mapping,
    "training": lambda value, what: fitting(value, what, _TRAINING, _TRAINING),
    "spent": finite,
    "threads": _one_or_more,
    "processes": _one_or_more,
    "asked": maybe(whole),
}
_SINCE: dict[str, Check] = {  # what a checkpoint of an earlier version lacks
    "device": maybe(text),
    "hardware": maybe(text),
    "latency_ms": maybe(finite),
}


def _plain(values: object) -> object:
    """As JSON has it, where a tuple is a list."""
    return json.loads(json.dumps(values))


def _taken_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What JSON can say of a value; its tensors are put into `tensors`, by number."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.clone() if any(value is one for one in tensors.values()) else value
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        pairs = [(key, _taken_apart(one, tensors)) for key, one in value.items()]
        if all(isinstance(key, str) for key in value) and not {_TENSOR, _PAIRS} & value.keys():
            return dict(pairs)
        return {_PAIRS: pairs}  # numbers as keys, as those of an optimizer's state
    if isinstance(value, (list, tuple)):
        return [_taken_apart(one, tensors) for one in value]
    return value


def _put_together(value: Any, tensors: Mapping[str, Tensor], device: torch.device) -> Any:
    """What `_taken_apart` took apart; tuples have become lists.

    Raises ValueError, LookupError or TypeError for anything else.
    """
    if isinstance(value, list):
        return [_put_together(one, tensors, device) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR}:
        return tensors[value[_TENSOR]].to(device)
    pairs = value[_PAIRS] if value.keys() == {_PAIRS} else value.items()
    return {key: _put_together(one, tensors, device) for key, one in pairs}


def make_room(folder: Path, names: Sequence[str]) -> None:
    """Creates a folder, and moves the files of an earlier training into a folder in it.

    Args:
        names: of the files that a training writes.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        left = [folder / name for name in names if (folder / name).exists()]
        if left:
            aside = earlier(folder, len(earlier_in(folder)) + 1)
            aside.mkdir()
            for path in left:
                path.rename(aside / path.name)
            logger.info("the training that was in {} before is kept in {}", folder, aside)
    except OSError as error:
        raise RunError(
            f"the folder {str(folder)!r} cannot be used: {error.strerror}; choose another one, or "
            "free space and permissions"
        ) from None
