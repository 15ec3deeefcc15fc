"""What the spaces share: checks of what they are handed, and draws from small tables of weights."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from numbers import Integral

import numpy as np

from nanonas.core import Genome, Shape
from nanonas.errors import ConfigError, GenomeError


def check_problem(input_shape: Shape, classes: int) -> None:
    """Raises `ConfigError` unless the shape is (channels, height, width), each 1 or more, and
    classes are 2 or more.
    """
    if len(input_shape) != 3 or any(not _whole(size) or size < 1 for size in input_shape):
        raise ConfigError(
            "input_shape must be (channels, height, width), whole numbers of 1 or more, but is "
            f"{input_shape!r}; "
            "give for instance (3, 32, 32)."
        )
    if not _whole(classes) or classes < 2:
        raise ConfigError(f"classes must be a whole number of 2 or more, but is {classes!r}.")


def integers(genome: Sequence[int]) -> Genome:
    """The genome as a tuple of Python's own integers. Raises `GenomeError` for what is none."""
    if type(genome) is tuple and set(map(type, genome)) == {int}:
        return genome  # as nearly always: in a third of the time
    if isinstance(genome, (str, bytes)) or not isinstance(genome, (Sequence, np.ndarray)):
        raise GenomeError(
            f"a genome must be a list of integers, but is {genome!r}; give for instance [0, 1, 2, "
            "3]."
        )
    for position, value in enumerate(genome):
        if type(value) is not int and not _whole(value):
            raise GenomeError(
                f"a genome must be a list of integers, but position {position} holds {value!r}."
            )
    return tuple(map(int, genome))


def check_options(space: str, genome: Genome, names: Sequence[str]) -> None:
    """Raises `GenomeError` unless each number of the genome is a position in `names`, the options
    of the space.
    """
    for position, number in enumerate(genome):
        if not 0 <= number < len(names):
            table = ", ".join(f"{n} {name}" for n, name in enumerate(names))
            raise GenomeError(
                f"position {position} of a genome of the space {space!r} must be 0 to "
                f"{len(names) - 1} ({table}), "
                f"but is {number}."
            )


def draw(weights: Sequence[float], rng: np.random.Generator) -> int:
    """An index, with a probability in proportion to its weight."""
    # ten times as fast as rng.choice(len(weights), p=weights), and weights need not sum to 1
    sums = list(accumulate(weights))
    return min(bisect(sums, rng.random() * sums[-1]), len(sums) - 1)


def _whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
