"""Trained weights in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nanonas.errors import RunError
from nanonas.files import replacing


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


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, and the metadata, that `save_weights` wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"the weights {str(path)!r} cannot be read: {reason}; train the network again"
        ) from None


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads what `save_weights` wrote into a module of the same network.

    Raises:
        RunError: the file is missing, damaged, or of another network.
    """
    tensors, _ = read_weights(path)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"the weights {str(path)!r} are of another network: {reason}; train the network again"
        ) from None
