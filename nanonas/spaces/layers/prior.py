"""What a random chain looks like."""

from __future__ import annotations

import math

import numpy as np

from nanonas.core import Shape
from nanonas.spaces.choices import draw
from nanonas.spaces.layers.genes import (
    AVGPOOL,
    CONV,
    DENSE,
    DROPOUT,
    FILTERS,
    MAX_LAYERS,
    MAXPOOL,
    MIN_LAYERS,
    NAMES,
    NORM,
    Chain,
    Genes,
)

# What `random_chain` believes about networks that train well: weights in the order of the options,
# for all that is not drawn along the chain. The figures are the habits of hand-made small CNNs, not
# a fit to any benchmark.
PRIOR: dict[str, tuple[float, ...]] = {
    "kind": (0.55, 0.10, 0.05, 0.15, 0.10, 0.05),  # of a layer that a mutation adds or changes
    # where no neighbour decides it
    "filters": (0.05, 0.15, 0.20, 0.25, 0.15, 0.10, 0.05, 0.03, 0.01, 0.01),
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
# probability that a convolution has a skip, over itself or up to two units before it
SKIPPED = 0.35
DROPPED = 0.03  # probability that a Dropout follows a convolution
DENSE_END = 0.05  # probability that the chain ends in a Dense
OWN_ACTIVATION = 0.1  # probability that a convolution departs from its network's activation


def random_layer(rng: np.random.Generator, **decisions: int) -> Genes:
    """A layer as the prior has it, but for the decisions that are given (as positions in their
    options).
    """
    return Genes._make(
        decisions[name] if name in decisions else draw(PRIOR[name], rng) for name in NAMES
    )


def random_unit(rng: np.random.Generator, **decisions: int) -> Chain:
    """A convolution without a skip and, usually, its norm."""
    unit = [random_layer(rng, **{"kind": CONV, "skip": 0, **decisions})]
    if rng.random() < NORMED:
        unit.append(random_layer(rng, kind=NORM, skip=0))
    return unit


def random_chain(input_shape: Shape, rng: np.random.Generator) -> Chain:
    """A chain like a sensible CNN: convolutions with norms, wider as the map shrinks."""
    depth = int(rng.triangular(MIN_LAYERS, DEPTH_MODE, MAX_LAYERS + 1))
    halvings = max(0, int(math.log2(min(input_shape[1:]) / FINAL_SIZE)))
    if halvings > 1 and rng.random() < ONE_HALVING_LESS:
        halvings -= 1
    width = draw(FIRST_WIDTH, rng)
    activation = draw((0, *PRIOR["activation"][1:]), rng)
    chain: Chain = []
    ends = [0]  # the places that skips come from: where units ended
    done = 0  # halvings
    while len(chain) < depth:
        strided = False
        if done < int((halvings + 1) * len(chain) / depth):  # a halving is due
            halver = draw(HALVED_BY, rng)
            done += 1
            width = min(width + draw(WIDER, rng), len(FILTERS) - 1)
            strided = halver == 0
            if not strided:
                pool = (MAXPOOL, AVGPOOL)[halver - 1]
                chain.append(random_layer(rng, kind=pool, skip=0))
                ends.append(len(chain))
        departs = rng.random() < OWN_ACTIVATION
        shared = {} if departs else {"activation": activation}
        chain += random_unit(rng, filters=width, stride=int(strided), **shared)
        if rng.random() < SKIPPED:
            source = ends[-1 - int(rng.integers(min(3, len(ends))))]
            chain[-1] = chain[-1]._replace(skip=len(chain) - source)
        ends.append(len(chain))
        if rng.random() < DROPPED:
            chain.append(random_layer(rng, kind=DROPOUT, skip=0))
    chain = chain[:depth]
    if rng.random() < DENSE_END:
        chain[-1] = random_layer(rng, kind=DENSE, skip=0)
    return chain
