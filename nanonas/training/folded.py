"""Weights whose batch norms were folded into the layers before them, as those of a bundle are (see
`deploy.folding`): as weights of their network again.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nanonas.networks.network import Network
from nanonas.networks.ops import NORM_EPS

_LINEAR = ("conv", "dense")  # operations that a norm folds into


def unfolded(
    network: Network, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], frozenset[str]]:
    """The tensors of a network from those of its folded module, or from its own; and the norms that
    had been folded. These compute in eval mode what they did, but their statistics are gone: they
    are those of inputs of mean 0 and variance 1.
    """
    made, found = dict(tensors), set()
    for norm, layer in foldable(network).items():
        if f"{norm}.weight" in made or f"{layer}.bias" not in made:
            continue
        found.add(norm)
        bias = made.pop(f"{layer}.bias")
        if "bias" in network.named[layer].tensors:
            made[f"{layer}.bias"] = torch.zeros_like(bias)
        made |= {
            f"{norm}.weight": torch.ones_like(bias),
            f"{norm}.bias": bias,
            f"{norm}.running_mean": torch.zeros_like(bias),
            f"{norm}.running_var": torch.full_like(bias, 1 - NORM_EPS),
            f"{norm}.num_batches_tracked": torch.zeros((), dtype=torch.int64),
        }
    return made, frozenset(found)


def foldable(network: Network) -> dict[str, str]:
    """The norms that can be folded, each with the layer before it."""
    into = {}
    for norm in network.nodes:
        layer = network.named.get(norm.inputs[0])
        if norm.op != "norm" or layer is None or layer.op not in _LINEAR:
            continue
        if len(network.readers[layer.name]) == 1:
            into[norm.name] = layer.name
    return into
