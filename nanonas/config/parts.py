"""From strings to classes: the only place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nanonas.config.keep import kept_number
from nanonas.config.schema import Config, SearchConfig, SpaceOptions, StrategyOptions
from nanonas.config.trainings import make_heirs_budget, make_rungs
from nanonas.core import Floats, Genome, Objective, Predictor, Proposal, Shape, Strategy
from nanonas.networks.arena import flash, ram

if TYPE_CHECKING:
    from nanonas.networks.limits import Limits
    from nanonas.networks.network import Network
    from nanonas.predictors.experience import PastRun, Prior, Task
    from nanonas.predictors.gaussian import GaussianProcess
    from nanonas.spaces.base import Space

# --- spaces ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpaceEntry:
    """A space's line in the table."""

    make: Callable[[SpaceOptions, Shape, int], Space]  # for images of a shape, and classes
    # whole numbers among `SpaceOptions` that decide how a genome reads; a genome's file keeps them
    options: tuple[str, ...] = ()
    fills: bool = False  # what it draws fills the limits, which are a field of it


def _stages(options: SpaceOptions, shape: Shape, classes: int) -> Space:
    from nanonas.spaces.stages.space import StagesSpace

    return StagesSpace(shape, classes)


def _layers(options: SpaceOptions, shape: Shape, classes: int) -> Space:
    from nanonas.spaces.layers.space import LayersSpace

    rates = (options.add_rate, options.remove_rate, options.change_rate, options.skip_rate)
    return LayersSpace(shape, classes, rates=rates, fill=options.fill)


def _nano(options: SpaceOptions, shape: Shape, classes: int) -> Space:
    from nanonas.spaces.nano import NanoSpace

    return NanoSpace(shape, classes, channels=options.channels, length=options.length)


def _nasbench201(options: SpaceOptions, shape: Shape, classes: int) -> Space:
    from nanonas.spaces.nasbench201 import NASBench201Space

    return NASBench201Space(shape, classes)


SPACES: dict[str, SpaceEntry] = {
    "stages": SpaceEntry(_stages, fills=True),
    "layers": SpaceEntry(_layers, fills=True),
    "nano": SpaceEntry(_nano, ("channels", "length")),
    "nasbench201": SpaceEntry(_nasbench201),
}


def make_space(options: SpaceOptions, input_shape: Shape, classes: int) -> Space:
    """The configured space for images of `input_shape` (C, H, W) in `classes` classes."""
    return SPACES[options.space].make(options, input_shape, classes)


def make_search_space(search: SearchConfig, input_shape: Shape, classes: int) -> Space:
    """The configured space as a search draws from it: what it draws fills the limits where accuracy
    is the only objective.
    """
    space = make_space(search.space, input_shape, classes)
    if not SPACES[search.space.space].fills:
        return space
    given: dict[str, Any] = {"limits": make_limits(search)}
    if len(make_objectives(search.strategy)) > 1:
        given["fill"] = False
    return replace(space, **given)


# --- objectives and limits ------------------------------------------------------------------------


@dataclass(frozen=True)
class ObjectiveEntry:
    """An objective's line in the table."""

    objective: Objective
    # counts it on a network; None: it is measured or learned
    count: Callable[[Network], float] | None = None
    limit: str | None = None  # the option that limits it


OBJECTIVES: dict[str, ObjectiveEntry] = {
    "accuracy": ObjectiveEntry(Objective("accuracy")),
    "params": ObjectiveEntry(
        Objective("params", maximize=False), attrgetter("params"), "max_params"
    ),
    "macs": ObjectiveEntry(Objective("macs", maximize=False), attrgetter("macs"), "max_macs"),
    "latency": ObjectiveEntry(  # ms an image
        Objective("latency", maximize=False), limit="max_latency_ms"
    ),
    "memory": ObjectiveEntry(Objective("memory", maximize=False), limit="max_memory_mb"),  # MiB
    "flash": ObjectiveEntry(Objective("flash", maximize=False), flash, "max_flash_kb"),  # bytes
    "ram": ObjectiveEntry(Objective("ram", maximize=False), ram, "max_ram_kb"),  # bytes
}


def make_objectives(options: StrategyOptions) -> tuple[Objective, ...]:
    """The configured objectives, or the strategy's own where none are."""
    proposes = STRATEGIES[make_screens(options) or options.strategy]
    names = options.objectives or proposes.objectives
    return tuple(OBJECTIVES[name].objective for name in names)


