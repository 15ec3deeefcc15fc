"""What an operation is: one table, `OPS`, with all that the package knows of each.

Shapes and costs, tensors, what inheritance may rely on, words. Networks, features, decisions,
edits, drawings, bans and inheritance read these traits and not the names, so a new operation is one
entry here and its module in `training.modules.MODULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from nanonas.core import Shape

Attribute = int | float | str | bool

NORM_EPS = 1e-5  # what a norm adds to the variance; PyTorch's default


@dataclass(frozen=True)
class Activation:
    """What is known of an activation function."""

    increasing: bool = False  # the largest of several inputs has the largest output
    identity_above_0: bool = False
    nonnegative: bool = False  # so is every output


ACTIVATIONS: dict[str, Activation] = {  # all of them are 0 at 0
    "relu": Activation(increasing=True, identity_above_0=True, nonnegative=True),
    "leaky_relu": Activation(increasing=True, identity_above_0=True),
    "silu": Activation(),
    "gelu": Activation(),
    "hardswish": Activation(),
}


class Tensor(NamedTuple):
    """One tensor of an operation, as its module names and shapes it."""

    shape: Shape
    # a letter for each axis: o(utput channels), i(nput channels, of one group), k(ernel's sides),
    # or * for what is none of these
    axes: str
    learnt: bool = True  # else a statistic


@dataclass(frozen=True)
class Node:
    """One operation of a network."""

    name: str  # unique in its network; the name of its module and the prefix of its tensors
    op: str  # a key of `OPS`
    inputs: tuple[str, ...]  # names of nodes before it
    attributes: tuple[tuple[str, Attribute], ...]  # sorted by name
    shape: Shape  # of the output
    input_shapes: tuple[Shape, ...]

    @cached_property
    def values(self) -> Mapping[str, Attribute]:
        """Its attributes by name."""
        return dict(self.attributes)

    def __getitem__(self, attribute: str) -> Attribute:
        """The value of an attribute; KeyError when the operation has none of that name."""
        return self.values[attribute]

    @property
    def kernel(self) -> int:
        """A side of its window; 1 where it has none."""
        return int(self.values.get("kernel", 1))

    @property
    def stride(self) -> int:
        """The step of its window; 1 where it has none."""
        return int(self.values.get("stride", 1))

    @property
    def groups(self) -> int:
        """The groups of channels that do not see each other."""
        return int(self.values.get("groups", 1))

    @property
    def traits(self) -> Op:
        """What is known of its operation."""
        return OPS[self.op]

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Its tensors by name, as its module has them."""
        return OPS[self.op].tensors(self)

    @property
    def params(self) -> int:
        """Trainable parameters."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values() if tensor.learnt)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image.

        Convolutions and dense layers count, as everywhere in the field.
        """
        return OPS[self.op].macs(self)

    @property
    def grouped(self) -> bool:
        """Whether its channels are split into groups that do not see each other."""
        return self.groups != 1

    @property
    def channelwise(self) -> bool:
        """Whether each output channel is computed from the input channels in its place alone."""
        if OPS[self.op].channelwise:
            return True
        return self.grouped and self.groups == self.input_shapes[0][0] == self.shape[0]

    @property
    def flattens(self) -> bool:
        """Whether it makes a vector of a map."""
        return len(self.shape) == 1 < len(self.input_shapes[0])

    @property
    def operation(self) -> str:
        """The name by which people ban it; a convolution's has its kernel: "conv3x3", "maxpool"."""
        if OPS[self.op].family == "conv" and "kernel" in self.values:
            return f"{self.op}{self.kernel}x{self.kernel}"
        return self.op

    @property
    def words(self) -> str:
        """The operation in a few words, as in "3×3 max pool /2"."""
        noun = OPS[self.op].words.format(**self.values) or self.op
        if self.grouped:
            noun = "depthwise"
        size = f"{self.kernel}×{self.kernel} " if "kernel" in self.values else ""
        halved = f" /{self.stride}" if self.stride != 1 else ""
        return f"{size}{noun}{halved}"

    def __str__(self) -> str:
        attributes = ", ".join(f"{name}={value}" for name, value in self.attributes)
        return f"{self.op}({attributes})"


FAMILIES = ("conv", "dense", "pool", "join", "norm", "act", "other")


