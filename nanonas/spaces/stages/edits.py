"""What a mutation does to the genes of a network, before they are filled again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nanonas.spaces.choices import draw
from nanonas.spaces.stages.genes import (
    BLOCKS,
    EXPANDED,
    MAX_DEPTH,
    MAX_STAGES,
    MIN_STAGES,
    STAGE,
    WHOLE,
    WIDTHS,
    Genes,
    StageGenes,
    nearest_width,
)
from nanonas.spaces.stages.prior import PRIOR, random_block, random_stage

ANOTHER_EDIT = 0.3  # probability that a child gets one more edit after each; 1.4 on average
_RESHAPED = (0.67, 0.8, 1.25, 1.5)  # factors of a stage's width


def _other(name: str, old: int, rng: np.random.Generator, options: int) -> int:
    """Another option than the old one, as the prior has it; all alike where it has nothing."""
    weights = PRIOR.get(name, (1.0,) * options)
    return draw([0.0 if n == old else weight + 0.02 for n, weight in enumerate(weights)], rng)


def _deepen(stage: StageGenes, rng: np.random.Generator) -> StageGenes:
    """One block more or less."""
    step = 1 if rng.random() < 0.5 else -1
    return stage._replace(depth=min(MAX_DEPTH, max(0, stage.depth + step)))


def _reshape(stage: StageGenes, rng: np.random.Generator) -> StageGenes:
    """Wider or narrower against the others, by one option at least."""
    factor = _RESHAPED[int(rng.integers(len(_RESHAPED)))]
    place = nearest_width(factor * WIDTHS[stage.width])
    if place == stage.width:
        place += 1 if factor > 1 else -1
    return stage._replace(width=min(len(WIDTHS) - 1, max(0, place)))


def _rebuild(stage: StageGenes, rng: np.random.Generator) -> StageGenes:
    """Blocks of another kind."""
    block = _other("block", stage.block, rng, len(BLOCKS))
    return stage._replace(**random_block(rng, block))


def _change(stage: StageGenes, rng: np.random.Generator) -> StageGenes:
    """Another option for what its blocks have of kernel, expansion and attention, or for how the
    stage begins.
    """
    names = ["kernel", "attention", "halve", "enter"]
    if BLOCKS[stage.block] in EXPANDED:
        names.append("expansion")
    name = names[int(rng.integers(len(names)))]
    old = getattr(stage, name)
    return stage._replace(**{name: _other(name, old, rng, len(STAGE[name]))})


def _edit_stage(edit: Callable[[StageGenes, np.random.Generator], StageGenes]) -> Edit:
    """The edit of one stage, each as likely as the others."""

    def edited(genes: Genes, rng: np.random.Generator) -> Genes:
        place = int(rng.integers(len(genes.stages)))
        stage = edit(genes.stages[place], rng)
        return Genes(genes.whole, (*genes.stages[:place], stage, *genes.stages[place + 1 :]))

    return edited


def _change_whole(genes: Genes, rng: np.random.Generator) -> Genes:
    """Another option for one decision of the whole; the stem's width moves by one or two."""
    place = int(rng.integers(len(WHOLE)))
    name = list(WHOLE)[place]
    old = genes.whole[place]
    if name == "stem_width":
        step = int(rng.integers(1, 3)) * (1 if rng.random() < 0.5 else -1)
        new = min(len(WIDTHS) - 1, max(0, old + step))
    elif name == "stem":
        new = draw([float(n != old) for n in range(len(WHOLE[name]))], rng)
    else:
        new = _other(name, old, rng, len(WHOLE[name]))
    return genes._replace(whole=genes.whole._replace(**{name: new}))


def _add_or_remove(genes: Genes, rng: np.random.Generator) -> Genes:
    """One stage more, which keeps the size of the map and its width, or one less; then a stage
    beside it halves instead.
    """
    stages = list(genes.stages)
    if rng.random() < 0.5 and len(stages) < MAX_STAGES:
        place = int(rng.integers(len(stages)))
        before = stages[place]
        stages.insert(place + 1, random_stage(rng, 0, WIDTHS[before.width], before.block))
    elif len(stages) > MIN_STAGES:
        place = int(rng.integers(len(stages)))
        gone = stages.pop(place)
        heir = min(place, len(stages) - 1)
        if gone.halve and not stages[heir].halve:
            stages[heir] = stages[heir]._replace(halve=gone.halve)
    return Genes(genes.whole, tuple(stages))


Edit = Callable[[Genes, np.random.Generator], Genes]

EDITS: tuple[tuple[float, Edit], ...] = (  # with their relative rates
    (3.0, _edit_stage(_deepen)),
    (3.0, _edit_stage(_reshape)),
    (2.0, _edit_stage(_rebuild)),
    (3.0, _edit_stage(_change)),
    (2.0, _change_whole),
    (1.0, _add_or_remove),
)


def edited(genes: Genes, rng: np.random.Generator) -> Genes:
    """The genes with one edit or more."""
    rates = [rate for rate, _ in EDITS]
    genes = EDITS[draw(rates, rng)][1](genes, rng)
    while rng.random() < ANOTHER_EDIT:
        genes = EDITS[draw(rates, rng)][1](genes, rng)
    return genes