def make_counts(search: SearchConfig) -> dict[str, Callable[[Network], float]]:
    """What has to be counted on every network for the objectives, by metric; and flash and RAM
    where networks are for a microcontroller.
    """
    names = [objective.name for objective in make_objectives(search.strategy)]
    if make_limits(search).deployable:
        names += ["flash", "ram"]
    counts = {name: OBJECTIVES[name].count for name in names}
    return {name: count for name, count in counts.items() if count is not None}


def make_limits(search: SearchConfig) -> Limits:
    """The configured limits; objectives that are counted in 8-bit integers ask for networks that
    have such a form.
    """
    from nanonas.networks.limits import Limits

    options, names = search.limits, {entry.name for entry in make_objectives(search.strategy)}
    return Limits(
        max_params=options.max_params,
        max_macs=options.max_macs,
        max_latency_ms=options.max_latency_ms,
        max_memory_mb=options.max_memory_mb,
        max_flash_kb=options.max_flash_kb,
        max_ram_kb=options.max_ram_kb,
        target="mcu" if names & {"flash", "ram"} else options.target,
    )


# --- experience -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Past:
    """What a run begins with: what other runs have learnt, and for what it needs it."""

    runs: tuple[PastRun, ...]
    task: Task


RECALLED = 4  # networks of other runs, at most, in the places of hand-made ones


# --- predictors -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PredictorEntry:
    """A predictor's line in the table."""

    make: Callable[[SearchConfig, Space], Callable[[], Predictor]]  # what makes a new one
    reads: Literal["features", "tokens"] = "features"  # what it reads of a genome


def make_prior(search: SearchConfig, space: Space, past: Past | None) -> Prior | None:
    """What the runs of the past have learnt for this search; None where that is nothing: they
    searched other spaces, there are several objectives, or the strategy has no use for it. What
    does not foretell itself is left out by `make_strategy`.
    """
    from nanonas.predictors.experience import Prior

    if past is None or not search.strategy.experience:
        return None
    if not STRATEGIES[search.strategy.strategy].breeds or len(make_objectives(search.strategy)) > 1:
        return None
    options = {name: getattr(search.space, name) for name in SPACES[search.space.space].options}
    runs = [run for run in past.runs if run.space == search.space.space and run.options == options]
    if not runs:
        return None
    reference = _Reference(space)
    return Prior(runs, past.task, space.adopted, space.encode, space.groups, reference)


def begins_without(strategy: str, predictor: str, objectives: Sequence[str]) -> str | None:
    """What of a search does not begin with experience, as a clause; None: all that can, does.

    Args:
        strategy: a name, as `predictor`.
        objectives: the configured ones; none: the strategy's own.
    """
    entry = STRATEGIES.get(strategy)
    if entry is None:  # a user's own
        return None
    if not entry.breeds:
        return "a random search begins without it, for others are compared with that"
    if len(objectives or entry.objectives) > 1:
        return "with several objectives nothing is chosen by that"
    if not entry.screens:
        return "that chooses the first networks alone, for no predictor screens this search"
    learns = PREDICTORS.get(predictor)
    if learns is not None and learns.reads != "features":
        return f"that chooses the first networks alone, for the predictor {predictor} begins anew"
    return None


@dataclass
class _Reference:
    """The features of random networks of a space, (200, features): drawn once, when they are first
    needed, because filling their limits takes a second.
    """

    space: Space
    _features: Floats | None = None

    def __call__(self) -> Floats:
        if self._features is None:
            rng = np.random.default_rng(0)
            self._features = np.array(
                [self.space.encode(self.space.sample(rng)) for _ in range(200)]
            )
        return self._features


def make_process(space: Space) -> Callable[[], GaussianProcess]:
    """What makes a new Gaussian process over the features of a space's networks."""
    from nanonas.predictors.gaussian import GaussianProcess

    return partial(GaussianProcess, space.groups, _Reference(space))


def _gaussian(search: SearchConfig, space: Space) -> Callable[[], Predictor]:
    return make_process(space)


def _ensemble(search: SearchConfig, space: Space) -> Callable[[], Predictor]:
    from nanonas.predictors.ensemble import Ensemble

    return partial(Ensemble, seed=search.seed)


def _lstm(search: SearchConfig, space: Space) -> Callable[[], Predictor]:
    from nanonas.predictors.lstm import LSTM

    return partial(LSTM, seed=search.seed, warm=True)


PREDICTORS: dict[str, PredictorEntry] = {
    "gaussian": PredictorEntry(_gaussian),
    "ensemble": PredictorEntry(_ensemble),
    "lstm": PredictorEntry(_lstm, reads="tokens"),
}

