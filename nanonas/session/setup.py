"""What a configuration stands for on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nanonas.config.schema import SearchConfig
from nanonas.errors import ConfigError

if TYPE_CHECKING:
    from nanonas.data.images import Images
    from nanonas.training.measuring.costs import Costs
    from nanonas.training.recipe import Recipe
from typing import TYPE_CHECKING

from nanonas.config.files import seconds
from nanonas.config.parts import make_objectives
from nanonas.config.schema import RunConfig

if TYPE_CHECKING:
    from nanonas.data.images import Images


def make_costs(config: SearchConfig) -> Costs:
    """What workers measure of a candidate before they train it, and its limits."""
    from nanonas.training.measuring.costs import Costs

    names = {objective.name for objective in make_objectives(config)}
    return Costs("latency" in names, "memory" in names, config.max_latency_ms, config.max_memory_mb)


def make_generations(config: RunConfig) -> int | None:
    """How many generations a search has at most: 100 where nothing else would end it; None: no
    limit.
    """
    unbounded = config.evaluations is None and config.time is None
    return 100 if config.generations is None and unbounded else config.generations


def make_recipe(config: SearchConfig, images: Images, device: str) -> Recipe:
    """How networks are trained: the configuration, with what the images themselves suggest filled
    in.
    """
    from nanonas.training.augment import Augment
    from nanonas.training.device import resolve_precision
    from nanonas.training.recipe import Recipe

    _, height, width = images.input_shape
    crop = min(height, width) // 8 if config.crop is None else config.crop
    if crop >= min(height, width):
        raise ConfigError(
            f"--crop must be smaller than the images, {height}×{width} pixels, but is {crop}"
        )
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


def budget_seconds(run: RunConfig) -> float | None:
    """The whole time budget in seconds. Raises `ConfigError` when it is no duration."""
    return None if run.time is None else seconds(run.time)
