"""Chains with widths that fill what a network may cost."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from functools import partial

from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.filling import fill
from nanonas.spaces.layers.genes import CONV, FILTERS, Chain


def scaled(layers: Chain, factor: float) -> Chain:
    """The filters of all convolutions times a factor, rounded down to numbers that there are."""

    def place(filters: int) -> int:
        return max(0, bisect_right(FILTERS, factor * float(FILTERS[filters]) + 1e-9) - 1)

    return [layer._replace(filters=place(layer.filters)) for layer in layers]


def filled(layers: Chain, limits: Limits, decode: Callable[[Chain], Network]) -> Chain:
    """The chain with as many filters, in their proportions, as the limits on counts leave room for;
    with the fewest that there are where no more meets them.
    """
    convolutions = [n for n, layer in enumerate(layers) if layer.kind == CONV]
    shape = partial(scaled, layers)
    return fill(shape, _wider, convolutions[::-1], limits, decode) or scaled(layers, 0)


def _wider(layers: Chain, place: int) -> Chain | None:
    """With one convolution of a step more filters."""
    layer = layers[place]
    if layer.filters + 1 == len(FILTERS):
        return None
    wider = layer._replace(filters=layer.filters + 1)
    return [*layers[:place], wider, *layers[place + 1 :]]