# --- strategies -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StrategyEntry:
    """A strategy's line in the table: how it is made, and what others have to know of it."""

    # takes what experience expects, which some have no use for
    make: Callable[[SearchConfig, Space, Prior | None], Strategy]
    title: str  # in a sentence
    choice: str = ""  # how parents are chosen, in a sentence or two for people who learn
    # takes several objectives, and only several; one that `screens` takes what the other one does
    several: bool = False
    breeds: bool = True  # its candidates can have parents
    screens: bool = False  # chooses among the proposals of the strategy that `screens` names

    @property
    def objectives(self) -> tuple[str, ...]:
        """What it gets the best of where nothing else is configured."""
        return ("accuracy", "params") if self.several else ("accuracy",)


def _random(search: SearchConfig, space: Space, prior: Prior | None) -> Strategy:
    from nanonas.strategies.random import RandomSearch

    return RandomSearch(space, search.strategy.population)


def _evolution(search: SearchConfig, space: Space, prior: Prior | None) -> Strategy:
    from nanonas.strategies.evolution import Evolution

    options = search.strategy
    return Evolution(
        space,
        population_size=options.population,
        parents_share=options.parents_share,
        crossover_rate=options.crossover_rate,
    )


def _aging(search: SearchConfig, space: Space, prior: Prior | None) -> Strategy:
    from nanonas.strategies.aging import AgingEvolution

    options = search.strategy
    return AgingEvolution(space, population_size=options.population, lag=options.lag or 1)


def _local(search: SearchConfig, space: Space, prior: Prior | None) -> Strategy:
    from nanonas.strategies.local import LocalSearch

    options = search.strategy
    return LocalSearch(space, population_size=options.population, lag=options.lag or 1)


def _nsga2(search: SearchConfig, space: Space, prior: Prior | None) -> Strategy:
    from nanonas.strategies.nsga2 import NSGA2

    options = search.strategy
    return NSGA2(
        space,
        make_objectives(options),
        population_size=options.population,
        crossover_rate=options.crossover_rate,
        lag=options.lag or 1,
    )


def _screened(search: SearchConfig, space: Space, prior: Prior | None) -> Strategy:
    from nanonas.strategies.around.screened import Screened

    screens = make_screens(search.strategy)
    assert screens is not None
    limits, entry = make_limits(search), PREDICTORS[search.strategy.predictor]
    # accuracy, which predictions are of, comes first
    objectives = sorted(make_objectives(search.strategy), key=lambda each: each.name != "accuracy")
    predictor = entry.make(search, space)
    predictor()  # what it lacks is said before anything is trained

    def allowed(genome: Genome) -> bool:
        return limits.excess(space.decode(genome)) <= 1

    return Screened(
        space,
        STRATEGIES[screens].make(search, space, None),
        predictor,
        objectives=objectives,
        counts=make_counts(search),
        reads=entry.reads,
        allowed=allowed if limits.on_counts or limits.deployable else None,
        prior=prior if entry.reads == "features" else None,
    )


STRATEGIES: dict[str, StrategyEntry] = {
    "random": StrategyEntry(_random, "random search", breeds=False),
    "evolution": StrategyEntry(
        _evolution,
        "evolution",
        "Who may be a parent is settled by tournament: a few of the best quarter are drawn, and "
        "the best of them wins. So the good breed often, and the best does not crowd out all "
        "others.",
    ),
    "aging": StrategyEntry(
        _aging,
        "aging evolution",
        "For each child a handful of the living is drawn, and the best of it becomes the parent. "
        "The oldest dies, however good it is, so that a network that was only lucky does not breed "
        "forever.",
    ),
    "local": StrategyEntry(
        _local,
        "local search",
        "Local search changes the one network that it stands on until a change is better, and goes "
        "on from there.",
    ),
    "nsga2": StrategyEntry(
        _nsga2,
        "NSGA-II",
        "A parent wins a duel of two: the better trade-off wins, of equally good ones that with "
        "more room around it, so that the population spreads along the front.",
        several=True,
    ),
    "screened": StrategyEntry(_screened, "a screened search", screens=True),
}


def make_screens(options: StrategyOptions) -> str | None:
    """The name of the strategy that is screened: the configured one, or else one that suits the
    objectives; None where none is.
    """
    if not STRATEGIES[options.strategy].screens:
        return None
    return options.screens or ("nsga2" if len(options.objectives) > 1 else "aging")


