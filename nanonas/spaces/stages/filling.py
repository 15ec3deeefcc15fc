"""Stages with widths that fill what a network may cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.filling import fill
from nanonas.spaces.stages.genes import STAGE, WIDTHS, Genes, nearest_width

Decode = Callable[[Genes], Network]


def scaled(genes: Genes, factor: float) -> Genes:
    """All widths times a factor, rounded down to widths that there are."""

    def width(place: int) -> int:
        return nearest_width(factor * WIDTHS[place] + 1e-9)

    whole = genes.whole._replace(stem_width=width(genes.whole.stem_width))
    stages = tuple(stage._replace(width=width(stage.width)) for stage in genes.stages)
    return Genes(whole, stages)


def filled(genes: Genes, limits: Limits, decode: Decode) -> Genes:
    """The genes with the largest widths, in their proportions, whose network meets the limits on
    counts; with fewer blocks where the smallest widths do not.

    Returns the genes as they are without such a limit, and the smallest that there are where
    nothing meets it.
    """
    if not limits.on_counts:
        return genes
    last_first = range(len(genes.stages))[::-1]
    while (found := fill(partial(scaled, genes), _wider, last_first, limits, decode)) is None:
        less = _shallower(genes)
        if less == genes:
            return scaled(genes, 0)
        genes = less
    return found


def _wider(genes: Genes, place: int) -> Genes | None:
    """With one stage a step wider."""
    stage = genes.stages[place]
    if stage.width + 1 == len(WIDTHS):
        return None
    wider = stage._replace(width=stage.width + 1)
    return genes._replace(stages=(*genes.stages[:place], wider, *genes.stages[place + 1 :]))


def _shallower(genes: Genes) -> Genes:
    """With one block less in the deepest stage; where no stage has one, with 1×1 convolutions."""
    deepest = max(range(len(genes.stages)), key=lambda n: genes.stages[n].depth)
    stages = list(genes.stages)
    if stages[deepest].depth:
        stages[deepest] = stages[deepest]._replace(depth=stages[deepest].depth - 1)
    else:
        stages = [stage._replace(enter=STAGE["enter"].index(1)) for stage in stages]
    return Genes(genes.whole, tuple(stages))
