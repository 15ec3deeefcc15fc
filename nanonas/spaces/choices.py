"""Random draws for genomes whose numbers are options: mutation, crossover, weighted choices.

How `sample` draws is each space's own: `nano` draws uniformly, `nasbench201` among networks instead
of genomes, and `layers` along its chain.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from nanonas.core import Genome


def point_mutation(genome: Genome, options: int, rng: np.random.Generator) -> Genome:
    """The genome with another number, of 0 … options - 1, in one of its places; places and numbers
    are equally likely.
    """
    place = int(rng.integers(len(genome)))
    other = (genome[place] + int(rng.integers(1, options))) % options
    return (*genome[:place], other, *genome[place + 1 :])


def one_point_crossover(a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
    """The beginning of `a` and, from the same place on, the end of `b`; as long as `b`.

    Both are 2 or longer; each has a part in the child.
    """
    cut = int(rng.integers(1, min(len(a), len(b))))
    return a[:cut] + b[cut:]


def uniform_crossover(a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
    """Each number from either parent, as likely as from the other; both are of one length."""
    picks = rng.integers(2, size=len(a))
    return tuple((x, y)[pick] for x, y, pick in zip(a, b, picks, strict=True))


def draw(weights: Sequence[float], rng: np.random.Generator) -> int:
    """An index, with a probability in proportion to its weight."""
    # ten times as fast as rng.choice(len(weights), p=weights), and weights need not sum to 1
    sums = list(accumulate(weights))
    return min(bisect(sums, rng.random() * sums[-1]), len(sums) - 1)
