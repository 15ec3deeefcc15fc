"""A configuration from YAML, from settings by name, and back.

A configuration has two halves. `search:` is the run's identity and is fixed once the run has begun;
`run:` may change on resume. Every value is a flag of its own name (`--population 30`), so no name
appears twice. Files and the store know only the halves; the groups below `SearchConfig` are the
code's.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from nanonas.config.parts import (
    OBJECTIVES,
    PREDICTORS,
    SPACES,
    STRATEGIES,
    make_objectives,
    make_screens,
)
from nanonas.config.schema import Config, RunConfig, SearchConfig, StrategyOptions
from nanonas.errors import ConfigError
from nanonas.files import contents, in_full

# The keys of each group of `SearchConfig`, and to which group a key of the search half belongs;
# None: to none.
_GROUPS = {
    group: tuple(option.name for option in fields(options))
    for group, options in vars(SearchConfig()).items()
    if is_dataclass(options)
}
_GROUP_OF: dict[str, str | None] = {key: group for group in _GROUPS for key in _GROUPS[group]}
_GROUP_OF |= {option.name: None for option in fields(SearchConfig) if option.name not in _GROUPS}
SEARCH_KEYS = tuple(_GROUP_OF)
RUN_KEYS = tuple(option.name for option in fields(RunConfig))


@dataclass(frozen=True)
class Gone:
    """A key of the search half that earlier versions had."""

    default: object  # the value with which nothing is lost
    now: str  # what happens instead, as the end of a sentence


# Keys that are read and ignored: a run that was begun with them opens, resumes and reports.
GONE = {
    "acquisition": Gone("ucb", "a screened search chooses by the confidence bound"),
    "warm_pool": Gone(
        0, "nothing is scored without training, and what was counts as a candidate without accuracy"
    ),
}

# Keys of the run half that have another name now: which, and what their value is called there.
RENAMED: dict[str, tuple[str, Callable[[Any], str]]] = {
    "keep_weights": ("keep", lambda number: f"top:{number}"),
}

# What was done before there were these keys, and the keys that a recipe had then. A configuration
# with all of the latter was whole when it was written, as that of every run is: what it lacks is
# what was done then, whatever the defaults are now.
RECIPE_BEFORE: dict[str, object] = {
    "optimizer": "sgd",
    "bias_lr": 1.0,
    "schedule": "cosine",
    "average": 0.0,
    "whiten": False,
    "dirac": False,
    "alternate_flip": False,
    "small_images": 0.0,
}
BEFORE: dict[str, object] = {**RECIPE_BEFORE, "fill": False}
_WHOLE = frozenset(
    ("batch_size", "lr", "warmup", "momentum", "weight_decay", "label_smoothing", "clip_norm")
)

# --- from plain values ----------------------------------------------------------------------------


def configure(**settings: Any) -> Config:
    """A configuration from settings by name: `configure(space="nano", channels=16, workers=2)`.

    Raises:
        ConfigError: as `validated`.
    """
    return validated(halves(settings))


def halves(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings by name, sorted into the two halves; unknown ones are left to the first."""
    run = {*RUN_KEYS, *RENAMED}
    return {
        "search": {key: value for key, value in settings.items() if key not in run},
        "run": {key: value for key, value in settings.items() if key in run},
    }


def validated(values: Mapping[str, Any], where: str = "the configuration") -> Config:
    """A configuration from plain values, as YAML gives them: numbers may be strings.

    Keys that are `GONE` are left out, with a logged note where their value was not the default;
    where a run of an earlier version had no such key yet, the value is that of `BEFORE`. Keys that
    are `RENAMED` are read by their new name.

    Args:
        values: "search" and "run", each with values by key.
        where: what a message names as the source.

    Raises:
        ConfigError: an unknown key (with the nearest right one), a wrong type, or a value out of
            range.
    """
    search, run = (_half(values, half, where) for half in ("search", "run"))
    search, run = _without_gone(search, where), renamed(run)
    if search.keys() >= _WHOLE:
        search = BEFORE | search
    for key in values:
        if key not in ("search", "run"):
            raise ConfigError(f"{where} has {_misplaced(str(key))}")
    for half, given, known in (("search", search, SEARCH_KEYS), ("run", run, RUN_KEYS)):
        for key in given:
            if key not in known:
                unknown = f"an unknown key {f'{half}.{key}'!r:.80}{nearest(str(key), known)}"
                raise ConfigError(f"{where} has {unknown}")
    grouped: dict[str, Any] = {group: {} for group in _GROUPS}
    for key, value in search.items():
        group = _GROUP_OF[key]
        (grouped if group is None else grouped[group])[key] = value
    return checked({"search": grouped, "run": run}, where)


