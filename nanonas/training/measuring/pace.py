"""How long the epochs of a training take on this machine, and how many there is time for."""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from nanonas.training.device import synchronize
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

_LAST = 8  # epochs by which the next ones are judged: a machine has its moods
MOST_PATIENCE = 3.0  # times the patience: then what there is has to do, though it be one step


@dataclass(frozen=True)
class Pace:
    """Seconds that an epoch of a training takes."""

    whole: float  # on images as they are
    small: float = 0.0  # on the smaller ones that a training may begin with
    share: float = 0.0  # of the epochs that are on smaller images, in [0, 1]

    @property
    def mean(self) -> float:
        """Over all epochs."""
        return self.share * self.small + (1 - self.share) * self.whole


class Timetable:
    """How many epochs a training has time for, by what its last epochs took.

    Args:
        measured: before the training; None: nothing was.
    """

    def __init__(self, measured: Pace | None) -> None:
        self._measured = measured
        self._took: dict[bool, list[float]] = {True: [], False: []}

    def note(self, small: bool, seconds: float) -> None:
        """Hears of an epoch, on smaller images or not."""
        self._took[small].append(seconds)

    @property
    def pace(self) -> Pace | None:
        """By what is known by now; None: nothing is.

        Where no epoch on whole images has been seen, they take as many times longer than the others
        as they did when they were measured.
        """
        small, whole = (
            statistics.mean(took[-_LAST:]) if took else None
            for took in (self._took[True], self._took[False])
        )
        known = self._measured
        if known is None:
            return None if whole is None else Pace(whole)
        if whole is None:
            whole = known.whole * (small / known.small if small and known.small else 1.0)
        return Pace(whole, known.small if small is None else small, known.share)

    def epochs(self, done: int, seconds: float) -> float:
        """How many epochs there are in all, where so many are done and so many seconds are left;
        infinite where nothing is known.
        """
        pace = self.pace
        if pace is None:
            return math.inf
        together = (seconds + done * pace.small) / pace.mean
        if pace.share * together > done:  # some of those to come are on smaller images
            return together
        return done + seconds / pace.whole


def pace_of(
    training: Training, patience: float, clock: Callable[[], float] = time.perf_counter
) -> Pace:
    """A forecast of what an epoch of `training` takes on this machine.

    Args:
        training: left as it is: a copy of its network is trained. All processes of its group must
            call this; the first to lose its patience ends it for all.
        patience: seconds of steps to measure, about.
        clock: what tells the seconds; `time.process_time` for those of the processor.
    """
    recipe, whole = training.recipe, replace(training.recipe, small_images=0.0)
    if not training.small:
        return Pace(_seconds_per_epoch(training, whole, patience, clock))
    small = replace(recipe, small_images=1.0)
    on_small, on_whole = (
        _seconds_per_epoch(training, each, patience / 2, clock) for each in (small, whole)
    )
    return Pace(on_whole, on_small, recipe.small_images)


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
        go = len(ticks) < warm_up + 3 or ticks[-1] - ticks[warm_up] < patience
        # threads that wait for each other on busy cores can take seconds for each step
        go = go and ticks[-1] - ticks[0] < MOST_PATIENCE * patience
        return go if group is None else group.meet(go)

    while probe.run_epoch(pulse) is not None:
        pass
    first = warm_up if len(ticks) > warm_up + 1 else 0
    steps = zip(ticks[first:], ticks[first + 1 :], strict=False)
    return training.steps * statistics.median(end - begin for begin, end in steps)
