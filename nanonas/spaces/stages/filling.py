"""Widths that fill what a network may cost."""

from __future__ import annotations

import math
from collections.abc import Callable

from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.stages.genes import STAGE, WIDTHS, Genes, nearest_width

Decode = Callable[[Genes], Network]

ENOUGH = 0.97  # of a limit: a search for more would win a fraction of one width
_TRIES = 9  # networks that are drawn for one filling, at most


def scaled(genes: Genes, factor: float) -> Genes:
    """All widths times a factor, rounded down to widths that there are."""

    def width(place: int) -> int:
        return nearest_width(factor * WIDTHS[place] + 1e-9)

    whole = genes.whole._replace(stem_width=width(genes.whole.stem_width))
    stages = tuple(stage._replace(width=width(stage.width)) for stage in genes.stages)
    return Genes(whole, stages)


def filled(genes: Genes, limits: Limits, decode: Decode) -> Genes:
    """The genes with the largest widths, in their proportions, whose network meets the limits on
    parameters and MACs; with fewer blocks where the smallest widths do not.

    Returns the genes as they are without such a limit, and the smallest that there are where
    nothing meets it.
    """
    if not limits.on_counts:
        return genes
    while limits.excess(decode(scaled(genes, 0))) > 1:
        less = _shallower(genes)
        if less == genes:
            return scaled(genes, 0)
        genes = less
    return _widened(_widest(genes, limits, decode), limits, decode)


def _widest(genes: Genes, limits: Limits, decode: Decode) -> Genes:
    """By bisection of the factor; the smallest widths meet the limits."""
    best, factor = scaled(genes, 0), 1.0
    low, high = 0.0, math.inf  # a factor that meets the limits, and one that does not
    for _ in range(_TRIES):
        tried = scaled(genes, factor)
        excess = limits.excess(decode(tried))
        if excess <= 1:
            best, low = tried, factor
            if excess >= ENOUGH or all(stage.width == len(WIDTHS) - 1 for stage in tried.stages):
                break
        else:
            high = factor
        if low and high < math.inf:
            factor = math.sqrt(low * high)
        else:  # costs grow with the square of the widths, about
            guess = factor / math.sqrt(excess)
            factor = max(guess, 1.1 * factor) if low else min(guess, factor / 1.1)
    return best


def _widened(genes: Genes, limits: Limits, decode: Decode) -> Genes:
    """With single widths a step larger, the last stages first, as long as the limits are met: it
    uses up what rounding has left.
    """
    if limits.excess(decode(genes)) >= ENOUGH:
        return genes
    for n in reversed(range(len(genes.stages))):
        stage = genes.stages[n]
        if stage.width + 1 < len(WIDTHS):
            wider = stage._replace(width=stage.width + 1)
            tried = genes._replace(stages=(*genes.stages[:n], wider, *genes.stages[n + 1 :]))
            if limits.excess(decode(tried)) <= 1:
                genes = tried
    return genes


def _shallower(genes: Genes) -> Genes:
    """With one block less in the deepest stage; where no stage has one, with 1×1 convolutions."""
    deepest = max(range(len(genes.stages)), key=lambda n: genes.stages[n].depth)
    stages = list(genes.stages)
    if stages[deepest].depth:
        stages[deepest] = stages[deepest]._replace(depth=stages[deepest].depth - 1)
    else:
        stages = [stage._replace(enter=STAGE["enter"].index(1)) for stage in stages]
    return Genes(genes.whole, tuple(stages))
