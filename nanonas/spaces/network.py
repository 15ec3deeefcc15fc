"""The one picture of an architecture: an immutable graph of named operations with their shapes.

Builder, parameter and MAC counts, duplicate check, drawings and export all read this. Shapes leave out the batch:
``(C, H, W)`` for feature maps, ``(F,)`` for vectors. A space draws a network with `Draft`; what does not lead to the
output is dropped, so genes without effect leave no trace.

A new operation is one entry in `OPS` here (its shape and its costs) and one in `training.build.MODULES` (its module).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from nanonas.core import Shape

Attribute = int | float | str | bool
ACTIVATIONS = ("relu", "leaky_relu", "silu", "gelu", "hardswish")


@dataclass(frozen=True)
class Node:
    """One operation of a network."""

    name: str  # unique in its network; the name of its module and the prefix of its tensors
    op: str  # a key of `OPS`
    inputs: tuple[str, ...]  # names of nodes before it
    attributes: tuple[tuple[str, Attribute], ...]  # sorted by name
    shape: Shape  # of the output
    input_shapes: tuple[Shape, ...]

    def __getitem__(self, attribute: str) -> Attribute:
        """The value of an attribute; KeyError when the operation has none of that name."""
        for name, value in self.attributes:
            if name == attribute:
                return value
        raise KeyError(attribute)

    def number(self, attribute: str) -> int:
        """The value of an attribute that is a whole number."""
        return int(self[attribute])

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return OPS[self.op].params(self)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image. Convolutions and dense layers count, as everywhere in the field."""
        return OPS[self.op].macs(self)

    def __str__(self) -> str:
        said = ", ".join(f"{name}={value}" for name, value in self.attributes)
        return f"{self.op}({said})"


@dataclass(frozen=True)
class Op:
    """What an operation does to shapes, and what it costs."""

    shape: Callable[[tuple[Shape, ...], Mapping[str, Attribute]], Shape]
    params: Callable[[Node], int] = lambda node: 0
    macs: Callable[[Node], int] = lambda node: 0
    commutative: bool = False  # the order of its inputs does not matter


