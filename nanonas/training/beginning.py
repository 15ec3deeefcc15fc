"""How the weights of a network begin."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nanonas.networks.network import Network
from nanonas.networks.ops import Node
from nanonas.training.augment import normalise
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.pictures import Pictures, part
from nanonas.training.recipe import Recipe

_PATCH_IMAGES = 2000  # whose patches are looked at; their directions hardly change with more


def fresh_module(network: Network, seed: int, train: Pictures, recipe: Recipe) -> NetworkModule:
    """The module of a network with the weights that its training begins with, on the CPU.

    Args:
        seed: of the weights.
        train: the images that it is going to be trained on.
        recipe: says whether filters begin in a particular way; else they are drawn.
    """
    module = build_module(network, seed)
    for node in network.nodes:
        if node.op != "conv" or node.grouped:
            continue
        first = node.inputs[0] == "input"
        conv = module.get_submodule(node.name)
        assert isinstance(conv, nn.Conv2d)
        if first and recipe.whiten:
            _whiten(conv.weight, _patch_directions(node, train))
        elif not first and recipe.dirac and node.input_shapes[0][0] <= node.shape[0]:
            with torch.no_grad():
                nn.init.dirac_(conv.weight[: node.input_shapes[0][0]])
    return module


def _patch_directions(node: Node, train: Pictures) -> Tensor:
    """The main directions of the images' patches, (C·k·k, C·k·k), the most important first.

    They are the eigenvectors of the patches' second moments, of length 1, each with its largest
    element above 0, which LAPACK leaves open.
    """
    chosen = part(train, min(1.0, _PATCH_IMAGES / len(train)), seed=0)
    rows = torch.arange(len(chosen)) if chosen.rows is None else chosen.rows
    images = normalise(chosen.pixels(rows), chosen.mean, chosen.std).cpu().double()
    windows = images.unfold(2, node.kernel, 2).unfold(3, node.kernel, 2)  # (B, C, H', W', k, k)
    patches = windows.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * node.kernel**2)
    moments = patches.T @ patches / len(patches)
    directions: Tensor = torch.linalg.eigh(moments).eigenvectors.T.flip(0)
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    return directions * largest.sign()


@torch.no_grad()
def _whiten(weight: Tensor, directions: Tensor) -> None:
    """Makes filters, (o, C, k, k), look for the directions, and for their opposites where there are
    filters left; further ones stay as drawn.

    Coates & Ng 2012, https://doi.org/10.1007/978-3-642-35289-8_30; on CIFAR-10 as in
    https://github.com/tysam-code/hlb-CIFAR10. Each keeps the mean length of the filters that were
    drawn.
    """
    filters = torch.cat([directions, -directions])[: len(weight)].to(weight)
    length = weight.norm() / len(weight) ** 0.5
    weight[: len(filters)] = length * filters.view(-1, *weight.shape[1:])
