"""What a configuration stands for on this machine."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanonas.config.keep import kept_number
from nanonas.config.parts import (
    Past,
    make_counts,
    make_limits,
    make_objectives,
    make_prior,
    make_process,
    make_screens,
    make_search_space,
    make_strategy,
)
from nanonas.config.schema import FINALISTS, Config, DataOptions, TrainingOptions
from nanonas.config.trainings import (
    backbone_size,
    load_images,
    make_budget,
    make_data,
    make_rungs,
    with_schedule,
)
from nanonas.core import Budget, Candidate, Evaluator, Objective, Shape, Strategy, Told
from nanonas.data.backbone import name_and_file
from nanonas.engine.choosing import Expected, expected
from nanonas.engine.evaluators.joining import Cluster, Need
from nanonas.engine.requests import Inbox
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import ConfigError, DataError
from nanonas.files import in_full
from nanonas.maths.intervals import equivalent_trials
from nanonas.networks.cost import CostModel
from nanonas.networks.limits import Limits
from nanonas.runs.genome import GenomeFile, space_options
from nanonas.session.agents import met
from nanonas.session.ancestor import require_fitting
from nanonas.session.finalists import FINALS_SHARE, finals_seconds
from nanonas.spaces.base import Bans, Space

if TYPE_CHECKING:
    from nanonas.data.images import DataSpec, Images
    from nanonas.data.split import Split
    from nanonas.predictors.experience import Prior
    from nanonas.runs.origin import Origin
    from nanonas.training.measuring.agent import Agent
    from nanonas.training.pretrained import Pretrained
    from nanonas.training.recipe import Recipe
    from nanonas.training.trial import Trial

_DEFAULT_GENERATIONS = 100  # where nothing else would end a search
# Candidates that may be in flight, for each that trains. Among the many of a cluster there is
# always one that takes long, behind which the others would wait (benchmarks/cluster.py).
_LAG, _CLUSTER_LAG = 2, 4


class Setup:
    """The objects that a configuration stands for here; each is made once, when first asked for.

    >>> setup = Setup(configure(data="digits", space="nano", device="cpu"))  # doctest: +SKIP
    >>> trial = setup.trials()[0]  # doctest: +SKIP

    Args:
        config: of a search that begins, as `resolved`.
        images: the configured ones, where they are loaded already.
        noted: their shape (C, H, W) and number of classes, where a search is only looked at: then
            its space and its strategy need no images.
        slots: candidates at once on the cluster that was joined; None: they are trained here.
        past: what the search begins with; None: nothing.
        origin: the trained network whose weights all trainings begin with; None: they begin from
            scratch.
        kept_backbone: the run's own copy of the weights of its backbone.

    Raises:
        NanonasError: from each property, what is wrong with its part of the configuration.
    """

    def __init__(
        self,
        config: Config,
        images: Images | None = None,
        noted: tuple[Shape, int] | None = None,
        slots: int | None = None,
        past: Past | None = None,
        origin: Origin | None = None,
        kept_backbone: Path | None = None,
    ) -> None:
        self.config = config
        self._images, self._noted = images, noted
        self.slots, self.past, self.origin = slots, past, origin
        self._kept_backbone = kept_backbone

    # --- the images and how networks are trained on them ------------------------------------------

    @cached_property
    def device(self) -> str:
        """ "cpu", "cuda:0", "mps" …"""
        from nanonas.training.device import resolve_device

        return resolve_device(self.config.run.device)

    @cached_property
    def images(self) -> Images:
        """All images, decoded; with a backbone, what it makes of them."""
        options = self.config.search.data
        return self._images or load_images(options, self.device, self._kept_backbone)

    @cached_property
    def seen(self) -> Setup:
        """This with the images that its backbone sees, in the place of the maps.

        Raises:
            DataError: they have gone from the cache.
        """
        shown, search = self.images.shown, self.config.search
        if shown is None:
            raise DataError(
                f"the images that the backbone sees of {search.data.data!r} have gone from the "
                "cache while they were read; the same command brings them back"
            )
        search = replace(search, data=replace(search.data, backbone=None))
        return Setup(replace(self.config, search=search), shown)

    @cached_property
    def data(self) -> DataSpec:
        """Which images candidates train on and are judged by, for workers to load."""
        return make_data(self.config.search.data, self.config.search.seed).pinned_to(self.images)

    @cached_property
    def split(self) -> Split:
        """The places of those images."""
        from nanonas.data.split import split

        options = self.config.search.data
        return split(
            self.images, self.config.search.seed, options.valid_share, options.train_images
        )

    @cached_property
    def recipe(self) -> Recipe:
        """How networks are trained, with what the images suggest filled in."""
        recipe = make_recipe(self.config.search.training, self.images, self.device)
        if self.origin is None:
            return recipe
        return replace(recipe, body_lr=self.config.search.fidelity.body_lr)

    @cached_property
    def pretrained(self) -> Pretrained | None:
        """What all trainings begin with; None: they begin from scratch."""
        if self.origin is None:
            return None
        return self.origin.pretrained(self.images.input_shape[0], self.images.class_names)

    @cached_property
    def cost(self) -> CostModel | None:
        """What training costs here; None where the configuration does not hold it."""
        words, training = self.config.search.training.cost, self.config.search.training
        return read_cost(words, training.batch_size) if words else None

    @property
    def workers(self) -> int:
        """How many candidates are trained at once."""
        return self.slots or self.workers_here

    @property
    def workers_here(self) -> int:
        """How many are, where it is this machine that trains them."""
        from nanonas.training.device import default_workers

        return self.config.run.workers or default_workers(self.device)

    @cached_property
    def agent(self) -> Agent | None:
        """What measures latency, where that is another device; it has answered."""
        wanted = {objective.name for objective in self.objectives} | self.limits.on_measurements
        return met(self.config.run.latency_from, wanted)

    # --- the search -------------------------------------------------------------------------------

    @cached_property
    def space(self) -> Space:
        """The search space for the images."""
        shape, classes = self._noted or (self.images.input_shape, self.images.classes)
        return make_search_space(self.config.search, shape, classes)

    @cached_property
    def bans(self) -> Bans:
        """The operations that are banned; a study changes them, and the strategy reads them."""
        return Bans(self.space)

    @cached_property
    def strategy(self) -> Strategy:
        """The strategy, which was told nothing yet."""
        ancestor = None if self.origin is None else self.origin.genome.genome
        return make_strategy(self.config.search, self.space, self.bans, self.prior, ancestor)

    @cached_property
    def prior(self) -> Prior | None:
        """What the search expects of networks by what it begins with; None: nothing."""
        return make_prior(self.config.search, self.space, self.past)

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What to get the best of."""
        return make_objectives(self.config.search.strategy)

    @cached_property
    def limits(self) -> Limits:
        """What a network may cost at most."""
        return make_limits(self.config.search)

    @cached_property
    def budget(self) -> Budget:
        """What a candidate may train at most."""
        return make_budget(self.config.search.training, self.space.classes)

    @cached_property
    def rungs(self) -> tuple[Budget, ...]:
        """The budgets of successive halving, the smallest first; without it, `budget` alone."""
        return make_rungs(self.config.search, self.space)

    @property
    def generations(self) -> int | None:
        """The number of generations that ends the search; None: no limit."""
        run = self.config.run
        unbounded = run.time is None and run.evaluations is None
        return _DEFAULT_GENERATIONS if run.generations is None and unbounded else run.generations

    @property
    def evaluations(self) -> int | None:
        """The number of candidates that ends the search, also by generations; None: no limit."""
        limits = [] if self.config.run.evaluations is None else [self.config.run.evaluations]
        if self.generations is not None:
            limits.append(self.size_through(self.generations - 1))
        return min(limits, default=None)

    def size_through(self, generation: int) -> int:
        """How many candidates there are up to the end of a generation, 0-based."""
        return bisect.bisect_left(range(10**9), generation + 1, key=self.strategy.generation)

    # --- what comes of it -------------------------------------------------------------------------

    @property
    def kept_weights(self) -> int | None:
        """Of how many of the best candidates the weights stay, besides those of the front and those
        that are needed; None: of all.
        """
        return kept_number(self.config.run.keep)

    def expected(self, told: Sequence[Told]) -> list[Expected]:
        """What is expected of the networks of a search, the best first, as `choosing.expected` has
        it; of nothing where several objectives are weighed, whose front is of figures.
        """
        if len(self.objectives) > 1:
            return []
        return expected(told, make_process(self.space), self.space.encode)

    @property
    def has_finals(self) -> bool:
        """Whether the best are trained once more at the end: where inherited weights have ordered
        them, or trainings that were short.
        """
        fidelity = self.config.search.fidelity
        return self.finalists > 0 and (fidelity.inherit or fidelity.finalist_seconds is not None)

    @property
    def finalists(self) -> int:
        """How many there are, where there are any."""
        number = self.config.search.fidelity.finalists
        return FINALISTS if number is None else number

    @property
    def final_networks(self) -> int:
        """How many networks have a final training, where the front has so many."""
        return self.config.run.front or 1

    @cached_property
    def finals_budget(self) -> Budget:
        """What each finalist trains, from scratch."""
        fidelity, training = self.config.search.fidelity, self.config.search.training
        if fidelity.finalist_seconds is None:
            return self.budget
        longer = replace(
            training, candidate_seconds=fidelity.finalist_seconds, candidate_image_size=None
        )
        return make_budget(longer, self.space.classes)

    @property
    def search_share(self) -> float:
        """Of a search's time, without what is kept for the winner: the part before the finalists'.

        In [0, 1].
        """
        run, fidelity = self.config.run, self.config.search.fidelity
        if not self.has_finals:
            return 1.0
        if fidelity.finalist_seconds is None or run.time is None:
            return 1 - FINALS_SHARE
        seconds = finals_seconds(self.finalists, fidelity.finalist_seconds, self.workers)
        return max(0.0, 1 - seconds / (run.time * (1 - run.kept_share)))

    # --- objects at work --------------------------------------------------------------------------

    def trials(self, weights: Path | None = None) -> list[Trial]:
        """What each worker measures candidates with, and keeps weights in the folder `weights`."""
        from nanonas.training.device import slots
        from nanonas.training.pictures import prepare_sizes
        from nanonas.training.trial import Trial

        devices = slots(self.device, self.workers_here)
        sizes = {budget.image_size for budget in (*self.rungs, self.budget)}
        prepare_sizes(self.data, {size for size in sizes if size is not None}, devices[0])
        trial = Trial(
            self.space,
            self.data,
            self.recipe,
            self.config.search.seed,
            weights=weights,
            limits=self.limits,
            measured=frozenset(objective.name for objective in self.objectives),
            agent=self.agent,
            cost=self.cost,
            typical=self.config.search.training.typical_cost,
            metric=self.config.search.strategy.metric,
            pretrained=self.pretrained,
        )
        return [replace(trial, device=device) for device in devices]

    def study(self, store: RunStore, evaluator: Evaluator, inbox: Inbox | None = None) -> Study:
        """The search over a store that was begun or is resumed."""
        return Study(
            self.space,
            self.strategy,
            evaluator,
            store,
            self.budget,
            self.config.search.seed,
            self.limits,
            inbox=inbox,
            planted_budget=self.rungs[0],
            bans=self.bans,
            counts=make_counts(self.config.search),
        )

    def genome_file(self, candidate: Candidate, known: Mapping[str, Any]) -> GenomeFile:
        """A candidate, and what is known of it, as a genome's file."""
        search = self.config.search
        if (metric := search.strategy.metric) != "accuracy":
            known = {"metric": metric, **known}  # that its accuracy is
        return GenomeFile(
            search.space.space,
            candidate.proposal.genome,
            self.images.input_shape,
            self.images.class_names,
            space_options(search.space),
            search.data.data,
            {"candidate": candidate.number, **known},
            self.images.preprocessing,
        )

    def image_notes(self) -> dict[str, Any]:
        """What a run's store keeps of its images, so that it can be read without them."""
        notes: dict[str, Any] = {
            "fingerprint": self.images.fingerprint,
            "input_shape": list(self.images.input_shape),
            "class_names": list(self.images.class_names),
            "broken": list(self.images.broken),
            "preprocessing": self.images.preprocessing.to_json(),
            "train": len(self.split.train),
            "valid": len(self.split.valid),
        }
        if self.images.backbone is not None:
            about = self.images.backbone.to_json()
            notes["backbone"] = {key: about[key] for key in ("name", "digest", "params", "macs")}
        if self.config.search.strategy.metric != "accuracy":
            counts = np.bincount(self.images.y_train[self.split.valid])
            notes["valid_equivalent"] = equivalent_trials(counts[counts > 0])
        return notes

    def check(self) -> None:
        """Raises what is wrong with the images, their split, the recipe, the space, the ancestor,
        the strategy or the agent that measures, before anything is written.
        """
        if self.config.search.data.backbone is not None and self.limits.deployable:
            raise ConfigError(
                "a network for a microcontroller has no backbone before it, which is in floating "
                "point; leave out --backbone, or --target mcu with the objectives flash and ram"
            )
        _ = self.agent, self.split, self.recipe
        require_fitting(self)
        _ = self.strategy
        size = self.config.search.training.candidate_image_size
        side = min(self.images.input_shape[1:])
        if size is not None and size > side:
            raise ConfigError(
                f"--candidate-image-size is {size}, but the images have {side} pixels on their "
                f"smaller side; take {side} or less, or leave it out"
            )


def cost_words(cost: CostModel) -> tuple[str, ...]:
    """A cost model as the configuration keeps it: "kind=seconds", sorted by kind."""
    return tuple(f"{kind}={seconds:.4g}" for kind, seconds in sorted(cost.coefficients.items()))


def read_cost(words: Sequence[str], batch_size: int) -> CostModel:
    """The cost model that `cost_words` has written. Raises `ConfigError` for other words."""
    pairs = [word.rpartition("=") for word in words]
    try:
        return CostModel({kind: float(seconds) for kind, _, seconds in pairs}, batch_size)
    except ValueError:
        raise ConfigError(
            f"cost holds words like values/norm=1.2e-9, but also {', '.join(words)!r:.80}; leave "
            "it out, and it is measured"
        ) from None


def cluster_need(config: Config) -> Need:
    """What a candidate gets of a cluster's node."""
    from nanonas.training.device import resolve_device

    gpus = config.run.cluster_gpus
    if gpus is None:
        gpus = 1.0 if resolve_device(config.run.device).startswith("cuda") else 0.0
    return Need(gpus=gpus)


def cluster_slots(config: Config, cluster: Cluster | None) -> int | None:
    """How many candidates a cluster trains at once, as its nodes are now; None without one."""
    if cluster is None:
        return None
    room = max(1, cluster.capacity(cluster_need(config)))
    return room if config.run.workers is None else min(room, config.run.workers)


