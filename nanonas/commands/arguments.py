"""Arguments of the command line, parsed and checked."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import tyro
from tyro.conf import OmitArgPrefixes
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from nanonas.config.amount import Amount
from nanonas.config.duration import Duration
from nanonas.config.files import checked, read_yaml
from nanonas.config.schema import Config, RunConfig, SearchConfig
from nanonas.errors import ConfigError

Flags = TypeVar("Flags")


@dataclass(frozen=True)
class Verb:
    """What a module of `nanonas.commands` offers as `VERB`; the module's name is the verb's."""

    flags: type  # a dataclass; the first line of its docstring is the verb's line in the help
    call: Callable[[Sequence[str]], None]  # with the arguments behind the verb


@dataclass(frozen=True)
class Configured:
    """The flags of a new search."""

    config: Path | None = None
    """A YAML file with any of the values below; flags win over it. See configs/."""
    search: OmitArgPrefixes[SearchConfig] = field(default_factory=SearchConfig)
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


def parse(
    flags: type[Flags], verb: str, arguments: Sequence[str], default: Flags | None = None
) -> Flags:
    """The verb's arguments. Prints help, and ends, where that is asked for.

    Raises:
        ConfigError: an unknown flag, or a value of another type.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _REGISTRY:
            parsed: Flags = tyro.cli(
                flags,
                prog=f"nanonas {verb}",
                description=flags.__doc__,
                args=list(arguments),
                default=cast(Flags, default),  # tyro takes None for none
            )
            return parsed
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ConfigError(_sentence(complaint.getvalue())) from None


def configured(flags: type[Configured], verb: str, arguments: Sequence[str]) -> Config:
    """The configuration of a new search, from --config and flags.

    Raises:
        ConfigError: a value that is wrong in the file or among the flags.
    """
    path = _config_file(arguments)
    defaults = Config() if path is None else read_yaml(path)
    given = parse(flags, verb, arguments, flags(path, defaults.search, defaults.run))
    return checked(Config(given.search, given.run), "the command line")


def at_least(least: int, **values: int) -> None:
    """Raises `ConfigError` for the first value below `least`, by the name of its flag."""
    for name, value in values.items():
        if value < least:
            raise ConfigError(f"--{name} must be {least} or more, but is {value}")


def _sentence(box: str) -> str:
    """What tyro says in a box, as one line."""
    lines = [line.strip("╭╮╰╯│─ ") for line in box.splitlines()[1:]]
    return " ".join(line for line in lines if line)


def _config_file(arguments: Sequence[str]) -> Path | None:
    """The value of --config, read before the rest: its values are the defaults of other flags."""
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            return Path(arguments[place + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    return None


_REGISTRY = ConstructorRegistry()


@_REGISTRY.primitive_rule
def _as_written(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Durations and amounts go through as they were written: `checked` reads them, and says what is
    wrong.
    """
    kind = info.type
    if kind not in (Duration, Amount):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )
