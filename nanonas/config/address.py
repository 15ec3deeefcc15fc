"""Addresses of agents that measure, and of clusters, as people write them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from nanonas.errors import ConfigError

_EXPECTED = "an address such as http://127.0.0.1:8765"
_HOST = r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])"
_FORMS = re.compile(rf"auto|local(?::[1-9]\d{{0,3}})?|(?:ray://)?{_HOST}:(?P<port>\d{{1,5}})")


def checked(url: str, flag: str) -> str:
    """The address of an agent, without a slash at its end.

    Raises:
        ConfigError: it is none, or holds a user or a password: configurations are stored.
    """
    if wrong := _wrong(url):
        raise ConfigError(f"{flag} is {url!r:.200}, but must be {wrong}")
    return url.rstrip("/")


def agent_address(url: str) -> str:
    """As `checked`, for pydantic."""
    if wrong := _wrong(url):
        raise PydanticCustomError("address", f"Input should be {wrong}")
    return url.rstrip("/")


def _wrong(url: str) -> str:
    """What it must be instead; empty where it is right."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        return _EXPECTED
    if not right or parts.path.strip("/") or parts.query or parts.fragment:
        return _EXPECTED
    if "@" in parts.netloc:
        return (
            f"{_EXPECTED}, without user and password, for it is stored; the token belongs into "
            "NANONAS_AGENT_TOKEN"
        )
    return ""


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