def resolved(config: Config, slots: int | None = None) -> Config:
    """The configuration with everything filled in that depends on this machine, or on the cluster
    that was joined, and belongs to the run's identity.

    Args:
        slots: as of `Setup`.
    """
    from nanonas.training.device import default_workers, resolve_device, resolve_precision

    search = config.search
    device = resolve_device(config.run.device)
    precision: Any = resolve_precision(search.training.precision, device)
    workers = slots or config.run.workers or default_workers(device)
    search = replace(
        search,
        data=located_data(search.data),
        strategy=replace(
            search.strategy,
            objectives=tuple(objective.name for objective in make_objectives(search.strategy)),
            screens=make_screens(search.strategy) or search.strategy.screens,
            lag=search.strategy.lag or (_LAG if slots is None else _CLUSTER_LAG) * workers,
        ),
        training=replace(with_schedule(search.training), precision=precision),
    )
    return replace(config, search=search)


def located_data(options: DataOptions) -> DataOptions:
    """The images, the file of their groups and that of a backbone's weights, if any, so that they
    are found from anywhere; and the size at which a backbone sees them.
    """
    from nanonas.data.sources.groups import groups_file

    path = groups_file(options.groups or "")
    groups = options.groups if path is None else str(path.absolute())
    backbone = options.backbone
    if backbone is not None:
        name, file = name_and_file(backbone)
        backbone = name if file is None else f"{name}={in_full(file).absolute()}"
    size = backbone_size(options)
    data = located(options.data)
    return replace(options, data=data, groups=groups, backbone=backbone, image_size=size)


def located(source: str) -> str:
    """A source so that it is found from anywhere: a path as an absolute one."""
    from nanonas.data.sources import absolute

    return absolute(source)


def make_recipe(options: TrainingOptions, images: Images, device: str) -> Recipe:
    """How networks are trained: the configuration, with what the images themselves suggest filled
    in.

    Raises:
        ConfigError: crops that the images are too small for.
    """
    from nanonas.training.augment import augment_for
    from nanonas.training.device import resolve_precision
    from nanonas.training.recipe import Recipe

    augment = augment_for(images, options.crop, options.flip, options.cutout)
    options = with_schedule(options)
    assert options.warmup is not None
    assert options.schedule is not None
    return Recipe(
        options.batch_size,
        options.lr,
        options.warmup,
        options.momentum,
        options.weight_decay,
        options.label_smoothing,
        options.clip_norm,
        augment,
        resolve_precision(options.precision, device),
        options.deterministic,
        options.optimizer,
        options.muon_lr,
        options.schedule,
        options.bias_lr,
        options.average,
        options.alternate_flip,
        options.small_images,
        options.whiten,
        options.dirac,
        options.balance,
    )
