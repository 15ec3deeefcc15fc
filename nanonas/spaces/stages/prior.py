"""What a random network of stages looks like.

The weights are the habits of hand-made small CNNs, not a fit to any benchmark.
"""

from __future__ import annotations

import math

import numpy as np

from nanonas.core import Shape
from nanonas.spaces.choices import draw
from nanonas.spaces.stages.genes import (
    BLOCKS,
    EXPANDED,
    MAX_DEPTH,
    MAX_STAGES,
    MIN_STAGES,
    Genes,
    StageGenes,
    WholeGenes,
    nearest_width,
)

FINAL_SIZE = 4  # pixels a side that the halvings aim at: three of them at 32×32, one at 8×8
ONE_HALVING_LESS = 0.3  # probability, where there is more than one
HALVED_AT_STEM = 0.4  # probability that the first halving is the stem's
UNHALVED_FIRST = 0.6  # probability that there is a stage before the halvings
OWN_BLOCK = 0.2  # probability that a stage departs from its network's block
FIRST_WIDTH = 16.0  # of the stem, before all widths are scaled
WIDER = (1.0, 1.5, 2.0)  # from stage to stage

PRIOR: dict[str, tuple[float, ...]] = {  # in the order of the options
    "stem": (0.0, 0.5, 0.25, 0.25),  # of one that halves
    "activation": (0.6, 0.2, 0.1, 0.1),
    "norm": (0.92, 0.04, 0.04),
    "head": (0.7, 0.15, 0.15),
    "halve": (0.0, 0.55, 0.25, 0.2),  # of a stage that halves
    "enter": (0.2, 0.8),
    "depth": (0.15, 0.3, 0.3, 0.15, 0.1, *(0.0,) * (MAX_DEPTH - 4)),
    "block": (0.1, 0.3, 0.15, 0.15, 0.06, 0.1, 0.08, 0.06),
    "kernel": (0.85, 0.1, 0.05),
    "depthwise kernel": (0.4, 0.35, 0.25),
    "expansion": (0.1, 0.3, 0.25, 0.25, 0.1),
    "attention": (0.8, 0.1, 0.05, 0.05),
    "wider": (0.15, 0.4, 0.45),
}
DEPTHWISE = frozenset({"mbconv", "convnext", "split"})
CHEAP_ENTRANCE = 0.6  # probability that a stage of these blocks begins with a 1×1 convolution


def halvings(input_shape: Shape) -> int:
    """How often the map of an image is halved at best: until its smaller side is 4 to 7 pixels."""
    least = 0.3  # 28×28, a little less than 3.2 halvings, is treated as 32×32
    return max(0, min(MAX_STAGES, int(math.log2(min(input_shape[1:]) / FINAL_SIZE) + least)))


def random_block(rng: np.random.Generator, block: int | None = None) -> dict[str, int]:
    """The genes of a stage that say what its blocks are; `block` is drawn where it is None."""
    chosen = draw(PRIOR["block"], rng) if block is None else block
    depthwise = BLOCKS[chosen] in DEPTHWISE
    return {
        "block": chosen,
        "kernel": draw(PRIOR["depthwise kernel" if depthwise else "kernel"], rng),
        "expansion": draw(PRIOR["expansion"], rng) if BLOCKS[chosen] in EXPANDED else 0,
        "attention": draw(PRIOR["attention"], rng),
    }


def random_stage(
    rng: np.random.Generator, halve: int, width: float, block: int | None = None
) -> StageGenes:
    """A stage of a width; `halve` is its gene."""
    blocks = random_block(rng, block)
    enter = draw(PRIOR["enter"], rng)
    if BLOCKS[blocks["block"]] in DEPTHWISE:
        enter = int(rng.random() >= CHEAP_ENTRANCE)
    depth = draw(PRIOR["depth"], rng)
    return StageGenes(halve=halve, enter=enter, width=nearest_width(width), depth=depth, **blocks)


def random_network(input_shape: Shape, rng: np.random.Generator) -> Genes:
    """A network like a sensible CNN, wider as the map shrinks; its size means nothing yet."""
    halved = halvings(input_shape)
    if halved > 1 and rng.random() < ONE_HALVING_LESS:
        halved -= 1
    at_stem = halved > MAX_STAGES - 1 or (halved > 1 and rng.random() < HALVED_AT_STEM)
    in_stages = halved - at_stem
    unhalved = int(rng.random() < UNHALVED_FIRST)
    number = min(MAX_STAGES, max(MIN_STAGES, in_stages + unhalved))
    block = draw(PRIOR["block"], rng)
    width, stages = FIRST_WIDTH, []
    for n in range(number):
        width *= WIDER[draw(PRIOR["wider"], rng)]
        halve = draw(PRIOR["halve"], rng) if n >= number - in_stages else 0
        shared = None if rng.random() < OWN_BLOCK else block
        stages.append(random_stage(rng, halve, width, shared))
    whole = WholeGenes(
        stem=draw(PRIOR["stem"], rng) if at_stem else 0,
        stem_width=nearest_width(FIRST_WIDTH),
        activation=draw(PRIOR["activation"], rng),
        norm=draw(PRIOR["norm"], rng),
        head=draw(PRIOR["head"], rng),
    )
    return Genes(whole, tuple(stages))
