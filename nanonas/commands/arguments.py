"""Arguments of the command line, parsed and checked; and the help that says what there is."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, cast, get_args, get_type_hints

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
    # with the arguments behind the verb; returns the exit code, None for 0
    call: Callable[[Sequence[str]], int | None]


@dataclass(frozen=True)
class Configured:
    """The flags of a new search."""

    matter: ClassVar = (
        "config",
        "data",
        "time",
        "max_params",
        "max_macs",
        "max_latency_ms",
        "max_memory_mb",
        "strategy",
        "objectives",
        "workers",
        "device",
        "seed",
        "out",
        "name",
    )

    config: Path | None = None
    """A YAML file with any of the values below; flags win over it. See configs/."""
    search: OmitArgPrefixes[SearchConfig] = field(default_factory=SearchConfig)
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


def parse(
    flags: type[Flags], verb: str, arguments: Sequence[str], default: Flags | None = None
) -> Flags:
    """The verb's arguments. Prints help, and ends, where that is asked for: with --help the flags
    that `matter`, where the class of the flags has such a list, else all; with --help-all all.

    Raises:
        ConfigError: an unknown flag, or a value of another type.
    """
    arguments = _with_values(arguments, _undecided(flags))
    if "--help-all" in arguments:
        arguments = ["--help"]
    elif hasattr(flags, "matter") and {"-h", "--help"}.intersection(arguments):
        _help(flags, verb, flags() if default is None else default)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint), _REGISTRY:
            parsed: Flags = tyro.cli(
                flags,
                prog=f"nanonas {verb}",
                description=inspect.cleandoc(flags.__doc__ or ""),
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


# --- help -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Flag:
    """A value of a flag."""

    name: str
    owner: str  # the group that it belongs to; "" for none
    kind: Any  # its type, with what it is annotated with
    words: str  # its help in short
    value: Any  # by default

    def argument(self) -> Any:
        """How it is shown. Where the default is none, the words say what that means."""
        if type(None) not in get_args(self.kind):
            return tyro.conf.arg(help=self.words)
        kind = next(one for one in get_args(self.kind) if one is not type(None))
        while get_args(kind):  # Annotated
            kind = get_args(kind)[0]
        named = "TEXT" if kind is str else kind.__name__.upper()
        default = "" if self.value is None else f"(default: {self.value})"
        return tyro.conf.arg(help=self.words, metavar=named, help_behavior_hint=default)


def _help(flags: type, verb: str, default: Any) -> None:
    """Prints the flags that `matter`, in that order, says where the others are, and ends."""
    known = {flag.name: flag for flag in _flags(default)}
    shown = [known[name] for name in flags.matter]  # type: ignore[attr-defined]
    short = make_dataclass(
        flags.__name__,
        [
            (one.name, Annotated[one.kind, one.argument()], field(default=one.value))
            for one in shown
        ],
    )
    owners = list(dict.fromkeys(flag.owner for flag in known.values() if flag.owner))
    of = f": {', '.join(owners)}" if len(owners) > 1 else " flags"
    last = f"--help-all shows all {len(known)}{of}."
    try:
        with _REGISTRY:
            tyro.cli(
                short,
                prog=f"nanonas {verb}",
                description=inspect.cleandoc(flags.__doc__ or ""),
                args=["--help"],
            )
    finally:
        print(textwrap.fill(last, 80))


def _flags(options: Any, owner: str = "") -> Iterator[_Flag]:
    """The flags of options and of the groups in them."""
    kinds, words = get_type_hints(type(options), include_extras=True), _words(type(options))
    for one in fields(options):
        value = getattr(options, one.name)
        if is_dataclass(value):
            yield from _flags(value, one.name)
        else:
            own = owner if not any(is_dataclass(each) for each in vars(options).values()) else ""
            yield _Flag(one.name, own, kinds[one.name], words.get(one.name, ""), value)


def _words(kind: type) -> dict[str, str]:
    """What stands below each field in the source of a dataclass and of what it extends, in short:
    the first clause, and what is done by default.
    """
    words: dict[str, str] = {}
    for one in reversed([one for one in kind.__mro__ if is_dataclass(one)]):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(one))).body
        except OSError:  # installed without its source
            continue
        assert isinstance(tree, ast.ClassDef)
        for target, said in pairwise(tree.body):
            if (
                isinstance(target, ast.AnnAssign)
                and isinstance(target.target, ast.Name)
                and isinstance(said, ast.Expr)
                and isinstance(said.value, ast.Constant)
            ):
                first, *more = " ".join(str(said.value.value).split()).split(". ")[0].split("; ")
                clauses = [first, *(one for one in more if one.startswith("by default"))]
                words[target.target.id] = "; ".join(clauses).removesuffix(".") + "."
    return words


# --- details --------------------------------------------------------------------------------------


def _undecided(options: type) -> frozenset[str]:
    """The flags, also of groups, that are on, off, or left to what is found."""
    names: set[str] = set()
    for name, kind in get_type_hints(options).items():
        if is_dataclass(kind):
            names |= _undecided(cast(type, kind))
        elif kind == (bool | None):
            names.add(name.replace("_", "-"))
    return frozenset(names)


def _with_values(arguments: Sequence[str], undecided: frozenset[str]) -> list[str]:
    """`--flip` as `--flip True` and `--no-flip` as `--flip False`, which is all that tyro knows of
    a flag that has three values.
    """
    written: list[str] = []
    for place, argument in enumerate(arguments):
        following = arguments[place + 1 : place + 2]
        name = argument.removeprefix("--").removeprefix("no-")
        if name not in undecided or argument == name or list(following) in _WRITTEN:
            written.append(argument)
        else:
            written += [f"--{name}", str(not argument.startswith("--no-"))]
    return written


# what Python says of a word that is no number, and what it should be
_NUMBERS = {
    "could not convert string to float": "a number",
    "invalid literal for int() with base 10": "a whole number",
}


def _sentence(box: str) -> str:
    """What tyro says in a box, as one line; of a word that is no number, in words of ours."""
    lines = [line.strip("╭╮╰╯│─ ") for line in box.splitlines()[1:]]
    said = " ".join(line for line in lines if line)
    flag = re.search(r"Error parsing (--[\w-]+)", said)
    for words, expected in _NUMBERS.items():
        _, found, given = said.partition(f"{words}: ")
        if flag is not None and found:
            return f"{flag[1]} must be {expected}, but is {_quoted(given)}"
    return said


def _quoted(words: str) -> str:
    """The Python literal of a text that words begin with."""
    literal = re.match(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", words)
    return words if literal is None else literal[0]


def _config_file(arguments: Sequence[str]) -> Path | None:
    """The value of --config, read before the rest: its values are the defaults of other flags."""
    for place, argument in enumerate(arguments):
        if argument == "--config" and place + 1 < len(arguments):
            return Path(arguments[place + 1])
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
    return None


_WRITTEN = (["True"], ["False"], ["None"])  # values of a flag that has three
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
