"""Which images are set apart, whole groups of them: each class by its share, as well as groups
allow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.errors import DataError
from nanonas.text import number_of

_DRAWS = 32  # orders in which groups are looked at, of which the best is taken …
_LOOKS = 400_000  # … and how many groups are looked at in all of them


def held_out_groups(
    labels: Integers,
    groups: Integers,
    share: float,
    rng: np.random.Generator,
    names: Sequence[str],
    keep: int = 1,
) -> NDArray[np.bool_]:
    """Which images are set apart, (N,).

    In a random order, a group is taken where that brings the classes nearer to their shares, and
    the best of several orders wins. Nearness is the sum of squares of what is lacking, or too much,
    relative to a class's share.

    Args:
        labels: (N,), in [0, classes).
        groups: (N,), whole numbers.
        share: of each class, in (0, 1); one group of each at least.
        rng: draws the orders.
        names: of the classes, for messages.
        keep: how many groups of each class must be left.

    Raises:
        DataError: a class has too few groups.
    """
    holdout = _Holdout(labels, groups, share, keep)
    _check(holdout.in_class, keep, names)
    number = len(holdout.counts)
    tries = [
        holdout.chosen(rng.permutation(number).tolist())
        for _ in range(max(1, min(_DRAWS, _LOOKS // number)))
    ]
    _, chosen = min(tries, key=lambda tried: tried[0])
    apart = np.zeros(number, bool)
    apart[chosen] = True
    return apart[holdout.ids]


def _check(in_class: Sequence[int], keep: int, names: Sequence[str]) -> None:
    """Raises `DataError` for the class with the fewest groups, where these are too few."""
    least = min(range(len(in_class)), key=in_class.__getitem__)
    if in_class[least] <= keep:
        parts = "train on, to validate with and to test" if keep > 1 else "train on and to judge by"
        raise DataError(
            f"class {names[least]!r} has images of {number_of(in_class[least], 'group')}, but "
            f"{keep + 1} are the least, to {parts}; name finer groups (--groups), or add images of "
            "others"
        )


class _Holdout:
    """The groups, and what of each class is in them."""

    def __init__(self, labels: Integers, groups: Integers, share: float, keep: int) -> None:
        _, self.ids = np.unique(groups, return_inverse=True)
        sizes = np.bincount(labels)
        self.keep = keep
        self.targets = [max(1.0, share * float(size)) for size in sizes]
        pairs, images = np.unique(np.stack([self.ids, labels], axis=1), axis=0, return_counts=True)
        # of each group: how many images of which classes
        self.counts: list[list[tuple[int, int]]] = [[] for _ in range(int(self.ids.max()) + 1)]
        for (group, label), number in zip(pairs.tolist(), images.tolist(), strict=True):
            self.counts[group].append((label, number))
        self.in_class = np.bincount(pairs[:, 1], minlength=len(sizes)).tolist()  # groups of each

    def chosen(self, order: list[int]) -> tuple[float, list[int]]:
        """How far from their shares the classes are, and the groups that are set apart."""
        held = [0] * len(self.targets)
        left = list(self.in_class)
        taken: list[int] = []

        def take(group: int) -> None:
            taken.append(group)
            for label, number in self.counts[group]:
                held[label] += number
                left[label] -= 1

        def gain(group: int) -> float:
            """What taking a group adds to the distance."""
            total = 0.0
            for label, number in self.counts[group]:
                target, before = self.targets[label], held[label]
                total += number * (number + 2 * (before - target)) / target**2
            return total

        def free(group: int) -> bool:
            return all(left[label] > self.keep for label, _ in self.counts[group])

        for group in order:
            if free(group) and gain(group) < 0:
                take(group)
        for label in range(len(held)):  # those whose groups are all larger than their share
            if not held[label]:
                of_class = [
                    group
                    for group in order
                    if any(one == label for one, _ in self.counts[group]) and free(group)
                ]
                if of_class:
                    take(min(of_class, key=gain))
        away = sum(
            ((one - target) / target) ** 2 for one, target in zip(held, self.targets, strict=True)
        )
        return away, taken
