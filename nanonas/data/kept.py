"""The folder that decoded and downloaded images are kept in."""

from __future__ import annotations

import os
from pathlib import Path

from nanonas.errors import ConfigError
from nanonas.files import in_full


def cache_folder() -> Path:
    """Where data is kept: $NANONAS_CACHE, or the user's cache folder on this platform.

    Raises `ConfigError` where the user has no home folder.
    """
    if path := os.environ.get("NANONAS_CACHE"):
        return in_full(Path(path))
    import pooch

    try:
        return Path(pooch.os_cache("nanonas"))
    except RuntimeError:
        raise ConfigError(
            "there is no home folder to keep decoded images in; name a folder for them with "
            "NANONAS_CACHE, or set HOME"
        ) from None