@dataclass(frozen=True)
class Op:
    """What is known of an operation.

    The attributes "kernel", "stride" and "groups" mean the same for every operation that has them.

    Raises ValueError for a family that is not one of `FAMILIES`.
    """

    shape: Callable[[tuple[Shape, ...], Mapping[str, Attribute]], Shape]  # of the output
    tensors: Callable[[Node], Mapping[str, Tensor]] = lambda node: {}
    macs: Callable[[Node], int] = lambda node: 0
    # One of `FAMILIES`: what it is to features, decisions, edits and drawings. Layers of weights
    # are "conv" or "dense"; "other" (dropout, zero) is what a signal passes through.
    family: str = "other"
    commutative: bool = False  # the order of its inputs does not matter

    # For inheritance, which may rely on what is claimed here, in eval mode. The defaults claim
    # nothing and are always safe.
    channelwise: bool = False  # each output channel follows from the input channels in its place
    keeps_zero: bool = False  # an output is 0 where all that it is computed from is 0
    keeps_sign: bool = False  # an output is not negative where nothing that it reads is
    # What its tensors hold where it is the identity: all of a tensor, or the diagonal of one that
    # mixes channels. None: it cannot be; {}: it always is. What has tensors and can be the identity
    # is also 0 where all of them are.
    identity: Mapping[str, float] | None = None

    words: str = ""  # in drawings: a format of the attributes; "": its name
    labels: Mapping[str, str] = field(default_factory=dict)  # of attributes unclear by themselves

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            families = ", ".join(FAMILIES)
            raise ValueError(f"family must be one of {families}, but is {self.family!r}")

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer of weights: what the depth of a network counts."""
        return self.family in ("conv", "dense")

    @property
    def trails(self) -> bool:
        """Whether it belongs to the layer before it, as norms and activations do."""
        return self.family in ("norm", "act")


def window_shape(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    """The output of a window that slides over a map with padding (kernel - 1) // 2 on every side,
    as of a convolution or pooling: PyTorch's own formula.

    Raises ValueError when the kernel does not fit.
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
    return window_shape(shapes, a)


def same_shape(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    """The shape that all inputs have. Raises ValueError when they differ."""
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"shapes must be equal, but are {shapes}")
    return shapes[0]


