"""What parents have to hand down: for each node of a child, the tensors that it can begin with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from nanonas.core import Integers
from nanonas.errors import RunError
from nanonas.networks.align import Alignment, align
from nanonas.networks.network import Network
from nanonas.networks.ops import NORM_EPS, Node
from nanonas.training.inheritance.origins import ChannelNumbers, origins

Tensors = Mapping[str, Tensor]

AXES = ("", "o", "oi", "oikk")  # of tensors whose rows and columns can be taken one by one


@dataclass(frozen=True)
class Parent:
    """A network and its trained tensors by name, as `training.weights.save_weights` writes them."""

    network: Network
    tensors: Tensors
    fresh: frozenset[str] = frozenset()  # nodes whose tensors were drawn, not trained


def check_parent(parent: Parent, who: str) -> None:
    """Raises `RunError` when tensors are missing or do not fit the network."""
    for node in parent.network.nodes:
        for name, expected in node.tensors.items():
            full_name = f"{node.name}.{name}"
            tensor = parent.tensors.get(full_name)
            if tensor is not None and tuple(tensor.shape) == expected.shape:
                continue
            there = "nothing" if tensor is None else f"the shape {tuple(tensor.shape)}"
            raise RunError(
                f"the weights of {who} have {there} for {full_name!r}, where its network has the "
                f"shape {expected.shape}; inherit from another network, or train this one again"
            )


def taken_whole(node: Node) -> bool:
    """Whether its tensors can only be taken as they are: their axes are not `AXES`, or its channels
    are in groups of several.
    """
    sliced = all(tensor.axes in AXES for tensor in node.tensors.values())
    return not sliced or (node.grouped and not node.channelwise)


@dataclass(frozen=True)
class Source:
    """A node to take from: a parent's, or one made up."""

    reads: Integers  # origins of its (first) input's channels, shape (n,)
    gives: Integers  # origins of its output's channels, shape (m,)
    tensors: Callable[[], Tensors]
    kernel: int = 1
    stride: int = 1
    biased: bool = False
    inherited: bool = True


@dataclass(frozen=True)
class AlignedParent:
    """A parent beside a child."""

    parent: Parent
    origins: Mapping[str, Integers]
    alignment: Alignment

    @staticmethod
    def of(
        parent: Parent, child: Network, numbers: ChannelNumbers, image: Integers
    ) -> AlignedParent:
        """A parent beside a child whose image has the channels `image`."""
        network = parent.network
        if network.input_shape != child.input_shape:  # of images of another size nothing is equal
            image = numbers.draw(network.input_shape[0])
        return AlignedParent(parent, origins(network, numbers, image), align(network, child))

    def source(self, name: str, young: Node) -> Source:
        """What the child's node `young` takes from this parent's node `name`."""
        network = self.parent.network
        node = network.named[name]
        source = Source(
            self.origins[node.inputs[0]],
            self.origins[name],
            partial(self._tensors, node),
            node.kernel,
            node.stride,
            "bias" in node.tensors,
            inherited=name not in self.parent.fresh,
        )
        before, behind = network.named.get(node.inputs[0]), network.readers[name]
        if before is not None and self._composes(before, node, young):
            source = replace(
                source,
                reads=self.origins[before.inputs[0]],
                tensors=partial(_composed, partial(self._tensors, before), source.tensors),
                kernel=before.kernel,
                stride=before.stride,
            )
        if len(behind) == 1 and self._folds(node, behind[0], young):
            source = replace(
                source,
                gives=self.origins[behind[0].name],
                tensors=partial(_folded, source.tensors, partial(self._tensors, behind[0])),
                biased=True,
            )
        return source

    def _composes(self, before: Node, node: Node, young: Node) -> bool:
        """Whether a depthwise convolution that is gone and the 1×1 behind it become one."""
        if (before.op, node.op, young.op) != ("conv", "conv", "conv"):
            return False
        if not self._gone(before) or not before.channelwise or before["bias"]:
            return False
        pointwise = (node["groups"], node["kernel"], node["stride"]) == (1, 1, 1)
        return pointwise and before.kernel <= young.kernel

    def _folds(self, node: Node, norm: Node, young: Node) -> bool:
        """Whether a norm that is gone becomes part of the weights before it."""
        if node.op not in ("conv", "dense") or "bias" not in young.tensors:
            return False
        return norm.op == "norm" and norm.name in self.alignment.gone

    def _gone(self, node: Node) -> bool:
        return node.name in self.alignment.gone and len(self.parent.network.readers[node.name]) == 1

    def _tensors(self, node: Node) -> Tensors:
        tensors = self.parent.tensors
        return {name: tensors[f"{node.name}.{name}"].detach().cpu() for name in node.tensors}


def _composed(depthwise: Callable[[], Tensors], pointwise: Callable[[], Tensors]) -> Tensors:
    """One convolution that is a depthwise and then a 1×1 one."""
    later = pointwise()
    return {**later, "weight": later["weight"] * depthwise()["weight"].transpose(0, 1)}


def _folded(weights: Callable[[], Tensors], norm: Callable[[], Tensors]) -> Tensors:
    """A convolution or dense layer that does its norm's work."""
    before, after = weights(), norm()
    scale = after["weight"] * torch.rsqrt(after["running_var"] + NORM_EPS)
    shift = before.get("bias", torch.zeros(())) - after["running_mean"]
    weight = before["weight"] * scale.reshape(-1, *[1] * (before["weight"].dim() - 1))
    return {"weight": weight, "bias": after["bias"] + shift * scale}


def sources(child: Network, parents: Sequence[AlignedParent]) -> dict[str, Source]:
    """What the child's nodes take from, as far as there is something.

    The first parent that has the same node, else the first that has one like it.
    """
    sources: dict[str, Source] = {}
    for node in child.nodes:
        pairs = [(parent, parent.alignment.same.get(node.name)) for parent in parents]
        pairs += [(parent, parent.alignment.changed.get(node.name)) for parent in parents]
        for parent, name in pairs:
            if name is not None and _fits(node, parent.parent.network.named[name]):
                sources[node.name] = parent.source(name, node)
                break
    return sources


def _fits(young: Node, old: Node) -> bool:
    """Whether the tensors of one say something about those of the other, of the same operation."""
    if taken_whole(young):
        alike = young.tensors == old.tensors and young.groups == old.groups
        return alike and young.shape[0] == old.shape[0]
    return young.channelwise == old.channelwise and not taken_whole(old)
