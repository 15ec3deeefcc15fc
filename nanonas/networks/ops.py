"""What an operation is: its shapes, its parameters, its multiply-accumulates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

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
        """Multiply-accumulates for one image.

        Convolutions and dense layers count, as everywhere in the field.
        """
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
    """Output of a convolution or pooling with padding (kernel - 1) // 2 on every side: PyTorch's
    own formula.
    """
    channels, height, width = shapes[0]
    kernel, stride = int(a["kernel"]), int(a["stride"])
    padding = (kernel - 1) // 2
    out_height, out_width = (
        (size + 2 * padding - kernel) // stride + 1 for size in (height, width)
    )
    if min(out_height, out_width) < 1:
        raise ValueError(
            f"a kernel of {kernel} with padding {padding} does not fit into {height}x{width}"
        )
    return (int(a.get("filters", channels)), out_height, out_width)


def _conv(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    channels, filters, groups = shapes[0][0], int(a["filters"]), int(a["groups"])
    if int(a["kernel"]) % 2 == 0:
        raise ValueError(f"kernel must be odd, but is {a['kernel']}")
    if channels % groups or filters % groups:
        raise ValueError(
            f"groups must divide {channels} input channels and {filters} filters, but is {groups}"
        )
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
    return (
        node.number("filters")
        * (node.input_shapes[0][0] // node.number("groups"))
        * node.number("kernel") ** 2
    )


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
    "globalpool": Op(
        lambda shapes, a: (shapes[0][0],)
    ),  # mean over height and width: (C, H, W) -> (C,)
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


@lru_cache(maxsize=10_000)
def output_shape(
    op: str, shapes: tuple[Shape, ...], attributes: tuple[tuple[str, Attribute], ...]
) -> Shape:
    """Of an operation's output. Raises ValueError; searches draw the same operations over and over."""
    return OPS[op].shape(shapes, dict(attributes))