def _half(values: Mapping[str, Any], half: str, where: str) -> Mapping[str, Any]:
    given = values.get(half, {})
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{where}: {half} is {given!r:.80}, but must hold keys and values, such as "
            f"{'population: 30' if half == 'search' else 'workers: 2'}"
        )
    return given


def _without_gone(search: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, gone in GONE.items():
        if key in search and str(search[key]) != str(gone.default):
            _note(
                f"{where} has search.{key} = {search[key]!s:.80}, which this version of nanonas "
                f"ignores: {gone.now}"
            )
    return {key: value for key, value in search.items() if key not in GONE}


def renamed(run: Mapping[str, Any]) -> dict[str, Any]:
    """The run half with the names of now; a value by its new name wins over one by its old."""
    named = {key: value for key, value in run.items() if key not in RENAMED}
    for key, (name, worded) in RENAMED.items():
        if key in run:
            named.setdefault(name, worded(run[key]))
    return named


@lru_cache(maxsize=1000)  # a run's configuration is read again and again while it is looked at
def _note(sentence: str) -> None:
    from loguru import logger  # here, for it takes long to import

    logger.warning("{}", sentence)


def _misplaced(key: str) -> str:
    for half, known in (("search", SEARCH_KEYS), ("run", RUN_KEYS)):
        if key in known:
            return f"the key {key!r:.80} at the top; it belongs under '{half}:'"
    return f"an unknown key {key!r:.80}{nearest(key, ('search', 'run'))}"


# --- what is right --------------------------------------------------------------------------------


@cache
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)  # which takes some milliseconds to make


def checked(
    config: Config | dict[str, Any], where: str = "the configuration", begun: bool = False
) -> Config:
    """The configuration with every value of its type and within its range; and with objectives,
    where several networks of a front are asked for and none are given.

    Args:
        config: as flags have filled it, or as nested plain values.
        where: what a message names as the source.
        begun: it is that of a run, whose objectives are what they are.

    Raises:
        ConfigError: the first value that is wrong, in one sentence.
    """
    try:
        made = _adapter().validate_python(config)
    except ValidationError as error:
        raise ConfigError(_sentence(error, where)) from None
    made = replace(made, run=replace(made.run, out=in_full(made.run.out)))
    strategy, fidelity = made.search.strategy, made.search.fidelity
    screenable = [name for name, entry in STRATEGIES.items() if not entry.screens]
    for key, value, known in (
        ("space", made.search.space.space, list(SPACES)),
        ("strategy", strategy.strategy, list(STRATEGIES)),
        ("screens", strategy.screens or screenable[0], screenable),
        ("predictor", strategy.predictor, list(PREDICTORS)),
    ):
        if value not in known:
            what = "cannot be screened" if value in STRATEGIES else "is unknown"
            raise ConfigError(
                f"{where}: search.{key} is {value!r:.80}, which {what} (--{key})"
                f"{nearest(value, known)}"
            )
    if fidelity.halving == 1:
        raise ConfigError(
            f"{where}: search.halving is 1, but one of 2 or more is promoted; 0 is for none "
            "(--halving)"
        )
    if fidelity.inherit and not STRATEGIES[strategy.strategy].breeds:
        raise ConfigError(
            f"{where}: search.inherit is on (--inherit), but the strategy {strategy.strategy!r} "
            "has no children that could inherit; take another --strategy"
        )
    training = made.search.training
    if training.epochs is not None and training.candidate_seconds is not None:
        raise ConfigError(
            f"{where}: search.epochs is {training.epochs} (--epochs) and search.candidate_seconds "
            f"is {training.candidate_seconds:g} (--candidate-seconds), but only one of them can "
            "bind a candidate's training; leave the other out"
        )
    made = made if begun else _with_objectives(made)
    if wrong := _wrong_objectives(made.search.strategy) or _wrong_front(made, begun):
        raise ConfigError(f"{where}: {wrong}")
    return made


def _with_objectives(config: Config) -> Config:
    """With the objectives that --front needs, where none are given: accuracy, and the first cost
    that has a limit, or else the parameters.
    """
    options, several = config.search.strategy, (config.run.front or 1) > 1
    screens = STRATEGIES[options.strategy].screens and options.screens is None
    if options.objectives or not several or not screens:
        return config
    given = {key for key, value in vars(config.search.limits).items() if value is not None}
    limited = (name for name, entry in OBJECTIVES.items() if entry.limit in given)
    cost = next(limited, "params")
    options = replace(options, objectives=("accuracy", cost))
    return replace(config, search=replace(config.search, strategy=options))


