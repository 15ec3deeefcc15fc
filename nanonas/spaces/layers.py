"""Chains of 3 to 20 layers with skip connections: Conv2D, MaxPool, AvgPool, BatchNorm, Dropout, Dense.

A genome holds one integer a decision and layer, an index into the options of `DECISIONS`, layer after layer; adding,
removing and swapping segments are slices. Every such list of integers decodes to a valid network by these rules:

- A BatchNorm right after a Conv2D or Dense goes between it and its activation, the field's usual order: the two
  layers are one unit. A BatchNorm right after another has no effect.
- Strides and pools halve the map, rounded up, and stop where a side is 1: a convolution's stride becomes 1 there, a
  pool vanishes. A pool of window 2 takes window 3 where a side is odd, so that all halvings agree.
- Global average pooling comes before the first Dense; Conv2D and pools behind it have no effect, BatchNorm and
  Dropout act on the vector. The classifier, a Dense of as many units as there are classes, is always appended.
- Place 0 is the image, place n the end of layer n. A skip joins the end of its layer with the place `skip` layers
  before it (1: the layer's own input; beyond the start: the image). Inside a unit of two layers there is no place:
  a skip from there starts at the unit's input, and the skips of both layers join at the unit's end.
- Where shapes differ a 1×1 convolution (strided where the map shrank) and a norm project the source; concat needs
  that for the size of the map only. Into a vector the source is pooled globally, then projected by a Dense. A concat
  that would exceed 512 channels is an add.
- A layer without effect has a skip without effect, and a skip from where its layer stands already is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from nanonas.core import Floats, Genome, Integers, Shape
from nanonas.errors import ConfigError, GenomeError
from nanonas.spaces.choices import check_problem, draw, integers
from nanonas.spaces.features import GROUPS, features
from nanonas.spaces.network import ACTIVATIONS, Attribute, Draft, Network

MIN_LAYERS, MAX_LAYERS = 3, 20
RATES = (1.0, 1.0, 2.0, 1.0)  # of mutation: add, remove, change, skip
ANOTHER_EDIT = 0.3  # probability that a child gets one more edit after each; 1.4 on average
MAX_CHANNELS = 512  # of a concat: twenty of them in a row would double the channels to a million times as many

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
    *(f"sep_conv{kernel}x{kernel}" for kernel in DECISIONS["kernel"][1:]),  # separable, with kernel 1 it is the same
    *(kind.lower() for kind in map(str, DECISIONS["kind"][1:])),
    *(f"skip_{join}" for join in DECISIONS["join"]),
)

# What `sample` believes about networks that train well: weights in the order of the options, for all that is not
# drawn along the chain. The figures are the habits of hand-made small CNNs, not a fit to any benchmark.
PRIOR: dict[str, tuple[float, ...]] = {
    "kind": (0.55, 0.10, 0.05, 0.15, 0.10, 0.05),  # of a layer that a mutation adds or changes
    "filters": (0.05, 0.15, 0.20, 0.25, 0.15, 0.10, 0.05, 0.03, 0.01, 0.01),  # where no neighbour says otherwise
    "kernel": (0.08, 0.80, 0.09, 0.03),
    "stride": (0.95, 0.05),
    "activation": (0.02, 0.50, 0.10, 0.14, 0.14, 0.10),
    "separable": (0.85, 0.15),
    "window": (0.6, 0.4),
    "rate": (0.5, 0.3, 0.15, 0.05),
    "units": (0.1, 0.3, 0.4, 0.2),
    "skip": (0.8, *(0.2 * 0.5 ** (n + 1) for n in range(MAX_LAYERS))),
    "join": (0.8, 0.2),
}
DEPTH_MODE = 14  # of the triangular distribution of depths
FINAL_SIZE = 4  # pixels a side that the halvings aim at: three of them at 32×32, one at 8×8
ONE_HALVING_LESS = 0.3  # probability, where there is more than one
NORMED = 0.92  # probability that a Conv2D is followed by a BatchNorm
HALVED_BY = (0.45, 0.40, 0.15)  # stride, MaxPool, AvgPool
FIRST_WIDTH = (0, 0.25, 0.4, 0.25, 0.1)  # of the first Conv2D, in the order of the filters
WIDER = (0.1, 0.35, 0.45, 0.1)  # how many options wider after a halving: 0, 1, 2, 3
SKIPPED = 0.35  # probability that a convolution has a skip, over itself or up to two units before it
DROPPED = 0.03  # probability that a Dropout follows a convolution
DENSE_END = 0.05  # probability that the chain ends in a Dense
OWN_ACTIVATION = 0.1  # probability that a convolution departs from its network's activation


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


@dataclass(frozen=True)
class LayersSpace:
    """Chains of layers for one input shape (C, H, W) and number of classes; the rules are above.

    `rates` are the relative rates of the kinds of edit that mutation makes: a layer added, a layer removed, another
    option for one decision, a skip connection toggled.
    """

    input_shape: Shape = (3, 32, 32)
    classes: int = 10
    rates: tuple[float, float, float, float] = RATES
    name: str = field(default="layers", init=False)

    def __post_init__(self) -> None:
        check_problem(self.input_shape, self.classes)
        if len(self.rates) != len(RATES) or not all(0 <= rate < math.inf for rate in self.rates) or not any(self.rates):
            raise ConfigError(
                "the four mutation rates (add, remove, change, skip) must be 0 or more and not all be 0, "
                f"but are {self.rates}; the default is {RATES}."
            )

    def options(self) -> dict[str, tuple[Attribute, ...]]:
        """The decisions of every layer and their options."""
        return dict(DECISIONS)

    @property
    def operation_names(self) -> tuple[str, ...]:
        """What people may ban."""
        return OPERATIONS

    def operations(self, genome: Sequence[int]) -> frozenset[str]:
        """Of the layers that have an effect; projections and the classifier do not count. Raises `GenomeError`."""
        layers = self._layers(genome)
        _, effects = self._drawn(layers)
        living = [layer for layer, effect in zip(layers, effects, strict=True) if effect]
        skips = {f"skip_{layer.join}" for layer in living if layer.skip}
        return frozenset(skips | {_operation(layer) for layer in living})

    def sample(self, rng: np.random.Generator) -> Genome:
        """A random chain that leans towards sensible CNNs: convolutions with norms, wider as the map shrinks."""
        depth = int(rng.triangular(MIN_LAYERS, DEPTH_MODE, MAX_LAYERS + 1))
        halvings = max(0, int(math.log2(min(self.input_shape[1:]) / FINAL_SIZE)))
        halvings -= halvings > 1 and rng.random() < ONE_HALVING_LESS
        width, activation = draw(FIRST_WIDTH, rng), draw((0, *PRIOR["activation"][1:]), rng)
        chain: Chain = []
        ends = [0]  # the places that skips come from: where units ended
        done = 0  # halvings
        while len(chain) < depth:
            due = done < int((halvings + 1) * len(chain) / depth)
            how = draw(HALVED_BY, rng) if due else -1
            if due:
                done += 1
                width = min(width + draw(WIDER, rng), len(FILTERS) - 1)
            if how > 0:
                chain.append(_random_layer(rng, kind=(MAXPOOL, AVGPOOL)[how - 1], skip=0))
                ends.append(len(chain))
            own = {} if rng.random() < OWN_ACTIVATION else {"activation": activation}
            chain += _random_unit(rng, filters=width, stride=int(how == 0), **own)
            if rng.random() < SKIPPED:
                source = ends[-1 - int(rng.integers(min(3, len(ends))))]
                chain[-1] = _with(chain[-1], skip=len(chain) - source)
            ends.append(len(chain))
            if rng.random() < DROPPED:
                chain.append(_random_layer(rng, kind=DROPOUT, skip=0))
        chain = chain[:depth]
        if rng.random() < DENSE_END:
            chain[-1] = _random_layer(rng, kind=DENSE, skip=0)
        return _joined(chain)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A child with one or more edits that decodes to another network. Every genome can be reached.

        Draws that change nothing are repeated; after a hundred of them, as when the rates leave only edits that
        cannot be made (no room to add, nothing to remove), with the default rates. Raises `GenomeError`.
        """
        key = self.decode(genome).key
        attempt = 0
        while True:
            rates = self.rates if attempt < 100 else RATES
            chain = EDITS[draw(rates, rng)](_split(genome), rng)
            while rng.random() < ANOTHER_EDIT:
                chain = EDITS[draw(rates, rng)](chain, rng)
            child = _joined(chain)
            if child != genome and self.decode(child).key != key:
                return child
            attempt += 1

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        """The beginning of `a` and the end of `b`, both cut at the same relative depth, between units if they can.

        The skips of b's layers reach as far back as they did, at most to the image.
        """
        first, second = _split(a), _split(b)
        cut = int(rng.integers(1, len(first)))
        i = _unit_end(first, cut)
        j = _unit_end(second, round(cut / len(first) * len(second)))
        j = min(max(j, i + len(second) - MAX_LAYERS), i + len(second) - MIN_LAYERS)  # 3 to 20 layers
        return _joined(_clipped(first[:i] + second[j:]))

    def decode(self, genome: Sequence[int]) -> Network:
        """The network, by the rules above. Raises `GenomeError` for what is no genome of this space."""
        return _network(self, integers(genome))

    @property
    def groups(self) -> tuple[int, ...]:
        """Of the features."""
        return tuple(GROUPS.values())

    def encode(self, genome: Sequence[int]) -> Floats:
        """`features` of the network: shape (sum of groups,). Raises `GenomeError`."""
        return features(self.decode(genome))

    def tokens(self, genome: Sequence[int]) -> Integers:
        """The genome, a layer a step: shape (layers, 11), in the order of `DECISIONS`. Raises `GenomeError`."""
        self._layers(genome)
        return np.array(genome, dtype=np.int64).reshape(-1, WIDTH)

    def describe(self, genome: Sequence[int]) -> list[str]:
        """One line a layer, as in "Conv2D 64 3×3 /2 relu separable, + skip from layer 2". Raises `GenomeError`."""
        layers = self._layers(genome)
        _, effects = self._drawn(layers)
        return [_line(n, layer, effect) for n, (layer, effect) in enumerate(zip(layers, effects, strict=True), 1)]

    def _layers(self, genome: Sequence[int]) -> list[Layer]:
        chain = _split(integers(genome))
        if not MIN_LAYERS <= len(chain) <= MAX_LAYERS or len(chain[-1]) != WIDTH:
            raise GenomeError(
                f"a genome of the space 'layers' has {WIDTH} integers a layer and {MIN_LAYERS} to {MAX_LAYERS} layers, "
                f"{MIN_LAYERS * WIDTH} to {MAX_LAYERS * WIDTH} integers in steps of {WIDTH}, but has {len(genome)}."
            )
        return [_read(number, genes) for number, genes in enumerate(chain)]

    def _drawn(self, layers: list[Layer]) -> tuple[Network, list[bool]]:
        """The network, and of each layer whether it has an effect."""
        drawing = _Drawing(Draft(self.input_shape, self.classes))
        effects: list[bool] = []
        for n, layer in enumerate(layers):
            if n < len(effects):  # the norm of a unit that is drawn already
                continue
            x = drawing.x
            unit = layers[n : n + 2] if _is_unit(layers, n) and drawing.takes(layer) else [layer]
            drawing.add(layer, normed=len(unit) == 2)
            if drawing.x == x:
                effects.append(False)
                drawing.places.append(x)
                continue
            for member in unit:
                effects.append(True)
                if member.skip:
                    drawing.join(drawing.places[max(0, len(effects) - member.skip)], member.join)
                drawing.places.append(x)
            drawing.places[-1] = drawing.x
        return drawing.finish(), effects


