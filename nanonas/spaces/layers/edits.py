"""What a mutation does to a chain."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nanonas.spaces.choices import draw
from nanonas.spaces.layers.genes import (
    CONV,
    MAX_LAYERS,
    MIN_LAYERS,
    NAMES,
    SIZES,
    WIDTH,
    Chain,
    Genes,
    unit_end,
)
from nanonas.spaces.layers.prior import NORMED, PRIOR, SKIPPED, random_layer, random_unit

RATES = (1.0, 1.0, 2.0, 1.0)  # of mutation: add, remove, change, skip
ANOTHER_EDIT = 0.3  # probability that a child gets one more edit after each; 1.4 on average


def clipped(chain: Chain) -> Chain:
    """Skips that would begin before the image begin at the image."""
    return [genes._replace(skip=n) if genes.skip > n else genes for n, genes in enumerate(chain, 1)]


def insert(chain: Chain, place: int, genes: Genes) -> Chain:
    """The chain with a layer after `place` (0: first).

    Skips that span it still come from the same layer.
    """
    later = [
        layer._replace(skip=layer.skip + 1) if layer.skip >= n else layer
        for n, layer in enumerate(chain[place:], 1)
    ]
    return clipped([*chain[:place], genes, *later])


def remove(chain: Chain, place: int) -> Chain:
    """The chain without layer `place` (0: the first). Skips that span it still come from the same
    layer.

    What came from the layer itself comes from its input.
    """
    later = [
        layer._replace(skip=layer.skip - 1) if layer.skip > n else layer
        for n, layer in enumerate(chain[place + 1 :], 1)
    ]
    return clipped([*chain[:place], *later])


def _add_layer(chain: Chain, rng: np.random.Generator) -> Chain:
    """Inserts a layer; a convolution is as wide as the one before it, keeps the size, and brings
    its norm.
    """
    place = unit_end(chain, int(rng.integers(len(chain) + 1)))
    new = [random_layer(rng)]
    if new[0].kind == CONV and rng.random() < NORMED:
        new = random_unit(rng, stride=0, **_of_last_convolution(chain[:place]))
        skip = len(new) if rng.random() < SKIPPED else 0
        new[-1] = new[-1]._replace(skip=skip)
    if len(chain) + len(new) > MAX_LAYERS:
        return chain
    for genes in reversed(new):
        chain = insert(chain, place, genes)
    return chain


def _of_last_convolution(chain: Chain) -> dict[str, int]:
    """The decisions that a new convolution takes over from the one before it."""
    for genes in reversed(chain):
        if genes.kind == CONV:
            return {"filters": genes.filters, "activation": genes.activation}
    return {}


def _remove_layer(chain: Chain, rng: np.random.Generator) -> Chain:
    """Removes a layer, a convolution or Dense together with its norm."""
    place = int(rng.integers(len(chain)))
    number = 1 + (unit_end(chain, place + 1) > place + 1)
    if len(chain) - number < MIN_LAYERS:
        return chain
    for _ in range(number):
        chain = remove(chain, place)
    return chain


def _change_decision(chain: Chain, rng: np.random.Generator) -> Chain:
    """Another option for one decision of one layer; widths move by one or two options, kinds follow
    the prior.
    """
    place, decision = int(rng.integers(len(chain))), int(rng.integers(WIDTH))
    name, old, size = NAMES[decision], chain[place][decision], SIZES[decision]
    if name in ("filters", "units"):
        others = [value for value in range(max(0, old - 2), min(size, old + 3)) if value != old]
        new = others[int(rng.integers(len(others)))]
    else:
        weights = [0.0 if value == old else weight for value, weight in enumerate(PRIOR[name])]
        new = draw(weights, rng)
    return [*chain[:place], chain[place]._replace(**{name: new}), *chain[place + 1 :]]


def _toggle_skip(chain: Chain, rng: np.random.Generator) -> Chain:
    """Takes a layer's skip away, or gives it one from a place before it, near ones more often."""
    place = int(rng.integers(len(chain)))
    skip = 0 if chain[place].skip else min(int(rng.geometric(0.4)), place + 1)
    genes = chain[place]._replace(skip=skip, join=draw(PRIOR["join"], rng))
    return [*chain[:place], genes, *chain[place + 1 :]]


EDITS: tuple[Callable[[Chain, np.random.Generator], Chain], ...] = (  # in the order of RATES
    _add_layer,
    _remove_layer,
    _change_decision,
    _toggle_skip,
)
