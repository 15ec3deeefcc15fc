"""What candidates are trained on, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nanonas.config.schema import EPOCHS, DataOptions, SearchConfig, TrainingOptions
from nanonas.core import Budget

if TYPE_CHECKING:
    from pathlib import Path

    from nanonas.data.images import DataSpec, Images
    from nanonas.spaces.base import Space

# --- images ---------------------------------------------------------------------------------------


def images_of(
    options: DataOptions, device: str = "cpu", kept_backbone: Path | None = None
) -> Images:
    """The configured images, or what the configured backbone makes of them, from the cache or
    brought into it.

    Args:
        device: where a backbone works.
        kept_backbone: as `kept` of `training.backbone.behind`.

    Raises:
        DataError: the images cannot be used.
        ConfigError: the backbone cannot.
    """
    from nanonas.data.images import load

    size = backbone_size(options)
    images = load(options.data, size, skip_broken=options.skip_broken, groups=options.groups)
    if options.backbone is None:
        return images
    from nanonas.training.backbone import behind

    return behind(images, options.backbone, device, kept_backbone)


def load_images(
    options: DataOptions, device: str = "cpu", kept_backbone: Path | None = None
) -> Images:
    """As `images_of`; says what was found."""
    from nanonas.data.found import say
    from nanonas.data.sources import shadowed

    images = images_of(options, device, kept_backbone)
    if sentence := shadowed(options.data):
        say(sentence)
    say(images.in_words())
    return images


def backbone_size(options: DataOptions) -> int | None:
    """The configured height and width of images; where none is configured, those that the backbone
    was trained on. Raises `ConfigError` where timm does not say.
    """
    if options.backbone is None or options.image_size is not None:
        return options.image_size
    from nanonas.training.backbone import input_size

    return input_size(options.backbone)


def make_data(options: DataOptions, seed: int) -> DataSpec:
    """Which images workers train on and judge by; `seed` draws those that judge."""
    from nanonas.data.images import DataSpec

    return DataSpec(
        options.data,
        options.image_size,
        options.valid_share,
        options.train_images,
        seed,
        skip_broken=options.skip_broken,
        groups=options.groups,
        backbone=options.backbone,
    )


# --- schedules and budgets ------------------------------------------------------------------------

# warmup and schedule where none are given
SCHEDULES: dict[str, tuple[float, Literal["cosine", "linear"]]] = {
    "sgd": (0.2, "cosine"),
    "muon": (0.1, "linear"),
}


def with_schedule(options: TrainingOptions) -> TrainingOptions:
    """The options with what is usual for their optimizer filled in: how its rates rise and fall."""
    warmup, schedule = SCHEDULES[options.optimizer]
    return replace(
        options,
        warmup=warmup if options.warmup is None else options.warmup,
        schedule=schedule if options.schedule is None else options.schedule,
    )


def make_budget(options: TrainingOptions, classes: int) -> Budget:
    """What a candidate may train; the stop rule's threshold is chance plus the margin, and there is
    none in trainings that are bound by seconds.
    """
    if options.candidate_seconds is not None:
        size = options.candidate_image_size
        return Budget(1, image_size=size, seconds=options.candidate_seconds)
    epochs = EPOCHS if options.epochs is None else options.epochs
    if not 0 < options.stop_epoch < epochs:
        return Budget(epochs)
    return Budget(
        epochs,
        stop_epoch=options.stop_epoch,
        stop_below=1 / classes + options.stop_margin,
    )


def make_rungs(search: SearchConfig, space: Space) -> tuple[Budget, ...]:
    """The budgets of successive halving, the smallest first; without it the one that all have."""
    from nanonas.strategies.around.halving import ladder

    top, fidelity = make_budget(search.training, space.classes), search.fidelity
    if not fidelity.halving:
        return (top,)
    if top.seconds is not None:  # the epochs of such a ladder are parts of the seconds
        top = replace(top, epochs=fidelity.halving ** (fidelity.rungs - 1))
    rungs = ladder(
        top,
        fidelity.halving,
        fidelity.rungs,
        fidelity.rung_share,
        fidelity.rung_image_size,
        min(space.input_shape[1:]),
        fidelity.rung_epochs,
    )
    if top.seconds is None:
        return rungs
    part = top.seconds / top.epochs
    return tuple(replace(rung, seconds=part * (rung.epochs - rung.begin)) for rung in rungs)


def make_heirs_budget(search: SearchConfig, classes: int) -> Budget:
    """What a candidate may train that begins with its parents' weights."""
    training, epochs = search.training, search.fidelity.inherit_epochs
    if training.candidate_seconds is not None and epochs is None:
        seconds = training.candidate_seconds / 2
        return make_budget(replace(training, candidate_seconds=seconds), classes)
    half = -(-(training.epochs or EPOCHS) // 2)  # rounded up
    heirs = replace(training, epochs=epochs or half, candidate_seconds=None)
    return make_budget(heirs, classes)
