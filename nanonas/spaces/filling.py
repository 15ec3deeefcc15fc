"""Widths that fill what a network may cost, for spaces whose genes have widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

from nanonas.networks.limits import Limits
from nanonas.networks.network import Network

ENOUGH = 0.97  # of a limit: a search for more would win a fraction of one width
_LARGE = 1e6  # a factor that makes all widths the largest that there are
_TRIES = 9  # networks that are drawn for one filling, at most

Genes = TypeVar("Genes")


def fill(
    scaled: Callable[[float], Genes],
    wider: Callable[[Genes, int], Genes | None],
    places: Iterable[int],
    limits: Limits,
    decode: Callable[[Genes], Network],
) -> Genes | None:
    """The genes with the largest widths, in their proportions, whose network meets the limits on
    counts; None where the smallest do not.

    Args:
        scaled: the genes with all widths times a factor, rounded down to widths that there are.
        wider: genes with the width at a place one step larger; None where it is the largest.
        places: whose widths use up what rounding has left, the first ones first.
        limits: on counts, one at least.
        decode: draws the network of genes.
    """
    genes = _widest(scaled, limits, decode)
    if genes is None or limits.excess(decode(genes)) >= ENOUGH:
        return genes
    for place in places:
        tried = wider(genes, place)
        if tried is not None and limits.excess(decode(tried)) <= 1:
            genes = tried
    return genes


def _widest(
    scaled: Callable[[float], Genes], limits: Limits, decode: Callable[[Genes], Network]
) -> Genes | None:
    """By bisection of the factor."""
    best, largest, factor = scaled(0.0), scaled(_LARGE), 1.0
    if limits.excess(decode(best)) > 1:
        return None
    low, high = 0.0, math.inf  # a factor that meets the limits, and one that does not
    for _ in range(_TRIES):
        tried = scaled(factor)
        excess = limits.excess(decode(tried))
        if excess <= 1:
            best, low = tried, factor
            if excess >= ENOUGH or tried == largest:
                break
        else:
            high = factor
        if low and high < math.inf:
            factor = math.sqrt(low * high)
        else:  # costs grow with the square of the widths, about
            guess = factor / math.sqrt(excess)
            factor = max(guess, 1.1 * factor) if low else min(guess, factor / 1.1)
    return best
