"""Which of the training images train, and which validate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.holdout import held_out_groups
from nanonas.data.images import Images
from nanonas.errors import ConfigError, DataError
from nanonas.text import number_of


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of `Images.x_train` to train on and to validate with: ascending, disjoint."""

    train: Integers  # (n,)
    valid: Integers  # (m,)


def split(
    images: Images, seed: int, valid_share: float = 0.1, train_images: int | None = None
) -> Split:
    """Divides the training images, class by class; the same seed gives the same split everywhere.

    Where images are grouped, a group is in one part as a whole, and classes have about their share.

    Args:
        images: where the source has validation images of its own, these are taken.
        seed: of the split.
        valid_share: of each class's images, in (0, 1), rounded, 1 image at least. Without effect
            where the source has validation images of its own.
        train_images: how many images to train on at most, at least one per class; None for all that
            are left. Fewer leave the validation images as they are and are a subset of more.

    Raises:
        DataError: a class has too few images, or groups, to train on and to validate with.
        ConfigError: `valid_share` or `train_images` is out of its range, or `valid_share` leaves a
            class without an image to train on.
    """
    if not 0 < valid_share < 1:
        raise ConfigError(f"valid_share must be above 0 and below 1, but is {valid_share}")
    if train_images is not None and train_images < images.classes:
        raise ConfigError(
            f"train_images must be {images.classes}, one for each class, or more, but is "
            f"{train_images}"
        )
    labels = np.asarray(images.y_train)
    first_valid = len(labels) - images.own_valid
    _check_smallest(images, labels[:first_valid], valid_share)
    # a stream of its own: [seed, n] breeds candidates, [seed, n, 1] trains them
    rng = np.random.default_rng([seed, 0, 2])
    apart = _groups_apart(images, labels[:first_valid], valid_share, rng)
    train: list[Integers] = []
    valid: list[Integers] = [np.arange(first_valid, len(labels))]
    for number in range(images.classes):
        members = rng.permutation(np.flatnonzero(labels[:first_valid] == number))
        if apart is not None:
            valid.append(members[apart[members]])
            train.append(members[~apart[members]])
            continue
        held_out = 0 if images.own_valid else _held_out(len(members), valid_share)
        valid.append(members[:held_out])
        train.append(members[held_out:])
    valid_rows = np.sort(np.concatenate(valid))
    missing = np.setdiff1d(np.arange(images.classes), labels[valid_rows])
    if len(missing):
        raise DataError(
            f"class {images.class_names[missing[0]]!r} has no validation image; add some, or "
            "leave out the validation part, and one is split off"
        )
    return Split(_limited(train, train_images), valid_rows)


def _groups_apart(
    images: Images, labels: Integers, valid_share: float, rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Which of the images with these labels, (n,), validate, by whole groups; None where images are
    on their own, or where the source has validation images. Raises as `held_out_groups`.
    """
    if images.groups_train is None or images.own_valid:
        return None
    ids = np.asarray(images.groups_train[: len(labels)], np.int64)
    return held_out_groups(labels, ids, valid_share, rng, images.class_names)


def _held_out(images: int, valid_share: float) -> int:
    """How many of a class's images validate."""
    return max(1, round(valid_share * images))


def _check_smallest(images: Images, labels: Integers, valid_share: float) -> None:
    """Raises `split`'s errors for the smallest class, which has the fewest left to train on.

    `labels` are those of the images to divide, (n,).
    """
    counts = np.bincount(labels, minlength=images.classes)
    name, least = images.class_names[int(counts.argmin())], int(counts.min())
    if least < (1 if images.own_valid else 2):
        raise DataError(
            f"class {name!r} has {number_of(least, 'image')} to train on and to judge by, but 2 "
            "are the least; add images of it, or leave it out"
        )
    if not images.own_valid and _held_out(least, valid_share) >= least:
        digits = 2 if least < 100 else len(str(least))
        fits = math.floor((1 - 1 / least) * 10**digits) / 10**digits
        raise ConfigError(
            f"valid_share is {valid_share:g}, which leaves none of the {least} images of class "
            f"{name!r} to train on; {fits:g} leaves some (--valid-share)"
        )


def _limited(by_class: list[Integers], number: int | None) -> Integers:
    """The first rows of each class in proportion: `number` in total, 1 or more each; sorted.

    The largest remainders are rounded up (Hamilton's method).
    """
    sizes = np.array([len(members) for members in by_class])
    if number is not None and number < sizes.sum():
        exact = sizes * (number / sizes.sum())
        quota = np.maximum(1, np.floor(exact).astype(np.int64))
        while quota.sum() < number:
            quota[np.argmax(exact - quota)] += 1
        while quota.sum() > number:  # many tiny classes, one image each: the others give way
            quota[np.argmax(np.where(quota > 1, quota - exact, -np.inf))] -= 1
        by_class = [members[:most] for members, most in zip(by_class, quota, strict=True)]
    return np.sort(np.concatenate(by_class))
