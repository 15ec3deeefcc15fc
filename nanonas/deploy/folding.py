"""Batch norms folded into the layers before them: the same function with fewer operations.

In eval mode a batch norm is a factor and a shift for each channel, and so is what a convolution or
a dense layer can do by itself: ``(w x + b - mean) / sqrt(var + eps) * weight + bias``. That is
exact wherever nobody else reads the layer. Jacob et al. 2018, https://arxiv.org/abs/1712.05877,
section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nanonas.networks.network import Network
from nanonas.networks.ops import NORM_EPS, Node
from nanonas.training.folded import foldable
from nanonas.training.modules import NetworkModule, build_module


def folded(module: NetworkModule) -> NetworkModule:
    """A module in eval mode that computes the same as `module` does in eval mode, with each batch
    norm folded into the layer before it, where that is exact; in float64 arithmetic, rounded once.

    Its nodes keep their names. A norm that reads anything but a convolution or a dense layer, or
    one that others read, too, stays.
    """
    into = foldable(module.network)
    network = without(module.network, into)
    tensors = dict(module.state_dict())
    for norm, layer in into.items():
        of_layer = _taken(tensors, layer)
        of_norm = _taken(tensors, norm)
        for name, tensor in _merged(of_layer, of_norm).items():
            tensors[f"{layer}.{name}"] = tensor
    merged = build_module(network, seed=0)
    merged.load_state_dict(tensors)
    merged.preprocessing = module.preprocessing
    return merged.eval()


def without(network: Network, into: Mapping[str, str]) -> Network:
    """The network without some norms; what read them reads the layers before them, which have a
    bias then.

    Args:
        into: the norms, each with the layer before it.
    """
    layers = set(into.values())
    nodes = []
    for node in network.nodes:
        if node.name in into:
            continue
        inputs = tuple(into.get(name, name) for name in node.inputs)
        attributes = _with_bias(node) if node.name in layers else node.attributes
        nodes.append(replace(node, inputs=inputs, attributes=attributes))
    return replace(network, nodes=tuple(nodes))


def _with_bias(node: Node) -> tuple[tuple[str, int | float | str | bool], ...]:
    """The attributes of a layer that has a bias; a dense layer always has one, and no such
    attribute.
    """
    return tuple((name, True if name == "bias" else value) for name, value in node.attributes)


def _taken(tensors: dict[str, Tensor], node: str) -> dict[str, Tensor]:
    """The tensors of a node, by their own names and in float64; taken out."""
    names = [name for name in tensors if name.startswith(f"{node}.")]
    return {name.removeprefix(f"{node}."): tensors.pop(name).double() for name in names}


def _merged(layer: Mapping[str, Tensor], norm: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight and bias of a layer that does what it and its norm did, in float32."""
    factor = norm["weight"] / torch.sqrt(norm["running_var"] + NORM_EPS)  # (channels,)
    weight = layer["weight"]  # (channels, …)
    before = layer.get("bias", torch.zeros_like(factor))
    bias = norm["bias"] + (before - norm["running_mean"]) * factor
    scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    return {"weight": scaled.float(), "bias": bias.float()}
