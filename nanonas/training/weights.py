"""Trained weights in files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nanonas.errors import RunError
from nanonas.files import replacing, require_plain

_AGAIN = "train the network again"


def save_weights(module: nn.Module, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Writes a module's tensors as safetensors.

    Args:
        module: on any device.
        path: replaced if it exists, once the new file is whole.
        about: metadata to store with the tensors.

    Raises:
        RunError: the file cannot be written.
    """
    save_tensors(module.state_dict(), path, about)


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Writes tensors, on any device, by name; the rest is as of `save_weights`."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(whole, dict(about or {}))  # save_file raises its own errors for a full disk
    with replacing(path) as part:
        part.write_bytes(content)


def read_weights(path: Path, instead: str = _AGAIN) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, and the metadata, that `save_weights` wrote.

    Args:
        instead: what can be done where that fails, as the end of a sentence.

    Raises:
        RunError: the file is missing or damaged.
    """
    with _opened(path, instead) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def digest_of(tensors: Mapping[str, Tensor], about: str = "") -> str:
    """16 hexadecimal digits: equal for equal names, shapes, types and values, on whatever device.

    Args:
        about: what else is to be equal.
    """
    found = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        found.update(values.numpy().tobytes())
    return found.hexdigest()[:16]


def metadata(path: Path) -> dict[str, str]:
    """The metadata that `save_weights` stored, without the tensors. Raises as `read_weights`."""
    with _opened(path, _AGAIN) as file:
        return file.metadata() or {}


def load_weights(module: nn.Module, path: Path, instead: str = _AGAIN) -> None:
    """Loads what `save_weights` wrote into a module of the same network.

    Args:
        instead: as of `read_weights`.

    Raises:
        RunError: the file is missing, damaged, or of another network.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    with _opened(path, instead) as file:  # nothing is read before all of it fits
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    wrong = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if wrong:
        name = wrong[0]
        missing = "nothing"
        raise RunError(
            f"the weights {str(path)!r} are of another network: {name!r:.80} is "
            f"{found.get(name, missing)!s:.80}, but {expected.get(name, missing)} is expected; "
            f"{instead}"
        )
    tensors, _ = read_weights(path, instead)
    if odd := [name for name, tensor in tensors.items() if tensor.is_complex()]:
        raise RunError(
            f"the weights {str(path)!r} must be real numbers, but {odd[0]!r} is "
            f"{tensors[odd[0]].dtype}; {instead}"
        )
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"the weights {str(path)!r} are of another network: {reason}; {instead}"
        ) from None


@contextmanager
def _opened(path: Path, instead: str) -> Iterator[Any]:
    """A file of safetensors, which the library doesn't type. Raises `RunError`."""
    try:
        require_plain(path)
        with safe_open(path, framework="pt") as file:
            yield file
    except RunError:
        raise
    except Exception as error:  # noqa: BLE001  the library and torch each raise their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(
            f"the weights {str(path)!r} cannot be read: {reason:.200}; {instead}"
        ) from None
