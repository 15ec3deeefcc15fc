"""What a random chain looks like."""

from __future__ import annotations

import numpy as np

from nanonas.spaces.choices import draw
from nanonas.spaces.layers.genes import CONV, MAX_LAYERS, NAMES, NORM, Chain, Genes

# What `sample` believes about networks that train well: weights in the order of the options, for
# all that is not drawn along the chain. The figures are the habits of hand-made small CNNs, not a
# fit to any benchmark.
PRIOR: dict[str, tuple[float, ...]] = {
    "kind": (0.55, 0.10, 0.05, 0.15, 0.10, 0.05),  # of a layer that a mutation adds or changes
    "filters": (
        0.05,
        0.15,
        0.20,
        0.25,
        0.15,
        0.10,
        0.05,
        0.03,
        0.01,
        0.01,
    ),  # where no neighbour says otherwise
    "kernel": (0.08, 0.80, 0.09, 0.03),
    "stride": (0.95, 0.05),
    "activation": (0.02, 0.50, 0.10, 0.14, 0.14, 0.10),
    "separable": (0.85, 0.15),
    "window": (0.6, 0.4),
    "rate": (0.5, 0.3, 0.15, 0.05),
    "units": (0.1, 0.3, 0.4, 0.2),
    "skip": (0.8, *(0.2 * 0.5 ** (n + 1) for n in range(MAX_LAYERS))),
    "join": (0.8, 0.2),
}
DEPTH_MODE = 14  # of the triangular distribution of depths
FINAL_SIZE = 4  # pixels a side that the halvings aim at: three of them at 32×32, one at 8×8
ONE_HALVING_LESS = 0.3  # probability, where there is more than one
NORMED = 0.92  # probability that a Conv2D is followed by a BatchNorm
HALVED_BY = (0.45, 0.40, 0.15)  # stride, MaxPool, AvgPool
FIRST_WIDTH = (0, 0.25, 0.4, 0.25, 0.1)  # of the first Conv2D, in the order of the filters
WIDER = (0.1, 0.35, 0.45, 0.1)  # how many options wider after a halving: 0, 1, 2, 3
SKIPPED = (
    0.35  # probability that a convolution has a skip, over itself or up to two units before it
)
DROPPED = 0.03  # probability that a Dropout follows a convolution
DENSE_END = 0.05  # probability that the chain ends in a Dense
OWN_ACTIVATION = 0.1  # probability that a convolution departs from its network's activation


def random_layer(rng: np.random.Generator, **decisions: int) -> Genes:
    """A layer as the prior has it, but for the decisions that are given (as indices into their
    options).
    """
    return tuple(decisions[name] if name in decisions else draw(PRIOR[name], rng) for name in NAMES)


def random_unit(rng: np.random.Generator, **decisions: int) -> Chain:
    """A convolution without a skip and, usually, its norm."""
    unit = [random_layer(rng, **{"kind": CONV, "skip": 0, **decisions})]
    if rng.random() < NORMED:
        unit.append(random_layer(rng, kind=NORM, skip=0))
    return unit
