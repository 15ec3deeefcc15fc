"""A bundle on the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanonas.deploy.bundle import CARD, FAILED, Bundle
from nanonas.errors import ConfigError, RunError, reason_for

PREFIX = "hf://"
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def upload(to: str, export: Callable[[Path], Bundle]) -> Bundle:
    """Exports into a temporary folder and uploads that, without files that failed; the model card
    becomes the repository's README.md.

    Args:
        to: hf://USER/NAME; a new repository is private.
        export: makes the bundle in a folder.

    Raises:
        ConfigError: no such name, huggingface_hub is not installed, or nobody is logged in.
        RunError: the hub refused it.
    """
    name = to.removeprefix(PREFIX)
    if not _NAME.fullmatch(name):
        raise ConfigError(f"--to must be a folder or hf://USER/NAME, but is {to!r}")
    hub = _hub()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "bundle"
        bundle = export(folder)
        (folder / CARD).replace(folder / "README.md")
        try:
            api = hub.HfApi()
            api.create_repo(name, private=True, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=str(folder), ignore_patterns=[f"*{FAILED}"])
        except Exception as error:  # noqa: BLE001  of the network, of HTTP, of the hub
            raise RunError(
                f"{to} was not uploaded: {reason_for(error)}; export to a folder, and upload that"
            ) from None
    return bundle


def _hub() -> Any:
    """The library, once it knows who uploads. Raises `ConfigError`."""
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            f"--to {PREFIX}… needs huggingface_hub: pip install huggingface_hub"
        ) from None
    if not huggingface_hub.get_token():
        raise ConfigError(f"--to {PREFIX}… needs somebody logged in: run `hf auth login`")
    return huggingface_hub
