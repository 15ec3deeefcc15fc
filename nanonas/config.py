"""One run's configuration: YAML, flags and the table from strings to classes.

A configuration has two halves. `search:` is the run's identity and is fixed once the run has begun; `run:` may change
on resume. Every value is a flag of its own name (`--population 30`), so no name appears twice.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import ConfigDict as Settings
from pydantic import Field, TypeAdapter, ValidationError

from nanonas.core import Budget, Genome, Objective, Predictor, SearchSpace, Shape, Strategy
from nanonas.errors import ConfigError

if TYPE_CHECKING:
    from nanonas.training.cost import Costs
    from nanonas.training.data import DataSpec, Images
    from nanonas.training.train import Recipe

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class SearchConfig:
    """What is searched, and how: the run's identity, fixed once it has begun."""

    __pydantic_config__ = Settings(extra="forbid", coerce_numbers_to_str=True)

    data: str = "cifar10"
    """digits, cifar10, cifar100, a folder of images (`root/class/*`, or `root/{train,val,test}/class/*`), an .npz, or
    parquet (a file or a folder)."""
    image_size: Annotated[int, Field(ge=8, le=224)] | None = None
    """Height and width that images are resized to; by default those that the source has."""
    train_images: Count | None = None
    """How many images, evenly over the classes, a candidate trains on in one epoch; by default all."""
    valid_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images that is set apart to judge candidates."""
    flip: bool | None = None
    """Mirror images left to right while training; by default where the source says that it makes sense."""
    crop: Annotated[int, Field(ge=0, le=32)] | None = None
    """Pixels of padding for random crops; by default an eighth of the smaller side."""
    cutout: Annotated[int, Field(ge=0, le=128)] = 0
    """Side, in pixels, of the square that is blanked in each training image; 0 = none."""

    space: str = "layers"
    """The search space: layers, nano or nasbench201; `nanonas spaces` describes them."""
    channels: Annotated[int, Field(ge=1, le=1024)] = 48
    """Channels of layer 1; layer 2 has twice as many (nano only)."""
    length: Annotated[int, Field(ge=2, le=64)] = 6
    """Number of operations (nano only)."""
    add_rate: Rate = 1.0
    """Relative rate of mutations that add a layer (layers only)."""
    remove_rate: Rate = 1.0
    """Relative rate of mutations that remove a layer (layers only)."""
    change_rate: Rate = 2.0
    """Relative rate of mutations that change a hyperparameter (layers only)."""
    skip_rate: Rate = 1.0
    """Relative rate of mutations that toggle a skip connection (layers only)."""
    max_params: Count | None = None
    """No network with more parameters is trained."""
    max_macs: Count | None = None
    """No network with more multiply-accumulates an image is trained."""
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """No network that takes longer for one image is trained; measured on the worker, in float32, on a CPU with one
    thread. A measurement comes from outside: it is stored and read back, but another run of this configuration
    measures anew and can come out otherwise."""
    max_memory_mb: Annotated[float, Field(gt=0)] | None = None
    """No network that needs more memory, in MiB, to answer for one image is trained: weights and feature maps in
    float32, counted; measured on CUDA."""

    strategy: str = "evolution"
    """What to try next: evolution (generational), aging (regularized evolution), local (local search), nsga2 (several
    objectives), screened (another one, with a predictor that chooses among its proposals) or random."""
    objectives: tuple[str, ...] = ()
    """What to get the best of: accuracy alone, or (nsga2 only) with some of params, macs, latency and memory; by
    default accuracy, and for nsga2 accuracy and params. Latency and memory are as for their limits."""
    population: Annotated[int, Field(ge=2, le=100_000)] = 30
    """Members of a generation."""
    parents_share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Best part of a generation that may become parents (evolution only)."""
    crossover_rate: Share = 0.5
    """Share of children with two parents (evolution and nsga2 only)."""
    screens: str = "aging"
    """The strategy whose proposals are screened: aging, evolution, local or random (screened only)."""
    predictor: str = "gaussian"
    """What guesses the accuracies of untrained networks: gaussian (process), ensemble (of trees, needs scikit-learn) or
    lstm (screened only)."""
    acquisition: Literal["ucb", "ei", "thompson"] = "ucb"
    """How promising a guess is: ucb (confidence bound), ei (expected improvement) or thompson (a draw) (screened
    only)."""
    warm_pool: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Random networks that are scored without training before the search; three quarters of the first generation (of
    screened: of the first five) are the best of them. 0 = none, it is random."""
    halving: Annotated[int, Field(ge=0, le=100)] = 0
    """Successive halving: all candidates train for little, the best one of so many goes on for more; 0 = all train for
    all epochs."""
    rungs: Annotated[int, Field(ge=2, le=20)] = 3
    """Budgets of successive halving, the last one of `epochs`."""
    rung_epochs: Count | None = None
    """Epochs on the lowest rung of successive halving; by default so that each rung is `halving` times as long as the
    one below."""
    rung_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training images that the lowest rung of successive halving trains on; it grows from rung to rung."""
    rung_image_size: Annotated[int, Field(ge=8)] | None = None
    """Height and width of images on the lowest rung of successive halving; by default as on the others."""
    inherit: bool = False
    """Children begin with their parents' weights, as far as they fit."""
    inherit_epochs: Count | None = None
    """Epochs of a child that inherits; by default half of the others', rounded up; successive halving has its own."""
    inherit_audit: Share = 0.1
    """Share of the children that inherit that are trained from scratch, too: it shows what inheriting does to the
    ranking."""
    finalists: Annotated[int, Field(ge=0, le=1000)] = 3
    """How many of the best are trained from scratch when a search with inheritance ends; the best of them is its
    result."""
    lag: Count | None = None
    """How many candidates may be in flight before a steady-state strategy waits; by default twice the workers at the
    first start. Part of the identity: the same lag gives the same run with any number of workers."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of everything random."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    """Passes over the training images for each candidate."""
    stop_epoch: Annotated[int, Field(ge=0)] = 3
    """After this epoch, candidates that are hardly better than chance are pruned; 0 = never."""
    stop_margin: Share = 0.05
    """What a candidate has to be better than chance by, in accuracy, not to be pruned."""
    batch_size: Annotated[int, Field(ge=2, le=65_536)] = 128
    """Images in one step."""
    lr: Annotated[float, Field(gt=0, le=100)] = 0.3
    """Learning rate at the top of its cycle."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the steps on which the learning rate rises."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Nesterov momentum."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 5e-4
    """Of weights; not of biases and batch norms."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the target that is spread over all classes."""
    clip_norm: Annotated[float, Field(ge=0)] = 2.0
    """The gradient's norm is cut to this; 0 = never."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of training: bfloat16 is mixed precision; auto takes it where the hardware is faster with it."""
    deterministic: bool = False
    """On CUDA, kernels that add in a fixed order, so that the same run has the same numbers; slower. CPUs always do."""


