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
    """Writes a module's tensors as safetensors, with words about them.

    Raises `RunError` when it cannot.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()
    }
    with replacing(path) as part:
        part.write_bytes(
            save(tensors, dict(about or {}))
        )  # save_file has errors of its own for a full disk


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, and the words about them, that `save_weights` wrote.

    Raises `RunError` when they cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, RuntimeError, SafetensorError) as error:
        said = str(error).splitlines()[0]
        raise RunError(
            f"the weights {str(path)!r} cannot be read: {said}; train the network again"
        ) from None


def load_weights(module: nn.Module, path: Path) -> None:
    """Reads what `save_weights` wrote into a module of the same network.

    Raises:
        RunError: no such file, a damaged one, or one of another network.
    """
    tensors, _ = read_weights(path)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        said = str(error).splitlines()[0]
        raise RunError(
            f"the weights {str(path)!r} are of another network: {said}; train the network again"
        ) from None
