"""One run's configuration: YAML, flags and the table from strings to classes.

A configuration has two halves. `search:` is the run's identity and is fixed once the run has begun;
`run:` may change on resume. Every value is a flag of its own name (`--population 30`), so no name
appears twice.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from loguru import logger
from pydantic import TypeAdapter, ValidationError

from nanonas.config.parts import (
    MULTI_OBJECTIVE,
    OBJECTIVES,
    PREDICTORS,
    SPACES,
    STRATEGIES,
    _screened,
)
from nanonas.config.schema import Config, RunConfig, SearchConfig
from nanonas.errors import ConfigError

# --- reading and writing --------------------------------------------------------------------------


@dataclass(frozen=True)
class Gone:
    """A key of the "search" half that earlier versions had."""

    default: object  # the value with which nothing is lost
    now: str  # what happens instead, as the end of a sentence


GONE = {
    "acquisition": Gone("ucb", "a screened search chooses by the confidence bound"),
    "warm_pool": Gone(
        0, "nothing is scored without training, and what was counts as a candidate without accuracy"
    ),
}
"""Keys that are read and ignored: a run that was begun with them opens, resumes and reports."""


def validated(values: dict[str, Any], where: str = "the configuration") -> Config:
    """A `Config` from plain values, as YAML or flags give them: numbers may be strings.

    Keys that are `GONE` are left out, with a logged note where their value was not the default.

    Raises:
        ConfigError: an unknown key (with the nearest right one), a wrong type, or a value out of
            range.
    """
    try:
        config: Config = TypeAdapter(Config).validate_python(_without_gone(values, where))
    except ValidationError as error:
        raise ConfigError(_sentence(error, where)) from None
    screenable = [
        name
        for name, make in STRATEGIES.items()
        if make is not _screened and name not in MULTI_OBJECTIVE
    ]
    for key, value, known in (
        ("space", config.search.space, list(SPACES)),
        ("strategy", config.search.strategy, list(STRATEGIES)),
        ("screens", config.search.screens, screenable),
        ("predictor", config.search.predictor, list(PREDICTORS)),
    ):
        if value not in known:
            what = "cannot be screened" if value in STRATEGIES else "is unknown"
            raise ConfigError(
                f"{where}: search.{key} is {value!r}, which {what} (--{key}){nearest(value, known)}"
            )
    if config.search.halving == 1:
        raise ConfigError(
            f"{where}: search.halving is 1, but one of 2 or more is promoted; 0 is for none "
            "(--halving)"
        )
    if config.search.inherit and config.search.strategy == "random":
        raise ConfigError(
            f"{where}: search.inherit is on (--inherit), but the strategy 'random' has no "
            "children that could inherit; "
            "take another --strategy"
        )
    if wrong := _wrong_objectives(config.search):
        raise ConfigError(f"{where}: {wrong}")
    return config


def _without_gone(values: dict[str, Any], where: str) -> dict[str, Any]:
    search = values.get("search")
    if not isinstance(search, dict):
        return values
    for name, gone in GONE.items():
        if name in search and str(search[name]) != str(gone.default):
            _note(
                f"{where} has search.{name} = {search[name]}, which this version of nanonas "
                f"ignores: {gone.now}"
            )
    kept = {name: value for name, value in search.items() if name not in GONE}
    return {**values, "search": kept}


@lru_cache(maxsize=1000)  # a run's configuration is read again and again while it is looked at
def _note(sentence: str) -> None:
    logger.warning("{}", sentence)


def _wrong_objectives(config: SearchConfig) -> str | None:
    """What is wrong with the objectives, as the end of a sentence."""
    given = config.objectives
    said = f"search.objectives is {', '.join(given)} (--objectives)"
    for name in given:
        if name not in OBJECTIVES:
            return f"search.objectives has {name!r}, which is unknown (--objectives){nearest(name, list(OBJECTIVES))}"
        if given.count(name) > 1:
            return f"search.objectives has {name!r} twice (--objectives); name it once"
    if given and "accuracy" not in given:
        return f"{said}, but accuracy must be among them"
    if len(given) > 1 and config.strategy not in MULTI_OBJECTIVE:
        return f"{said}, but the strategy {config.strategy!r} has one; for several take --strategy nsga2"
    if len(given) == 1 and config.strategy in MULTI_OBJECTIVE:
        return f"{said}, but the strategy {config.strategy!r} needs two or more; give for instance accuracy params"
    return None


def _sentence(error: ValidationError, where: str) -> str:
    """The first complaint of pydantic as one sentence."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = (
            {"search": SearchConfig, "run": RunConfig}.get(path[0], Config)
            if len(path) > 1
            else Config
        )
        names = [f.name for f in dataclasses.fields(known)]
        for half, cls in (("search", SearchConfig), ("run", RunConfig)):
            if len(path) == 1 and key in {f.name for f in dataclasses.fields(cls)}:
                return f"{where} has the key {key!r} at the top; it belongs under '{half}:'"
        return f"{where} has an unknown key {key!r}{nearest(path[-1], names)}"
    return f"{where}: {'.'.join(path[:2])} is {first['input']!r}, but {_expected(first['msg'])} (--{_flag(path)})"


def _expected(message: str) -> str:
    """pydantic's "Input should be …" as the end of a sentence."""
    said = (message[0].lower() + message[1:]).replace("input should", "must", 1)
    return said.replace("be a valid tuple", "be a list, such as [accuracy, params]")


def _flag(path: list[str]) -> str:
    return (path[1] if len(path) > 1 else path[0]).replace("_", "-")


def nearest(word: str, known: list[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def read_yaml(path: Path) -> Config:
    """The configuration in a YAML file; what it leaves out keeps its default.

    Raises:
        ConfigError: no such file, no YAML, or a key or value that is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {str(path)!r}; see configs/ for examples"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"the configuration file {str(path)!r} cannot be read: {error.strerror}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must hold 'search:' and 'run:' with keys below them, but holds {values!r:.80}"
        )
    return validated(
        {str(key): {} if value is None else value for key, value in values.items()}, str(path)
    )


def to_values(config: Config) -> dict[str, Any]:
    """The configuration as plain values, for YAML, JSON and the store."""
    values: dict[str, Any] = TypeAdapter(Config).dump_python(config, mode="json")
    return values


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `read_yaml` reads back."""
    return yaml.safe_dump(to_values(config), sort_keys=False)


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def seconds(text: str, flag: str = "--time") -> float:
    """A duration in seconds: "90", "90s", "30m", "2h", "1h30m".

    Raises:
        ConfigError: it is none, or it is 0.
    """
    match = _DURATION.fullmatch(text.strip().lower())
    total = (
        sum(
            float(part or 0) * unit
            for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)
        )
        if match
        else 0
    )
    if total <= 0:
        raise ConfigError(
            f"{flag} is {text!r}, but must be a duration above 0 such as 90s, 30m or 1h30m"
        )
    return total


# --- from strings to objects: the only place ------------------------------------------------------
