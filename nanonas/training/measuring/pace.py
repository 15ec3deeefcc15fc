"""How long the epochs of a training take on this machine."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from nanonas.training.device import synchronize
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

# Times the patience after which one step has to do: threads that wait for each other on a busy
# machine can take ten seconds for a step.
_AT_MOST = 5


def seconds_per_epoch(
    training: Training, patience: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """A forecast of the seconds that an epoch of `training` takes on this machine, on average over
    those on smaller images and the others.

    Args:
        training: left as it is: a copy of its network is trained. All processes of its group must
            call this; the first to lose its patience ends it for all.
        patience: seconds of steps to measure, about.
        clock: what tells the seconds; `time.process_time` for those of the processor.
    """
    recipe, whole = training.recipe, replace(training.recipe, small_images=0.0)
    if not training.small:
        return _seconds_per_epoch(training, whole, patience, clock)
    small = replace(recipe, small_images=1.0)
    on_small, on_whole = (
        _seconds_per_epoch(training, each, patience / 2, clock) for each in (small, whole)
    )
    return recipe.small_images * on_small + (1 - recipe.small_images) * on_whole


def _seconds_per_epoch(
    training: Training, recipe: Recipe, patience: float, clock: Callable[[], float]
) -> float:
    module = copy.deepcopy(training.module)
    group = training.group
    probe = Training(module, training.pictures, recipe, 1_000_000, training.seed, group=group)
    ticks: list[float] = []  # times at which steps began
    warm_up = 2  # steps

    def pulse() -> bool:
        synchronize(str(probe.device))
        ticks.append(clock())
        done = len(ticks) - 1
        late = done > 0 and ticks[-1] - ticks[0] > _AT_MOST * patience
        go = not late and (done < warm_up + 2 or ticks[-1] - ticks[warm_up] < patience)
        return go if group is None else group.meet(go)

    while probe.run_epoch(pulse) is not None:
        pass
    steps = pairwise(ticks[min(warm_up, len(ticks) - 2) :])
    return training.steps * statistics.median(end - begin for begin, end in steps)
