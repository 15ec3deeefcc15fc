"""Where a cluster is, as people write it."""

from __future__ import annotations

import re

from nanonas.errors import ConfigError

_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])"
_FORMS = re.compile(rf"auto|local(?::[1-9]\d{{0,3}})?|(?:ray://)?{_HOST}:(?P<port>\d{{1,5}})")


def cluster_address(given: object) -> str | None:
    """The address of a cluster: "auto", "local", "local:N", "HOST:PORT" or "ray://HOST:PORT"; None
    for "none", which takes it back.

    Raises:
        ConfigError: it is none of these.
    """
    text = str(given).strip()
    if given is None or text.lower() == "none":
        return None
    match = _FORMS.fullmatch(text)
    if match is None or not 0 < int(match["port"] or 1) < 65_536:
        raise ConfigError(
            f"--cluster is {text!r:.80}, but must be auto, local, local:N (so many cores), "
            "HOST:PORT, ray://HOST:PORT, or none"
        )
    return text
