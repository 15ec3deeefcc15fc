"""Arguments of the command line, parsed and checked."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from nanonas.config.files import read_yaml, to_values, validated
from nanonas.config.schema import Config
from nanonas.errors import ConfigError


def parse(cls: type[Any], verb: str, arguments: Sequence[str], default: Any = None) -> Any:
    """The verb's arguments. Prints help, and ends, where that is asked for; raises `ConfigError`
    for what is wrong.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                cls,
                prog=f"nanonas {verb}",
                description=cls.__doc__,
                args=list(arguments),
                default=default,
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(_sentence(complaint.getvalue())) from None


def configured(cls: type[Any], verb: str, arguments: Sequence[str]) -> Config:
    """The configuration of a new search, from --config and flags."""
    given = _config_file(arguments)
    defaults = Config() if given is None else read_yaml(given)
    parsed = parse(cls, verb, arguments, cls(given, defaults.search, defaults.run))
    return validated(to_values(Config(parsed.search, parsed.run)), "the command line")


def _sentence(box: str) -> str:
    """What tyro says in a box, as one line."""
    lines = [line.strip("╭╮╰╯│─ ") for line in box.splitlines()[1:]]
    return " ".join(line for line in lines if line)


def _config_file(arguments: Sequence[str]) -> Path | None:
    """The value of --config, read before the rest: its values are the defaults of all other flags."""
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            return Path(arguments[place + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    return None


def at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"--{name} must be {least} or more, but is {value}")