def _operation(layer: Layer) -> str:
    """The layer's name in `OPERATIONS`."""
    if layer.kind != "Conv2D":
        return layer.kind.lower()
    separable = "sep_" if layer.separable and layer.kernel > 1 else ""
    return f"{separable}conv{layer.kernel}x{layer.kernel}"


@lru_cache(maxsize=512)  # some 10 KB each: `mutate` decodes parent and child, and whoever takes the child decodes again
def _network(space: LayersSpace, genome: Genome) -> Network:
    return space._drawn(space._layers(genome))[0]


@dataclass
class _Drawing:
    """A network while its layers are drawn, one after the other."""

    draft: Draft
    x: str = "input"  # the end of what is drawn
    places: list[str] = field(default_factory=lambda: ["input"])
    norms: set[str] = field(default_factory=set)  # what is the output of a norm

    def takes(self, layer: Layer) -> bool:
        """Whether the layer has an effect at this end of the chain."""
        sides = self.draft.shape(self.x)[1:]
        if layer.kind in ("MaxPool", "AvgPool"):
            return bool(sides) and min(sides) > 1
        if layer.kind == "BatchNorm":
            return self.x not in self.norms
        return bool(sides) or layer.kind != "Conv2D"

    def add(self, layer: Layer, normed: bool) -> None:
        """Adds the layer, where it has an effect, and the norm before its activation if it is `normed`."""
        if not self.takes(layer):
            return
        if layer.kind in ("Conv2D", "Dense"):
            self.convolve(layer, bias=not normed) if layer.kind == "Conv2D" else self.connect(layer.units)
            if normed:
                self.norm()
            if layer.activation != "none":
                self.x = self.draft.add("act", self.x, kind=layer.activation)
        elif layer.kind == "BatchNorm":
            self.norm()
        elif layer.kind == "Dropout":
            self.x = self.draft.add("dropout", self.x, rate=layer.rate)
        else:
            odd = any(side % 2 for side in self.draft.shape(self.x)[1:])
            self.x = self.draft.add(layer.kind.lower(), self.x, kernel=3 if odd else layer.window, stride=2)

    def convolve(self, layer: Layer, bias: bool) -> None:
        channels, *sides = self.draft.shape(self.x)
        kernel, stride = layer.kernel, layer.stride if min(sides) > 1 else 1
        if layer.separable and kernel > 1:
            self._conv(channels, kernel, stride, groups=channels, bias=False)
            kernel = stride = 1
        self._conv(layer.filters, kernel, stride, groups=1, bias=bias)

    def _conv(self, filters: int, kernel: int, stride: int, groups: int, bias: bool) -> None:
        self.x = self.draft.add("conv", self.x, filters=filters, kernel=kernel, stride=stride, groups=groups, bias=bias)

    def norm(self) -> None:
        self.x = self.draft.add("norm", self.x)
        self.norms.add(self.x)

    def connect(self, units: int) -> None:
        if len(self.draft.shape(self.x)) == 3:
            self.x = self.draft.add("globalpool", self.x)
        self.x = self.draft.add("dense", self.x, units=units)

    def join(self, source: str, how: str) -> None:
        """Adds `source` to the end of the chain, or concatenates the two."""
        if source == self.x:
            return
        shape, end = self.draft.shape(source), self.x
        here = self.draft.shape(end)
        if how == "concat" and here[0] + shape[0] > MAX_CHANNELS:
            how = "add"
        wanted = (here[0] if how == "add" else shape[0], *here[1:])
        self.x = source
        if len(shape) > len(wanted):
            self.x = self.draft.add("globalpool", source)
            shape = shape[:1]
        if shape != wanted and len(wanted) == 1:
            self.connect(wanted[0])
        elif shape != wanted:
            self._conv(wanted[0], 1, _stride(shape[1:], wanted[1:]), groups=1, bias=False)
            self.norm()
        self.x = self.draft.add(how, end, self.x)

    def finish(self) -> Network:
        self.connect(self.draft.classes)
        return self.draft.finish(self.x)


