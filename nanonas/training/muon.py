"""Muon: momentum whose update of each convolution is made orthogonal, so that all its directions
learn at one speed.

Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/; the weights on a sphere and the
filters as matrices are those of his airbench, https://github.com/KellerJordan/cifar10-airbench.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nanonas.networks.network import Network
from nanonas.networks.ops import Node

# Jordan's polynomial a·x + b·x³ + c·x⁵: five rounds take singular values from about 0.003 to 1 into
# [0.68, 1.14], which is near enough to 1. Rounds that converge would take more of them.
COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5
_TINY = 1e-7  # keeps a gradient of zeros from being divided by zero


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonal updates, for weights whose scale does not matter because a
    norm follows.

    Before each step a weight W of `o` filters is put on the sphere ‖W‖ = √o; then the step's length
    is `lr` · √o. So `lr` is the share of the weights that a step replaces. There is no weight
    decay: the sphere has taken its place.

    Args:
        params: weights of convolutions without groups, (o, i, k, k); a matrix is a 1×1 convolution.
        lr: above 0.
        momentum: in [0, 1).

    Raises:
        ValueError: a parameter is no matrix and no convolution.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim < 2:
                    raise ValueError(
                        f"Muon takes weights of two or more axes, but one has the shape "
                        f"{tuple(p.shape)}; leave biases and norms to another optimizer"
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates all weights that have a gradient; `closure` is not called."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            updates = self._momentum_steps(params, float(group["momentum"]))
            norms = torch._foreach_norm(params)
            for p, update, norm in zip(params, orthogonalised(updates), norms, strict=True):
                filters, reads = update.shape
                p.mul_(math.sqrt(filters) / norm.clamp(min=_TINY))
                stretch = math.sqrt(max(1.0, filters / reads))
                p.sub_(update.view_as(p), alpha=float(group["lr"]) * stretch)

    def _momentum_steps(self, params: list[Tensor], momentum: float) -> list[Tensor]:
        """The direction of each weight by Nesterov's momentum, (o, i·k·k)."""
        grads = [p.grad for p in params if p.grad is not None]
        buffers: list[Tensor] = []
        for p in params:
            state: dict[str, Any] = self.state[p]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(p)
            buffers.append(state["momentum_buffer"])
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, grads)
        steps = torch._foreach_add(grads, buffers, alpha=momentum)
        return [step.reshape(len(step), -1) for step in steps]


def orthogonalised(matrices: list[Tensor]) -> list[Tensor]:
    """The orthogonal factor of each matrix, nearly: its singular vectors with singular values of
    about 1.

    The rounds of Newton and Schulz are polynomials in the matrix times its transpose, on the
    smaller side. So only that product and the last one read the whole matrix, and all matrices of
    one small side go through the rounds together.

    Args:
        matrices: (m, n) each, of any shapes.

    Returns:
        float32, of the same shapes, in the same order.
    """
    found: list[Tensor] = [torch.empty(0)] * len(matrices)
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, matrix in enumerate(matrices):
        by_shape[matrix.shape[0], matrix.shape[1]].append(place)
    wide: dict[int, list[tuple[list[int], Tensor, bool]]] = defaultdict(list)
    for (rows, columns), places in by_shape.items():
        stack = torch.stack([matrices[place].float() for place in places])
        stack = stack / stack.norm(dim=(1, 2), keepdim=True).clamp(min=_TINY)
        tall = rows > columns
        wide[min(rows, columns)].append((places, stack.mT if tall else stack, tall))
    for stacks in wide.values():
        factors = _polynomial(torch.cat([x @ x.mT for _, x, _ in stacks]))
        parts = torch.split_with_sizes(factors, [len(x) for _, x, _ in stacks])
        for (places, x, tall), factor in zip(stacks, parts, strict=True):
            for place, matrix in zip(places, factor @ x, strict=True):
                found[place] = matrix.mT if tall else matrix
    return found


def _polynomial(gram: Tensor) -> Tensor:
    """What a matrix is to be multiplied with, by the products with its transpose: both (S, m, m),
    symmetric.
    """
    a, b, c = COEFFICIENTS
    one = torch.eye(gram.shape[-1], device=gram.device)
    factor = one
    for done in range(1, ROUNDS + 1):
        once = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * one  # aI + bG + cG²
        factor = once @ factor if done > 1 else once
        if done < ROUNDS:
            gram = once @ gram @ once  # all of these are polynomials in one matrix: they commute
    return factor


def filters_before_norms(network: Network) -> list[str]:
    """The convolutions without groups that a norm follows, by name: what Muon trains.

    A norm makes the scale of what it reads irrelevant. A pool in between keeps that so; nothing
    else may read either.
    """
    return [
        node.name
        for node in network.nodes
        if node.traits.family == "conv" and not node.grouped and _normed(network, node)
    ]


def _normed(network: Network, node: Node) -> bool:
    readers = network.readers[node.name]
    while len(readers) == 1 and readers[0].traits.family == "pool":
        readers = network.readers[readers[0].name]
    return len(readers) == 1 and readers[0].traits.family == "norm"


def muon_weights(module: nn.Module) -> list[nn.Parameter]:
    """The weights of `filters_before_norms` in a module of a `Network`; none in any other."""
    network = getattr(module, "network", None)
    if not isinstance(network, Network):
        return []
    weights = (module.get_submodule(name).weight for name in filters_before_norms(network))
    return [weight for weight in weights if isinstance(weight, nn.Parameter)]