@dataclass(frozen=True)
class RunConfig:
    """Where the run happens and when it ends: may change on resume."""

    __pydantic_config__ = Settings(extra="forbid", coerce_numbers_to_str=True)

    time: str | None = None
    """Wall-clock time for all of it, final training included: 90s, 30m, 2h, 1h30m."""
    evaluations: Count | None = None
    """End the search after this many candidates; those of the warm pool, which are not trained, come on top."""
    generations: Count | None = None
    """End the search after this many generations; by default 100 where neither --time nor --evaluations ends it."""
    final_share: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Part of --time that is kept to train the winner; 0 = don't train it."""
    final_epochs: Annotated[int, Field(ge=0, le=100_000)] = 100
    """Epochs for the winner when there is no --time; 0 = don't train it."""
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Candidates trained at once; by default one a core, or one a GPU."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    hang_seconds: Annotated[float, Field(gt=0)] = 120.0
    """A candidate without a batch for so long counts as hung and is given up."""
    explain: bool = False
    """Tell each generation in plain words: what it was bred from, what came of it, what helped, and what to believe."""
    keep_weights: Annotated[int, Field(ge=1)] = 20
    """Of how many of the best candidates the trained weights stay on the disk; those of the front always do."""
    out: Path = Path("outputs")
    """The folder that runs are kept in."""
    name: str | None = None
    """The run's folder in it; by default the time of its start and the data's name."""
    requests_of: Path | None = None
    """Another run, whose bans and planted genomes are made again for the same numbers: so it is repeated exactly."""


