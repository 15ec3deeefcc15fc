"""What a parent hands down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from nanonas.core import Shape
from nanonas.errors import RunError
from nanonas.networks.network import Network
from nanonas.networks.ops import Node

WEIGHTED = ("conv", "dense", "norm")
CHANNELWISE = ("act", "dropout", "maxpool", "avgpool", "globalpool")  # with one input
IDENTITY_ABOVE_0 = ("relu", "leaky_relu")
EPS = nn.BatchNorm2d(1).eps  # that all norms here have
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Parent:
    """A network and its trained tensors by name, as `training.trial.save_weights` writes them."""

    network: Network
    tensors: Tensors


@dataclass(frozen=True)
class Inherited:
    """What a child has from its parents."""

    tensors: int  # of the child's tensors, how many took something from a parent
    of: int  # tensors that the child has
    share: float  # of its parameters, in [0, 1], that are a parent's
    # the child provably computes what its first parent computes, in eval mode, up to rounding
    preserved: bool


def check_parent(parent: Parent, who: str) -> None:
    for node in parent.network.nodes:
        for name, shape in tensor_shapes(node).items():
            tensor = parent.tensors.get(f"{node.name}.{name}")
            if tensor is None or tuple(tensor.shape) != shape:
                found = "nothing" if tensor is None else f"the shape {tuple(tensor.shape)}"
                raise RunError(
                    f"the weights of {who} have {found} for {f'{node.name}.{name}'!r}, where its "
                    "network has the "
                    f"shape {shape}; inherit from another network, or train this one again"
                )


def tensor_shapes(node: Node) -> dict[str, Shape]:
    """The tensors of a node, as its module has them."""
    if node.op == "norm":
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), node.shape[:1])
    channels = node.input_shapes[0][0]
    if node.op == "dense":
        return {"weight": (node.number("units"), channels), "bias": node.shape}
    if node.op == "conv":
        kernel = node.number("kernel")
        weight = {"weight": (node.shape[0], channels // node.number("groups"), kernel, kernel)}
        return weight | ({"bias": node.shape[:1]} if node["bias"] else {})
    return {}


def grouping(conv: Node) -> str:
    groups = conv.number("groups")
    return (
        "full"
        if groups == 1
        else "depthwise"
        if groups == conv.input_shapes[0][0] == conv.shape[0]
        else "grouped"
    )


def fits(young: Node, old: Node) -> bool:
    """Whether the weights of one say something about those of the other."""
    if young.op != "conv":
        return True
    if grouping(young) == "grouped":
        return tensor_shapes(young) == tensor_shapes(old) and young["groups"] == old["groups"]
    return grouping(young) == grouping(old)