def _wrong_objectives(options: StrategyOptions) -> str | None:
    """What is wrong with the objectives, as the end of a sentence."""
    names = options.objectives
    for name in names:
        if name not in OBJECTIVES:
            known = nearest(name, OBJECTIVES)
            return f"search.objectives has {name!r:.80}, which is unknown (--objectives){known}"
        if names.count(name) > 1:
            return f"search.objectives has {name!r:.80} twice (--objectives); name it once"
    given = f"search.objectives is {', '.join(names):.200} (--objectives)"
    screens = make_screens(options)
    strategy = screens or options.strategy
    several = STRATEGIES[strategy].several
    if names and "accuracy" not in names:
        return f"{given}, but accuracy must be among them"
    if len(names) > 1 and not several:
        flag = "--strategy" if screens is None else "--screens"
        others = " or ".join(
            name
            for name, entry in STRATEGIES.items()
            if entry.several or (entry.screens and screens is None)
        )
        return f"{given}, but the strategy {strategy!r} has one; for several take {flag} {others}"
    if len(names) == 1 and several:
        return (
            f"{given}, but the strategy {strategy!r} needs two or more; give for instance accuracy "
            "params"
        )
    return None


def _wrong_front(config: Config, begun: bool) -> str | None:
    """What is wrong with the number of networks that are trained, as the end of a sentence."""
    run, strategy = config.run, config.search.strategy
    if run.front is None or run.front == 1:
        return None
    given = f"run.front is {run.front} (--front)"
    if len(make_objectives(strategy)) < 2 and begun:
        return f"{given}, but this run has one objective and so no front; begin another with it"
    if len(make_objectives(strategy)) < 2:
        takes = [name for name, entry in STRATEGIES.items() if entry.several or entry.screens]
        other = "" if strategy.strategy in takes else f" --strategy {takes[0]}"
        return (
            f"{given}, which needs two objectives or more; add{other} --objectives accuracy params"
        )
    if not run.trains_winner:
        return (
            f"{given}, but nothing is trained at the end (--final-epochs, --final-share); leave "
            "one of the two out"
        )
    return None


def _sentence(error: ValidationError, where: str) -> str:
    """The first complaint of pydantic as one sentence."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):  # one of our own sentences already
        return str(cause)
    half, *path = [str(part) for part in first["loc"]]
    key = path[1] if len(path) > 1 and path[0] in _GROUPS else path[0]
    expected = (first["msg"][0].lower() + first["msg"][1:]).replace("input should", "must", 1)
    expected = expected.replace("be a valid tuple", "be a list, such as [accuracy, params]")
    flag = key.replace("_", "-")
    return f"{where}: {half}.{key} is {first['input']!r:.200}, but {expected} (--{flag})"


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all of them."""
    names = list(known)
    # of a long one none is near, and to find that out takes long
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5) if len(word) < 100 else []
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


# --- files ----------------------------------------------------------------------------------------


_LONGEST = 100_000  # bytes of a configuration; one with every key has some thousand


class _Loader(yaml.SafeLoader):
    """YAML of plain values, in which nothing stands for a whole part of the file: ten lines of such
    names can stand for more than any memory holds.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As that of the base, but for an alias of a list or of keys."""
        if self.check_event(yaml.AliasEvent):
            alias = self.peek_event()  # type: ignore[no-untyped-call]
            if not isinstance(self.anchors.get(alias.anchor), yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, f"*{alias.anchor:.80} must be written out", alias.start_mark
                )
        return super().compose_node(parent, index)


def read_yaml(path: Path) -> Config:
    """The configuration in a YAML file; what it leaves out keeps its default.

    Raises:
        ConfigError: no such file, no YAML, or a key or value that is wrong.
    """
    try:
        # safe: the loader is a `SafeLoader`
        values = yaml.load(contents(path, _LONGEST).decode("utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file {str(path)!r}; see configs/ for examples"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"the configuration file {str(path)!r} cannot be read: {error.strerror}"
        ) from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid YAML: too many lists lie in each other") from None
    except Exception as error:  # noqa: BLE001  each kind of value raises its own
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path} must hold 'search:' and 'run:' with keys below them, but holds {values!r:.80}"
        )
    filled = {str(key): {} if value is None else value for key, value in values.items()}
    return validated(filled, str(path))


def to_values(config: Config) -> dict[str, Any]:
    """The configuration as plain values, for YAML, JSON and the store: halves without groups."""
    nested: dict[str, Any] = _adapter().dump_python(config, mode="json")
    search: dict[str, Any] = {}
    for key, value in nested["search"].items():
        search |= value if key in _GROUPS else {key: value}
    return {"search": search, "run": nested["run"]}


def to_yaml(config: Config) -> str:
    """The configuration as YAML that `read_yaml` reads back."""
    return yaml.safe_dump(to_values(config), sort_keys=False)