@dataclass(frozen=True)
class Config:
    """Both halves."""

    __pydantic_config__ = Settings(extra="forbid", coerce_numbers_to_str=True)

    search: SearchConfig = field(default_factory=SearchConfig)
    run: RunConfig = field(default_factory=RunConfig)


# --- reading and writing ------------------------------------------------------------------------------------------


def validated(values: dict[str, Any], where: str = "the configuration") -> Config:
    """A `Config` from plain values, as YAML or flags give them: numbers may be strings.

    Raises:
        ConfigError: an unknown key (with the nearest right one), a wrong type, or a value out of range.
    """
    try:
        config: Config = TypeAdapter(Config).validate_python(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, where)) from None
    screenable = [name for name, make in STRATEGIES.items() if make is not _screened and name not in MULTI_OBJECTIVE]
    for key, value, known in (
        ("space", config.search.space, list(SPACES)),
        ("strategy", config.search.strategy, list(STRATEGIES)),
        ("screens", config.search.screens, screenable),
        ("predictor", config.search.predictor, list(PREDICTORS)),
    ):
        if value not in known:
            what = "cannot be screened" if value in STRATEGIES else "is unknown"
            raise ConfigError(f"{where}: search.{key} is {value!r}, which {what} (--{key}){nearest(value, known)}")
    if config.search.halving == 1:
        raise ConfigError(f"{where}: search.halving is 1, but one of 2 or more is promoted; 0 is for none (--halving)")
    if config.search.inherit and config.search.strategy == "random":
        raise ConfigError(
            f"{where}: search.inherit is on (--inherit), but the strategy 'random' has no children that could inherit; "
            "take another --strategy"
        )
    if wrong := _wrong_objectives(config.search):
        raise ConfigError(f"{where}: {wrong}")
    return config


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
        known = {"search": SearchConfig, "run": RunConfig}.get(path[0], Config) if len(path) > 1 else Config
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
        raise ConfigError(f"there is no configuration file {str(path)!r}; see configs/ for examples") from None
    except OSError as error:
        raise ConfigError(f"the configuration file {str(path)!r} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold 'search:' and 'run:' with keys below them, but holds {values!r:.80}")
    return validated({str(key): {} if value is None else value for key, value in values.items()}, str(path))


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
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if total <= 0:
        raise ConfigError(f"{flag} is {text!r}, but must be a duration above 0 such as 90s, 30m or 1h30m")
    return total


# --- from strings to objects: the only place --------------------------------------------------------------------------


def _layers(c: SearchConfig, shape: Shape, classes: int) -> SearchSpace:
    from nanonas.spaces.layers import LayersSpace

    return LayersSpace(shape, classes, rates=(c.add_rate, c.remove_rate, c.change_rate, c.skip_rate))


def _nano(c: SearchConfig, shape: Shape, classes: int) -> SearchSpace:
    from nanonas.spaces.nano import NanoSpace

    return NanoSpace(shape, classes, channels=c.channels, length=c.length)


def _nasbench201(c: SearchConfig, shape: Shape, classes: int) -> SearchSpace:
    from nanonas.spaces.nasbench201 import NASBench201Space

    return NASBench201Space(shape, classes)


def _random(c: SearchConfig, space: SearchSpace) -> Strategy:
    from nanonas.strategies.random import RandomSearch

    return RandomSearch(space, c.population)


def _evolution(c: SearchConfig, space: SearchSpace) -> Strategy:
    from nanonas.strategies.evolution import Evolution

    return Evolution(
        space, population_size=c.population, parents_share=c.parents_share, crossover_rate=c.crossover_rate
    )


def _aging(c: SearchConfig, space: SearchSpace) -> Strategy:
    from nanonas.strategies.aging import AgingEvolution

    return AgingEvolution(space, population_size=c.population, lag=c.lag or 1)


