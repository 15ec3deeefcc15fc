"""The integers of one layer, and of a chain of them."""

from __future__ import annotations

from collections.abc import Sequence
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
OPERATIONS = (  # what people may ban
    *(f"conv{kernel}x{kernel}" for kernel in DECISIONS["kernel"]),
    *(
        f"sep_conv{kernel}x{kernel}" for kernel in DECISIONS["kernel"][1:]
    ),  # separable, with kernel 1 it is the same
    *(kind.lower() for kind in map(str, DECISIONS["kind"][1:])),
    *(f"skip_{join}" for join in DECISIONS["join"]),
)


class Layer(NamedTuple):
    """The decisions of one layer, in the order of `DECISIONS`."""

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


Genes = tuple[int, ...]  # the integers of one layer
Chain = list[Genes]


def operation_of(layer: Layer) -> str:
    """The layer's name in `OPERATIONS`."""
    if layer.kind != "Conv2D":
        return layer.kind.lower()
    separable = "sep_" if layer.separable and layer.kernel > 1 else ""
    return f"{separable}conv{layer.kernel}x{layer.kernel}"


def is_unit(layers: Sequence[Layer], n: int) -> bool:
    """Whether layer n takes the next one, a BatchNorm, before its activation."""
    return (
        layers[n].kind in ("Conv2D", "Dense")
        and n + 1 < len(layers)
        and layers[n + 1].kind == "BatchNorm"
    )


def read_layer(number: int, genes: Genes) -> Layer:
    """What the integers of layer `number` (0-based) say."""
    for value, size, name in zip(genes, SIZES, NAMES, strict=True):
        if not 0 <= value < size:
            position = number * WIDTH + NAMES.index(name)
            raise GenomeError(
                f"position {position} of a genome of the space 'layers' (layer {number + 1}, "
                f"{name}) must be "
                f"0 to {size - 1}, one of {DECISIONS[name]}, but is {value}."
            )
    return Layer._make(
        options[value] for options, value in zip(DECISIONS.values(), genes, strict=True)
    )


def line(number: int, layer: Layer, effect: bool) -> str:
    if layer.kind == "Conv2D":
        stride = f" /{layer.stride}" if layer.stride > 1 else ""
        activation = "" if layer.activation == "none" else f" {layer.activation}"
        separable = " separable" if layer.separable and layer.kernel > 1 else ""
        line = (
            f"Conv2D {layer.filters} {layer.kernel}×{layer.kernel}{stride}{activation}{separable}"
        )
    elif layer.kind == "Dense":
        line = f"Dense {layer.units}" + (
            "" if layer.activation == "none" else f" {layer.activation}"
        )
    elif layer.kind == "Dropout":
        line = f"Dropout {layer.rate}"
    else:
        line = (
            layer.kind
            if layer.kind == "BatchNorm"
            else f"{layer.kind} {layer.window}×{layer.window} /2"
        )
    if not effect:
        return f"{line} (without effect)"
    if not layer.skip:
        return line
    source = max(0, number - layer.skip)
    return f"{line}, {'+' if layer.join == 'add' else 'concat'} skip from {f'layer {source}' if source else 'the image'}"


def split_genes(genome: Sequence[int]) -> Chain:
    return [tuple(genome[n : n + WIDTH]) for n in range(0, len(genome), WIDTH)]


def joined(chain: Chain) -> Genome:
    return tuple(value for genes in chain for value in genes)


def changed(genes: Genes, **decisions: int) -> Genes:
    """The layer with some decisions replaced."""
    return tuple(decisions.get(name, value) for name, value in zip(NAMES, genes, strict=True))


def kind_of(genes: Genes) -> int:
    return genes[0]


def skip_of(genes: Genes) -> int:
    return genes[NAMES.index("skip")]


def unit_end(chain: Chain, cut: int) -> int:
    """The place itself, or the next one where it lies inside a unit."""
    inside = (
        0 < cut < len(chain)
        and kind_of(chain[cut - 1]) in (CONV, DENSE)
        and kind_of(chain[cut]) == NORM
    )
    return cut + inside
