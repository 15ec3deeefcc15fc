"""Addresses of agents that measure, as people write them."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from nanonas.errors import ConfigError

_EXPECTED = "an address such as http://127.0.0.1:8765"


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
