"""Muon: momentum whose update of each convolution is made orthogonal, so that all its directions
learn at one speed.

Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/; the weights on a sphere and the
filters as matrices are those of his airbench, https://github.com/KellerJordan/cifar10-airbench.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nanonas.networks.network import Network
from nanonas.networks.ops import Node
from nanonas.training.group import Group

# Jordan's polynomial a·x + b·x³ + c·x⁵: five rounds take singular values from about 0.003 to 1 into
# [0.68, 1.14], which is near enough to 1. Rounds that converge would take more of them.
COEFFICIENTS, ROUNDS = (3.4445, -4.7750, 2.0315), 5
_SQUARE_PRODUCTS = 4 * ROUNDS - 3  # of matrices as large as the smaller side
_TINY = 1e-7  # keeps a gradient of zeros from being divided by zero


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonal updates, for weights whose scale does not matter because a
    norm follows.

    Before each step a weight W of `o` filters is put on the sphere ‖W‖ = √o; then the step's length
    is `lr` · √o. So `lr` is the share of the weights that a step replaces. There is no weight
    decay: the sphere has taken its place.

    Args:
        params: weights of convolutions without groups, (o, i, k, k); a matrix is a 1×1 convolution;
            or groups of them, as of any optimizer of PyTorch, each with a learning rate.
        lr: above 0.
        momentum: in [0, 1).
        group: the processes that train these weights together, each with all of them and equal
            gradients; each makes some of the updates for all.

    Raises:
        ValueError: a parameter is no matrix and no convolution.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        group: Group | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})
        self._group = group
        for held in self.param_groups:
            for p in held["params"]:
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
            directions = self._orthogonalised(updates)
            for p, update, norm in zip(params, directions, norms, strict=True):
                filters, reads = update.shape
                p.mul_(math.sqrt(filters) / norm.clamp(min=_TINY))
                stretch = math.sqrt(max(1.0, filters / reads))
                p.sub_(update.view_as(p), alpha=float(group["lr"]) * stretch)

    def _orthogonalised(self, updates: list[Tensor]) -> list[Tensor]:
        """As the function of this name, which each process of the group calls for its share."""
        if self._group is None:
            return orthogonalised(updates)
        shares = divided([(len(update), update.shape[1]) for update in updates], self._group.size)
        together = torch.zeros(sum(map(torch.numel, updates)), device=updates[0].device)
        parts = torch.split(together, [update.numel() for update in updates])
        own = shares[self._group.rank]
        for place, made in zip(own, orthogonalised([updates[place] for place in own]), strict=True):
            parts[place].copy_(made.reshape(-1))
        self._group.add(together)
        return [part.view_as(update) for part, update in zip(parts, updates, strict=True)]

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


def divided(shapes: Sequence[tuple[int, int]], shares: int) -> list[list[int]]:
    """Which matrices to orthogonalise in each share, so that all take about the same time.

    The greatest first, each into the share that has least to do (Graham 1969,
    https://doi.org/10.1137/0117039).
    """

    def work(place: int) -> int:
        small, large = sorted(shapes[place])
        return small**2 * (2 * large + _SQUARE_PRODUCTS * small)

    loads, found = [0] * shares, [list[int]() for _ in range(shares)]
    for place in sorted(range(len(shapes)), key=lambda place: (-work(place), place)):
        least = loads.index(min(loads))
        found[least].append(place)
        loads[least] += work(place)
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
