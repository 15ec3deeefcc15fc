"""Hand-made networks as genomes: what a first generation begins with.

Each is in the style of its source, as near as stages come to it; its widths are proportions, which
the space scales to what a network may cost.
"""

from __future__ import annotations

from nanonas.core import Shape
from nanonas.networks.ops import Attribute
from nanonas.spaces.stages.genes import (
    MAX_STAGES,
    STAGE,
    WHOLE,
    Genes,
    StageGenes,
    stage_genes,
    whole_genes,
)
from nanonas.spaces.stages.prior import halvings

DRAWN_FOR = (3, 32, 32)  # the images that the networks below are written down for
# Of the parameters that a network is written down with: with less, it is better if its map is
# halved sooner; with more, some are and some are not (benchmarks/halvings.py).
STARVED = 0.35
_POOL, _STRIDED = STAGE["halve"].index("pool"), WHOLE["stem"].index("strided")


def _network(
    *stages: StageGenes,
    stem: str = "conv",
    stem_width: int = 16,
    activation: str = "relu",
    norm: str = "batch",
    head: str = "mean",
) -> Genes:
    whole = whole_genes(
        stem=stem, stem_width=stem_width, activation=activation, norm=norm, head=head
    )
    return Genes(whole, stages)


def _stage(width: int, halve: str = "none", depth: int = 0, **decisions: Attribute) -> StageGenes:
    return stage_genes(**{"enter": 3, "width": width, "halve": halve, "depth": depth, **decisions})


_GATED: dict[str, Attribute] = {
    "block": "mbconv",
    "expansion": 4,
    "kernel": 5,
    "attention": "squeeze_excite",
}
ANCESTORS: dict[str, Genes] = {
    # eight convolutions, those of a stage's own width with a skip around them; 247K at 32×32
    "residual": _network(
        _stage(32, depth=1, block="residual"),
        _stage(64, "pool", 2, block="residual"),
        _stage(96, "pool", 1, block="residual"),
        stem="pooled",
    ),
    # six convolutions and three pools: `reference.plain_242k`, a pool before its norm
    "plain": _network(
        _stage(32),
        _stage(48, "pool", 1, block="plain"),
        _stage(104, "pool", 1, block="plain"),
        stem="pooled",
    ),
    # residual blocks of two convolutions, as deep as a stage allows at little cost
    "double": _network(
        _stage(32, "pool", 1, block="double"),
        _stage(64, "pool", 1, block="double"),
        _stage(80, "pool", 1, block="residual"),
    ),
    # He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2
    "resnet": _network(
        _stage(16, depth=2, block="basic"),
        _stage(32, "stride", 2, block="basic"),
        _stage(64, "stride", 2, block="basic"),
    ),
    # Jordan 2024, https://arxiv.org/abs/2404.00498
    "airbench": _network(
        _stage(24, "pool", 1, block="plain"),
        _stage(72, "pool", 1, block="plain"),
        _stage(72, "pool", 1, block="plain"),
        stem_width=24,
        activation="gelu",
        head="max",
    ),
    # Sandler et al. 2018, https://arxiv.org/abs/1801.04381
    "mobilenetv2": _network(
        _stage(16, depth=1, enter=1, block="mbconv", expansion=3),
        _stage(24, "pool", 2, enter=1, block="mbconv", expansion=6),
        _stage(40, "pool", 3, enter=1, block="mbconv", expansion=6),
        stem="strided",
        head="wide",
    ),
    # Howard et al. 2019, https://arxiv.org/abs/1905.02244
    "mobilenetv3": _network(
        _stage(16, depth=1, enter=1, block="mbconv", expansion=2),
        _stage(24, "pool", 2, enter=1, **_GATED),
        _stage(48, "pool", 2, enter=1, **_GATED),
        stem="strided",
        activation="hardswish",
        head="wide",
    ),
    # Liu et al. 2022, https://arxiv.org/abs/2201.03545
    "convnext": _network(
        _stage(32, depth=2, enter=1, block="convnext", kernel=7, expansion=4),
        _stage(48, "fold", 3, enter=1, block="convnext", kernel=7, expansion=4),
        _stage(64, "fold", 2, enter=1, block="convnext", kernel=7, expansion=4),
        stem="folded",
        stem_width=32,
        activation="gelu",
        norm="layer",
    ),
    # quarters of the channels through depthwise convolutions of 3×3 to 7×7, then a 1×1 MLP
    "split": _network(
        _stage(32, depth=2, enter=1, block="split", kernel=7, expansion=2),
        _stage(48, "pool", 3, enter=1, block="split", kernel=7, expansion=3),
        _stage(64, "pool", 3, enter=1, block="split", kernel=7, expansion=3),
        stem="pooled",
        stem_width=32,
        activation="gelu",
    ),
}


def suited(genes: Genes, input_shape: Shape, drawn_for: Shape = DRAWN_FOR) -> Genes:
    """The genes for images of a shape: of smaller ones than they were drawn for the first halvings
    fall away, for larger ones stages that keep their map halve it; at most one stage is put in
    front.
    """
    surplus = halvings(drawn_for) - halvings(input_shape)
    while surplus > 0 and _halved(genes):
        genes, surplus = _with_first_halving_gone(genes), surplus - 1
    while surplus < 0 and (more := _with_one_halving_more(genes)) != genes:
        genes, surplus = more, surplus + 1
    return genes


def halved_sooner(genes: Genes, input_shape: Shape) -> Genes:
    """The genes with a stem that halves the map by a stride, and with one halving more than is best
    for images of a shape where nothing is scarce, in stages that have none: cheaper for its widths.
    """
    if not genes.whole.stem and _halved(genes):
        genes = _with_first_halving_gone(genes)
    if WHOLE["stem"][genes.whole.stem] != "folded":
        genes = genes._replace(whole=genes.whole._replace(stem=_STRIDED))
    while _halved(genes) <= halvings(input_shape) and not all(s.halve for s in genes.stages):
        genes = _with_one_halving_more(genes)
    return genes


def _halved(genes: Genes) -> int:
    return (genes.whole.stem > 0) + sum(stage.halve > 0 for stage in genes.stages)


def _with_first_halving_gone(genes: Genes) -> Genes:
    if genes.whole.stem:
        return genes._replace(whole=genes.whole._replace(stem=0))
    first = next(n for n, stage in enumerate(genes.stages) if stage.halve)
    return _with_halve(genes, first, 0)


def _with_one_halving_more(genes: Genes) -> Genes:
    """At the stem, else in the last stage that does not halve, else in a stage of its own."""
    if not genes.whole.stem:
        pooled = WHOLE["stem"].index("pooled")
        return genes._replace(whole=genes.whole._replace(stem=pooled))
    for n in reversed(range(len(genes.stages))):
        if not genes.stages[n].halve:
            return _with_halve(genes, n, _POOL)
    if len(genes.stages) == MAX_STAGES:
        return genes
    first = genes.stages[0]._replace(halve=_POOL, depth=0, width=genes.whole.stem_width)
    return Genes(genes.whole, (first, *genes.stages))


def _with_halve(genes: Genes, place: int, halve: int) -> Genes:
    stage = genes.stages[place]._replace(halve=halve)
    return Genes(genes.whole, (*genes.stages[:place], stage, *genes.stages[place + 1 :]))