def _local(c: SearchConfig, space: SearchSpace) -> Strategy:
    from nanonas.strategies.local import LocalSearch

    return LocalSearch(space, population_size=c.population, lag=c.lag or 1)


def _nsga2(c: SearchConfig, space: SearchSpace) -> Strategy:
    from nanonas.strategies.nsga2 import NSGA2

    return NSGA2(
        space,
        make_objectives(c),
        population_size=c.population,
        crossover_rate=c.crossover_rate,
        lag=c.lag or 1,
    )


def _screened(c: SearchConfig, space: SearchSpace) -> Strategy:
    from nanonas.engine.study import Limits
    from nanonas.strategies.screened import Screened

    limits, entry = Limits(c.max_params, c.max_macs), PREDICTORS[c.predictor]
    predictor = entry.make(c, space)
    predictor()  # what it lacks is said before anything is trained
    return Screened(
        space,
        STRATEGIES[c.screens](c, space),
        predictor,
        reads=entry.reads,
        acquisition=c.acquisition,
        allowed=None if limits == Limits() else lambda genome: limits.excess(space.decode(genome)) <= 1,
    )


def _gaussian(c: SearchConfig, space: SearchSpace) -> Callable[[], Predictor]:
    from nanonas.predictors.gaussian import GaussianProcess

    rng = np.random.default_rng(0)
    reference = np.array([space.encode(space.sample(rng)) for _ in range(200)])
    return partial(GaussianProcess, space.groups, reference)


def _ensemble(c: SearchConfig, space: SearchSpace) -> Callable[[], Predictor]:
    from nanonas.predictors.ensemble import Ensemble

    return partial(Ensemble, seed=c.seed)


def _lstm(c: SearchConfig, space: SearchSpace) -> Callable[[], Predictor]:
    from nanonas.predictors.lstm import LSTM

    return partial(LSTM, seed=c.seed, warm=True)


@dataclass(frozen=True)
class SpaceEntry:
    """A space's line in the table."""

    make: Callable[[SearchConfig, Shape, int], SearchSpace]
    options: tuple[str, ...] = ()  # fields of `SearchConfig`, whole numbers, that decide how a genome reads


@dataclass(frozen=True)
class PredictorEntry:
    """A predictor's line in the table."""

    make: Callable[[SearchConfig, SearchSpace], Callable[[], Predictor]]  # what makes a new one
    reads: Literal["features", "tokens"] = "features"  # what it reads of a genome


SPACES: dict[str, SpaceEntry] = {
    "layers": SpaceEntry(_layers),
    "nano": SpaceEntry(_nano, ("channels", "length")),
    "nasbench201": SpaceEntry(_nasbench201),
}
STRATEGIES: dict[str, Callable[[SearchConfig, SearchSpace], Strategy]] = {
    "random": _random,
    "evolution": _evolution,
    "aging": _aging,
    "local": _local,
    "nsga2": _nsga2,
    "screened": _screened,
}
PREDICTORS: dict[str, PredictorEntry] = {
    "gaussian": PredictorEntry(_gaussian),
    "ensemble": PredictorEntry(_ensemble),
    "lstm": PredictorEntry(_lstm, reads="tokens"),
}
MULTI_OBJECTIVE = ("nsga2",)  # the strategies that take several objectives, and only several
OBJECTIVES: dict[str, Objective] = {
    "accuracy": Objective("accuracy"),
    "params": Objective("params", maximize=False),
    "macs": Objective("macs", maximize=False),
    "latency": Objective("latency", maximize=False),  # ms an image
    "memory": Objective("memory", maximize=False),  # MiB
}


def make_space(config: SearchConfig, input_shape: Shape, classes: int) -> SearchSpace:
    """The configured space for images of `input_shape` (C, H, W) in `classes` classes."""
    return SPACES[config.space].make(config, input_shape, classes)


