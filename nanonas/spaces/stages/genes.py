"""The integers of a network of stages: those of the whole, then those of each stage."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from nanonas.core import Genome
from nanonas.errors import GenomeError
from nanonas.networks.ops import Attribute

MIN_STAGES, MAX_STAGES = 2, 5
MAX_DEPTH = 8

# small steps where widths are small, so that limits can be filled
WIDTHS: tuple[int, ...] = (
    *range(4, 16, 2),
    *range(16, 64, 4),
    *range(64, 256, 8),
    *range(256, 1025, 32),
)

WHOLE: dict[str, tuple[Attribute, ...]] = {
    "stem": ("conv", "pooled", "strided", "folded"),  # how the image is first read
    "stem_width": WIDTHS,
    "activation": ("relu", "silu", "gelu", "hardswish"),
    "norm": ("batch", "group", "layer"),
    "head": ("mean", "max", "wide"),  # what the classifier reads of the last map
}
STAGE: dict[str, tuple[Attribute, ...]] = {
    "halve": ("none", "pool", "stride", "fold"),  # how the map shrinks as the stage begins
    "enter": (1, 3),  # kernel of the convolution that the stage begins with
    "width": WIDTHS,
    "depth": tuple(range(MAX_DEPTH + 1)),  # blocks after it
    "block": (
        "plain",
        "residual",
        "double",
        "basic",
        "bottleneck",
        "mbconv",
        "convnext",
        "split",
    ),
    "kernel": (3, 5, 7),
    "expansion": (1, 2, 3, 4, 6),
    "attention": ("none", "squeeze_excite", "channel", "spatial"),
}
BLOCKS = STAGE["block"]
# which blocks have an inner width that the expansion decides
EXPANDED = frozenset({"bottleneck", "mbconv", "convnext", "split"})


class WholeGenes(NamedTuple):
    """The integers of the whole: positions in the options of `WHOLE`, in its order."""

    stem: int
    stem_width: int
    activation: int
    norm: int
    head: int


class StageGenes(NamedTuple):
    """The integers of one stage: positions in the options of `STAGE`, in its order."""

    halve: int
    enter: int
    width: int
    depth: int
    block: int
    kernel: int
    expansion: int
    attention: int


class Genes(NamedTuple):
    """A genome, taken apart."""

    whole: WholeGenes
    stages: tuple[StageGenes, ...]

    @property
    def joined(self) -> Genome:
        """The genome."""
        return (*self.whole, *chain.from_iterable(self.stages))


class Whole(NamedTuple):
    """The decisions of the whole: the options that its genes stand for."""

    stem: str
    stem_width: int
    activation: str
    norm: str
    head: str


class Stage(NamedTuple):
    """The decisions of one stage: the options that its genes stand for."""

    halve: str
    enter: int
    width: int
    depth: int
    block: str
    kernel: int
    expansion: int
    attention: str

    def __str__(self) -> str:
        """As in "64 wide, halved by a pool, 2 × residual 3×3"."""
        halved = {"none": "", "pool": ", pooled", "stride": ", strided", "fold": ", folded"}
        enter = f"{self.enter}×{self.enter} to {self.width}{halved[self.halve]}"
        if not self.depth:
            return enter
        expansion = f" ×{self.expansion}" if self.block in EXPANDED else ""
        attention = {
            "none": "",
            "squeeze_excite": " with squeeze-excite",
            "channel": " with channel attention",
            "spatial": " with spatial attention",
        }
        block = f"{self.block} {self.kernel}×{self.kernel}{expansion}"
        return f"{enter}, {self.depth} {block}{attention[self.attention]}"


def split(genome: Genome) -> Genes:
    """A genome, taken apart. Raises `GenomeError` unless it has whole stages, 2 to 5."""
    whole, each = len(WHOLE), len(STAGE)
    number, rest = divmod(len(genome) - whole, each)
    if rest or not MIN_STAGES <= number <= MAX_STAGES:
        raise GenomeError(
            f"a genome of the space 'stages' has {whole} integers for the whole and {each} for "
            f"each of {MIN_STAGES} to {MAX_STAGES} stages, {whole + MIN_STAGES * each} to "
            f"{whole + MAX_STAGES * each} integers in steps of {each}, but has {len(genome)}."
        )
    starts = range(whole, len(genome), each)
    stages = tuple(StageGenes._make(genome[n : n + each]) for n in starts)
    return Genes(WholeGenes._make(genome[:whole]), stages)


def read(genome: Genome) -> tuple[Whole, list[Stage]]:
    """The decisions of a genome. Raises `GenomeError`."""
    genes = split(genome)
    whole = Whole._make(_chosen(WHOLE, genes.whole, 0, "the whole"))
    stages = [
        Stage._make(_chosen(STAGE, stage, len(WHOLE) + n * len(STAGE), f"stage {n + 1}"))
        for n, stage in enumerate(genes.stages)
    ]
    return whole, stages


def _chosen(
    decisions: Mapping[str, tuple[Attribute, ...]], genes: Sequence[int], start: int, of: str
) -> list[Attribute]:
    """The options that the genes, `start` and following of a genome, stand for."""
    for place, (value, (name, options)) in enumerate(zip(genes, decisions.items(), strict=True)):
        if not 0 <= value < len(options):
            raise GenomeError(
                f"position {start + place} of a genome of the space 'stages' ({of}, {name}) must "
                f"be 0 to {len(options) - 1}, but is {value}; `nanonas spaces` lists the options."
            )
    return [options[value] for value, options in zip(genes, decisions.values(), strict=True)]


def whole_genes(**decisions: Attribute) -> WholeGenes:
    """The integers of decisions of the whole, all of `WHOLE`."""
    return WholeGenes._make(WHOLE[name].index(decisions[name]) for name in WHOLE)


def stage_genes(**decisions: Attribute) -> StageGenes:
    """The integers of a stage's decisions; those that are left out are the first of `STAGE`."""
    return StageGenes._make(
        options.index(decisions.get(name, options[0])) for name, options in STAGE.items()
    )


def deployable(genes: Genes) -> Genes:
    """The genes with what has a form in 8-bit integers in place of what has none: batch norms, and
    no attention.
    """
    whole = genes.whole._replace(norm=WHOLE["norm"].index("batch"))
    none = STAGE["attention"].index("none")
    return Genes(whole, tuple(stage._replace(attention=none) for stage in genes.stages))


def nearest_width(width: float) -> int:
    """The place in `WIDTHS` of the largest that is not above `width`; 0 where all are."""
    return max(0, bisect_right(WIDTHS, width) - 1)