def proposer(strategy: str, screens: str = "") -> StrategyEntry | None:
    """The entry of the strategy that makes the proposals: of a screened search, what it screens.

    None for a name that is not in the table, such as a user's own strategy.
    """
    entry = STRATEGIES.get(strategy)
    return STRATEGIES.get(screens) if entry is not None and entry.screens else entry


def make_strategy(
    search: SearchConfig,
    space: Space,
    banned: Callable[[Genome], bool] | None = None,
    prior: Prior | None = None,
    ancestor: Genome | None = None,
) -> Strategy:
    """The configured strategy over `space`, with inheritance and successive halving around it.

    `banned` is handed to a strategy that searches for the best of many; `prior` is what it begins
    with, unless that does not foretell itself; `ancestor`, a network that was found for other
    images, is the first that a strategy proposes that breeds.
    """
    if prior is not None and not prior.foretells_itself:
        prior = None
    strategy = STRATEGIES[search.strategy.strategy].make(search, space, prior)
    if hasattr(strategy, "banned"):
        strategy.banned = banned
    made = make_ancestors(search, space)
    first = [Proposal(genome, ancestor=name) for name, genome in made.items()]
    if prior is not None:
        first = _with_experience(search, space, first, prior)
    if ancestor is not None and STRATEGIES[search.strategy.strategy].breeds:
        key, own = space.key(ancestor), Proposal(ancestor, recalled=True)
        first = [own, *(one for one in first if space.key(one.genome) != key)]
        first = first[: search.strategy.population - 1]
    if first:
        from nanonas.strategies.around.ancestral import Ancestral

        strategy = Ancestral(strategy, first, banned)
    fidelity = search.fidelity
    if fidelity.inherit:
        from nanonas.strategies.around.inheriting import Inheriting

        heirs = make_heirs_budget(search, space.classes)
        strategy = Inheriting(strategy, heirs, fidelity.inherit_audit)
    if fidelity.halving:
        from nanonas.strategies.around.halving import Halving

        objectives, lag = make_objectives(search.strategy), search.strategy.lag or 1
        strategy = Halving(strategy, make_rungs(search, space), fidelity.halving, objectives, lag)
    return strategy


def make_ancestors(search: SearchConfig, space: Space) -> dict[str, Genome]:
    """The hand-made networks that the first generation begins with: those within the limits, each
    network once, and one random network at least beside them.
    """
    if not search.space.ancestors or not STRATEGIES[search.strategy.strategy].breeds:
        return {}
    limits = make_limits(search)
    chosen: dict[str, tuple[str, Genome]] = {}  # by the network's key
    for name, genome in space.ancestors().items():
        network = space.decode(genome)
        if limits.excess(network) <= 1:
            chosen.setdefault(network.key, (name, genome))
    return dict(list(chosen.values())[: search.strategy.population - 1])


def _with_experience(
    search: SearchConfig, space: Space, made: Sequence[Proposal], prior: Prior
) -> list[Proposal]:
    """What the first generation begins with: the best of the hand-made networks `made` and of those
    that other runs have found, in the order of what experience expects of them.

    There are as many as hand-made ones alone, or `RECALLED` where there are none.
    """
    limits = make_limits(search)
    keys = {space.key(proposal.genome) for proposal in made}
    recalled: list[Proposal] = []
    for genome in prior.best(10 * RECALLED):
        network = space.decode(genome)
        if len(recalled) < RECALLED and network.key not in keys and limits.excess(network) <= 1:
            keys.add(network.key)
            recalled.append(Proposal(genome, recalled=True))
    wanted = [*made, *recalled]
    if not wanted:
        return []
    scores = prior.scores(np.array([space.encode(proposal.genome) for proposal in wanted]))
    number = min(len(made) or RECALLED, search.strategy.population - 1)
    return [wanted[place] for place in np.argsort(scores, kind="stable")[:number]]


def most_kept(config: Config, strategy: Strategy, candidates: int) -> int:
    """The weights of how many of so many candidates stay on the disk at most; those of a front come
    on top.

    Args:
        strategy: the configured one; what it was told does not matter.
    """
    kept = kept_number(config.run.keep)
    if kept is not None and config.search.fidelity.needs_weights:
        needed = strategy.most_needed
        in_flight = (n + 1 - strategy.needs(n) for n in range(min(candidates, 1000)))
        # what is in flight has its own weights, and those of two parents
        kept = None if needed is None else kept + needed + 3 * max(in_flight, default=0)
    return candidates if kept is None else min(candidates, kept)