def _stride(large: Shape, small: Shape) -> int:
    """The power of two that takes a map of one size to the other; there is one, as all halvings round up."""
    stride = 1
    while any(-(-a // stride) != b for a, b in zip(large, small, strict=True)):
        stride *= 2
    return stride


def _is_unit(layers: Sequence[Layer], n: int) -> bool:
    """Whether layer n takes the next one, a BatchNorm, before its activation."""
    return layers[n].kind in ("Conv2D", "Dense") and n + 1 < len(layers) and layers[n + 1].kind == "BatchNorm"


def _read(number: int, genes: Genes) -> Layer:
    """What the integers of layer `number` (0-based) say."""
    for value, size, name in zip(genes, SIZES, NAMES, strict=True):
        if not 0 <= value < size:
            position = number * WIDTH + NAMES.index(name)
            raise GenomeError(
                f"position {position} of a genome of the space 'layers' (layer {number + 1}, {name}) must be "
                f"0 to {size - 1}, one of {DECISIONS[name]}, but is {value}."
            )
    return Layer._make(options[value] for options, value in zip(DECISIONS.values(), genes, strict=True))


def _line(number: int, layer: Layer, effect: bool) -> str:
    if layer.kind == "Conv2D":
        stride = f" /{layer.stride}" if layer.stride > 1 else ""
        activation = "" if layer.activation == "none" else f" {layer.activation}"
        separable = " separable" if layer.separable and layer.kernel > 1 else ""
        line = f"Conv2D {layer.filters} {layer.kernel}×{layer.kernel}{stride}{activation}{separable}"
    elif layer.kind == "Dense":
        line = f"Dense {layer.units}" + ("" if layer.activation == "none" else f" {layer.activation}")
    elif layer.kind == "Dropout":
        line = f"Dropout {layer.rate}"
    else:
        line = layer.kind if layer.kind == "BatchNorm" else f"{layer.kind} {layer.window}×{layer.window} /2"
    if not effect:
        return f"{line} (without effect)"
    if not layer.skip:
        return line
    source = max(0, number - layer.skip)
    return (
        f"{line}, {'+' if layer.join == 'add' else 'concat'} skip from {f'layer {source}' if source else 'the image'}"
    )


def _split(genome: Sequence[int]) -> Chain:
    return [tuple(genome[n : n + WIDTH]) for n in range(0, len(genome), WIDTH)]


def _joined(chain: Chain) -> Genome:
    return tuple(value for genes in chain for value in genes)


def _with(genes: Genes, **decisions: int) -> Genes:
    """The layer with some decisions replaced."""
    return tuple(decisions.get(name, value) for name, value in zip(NAMES, genes, strict=True))


def _kind(genes: Genes) -> int:
    return genes[0]


def _skip(genes: Genes) -> int:
    return genes[NAMES.index("skip")]


def _random_layer(rng: np.random.Generator, **decisions: int) -> Genes:
    """A layer as the prior has it, but for the decisions that are given (as indices into their options)."""
    return tuple(decisions[name] if name in decisions else draw(PRIOR[name], rng) for name in NAMES)


def _random_unit(rng: np.random.Generator, **decisions: int) -> Chain:
    """A convolution without a skip and, usually, its norm."""
    unit = [_random_layer(rng, **{"kind": CONV, "skip": 0, **decisions})]
    if rng.random() < NORMED:
        unit.append(_random_layer(rng, kind=NORM, skip=0))
    return unit


def _unit_end(chain: Chain, cut: int) -> int:
    """The place itself, or the next one where it lies inside a unit."""
    inside = 0 < cut < len(chain) and _kind(chain[cut - 1]) in (CONV, DENSE) and _kind(chain[cut]) == NORM
    return cut + inside


def _clipped(chain: Chain) -> Chain:
    """Skips that would begin before the image begin at the image."""
    return [_with(genes, skip=n) if _skip(genes) > n else genes for n, genes in enumerate(chain, 1)]


def insert(chain: Chain, place: int, genes: Genes) -> Chain:
    """The chain with a layer after `place` (0: first). Skips that span it still come from the same layer."""
    later = [
        _with(layer, skip=_skip(layer) + 1) if _skip(layer) >= n else layer for n, layer in enumerate(chain[place:], 1)
    ]
    return _clipped([*chain[:place], genes, *later])


def remove(chain: Chain, place: int) -> Chain:
    """The chain without layer `place` (0: the first). Skips that span it still come from the same layer.

    What came from the layer itself comes from its input.
    """
    later = [
        _with(layer, skip=_skip(layer) - 1) if _skip(layer) > n else layer
        for n, layer in enumerate(chain[place + 1 :], 1)
    ]
    return _clipped([*chain[:place], *later])


def _add_layer(chain: Chain, rng: np.random.Generator) -> Chain:
    """Inserts a layer; a convolution is as wide as the one before it, keeps the size, and brings its norm."""
    place = _unit_end(chain, int(rng.integers(len(chain) + 1)))
    new = [_random_layer(rng)]
    if _kind(new[0]) == CONV and rng.random() < NORMED:
        before = [genes for genes in chain[:place] if _kind(genes) == CONV]
        known = {name: before[-1][NAMES.index(name)] for name in ("filters", "activation") if before}
        new = _random_unit(rng, stride=0, **known)
        new[-1] = _with(new[-1], skip=len(new) if rng.random() < SKIPPED else 0)
    if len(chain) + len(new) > MAX_LAYERS:
        return chain
    for genes in reversed(new):
        chain = insert(chain, place, genes)
    return chain


def _remove_layer(chain: Chain, rng: np.random.Generator) -> Chain:
    """Removes a layer, a convolution or Dense together with its norm."""
    place = int(rng.integers(len(chain)))
    number = 1 + (_unit_end(chain, place + 1) > place + 1)
    if len(chain) - number < MIN_LAYERS:
        return chain
    for _ in range(number):
        chain = remove(chain, place)
    return chain


def _change_decision(chain: Chain, rng: np.random.Generator) -> Chain:
    """Another option for one decision of one layer; widths move by one or two options, kinds follow the prior."""
    place, decision = int(rng.integers(len(chain))), int(rng.integers(WIDTH))
    old, size = chain[place][decision], SIZES[decision]
    if NAMES[decision] in ("filters", "units"):
        others = [value for value in range(max(0, old - 2), min(size, old + 3)) if value != old]
        new = others[int(rng.integers(len(others)))]
    else:
        weights = [0.0 if value == old else weight for value, weight in enumerate(PRIOR[NAMES[decision]])]
        new = draw(weights, rng)
    return [*chain[:place], _with(chain[place], **{NAMES[decision]: new}), *chain[place + 1 :]]


def _toggle_skip(chain: Chain, rng: np.random.Generator) -> Chain:
    """Takes a layer's skip away, or gives it one from a place before it, near ones more often."""
    place = int(rng.integers(len(chain)))
    skip = 0 if _skip(chain[place]) else min(int(rng.geometric(0.4)), place + 1)
    genes = _with(chain[place], skip=skip, join=draw(PRIOR["join"], rng))
    return [*chain[:place], genes, *chain[place + 1 :]]


EDITS: tuple[Callable[[Chain, np.random.Generator], Chain], ...] = (  # in the order of RATES
    _add_layer,
    _remove_layer,
    _change_decision,
    _toggle_skip,
)
