"""Which tensor of a parent a node of the child begins with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from nanonas.core import Integers
from nanonas.networks.align import Alignment, align
from nanonas.networks.network import Network
from nanonas.networks.ops import Node
from nanonas.training.inheritance.origins import Terms, origins
from nanonas.training.inheritance.parents import EPS, Parent, Tensors, fits, grouping, tensor_shapes


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
class Old:
    """A parent beside the child."""

    parent: Parent
    origins: Mapping[str, Integers]
    alignment: Alignment

    @staticmethod
    def of(parent: Parent, child: Network, terms: Terms, image: Integers) -> Old:
        network = parent.network
        seen = (
            image
            if network.input_shape == child.input_shape
            else terms.draw(network.input_shape[0])
        )
        return Old(parent, origins(network, terms, seen), align(network, child))

    def source(self, name: str, young: Node) -> Source:
        """What the child's node `young` takes from this parent's node `name`."""
        network = self.parent.network
        node = network.named[name]
        reads, gives = self.origins[node.inputs[0]], self.origins[name]
        attributes = dict(node.attributes)
        kernel, stride = int(attributes.get("kernel", 1)), int(attributes.get("stride", 1))
        tensors = partial(self._tensors, node)
        biased = "bias" in tensor_shapes(node)
        before, behind = network.named.get(node.inputs[0]), network.readers[name]
        if (
            before is not None
            and self._gone(before)
            and (before.op, node.op, young.op) == ("conv", "conv", "conv")
            and grouping(before) == "depthwise"
            and (grouping(node), kernel, stride) == ("full", 1, 1)
            and before.number("kernel") <= young.number("kernel")
            and not before["bias"]
        ):
            reads, kernel, stride = (
                self.origins[before.inputs[0]],
                before.number("kernel"),
                before.number("stride"),
            )
            tensors = partial(_composed, partial(self._tensors, before), tensors)
        foldable = (
            node.op in ("conv", "dense") and "bias" in tensor_shapes(young) and len(behind) == 1
        )
        if foldable and behind[0].op == "norm" and behind[0].name in self.alignment.gone:
            gives, biased = self.origins[behind[0].name], True
            tensors = partial(_folded, tensors, partial(self._tensors, behind[0]))
        return Source(reads, gives, tensors, kernel, stride, biased)

    def _gone(self, node: Node) -> bool:
        return node.name in self.alignment.gone and len(self.parent.network.readers[node.name]) == 1

    def _tensors(self, node: Node) -> Tensors:
        names = [*tensor_shapes(node), *(["num_batches_tracked"] if node.op == "norm" else [])]
        found = {name: self.parent.tensors.get(f"{node.name}.{name}") for name in names}
        return {name: tensor.detach().cpu() for name, tensor in found.items() if tensor is not None}


def _composed(depthwise: Callable[[], Tensors], pointwise: Callable[[], Tensors]) -> Tensors:
    """One convolution that is a depthwise and then a 1×1 one."""
    later = pointwise()
    return {**later, "weight": later["weight"] * depthwise()["weight"].transpose(0, 1)}


def _folded(weights: Callable[[], Tensors], norm: Callable[[], Tensors]) -> Tensors:
    """A convolution or dense layer that does its norm's work."""
    before, after = weights(), norm()
    scale = after["weight"] * torch.rsqrt(after["running_var"] + EPS)
    shift = before.get("bias", torch.zeros(())) - after["running_mean"]
    weight = before["weight"] * scale.reshape(-1, *[1] * (before["weight"].dim() - 1))
    return {"weight": weight, "bias": after["bias"] + shift * scale}


def sources(child: Network, olds: Sequence[Old]) -> dict[str, Source]:
    """What the child's nodes take from, as far as there is something."""
    sources: dict[str, Source] = {}
    for node in child.nodes:
        pairs = [(old, old.alignment.same.get(node.name)) for old in olds]
        pairs += [(old, old.alignment.changed.get(node.name)) for old in olds]
        for old, name in pairs:
            if name is not None and fits(node, old.parent.network.named[name]):
                sources[node.name] = old.source(name, node)
                break
    return sources
