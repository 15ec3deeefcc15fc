"""Whether an image that is mirrored left to right still belongs to its class.

Arrows, letters and some traffic signs become others when they are mirrored; animals do not. So for
each image the nearest other image is found, once as it is and once mirrored: where mirroring brings
the images of a class near to those of another, and they were not near before, it changes what they
mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.doctor.thumbnails import SIDE, Thumbnails

_IMAGES = 3000  # that are compared, evenly over the classes
_LEAST = 20  # of a class
_CLOSE = 1.4  # times as far as the nearest of its own class: still as near as its own
_CLEARLY = 0.4  # of a class: how many more must be near another when they are mirrored …
_DEVIATIONS = 4.0  # … and by how many standard deviations of chance


@dataclass(frozen=True)
class Mirrored:
    """A class whose mirrored images look like another one."""

    label: int
    like: int
    share: float  # of its images that do, mirrored
    before: float  # that do as they are


def mirrored_classes(thumbs: Thumbnails, labels: Integers) -> tuple[Mirrored, ...]:
    """The classes that become others when they are mirrored, the clearest first.

    Args:
        thumbs: of N images.
        labels: (N,).
    """
    rows = _sample(labels)
    grey, y = thumbs.grey[rows], labels[rows]
    grey, y = grey[grey.any(1)], y[grey.any(1)]
    if len(y) < 2 * _LEAST:
        return ()
    flipped = grey.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(len(grey), -1)
    as_it_is, turned = _distances(grey, grey), _distances(flipped, grey)
    own = _typical(as_it_is, y)
    before, after = (_like(distances, y, own) for distances in (as_it_is, turned))
    found = [
        mirrored
        for label in np.unique(y).tolist()
        if (mirrored := _changed(label, before[y == label], after[y == label])) is not None
    ]
    return tuple(sorted(found, key=lambda one: (one.before - one.share, one.label)))


def _sample(labels: Integers) -> Integers:
    """Rows of up to `_IMAGES`, as many of each class as there are, or as all have place."""
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    each = max(1, _IMAGES // len(classes))
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:each] for label in classes]
    return np.sort(np.concatenate(chosen))


def _distances(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, n), of n vectors of length 1 from n others; an image is infinitely far from itself and
    from its own mirror image.
    """
    distances = np.asarray(np.sqrt(np.maximum(0, 2 - 2 * (a @ b.T))), np.float32)
    np.fill_diagonal(distances, np.inf)
    return distances


def _typical(distances: NDArray[np.float32], y: Integers) -> NDArray[np.float32]:
    """How far the images of each one's class are from the nearest of their class: the median, (n,).

    Infinite for the only image of its class.
    """
    typical = np.empty(len(y), np.float32)
    for label in np.unique(y):
        own = y == label
        typical[own] = np.median(distances[np.ix_(own, own)].min(1))
    return typical


def _like(distances: NDArray[np.float32], y: Integers, typical: NDArray[np.float32]) -> Integers:
    """The class of each one's nearest image, (n,); -1 where that is far away."""
    nearest = distances.argmin(1)
    near = distances[np.arange(len(y)), nearest] <= _CLOSE * typical + 1e-3
    return np.where(near, y[nearest], -1)


def _changed(label: int, before: Integers, after: Integers) -> Mirrored | None:
    """What the images of a class look like mirrored, where that is another class; before and after,
    (m,), are the classes that they are near to.
    """
    others = after[(after >= 0) & (after != label)]
    if len(before) < _LEAST or not len(others):
        return None
    like = int(np.bincount(others).argmax())
    was, now = before == like, after == like
    gained, lost = int((now & ~was).sum()), int((was & ~now).sum())
    share, share_before = float(now.mean()), float(was.mean())
    by_chance = math.sqrt(gained + lost)  # McNemar's test
    if share - share_before < _CLEARLY or gained - lost < _DEVIATIONS * by_chance:
        return None
    return Mirrored(label, like, share, share_before)
