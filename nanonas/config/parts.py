"""From strings to classes: the only place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from nanonas.config.schema import SearchConfig
from nanonas.core import Budget, Genome, Objective, Predictor, Shape, Strategy
from nanonas.spaces.base import Space

if TYPE_CHECKING:
    from nanonas.data.images import DataSpec, Images


def _layers(c: SearchConfig, shape: Shape, classes: int) -> Space:
    from nanonas.spaces.layers.space import LayersSpace

    return LayersSpace(
        shape, classes, rates=(c.add_rate, c.remove_rate, c.change_rate, c.skip_rate)
    )


def _nano(c: SearchConfig, shape: Shape, classes: int) -> Space:
    from nanonas.spaces.nano import NanoSpace

    return NanoSpace(shape, classes, channels=c.channels, length=c.length)


def _nasbench201(c: SearchConfig, shape: Shape, classes: int) -> Space:
    from nanonas.spaces.nasbench201 import NASBench201Space

    return NASBench201Space(shape, classes)


def _random(c: SearchConfig, space: Space) -> Strategy:
    from nanonas.strategies.random import RandomSearch

    return RandomSearch(space, c.population)


def _evolution(c: SearchConfig, space: Space) -> Strategy:
    from nanonas.strategies.evolution import Evolution

    return Evolution(
        space,
        population_size=c.population,
        parents_share=c.parents_share,
        crossover_rate=c.crossover_rate,
    )


def _aging(c: SearchConfig, space: Space) -> Strategy:
    from nanonas.strategies.aging import AgingEvolution

    return AgingEvolution(space, population_size=c.population, lag=c.lag or 1)


def _local(c: SearchConfig, space: Space) -> Strategy:
    from nanonas.strategies.local import LocalSearch

    return LocalSearch(space, population_size=c.population, lag=c.lag or 1)


def _nsga2(c: SearchConfig, space: Space) -> Strategy:
    from nanonas.strategies.nsga2 import NSGA2

    return NSGA2(
        space,
        make_objectives(c),
        population_size=c.population,
        crossover_rate=c.crossover_rate,
        lag=c.lag or 1,
    )


def _screened(c: SearchConfig, space: Space) -> Strategy:
    from nanonas.engine.limits import Limits
    from nanonas.strategies.around.screened import Screened

    limits, entry = Limits(c.max_params, c.max_macs), PREDICTORS[c.predictor]
    predictor = entry.make(c, space)
    predictor()  # what it lacks is said before anything is trained
    return Screened(
        space,
        STRATEGIES[c.screens](c, space),
        predictor,
        reads=entry.reads,
        allowed=None
        if limits == Limits()
        else lambda genome: limits.excess(space.decode(genome)) <= 1,
    )


def _gaussian(c: SearchConfig, space: Space) -> Callable[[], Predictor]:
    from nanonas.predictors.gaussian import GaussianProcess

    rng = np.random.default_rng(0)
    reference = np.array([space.encode(space.sample(rng)) for _ in range(200)])
    return partial(GaussianProcess, space.groups, reference)


def _ensemble(c: SearchConfig, space: Space) -> Callable[[], Predictor]:
    from nanonas.predictors.ensemble import Ensemble

    return partial(Ensemble, seed=c.seed)


def _lstm(c: SearchConfig, space: Space) -> Callable[[], Predictor]:
    from nanonas.predictors.lstm import LSTM

    return partial(LSTM, seed=c.seed, warm=True)


@dataclass(frozen=True)
class SpaceEntry:
    """A space's line in the table."""

    make: Callable[[SearchConfig, Shape, int], Space]
    options: tuple[
        str, ...
    ] = ()  # fields of `SearchConfig`, whole numbers, that decide how a genome reads


@dataclass(frozen=True)
class PredictorEntry:
    """A predictor's line in the table."""

    make: Callable[[SearchConfig, Space], Callable[[], Predictor]]  # what makes a new one
    reads: Literal["features", "tokens"] = "features"  # what it reads of a genome


SPACES: dict[str, SpaceEntry] = {
    "layers": SpaceEntry(_layers),
    "nano": SpaceEntry(_nano, ("channels", "length")),
    "nasbench201": SpaceEntry(_nasbench201),
}
STRATEGIES: dict[str, Callable[[SearchConfig, Space], Strategy]] = {
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


def make_space(config: SearchConfig, input_shape: Shape, classes: int) -> Space:
    """The configured space for images of `input_shape` (C, H, W) in `classes` classes."""
    return SPACES[config.space].make(config, input_shape, classes)


def make_strategy(
    config: SearchConfig, space: Space, banned: Callable[[Genome], bool] | None = None
) -> Strategy:
    """The configured strategy over `space`.

    `banned` is handed to a strategy that searches for the best of many.
    """
    strategy = STRATEGIES[config.strategy](config, space)
    if hasattr(strategy, "banned"):
        strategy.banned = banned
    if config.inherit:
        from nanonas.strategies.around.inheriting import Inheriting

        strategy = Inheriting(
            strategy, make_heirs_budget(config, space.classes), config.inherit_audit
        )
    if config.halving:
        from nanonas.strategies.around.halving import Halving

        rungs, objectives = make_rungs(config, space), make_objectives(config)
        strategy = Halving(strategy, rungs, config.halving, objectives, config.lag or 1)
    return strategy


def make_rungs(config: SearchConfig, space: Space) -> tuple[Budget, ...]:
    """The budgets of successive halving, the smallest first; without it the one that all have."""
    from nanonas.strategies.around.halving import ladder

    top = make_budget(config, space.classes)
    if not config.halving:
        return (top,)
    side = min(space.input_shape[1:])
    return ladder(
        top,
        config.halving,
        config.rungs,
        config.rung_share,
        config.rung_image_size,
        side,
        config.rung_epochs,
    )


def make_heirs_budget(config: SearchConfig, classes: int) -> Budget:
    """What a candidate may train that begins with its parents' weights."""
    epochs = config.inherit_epochs or -(-config.epochs // 2)
    return make_budget(replace(config, epochs=epochs), classes)


def make_objectives(config: SearchConfig) -> tuple[Objective, ...]:
    """The configured objectives, or the strategy's own where none are."""
    default = ("accuracy", "params") if config.strategy in MULTI_OBJECTIVE else ("accuracy",)
    return tuple(OBJECTIVES[name] for name in config.objectives or default)


def make_budget(config: SearchConfig, classes: int) -> Budget:
    """What a candidate may train; the stop rule's threshold is chance plus the margin."""
    stops = 0 < config.stop_epoch < config.epochs
    return Budget(
        config.epochs,
        stop_epoch=config.stop_epoch if stops else 0,
        stop_below=1 / classes + config.stop_margin if stops else 0.0,
    )


def load_images(config: SearchConfig) -> Images:
    """The configured images, from the cache or decoded into it. Raises `DataError`."""
    from nanonas.data.images import load

    return load(config.data, config.image_size)


def make_data(config: SearchConfig) -> DataSpec:
    """Which images the workers train on and judge by."""
    from nanonas.data.images import DataSpec

    return DataSpec(
        config.data, config.image_size, config.valid_share, config.train_images, config.seed
    )