def _pooled(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    """Output of a convolution or pooling with padding (kernel - 1) // 2 on every side: PyTorch's own formula."""
    channels, height, width = shapes[0]
    kernel, stride = int(a["kernel"]), int(a["stride"])
    padding = (kernel - 1) // 2
    out_height, out_width = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    if min(out_height, out_width) < 1:
        raise ValueError(f"a kernel of {kernel} with padding {padding} does not fit into {height}x{width}")
    return (int(a.get("filters", channels)), out_height, out_width)


def _conv(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    channels, filters, groups = shapes[0][0], int(a["filters"]), int(a["groups"])
    if int(a["kernel"]) % 2 == 0:
        raise ValueError(f"kernel must be odd, but is {a['kernel']}")
    if channels % groups or filters % groups:
        raise ValueError(f"groups must divide {channels} input channels and {filters} filters, but is {groups}")
    return _pooled(shapes, a)


def _same(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"shapes must be equal, but are {shapes}")
    return shapes[0]


def _concatenated(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    if any(shape[1:] != shapes[0][1:] for shape in shapes):
        raise ValueError(f"shapes must be equal beyond the channels, but are {shapes}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _conv_weights(node: Node) -> int:
    return node.number("filters") * (node.input_shapes[0][0] // node.number("groups")) * node.number("kernel") ** 2


OPS: dict[str, Op] = {
    # filters, kernel (odd), stride, groups, bias; padding kernel // 2
    "conv": Op(
        _conv,
        lambda n: _conv_weights(n) + (n.number("filters") if n["bias"] else 0),
        lambda n: _conv_weights(n) * n.shape[1] * n.shape[2],
    ),
    "norm": Op(_same, lambda n: 2 * n.shape[0]),  # batch norm, scale and shift learnt
    "act": Op(_same),  # kind: one of ACTIVATIONS
    "maxpool": Op(_pooled),  # kernel, stride; padding (kernel - 1) // 2
    "avgpool": Op(_pooled),  # kernel, stride; the padding does not count
    "globalpool": Op(lambda shapes, a: (shapes[0][0],)),  # mean over height and width: (C, H, W) -> (C,)
    "dropout": Op(_same),  # rate in [0, 1)
    "zero": Op(_same),  # zeros, whatever the input
    "dense": Op(  # units; with bias
        lambda shapes, a: (int(a["units"]),),
        lambda n: (n.input_shapes[0][0] + 1) * n.number("units"),
        lambda n: n.input_shapes[0][0] * n.number("units"),
    ),
    "add": Op(_same, commutative=True),
    "concat": Op(_concatenated),
}


@dataclass(frozen=True)
class Network:
    """An architecture from images to logits. Made by `Draft.finish`."""

    input_shape: Shape  # (C, H, W)
    classes: int
    nodes: tuple[Node, ...]  # in topological order, all of them on a way from "input" to the last one, the logits

    @cached_property
    def named(self) -> Mapping[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """Who reads each node and "input", in order; who reads it twice is there twice."""
        found: dict[str, tuple[Node, ...]] = {"input": (), **dict.fromkeys(self.named, ())}
        for node in self.nodes:
            for name in node.inputs:
                found[name] = (*found[name], node)
        return found

    @cached_property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(node.params for node in self.nodes)

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(node.macs for node in self.nodes)

    @cached_property
    def depth(self) -> int:
        """Convolutions and dense layers on the longest way from the input to the logits."""
        reached = {"input": 0}
        for node in self.nodes:
            reached[node.name] = max(reached[name] for name in node.inputs) + (node.op in ("conv", "dense"))
        return reached[self.nodes[-1].name]

    @cached_property
    def key(self) -> str:
        """32 hex digits: equal for networks that differ at most in names, order of nodes and order of summands.

        A Merkle hash a node, from its operation, attributes and inputs; then a hash of all of them, so that an
        operation used twice and two operations alike are told apart.
        """
        hashes = {"input": _digest(f"input{self.input_shape}{self.classes}")}
        for node in self.nodes:
            inputs = [hashes[name] for name in node.inputs]
            if OPS[node.op].commutative:
                inputs.sort()
            hashes[node.name] = _digest(f"{node.op}{node.attributes}{inputs}")
        return _digest(hashes[self.nodes[-1].name] + "".join(sorted(hashes.values())))


@lru_cache(maxsize=10_000)
def _shape(op: str, shapes: tuple[Shape, ...], attributes: tuple[tuple[str, Attribute], ...]) -> Shape:
    """Of an operation's output. Raises ValueError; searches draw the same operations over and over."""
    return OPS[op].shape(shapes, dict(attributes))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class Draft:
    """A network while it is drawn: add operations, each on what was there before, then finish.

    >>> draft = Draft((3, 32, 32), classes=10)
    >>> x = draft.add("conv", "input", filters=16, kernel=3, stride=1, groups=1, bias=False)
    >>> x = draft.add("globalpool", x)
    >>> draft.finish(draft.add("dense", x, units=10)).params
    602
    """

    input_shape: Shape
    classes: int
    _nodes: dict[str, Node] = field(default_factory=dict, repr=False)
    _counts: Counter[str] = field(default_factory=Counter, repr=False)  # of nodes, by operation

    def shape(self, name: str) -> Shape:
        """The output shape of a node that was added, or of "input"."""
        return self.input_shape if name == "input" else self._nodes[name].shape

    def add(self, op: str, *inputs: str, name: str | None = None, **attributes: Attribute) -> str:
        """Adds an operation on `inputs` and returns its name, by default the operation's and a number.

        Raises ValueError when the shapes or attributes do not fit the operation.
        """
        shapes = tuple(self.shape(i) for i in inputs)
        name = name or f"{op}{self._counts[op] + 1}"
        if name in self._nodes or name == "input":
            raise ValueError(f"there is a node {name!r} already")
        said = tuple(sorted(attributes.items()))
        self._nodes[name] = Node(name, op, inputs, said, _shape(op, shapes, said), shapes)
        self._counts[op] += 1
        return name

    def finish(self, output: str) -> Network:
        """The network whose logits `output` computes, without what does not lead there.

        Raises ValueError when the output's shape is not ``(classes,)``.
        """
        if self.shape(output) != (self.classes,):
            raise ValueError(f"the output must have the shape ({self.classes},), but has {self.shape(output)}")
        live, waiting = set(), [output]
        while waiting:
            name = waiting.pop()
            if name != "input" and name not in live:
                live.add(name)
                waiting.extend(self._nodes[name].inputs)
        return Network(self.input_shape, self.classes, tuple(n for n in self._nodes.values() if n.name in live))