def make_strategy(config: SearchConfig, space: SearchSpace, banned: Callable[[Genome], bool] | None = None) -> Strategy:
    """The configured strategy over `space`. `banned` is handed to a strategy that searches for the best of many."""
    strategy = STRATEGIES[config.strategy](config, space)
    if hasattr(strategy, "banned"):
        strategy.banned = banned
    first = 0
    if config.warm_pool > 0:
        from nanonas.strategies.warm import WarmStart

        first = getattr(strategy, "opening", config.population)  # of a screened search: what comes before the predictor
        strategy = WarmStart(strategy, space, pool=config.warm_pool, first=first)
    if config.inherit:
        from nanonas.strategies.inheriting import Inheriting

        strategy = Inheriting(strategy, make_heirs_budget(config, space.classes), config.inherit_audit)
    if config.halving:
        from nanonas.strategies.halving import Halving

        rungs = make_rungs(config, space)
        objectives, opening = make_objectives(config), config.warm_pool + first
        strategy = Halving(strategy, rungs, config.halving, objectives, config.lag or 1, opening)
    return strategy


def make_rungs(config: SearchConfig, space: SearchSpace) -> tuple[Budget, ...]:
    """The budgets of successive halving, the smallest first; without it the one that all have."""
    from nanonas.strategies.halving import ladder

    top = make_budget(config, space.classes)
    if not config.halving:
        return (top,)
    side = min(space.input_shape[1:])
    return ladder(
        top, config.halving, config.rungs, config.rung_share, config.rung_image_size, side, config.rung_epochs
    )


def make_heirs_budget(config: SearchConfig, classes: int) -> Budget:
    """What a candidate may train that begins with its parents' weights."""
    epochs = config.inherit_epochs or -(-config.epochs // 2)
    return make_budget(replace(config, epochs=epochs), classes)


def make_objectives(config: SearchConfig) -> tuple[Objective, ...]:
    """The configured objectives, or the strategy's own where none are."""
    default = ("accuracy", "params") if config.strategy in MULTI_OBJECTIVE else ("accuracy",)
    return tuple(OBJECTIVES[name] for name in config.objectives or default)


def make_costs(config: SearchConfig) -> Costs:
    """What workers measure of a candidate before they train it, and its limits."""
    from nanonas.training.cost import Costs

    names = {objective.name for objective in make_objectives(config)}
    return Costs("latency" in names, "memory" in names, config.max_latency_ms, config.max_memory_mb)


def make_budget(config: SearchConfig, classes: int) -> Budget:
    """What a candidate may train; the stop rule's threshold is chance plus the margin."""
    stops = 0 < config.stop_epoch < config.epochs
    return Budget(
        config.epochs,
        stop_epoch=config.stop_epoch if stops else 0,
        stop_below=1 / classes + config.stop_margin if stops else 0.0,
    )


def make_generations(config: RunConfig) -> int | None:
    """How many generations a search has at most: 100 where nothing else would end it; None: no limit."""
    unbounded = config.evaluations is None and config.time is None
    return 100 if config.generations is None and unbounded else config.generations


def load_images(config: SearchConfig) -> Images:
    """The configured images, from the cache or decoded into it. Raises `DataError`."""
    from nanonas.training.data import load

    return load(config.data, config.image_size)


def make_data(config: SearchConfig) -> DataSpec:
    """Which images the workers train on and judge by."""
    from nanonas.training.data import DataSpec

    return DataSpec(config.data, config.image_size, config.valid_share, config.train_images, config.seed)


def make_recipe(config: SearchConfig, images: Images, device: str) -> Recipe:
    """How networks are trained: the configuration, with what the images themselves suggest filled in."""
    from nanonas.training.augment import Augment
    from nanonas.training.device import resolve_precision
    from nanonas.training.train import Recipe

    _, height, width = images.input_shape
    crop = min(height, width) // 8 if config.crop is None else config.crop
    if crop >= min(height, width):
        raise ConfigError(f"--crop must be smaller than the images, {height}×{width} pixels, but is {crop}")
    augment = Augment(
        crop=crop,
        flip=images.flip if config.flip is None else config.flip,
        cutout=config.cutout,
        fill=tuple(round(255 * mean) for mean in images.mean),
    )
    return Recipe(
        config.batch_size,
        config.lr,
        config.warmup,
        config.momentum,
        config.weight_decay,
        config.label_smoothing,
        config.clip_norm,
        augment,
        resolve_precision(config.precision, device),
        config.deterministic,
    )
