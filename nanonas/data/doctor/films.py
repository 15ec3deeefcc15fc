"""Groups by the names of images: frames of one film, cuts of one photograph."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import Integers
from nanonas.data.doctor.thumbnails import Thumbnails

# What may be the group in an image's path; each matches any path.
EXPRESSIONS = (
    r"^(.*)/[^/]*$",  # the folder that it is in: CLASS/film/0001.jpg
    r"^(.*?)(?:[-_ .]?\d+)?\.[^./]*$",  # what is before its last number: CLASS/film_0001.jpg
    r"^(.*?\d)(?:[-_ .][^-_ ./]*)?\.[^./]*$",  # up to its first number: CLASS/photo12_left.jpg
)
_IMAGES = 3000  # that are compared
_LEAST = 30
_MORE = 0.3  # of the images: how many more must be nearest to their group than by chance


@dataclass(frozen=True)
class Films:
    """Groups whose images look like each other."""

    expression: str  # as of `--groups`
    groups: Integers  # (n,): of each image
    share: float  # of the images whose nearest of the same class is in their group
    by_chance: float  # the share that would be, if groups said nothing

    @property
    def number(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.groups))


def films(names: Sequence[str], labels: Integers, thumbs: Thumbnails) -> Films | None:
    """The groups that names say, the clearest; None where no pattern of names goes with images that
    look alike.

    Args:
        names: of n images, within their source.
        labels: (n,).
        thumbs: of them.
    """
    found: list[Films] = []
    rows = _side_by_side(names, labels)
    if len(rows) < _LEAST:
        return None
    nearest = _nearest_of_class(thumbs, labels, rows)
    for expression in EXPRESSIONS:
        groups = _groups(expression, names)
        if groups is None or not _may_be_films(groups, labels):
            continue
        y, ids = labels[rows], groups[rows]
        share = float((ids[nearest] == ids).mean())
        by_chance = _by_chance(ids, y)
        if share - by_chance >= _MORE:
            found.append(Films(expression, groups, share, by_chance))
    return max(found, key=lambda one: one.share - one.by_chance, default=None)


def _by_chance(groups: Integers, y: Integers) -> float:
    """The share of images, with these groups and labels, whose nearest of their class would be in
    their group if all were equally near.
    """
    _, place, sizes = np.unique(
        np.stack([groups, y], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    others = np.maximum(1, np.bincount(y)[y] - 1)
    return float(((sizes[place.reshape(-1)] - 1) / others).mean())


def _groups(expression: str, names: Sequence[str]) -> Integers | None:
    matches = [re.search(expression, name) for name in names]
    words = [match.group(1) for match in matches if match is not None]
    if len(words) < len(names):
        return None
    return np.asarray(np.unique(words, return_inverse=True)[1], np.int64)


def _may_be_films(groups: Integers, labels: Integers) -> bool:
    """Whether groups are more than classes, and fewer than images: most have several images, and
    most classes several groups.
    """
    sizes = np.bincount(groups)
    pairs = np.unique(np.stack([groups, labels], axis=1), axis=0)
    in_class = np.bincount(pairs[:, 1])
    several = sizes[groups] > 1
    return bool(several.mean() >= 0.5 and np.median(in_class[in_class > 0]) >= 2)


def _side_by_side(names: Sequence[str], labels: Integers) -> Integers:
    """Rows that are compared: of each class the first by name, so that films are whole."""
    order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
    classes = np.unique(labels)
    each = max(2, _IMAGES // len(classes))
    chosen = [order[labels[order] == label][:each] for label in classes]
    return np.sort(np.concatenate([rows for rows in chosen if len(rows) > 1] or [order[:0]]))


def _nearest_of_class(thumbs: Thumbnails, labels: Integers, rows: Integers) -> Integers:
    """The place, among `rows`, of the nearest image of the same class, (m,)."""
    grey, y = thumbs.grey[rows], labels[rows]
    nearest = np.empty(len(rows), np.int64)
    for label in np.unique(y):
        own = np.flatnonzero(y == label)
        alike = grey[own] @ grey[own].T
        np.fill_diagonal(alike, -np.inf)
        nearest[own] = own[alike.argmax(1)]
    return nearest
