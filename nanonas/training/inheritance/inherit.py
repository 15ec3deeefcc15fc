"""A child begins with its parents' weights and, where that is possible, computes what its first
parent computed.

Net2Net (Chen et al. 2016, https://arxiv.org/abs/1511.05641) and network morphism (Wei et al. 2016,
https://arxiv.org/abs/1603.01670), without a case for each edit. Every channel that a parent
computes has a number (`origins`), and equal numbers are equal functions of the image in eval mode.
The child's nodes are visited in order (`transfers`); of each channel it is known which number it
has, its origin, and whether it is exactly that. A node that has a counterpart (`parents`) takes its
weights, whose rows and columns are found by these numbers:

- Channels that are there several times (a wider layer has replicas of its old channels) share the
  outgoing weights. The shares are drawn, so that replicas part as soon as they are trained; their
  sum is exact.
- Channels that the counterpart did not read (of a new concat) get zeros as outgoing weights.
- A kernel grows by zeros around it and shrinks to its centre. A depthwise and a 1×1 convolution
  become one convolution, and a norm that is gone goes into the weights before it.
- A new node becomes the identity if it can (stride 1, no narrower); a new branch that ends in an
  add becomes zero instead, unless the identity preserves more. What can be neither stays as
  initialised.

What cannot be preserved: anything removed but a dropout or a norm behind weights; a new add of two
things that are there already, without a projection between; another stride, pool or activation;
narrower layers; a new activation that is no identity on what it gets. Weights are taken all the
same, by position where origins do not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.core import Integers
from nanonas.networks.ops import Node
from nanonas.training.inheritance.parents import Parent, check_parent
from nanonas.training.inheritance.transfers import FRESH, Transfer, best_plan
from nanonas.training.modules import NetworkModule

SHARES = (0.3, 0.7)  # of outgoing weights between replicas, before they are normalised
# the bias of what is zero: it adds nothing to anything, but unlike at 0 a ReLU has a gradient there
TINY = 1e-30


@dataclass(frozen=True)
class Inherited:
    """What a child has from its parents."""

    tensors: int  # of the child's tensors, how many took something from a parent
    of: int  # tensors that the child has
    share: float  # of its parameters, in [0, 1], that are a parent's
    # the child provably computes what its first parent computes, in eval mode, up to rounding
    preserved: bool
    # the nodes whose tensors are a parent's, all of them
    nodes: frozenset[str] = frozenset()


def inherit(
    module: NetworkModule, parents: Sequence[Parent], images: Tensor | None = None
) -> Inherited:
    """Writes the parents' weights into a freshly initialised child; what no parent has keeps its
    initialisation.

    Deterministic, without the global generator. A node takes from the first parent that has the
    same node, else from the first that has one like it.

    Args:
        module: the child, on any device.
        parents: the one whose function is to be preserved first.
        images: normalised training images, shape (B, C, H, W), on the module's device. Norms that
            begin as the identity take the statistics of what they read from them, so that they are
            nearly the identity in training too; None: in training they begin by whitening.

    Raises:
        RunError: tensors of a parent are missing or do not fit its network.
    """
    for number, parent in enumerate(parents, 1):
        check_parent(parent, f"parent {number} of {len(parents)}")
    if not parents:
        return Inherited(0, len(module.state_dict()), 0.0, False)
    plan = best_plan(module.network, parents)
    generator = torch.Generator().manual_seed(0)
    taken = elements = 0
    whole: set[str] = set()
    with torch.no_grad():
        for name, transfer in plan.transfers.items():
            node = module.network.named[name]
            tensors, parameters = _write(module.get_submodule(name), node, transfer, generator)
            if transfer.source is not None and transfer.source.inherited:
                taken, elements = taken + tensors, elements + parameters
                if tensors == len(node.tensors) and transfer.complete:
                    whole.add(name)
        if images is not None:
            _calibrate(module, plan.identity_norms, images)
    total = sum(parameter.numel() for parameter in module.parameters())
    share, of = elements / total, len(module.state_dict())
    return Inherited(taken, of, share, plan.preserved, frozenset(whole))


def _write(
    module: nn.Module, node: Node, transfer: Transfer, generator: torch.Generator
) -> tuple[int, int]:
    """Writes the tensors of a transfer into a node's module.

    Returns how many tensors, and elements of parameters, are the source's.
    """
    if transfer.source is None:
        for name, parameter in module.named_parameters():
            parameter.fill_(TINY if name == "bias" else 0.0)
        return 0, 0
    sources = transfer.source.tensors()
    state = module.state_dict(keep_vars=True)
    taken = elements = 0
    for name, tensor in node.tensors.items():
        target, source = state[name], sources.get(name)
        if source is not None:
            new, share = _transferred(target.detach().cpu(), source, transfer, generator)
            target.copy_(new)
            taken += share > 0
            elements += share if tensor.learnt else 0
        elif name == "bias":
            target.zero_()
    return taken, elements


def _transferred(
    fresh: Tensor, source: Tensor, transfer: Transfer, generator: torch.Generator
) -> tuple[Tensor, int]:
    """A tensor of the child, and how many of its elements are the source's."""
    if transfer.rows is None:
        return source, source.numel()
    rows = torch.from_numpy(transfer.rows)  # (m',)
    kept = rows >= 0
    if fresh.dim() == 0:
        return source, int(kept.sum())
    if fresh.dim() == 1:
        return torch.where(kept, source[rows.clamp(min=0)], fresh), int(kept.sum())
    new, each = _weight(fresh, source, transfer.columns, rows, generator)
    return new, each * int(kept.sum())