def _concatenated(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    if any(shape[1:] != shapes[0][1:] for shape in shapes):
        raise ValueError(f"shapes must be equal beyond the channels, but are {shapes}")
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _conv_tensors(node: Node) -> Mapping[str, Tensor]:
    filters, read = node.shape[0], node.input_shapes[0][0] // node.groups
    tensors = {"weight": Tensor((filters, read, node.kernel, node.kernel), "oikk")}
    if node["bias"]:
        tensors["bias"] = Tensor((filters,), "o")
    return tensors


def _conv_macs(node: Node) -> int:
    _, height, width = node.shape
    return math.prod(_conv_tensors(node)["weight"].shape) * height * width


def _norm_tensors(node: Node) -> Mapping[str, Tensor]:
    channels = node.shape[:1]
    return {
        "weight": Tensor(channels, "o"),
        "bias": Tensor(channels, "o"),
        "running_mean": Tensor(channels, "o", learnt=False),
        "running_var": Tensor(channels, "o", learnt=False),
        "num_batches_tracked": Tensor((), "", learnt=False),
    }


def _affine_tensors(node: Node) -> Mapping[str, Tensor]:
    channels = node.shape[:1]
    return {"weight": Tensor(channels, "o"), "bias": Tensor(channels, "o")}


def _grouped_norm(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    if shapes[0][0] % int(a["parts"]):
        raise ValueError(f"parts must divide {shapes[0][0]} channels, but is {a['parts']}")
    return shapes[0]


def _folded(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    channels, height, width = shapes[0]
    stride = int(a["stride"])
    return (channels * stride**2, -(-height // stride), -(-width // stride))


def _sliced(shapes: tuple[Shape, ...], a: Mapping[str, Attribute]) -> Shape:
    start, stop, channels = int(a["start"]), int(a["stop"]), shapes[0][0]
    if not 0 <= start < stop <= channels:
        raise ValueError(f"there is no slice {start}:{stop} of {channels} channels")
    return (stop - start, *shapes[0][1:])


def _squeeze_excite_tensors(node: Node) -> Mapping[str, Tensor]:
    channels, hidden = node.shape[0], int(node["hidden"])
    return {
        "reduce.weight": Tensor((hidden, channels), "*i"),
        "reduce.bias": Tensor((hidden,), "*"),
        "expand.weight": Tensor((channels, hidden), "o*"),
        "expand.bias": Tensor((channels,), "o"),
    }


def _spatial_attention_macs(node: Node) -> int:
    return 2 * node.kernel**2 * math.prod(node.shape[1:])


def _dense_tensors(node: Node) -> Mapping[str, Tensor]:
    units = node.shape[0]
    return {
        "weight": Tensor((units, node.input_shapes[0][0]), "oi"),
        "bias": Tensor((units,), "o"),
    }


OPS: dict[str, Op] = {
    # filters, kernel (odd), stride, groups, bias; padding kernel // 2
    "conv": Op(
        _conv,
        _conv_tensors,
        _conv_macs,
        family="conv",
        identity={"weight": 1.0, "bias": 0.0},
    ),
    # batch norm, scale and shift learnt
    "norm": Op(
        same_shape,
        _norm_tensors,
        family="norm",
        channelwise=True,
        identity={
            "weight": math.sqrt(1 + NORM_EPS),
            "bias": 0.0,
            "running_mean": 0.0,
            "running_var": 1.0,
        },
    ),
    # parts: into how many the channels are split, each with its own mean and variance over the map;
    # Wu & He 2018, https://arxiv.org/abs/1803.08494
    "group_norm": Op(_grouped_norm, _affine_tensors, family="norm", words="group norm"),
    # over the channels of each pixel, as in Liu et al. 2022, https://arxiv.org/abs/2201.03545
    "layer_norm": Op(same_shape, _affine_tensors, family="norm", words="layer norm"),
    # kind: one of ACTIVATIONS
    "act": Op(
        same_shape,
        family="act",
        channelwise=True,
        keeps_zero=True,
        words="{kind}",
        labels={"kind": "activation"},
    ),
    # kernel, stride; padding (kernel - 1) // 2
    "maxpool": Op(
        window_shape,
        family="pool",
        channelwise=True,
        keeps_zero=True,
        keeps_sign=True,
        words="max pool",
        labels={"kernel": "window"},
    ),
    # kernel, stride; the padding does not count
    "avgpool": Op(
        window_shape,
        family="pool",
        channelwise=True,
        keeps_zero=True,
        keeps_sign=True,
        words="average pool",
        labels={"kernel": "window"},
    ),
    # mean over height and width: (C, H, W) -> (C,)
    "globalpool": Op(
        lambda shapes, a: (shapes[0][0],),
        family="pool",
        channelwise=True,
        keeps_zero=True,
        keeps_sign=True,
        words="global pool",
    ),
    # largest over height and width: (C, H, W) -> (C,)
    "globalmaxpool": Op(
        lambda shapes, a: (shapes[0][0],),
        family="pool",
        channelwise=True,
        keeps_zero=True,
        keeps_sign=True,
        words="global max pool",
    ),
    # stride: blocks of stride × stride pixels become channels, (C, H, W) -> (C s², H / s, W / s),
    # rounded up, with zeros beyond the map's right and bottom; Shi et al. 2016,
    # https://arxiv.org/abs/1609.05158, the other way round
    "space_to_depth": Op(
        _folded, family="pool", keeps_zero=True, keeps_sign=True, words="space to depth"
    ),
    # the channels from start to stop (without it)
    "slice": Op(_sliced, keeps_zero=True, keeps_sign=True, words="channels {start} to {stop}"),
    # each channel times a gate in (0, 1) that two dense layers compute from the means of all of
    # them; hidden: the units between; Hu et al. 2018, https://arxiv.org/abs/1709.01507
    "squeeze_excite": Op(
        same_shape,
        _squeeze_excite_tensors,
        lambda node: 2 * node.shape[0] * int(node["hidden"]),
        words="squeeze and excite",
    ),
    # the same by one convolution along the means of the channels; span: its length, odd; Wang et
    # al. 2020, https://arxiv.org/abs/1910.03151
    "channel_attention": Op(
        same_shape,
        lambda node: {"weight": Tensor((1, 1, int(node["span"])), "***")},
        lambda node: node.shape[0] * int(node["span"]),
        words="channel attention",
    ),
    # each pixel times a gate in (0, 1) that a convolution computes from the mean and the largest of
    # its channels; kernel; Woo et al. 2018, https://arxiv.org/abs/1807.06521, section 3.2
    "spatial_attention": Op(
        same_shape,
        lambda node: {"weight": Tensor((1, 2, node.kernel, node.kernel), "**kk")},
        _spatial_attention_macs,
        words="spatial attention",
    ),
    # rate in [0, 1)
    "dropout": Op(
        same_shape,
        channelwise=True,
        keeps_zero=True,
        keeps_sign=True,
        identity={},
        words="dropout {rate}",
        labels={"rate": "dropout rate"},
    ),
    # zeros, whatever the input
    "zero": Op(same_shape, channelwise=True, keeps_zero=True, keeps_sign=True),
    # units; with bias
    "dense": Op(
        lambda shapes, a: (int(a["units"]),),
        _dense_tensors,
        lambda node: node.input_shapes[0][0] * node.shape[0],
        family="dense",
        identity={"weight": 1.0, "bias": 0.0},
    ),
    "add": Op(
        same_shape,
        family="join",
        commutative=True,
        channelwise=True,
        keeps_zero=True,
        keeps_sign=True,
    ),
    "concat": Op(_concatenated, family="join", keeps_zero=True, keeps_sign=True),
}


@lru_cache(maxsize=10_000)
def output_shape(
    op: str, shapes: tuple[Shape, ...], attributes: tuple[tuple[str, Attribute], ...]
) -> Shape:
    """Of an operation's output; remembered, for searches draw the same operations over and over.

    Raises ValueError when the shapes or attributes do not fit the operation.
    """
    return OPS[op].shape(shapes, dict(attributes))
