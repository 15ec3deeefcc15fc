"""The integers of one layer, and of a chain of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

from nanonas.core import Genome
from nanonas.errors import GenomeError
from nanonas.networks.ops import ACTIVATIONS, Attribute

MIN_LAYERS, MAX_LAYERS = 3, 20
DECISIONS: dict[str, tuple[Attribute, ...]] = {
    "kind": ("Conv2D", "MaxPool", "AvgPool", "BatchNorm", "Dropout", "Dense"),
    "filters": (8, 16, 24, 32, 48, 64, 96, 128, 192, 256),  # of a Conv2D
    "kernel": (1, 3, 5, 7),  # of a Conv2D
    "stride": (1, 2),  # of a Conv2D
    "activation": ("none", *ACTIVATIONS),  # of a Conv2D or Dense
    "separable": (False, True),  # a Conv2D depthwise, then 1×1; with kernel 1 the same as not
    "window": (2, 3),  # of a pool; its stride is 2
    "rate": (0.1, 0.2, 0.3, 0.5),  # of a Dropout
    "units": (32, 64, 128, 256),  # of a Dense
    "skip": tuple(range(MAX_LAYERS + 1)),  # how many layers back; 0: none
    "join": ("add", "concat"),  # how the skip ends
}
WIDTH = len(DECISIONS)  # integers a layer
NAMES = tuple(DECISIONS)
SIZES = tuple(len(options) for options in DECISIONS.values())
FILTERS = DECISIONS["filters"]
CONV, MAXPOOL, AVGPOOL, NORM, DROPOUT, DENSE = range(SIZES[0])
OPERATIONS = (  # that can be banned
    *(f"conv{kernel}x{kernel}" for kernel in DECISIONS["kernel"]),
    # separable, with kernel 1 it is the same
    *(f"sep_conv{kernel}x{kernel}" for kernel in DECISIONS["kernel"][1:]),
    *(kind.lower() for kind in map(str, DECISIONS["kind"][1:])),
    *(f"skip_{join}" for join in DECISIONS["join"]),
)


class Genes(NamedTuple):
    """The integers of one layer: positions in the options of `DECISIONS`, in its order."""

    kind: int
    filters: int
    kernel: int
    stride: int
    activation: int
    separable: int
    window: int
    rate: int
    units: int
    skip: int
    join: int


Chain = list[Genes]


class Layer(NamedTuple):
    """The decisions of one layer: the options that its genes stand for."""

    kind: str
    filters: int
    kernel: int
    stride: int
    activation: str
    separable: bool
    window: int
    rate: float
    units: int
    skip: int
    join: str

    @property
    def operation(self) -> str:
        """Its name in `OPERATIONS`."""
        if self.kind != "Conv2D":
            return self.kind.lower()
        separable = "sep_" if self.separable and self.kernel > 1 else ""
        return f"{separable}conv{self.kernel}x{self.kernel}"

    def __str__(self) -> str:
        """As in "Conv2D 64 3×3 /2 relu separable", without its skip."""
        activation = "" if self.activation == "none" else f" {self.activation}"
        if self.kind == "Conv2D":
            stride = f" /{self.stride}" if self.stride > 1 else ""
            separable = " separable" if self.separable and self.kernel > 1 else ""
            size = f"{self.filters} {self.kernel}×{self.kernel}"
            return f"Conv2D {size}{stride}{activation}{separable}"
        if self.kind == "Dense":
            return f"Dense {self.units}{activation}"
        if self.kind == "Dropout":
            return f"Dropout {self.rate}"
        if self.kind == "BatchNorm":
            return self.kind
        return f"{self.kind} {self.window}×{self.window} /2"


def described(number: int, layer: Layer, effect: bool) -> str:
    """Layer `number` (1-based) in a line, with the skip that ends at it."""
    if not effect:
        return f"{layer} (without effect)"
    if not layer.skip:
        return str(layer)
    source = number - layer.skip
    place = f"layer {source}" if source > 0 else "the image"
    return f"{layer}, {'+' if layer.join == 'add' else 'concat'} skip from {place}"


def read_layers(genome: Genome) -> list[Layer]:
    """The decisions of all layers. Raises `GenomeError`."""
    return [_read_layer(number, genes) for number, genes in enumerate(split(genome))]


def _read_layer(number: int, genes: Genes) -> Layer:
    """The decisions of layer `number` (0-based). Raises `GenomeError`."""
    for value, size, name in zip(genes, SIZES, NAMES, strict=True):
        if not 0 <= value < size:
            position = number * WIDTH + NAMES.index(name)
            raise GenomeError(
                f"position {position} of a genome of the space 'layers' (layer {number + 1}, "
                f"{name}) must be 0 to {size - 1}, one of {DECISIONS[name]}, but is {value}."
            )
    chosen = zip(DECISIONS.values(), genes, strict=True)
    return Layer._make(options[value] for options, value in chosen)


def split(genome: Sequence[int]) -> Chain:
    """A genome, layer by layer. Raises `GenomeError` unless it has whole layers, 3 to 20."""
    number, rest = divmod(len(genome), WIDTH)
    if rest or not MIN_LAYERS <= number <= MAX_LAYERS:
        raise GenomeError(
            f"a genome of the space 'layers' has {WIDTH} integers a layer and {MIN_LAYERS} to "
            f"{MAX_LAYERS} layers, {MIN_LAYERS * WIDTH} to {MAX_LAYERS * WIDTH} integers in steps "
            f"of {WIDTH}, but has {len(genome)}."
        )
    return [Genes._make(genome[n : n + WIDTH]) for n in range(0, len(genome), WIDTH)]


def joined(layers: Chain) -> Genome:
    """The genome of a chain."""
    return tuple(chain.from_iterable(layers))


def unit_end(layers: Chain, cut: int) -> int:
    """The place itself, or the next one where it lies inside a unit, before its norm."""
    inside = (
        0 < cut < len(layers) and layers[cut - 1].kind in (CONV, DENSE) and layers[cut].kind == NORM
    )
    return cut + inside