def _weight(
    fresh: Tensor,
    source: Tensor,
    columns: Integers | None,
    rows: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, int]:
    """A weight (m', n', ...) from one of (m, n, ...), and how many elements of a row are taken."""
    kernel = fresh.shape[2] if fresh.dim() == 4 else 1
    source = source if source.dim() == 4 else source[:, :, None, None]
    margin = (kernel - source.shape[2]) // 2  # a negative one cuts
    area = min(kernel, source.shape[2]) ** 2
    weight = source[rows.clamp(min=0)]  # (m', n, k, k)
    if columns is None:
        weight = F.pad(weight, [margin] * 4)
        kept = (rows >= 0)[:, None, None, None]
        return torch.where(kept, weight, fresh.reshape(weight.shape)), area
    read = torch.from_numpy(columns)  # (n',)
    shares = _shares(columns, len(rows), generator) * (read >= 0)  # (m', n')
    weight = weight[:, read.clamp(min=0)] * shares[:, :, None, None]  # (m', n', k, k)
    weight = F.pad(weight, [margin] * 4)
    weight = torch.where((read == FRESH)[:, None, None], fresh.reshape(weight.shape), weight)
    return weight.reshape(fresh.shape), area * int((read >= 0).sum())


def _shares(columns: Integers, rows: int, generator: torch.Generator) -> Tensor:
    """Between channels with the same column: random shares of its weight, with the sum 1.

    Shape (rows, channels).
    """
    _, group, count = np.unique(columns, return_inverse=True, return_counts=True)
    if count.max() == 1:
        return torch.ones(rows, len(columns))
    drawn = torch.empty(rows, len(columns)).uniform_(*SHARES, generator=generator)
    places = torch.from_numpy(group).expand(rows, -1)
    return drawn / torch.zeros(rows, len(count)).scatter_add(1, places, drawn).gather(1, places)


def _calibrate(module: NetworkModule, norms: Sequence[str], images: Tensor) -> None:
    """Gives norms the statistics of what they read, and the scales and shifts that undo them."""

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        x = inputs[0].transpose(0, 1).flatten(1).float()  # (C, B·H·W)
        norm.running_mean.copy_(x.mean(1))
        norm.running_var.copy_(x.var(1, unbiased=False))
        norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps))
        norm.bias.copy_(norm.running_mean)

    if not norms:
        return
    training = module.training
    hooks = [module.get_submodule(name).register_forward_pre_hook(measure) for name in norms]
    try:
        module.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        module.train(training)
