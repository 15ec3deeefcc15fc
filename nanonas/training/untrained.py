"""What one minibatch says of a network that nobody has trained: four scores from the literature.

All are free functions of a module, normalised training images (B, C, H, W) and their labels (B,).
They work on a copy: weights, statistics and torch's generators stay as they are. Dropout is off.
Higher is better; a score without a finite value is `nan`, and `scores` leaves it out.

What they are worth is measured by benchmarks/scores.py.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.networks.network import Network
from nanonas.training.modules import NetworkModule, build_module

IMAGES = 32  # in a minibatch; the papers have 64 to 128
_CORRELATED = 1e-5  # keeps the logarithm of an eigenvalue finite, as in the paper's code
_SCALE = 1e-120  # of synflow's input, and of its output once more: room for products up to 1e420


def synflow(module: NetworkModule, images: Tensor, labels: Tensor) -> float:
    """log Σ |w · ∂R/∂w| over all weights, where R sums the outputs for an image of ones under the
    weights |w|.

    Tanaka et al. 2020, https://arxiv.org/abs/2006.05467, section 6, without norms, as Abdelfattah
    et al. 2021, https://arxiv.org/abs/2101.08134, score with it, and without biases. Nothing is
    negative then, so that a ReLU lets everything pass; every other activation is taken for one.
    Looks at the images' shape only.
    """
    linear = copy.deepcopy(module).to("cpu", torch.float64)
    for node in module.network.nodes:
        if node.op in ("norm", "act", "dropout"):
            setattr(linear, node.name, nn.Identity())
    weights = []
    with torch.no_grad():
        for name, parameter in linear.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            else:
                weights.append(parameter.abs_())
    ones = torch.full((1, *images.shape[1:]), _SCALE, dtype=torch.float64)
    gradients = torch.autograd.grad(_SCALE * linear(ones).sum(), weights)
    flow = sum(
        float((weight.detach() * g).sum()) for weight, g in zip(weights, gradients, strict=True)
    )
    return _finite(math.log(flow) - 2 * math.log(_SCALE)) if flow > 0 else math.nan


def naswot(module: NetworkModule, images: Tensor, labels: Tensor) -> float:
    """log |det K|, where K_ij counts the activations that are both on or both off for images i and
    j.

    Mellor et al. 2021, https://arxiv.org/abs/2006.04647, equation 2; on means that the input is
    above 0, whatever the kind of activation. No value where K is singular: no activations at all,
    or two images that look the same.
    """
    copied = _without_dropout(module)
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        codes = (inputs[0].flatten(1) > 0).float() * 2 - 1  # (B, units): 1 is on, -1 is off
        kernel.add_((codes.shape[1] + codes @ codes.T).cpu() / 2)

    for node in module.network.nodes:
        if node.op == "act":
            copied.get_submodule(node.name).register_forward_pre_hook(count)
    with torch.no_grad():
        copied(images)
    return _finite(float(torch.linalg.slogdet(kernel).logabsdet))


def jacob_cov(module: NetworkModule, images: Tensor, labels: Tensor) -> float:
    """-Σ (log λ + 1/λ) over the eigenvalues of the correlations between the images' input
    gradients.

    The first version of Mellor et al., https://arxiv.org/abs/2006.04647v1, section 3, as
    Abdelfattah et al. use it; the gradients are those of the sum of the outputs. Norms use the
    batch's statistics but take them for constants: else all gradients would be 0 where nothing but
    linear layers follows a norm. No value where an image's are.
    """
    copied = _without_dropout(module)
    for part in copied.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d)):
            part.momentum = 1.0  # the running statistics become those of the next batch
    with torch.no_grad():
        copied(images)
    copied.eval().requires_grad_(False)
    inputs = images.clone().requires_grad_()
    (jacobian,) = torch.autograd.grad(copied(inputs).sum(), inputs)  # (B, C, H, W)
    rows = jacobian.flatten(1).double().cpu()
    rows = rows - rows.mean(dim=1, keepdim=True)
    rows = rows / rows.norm(dim=1, keepdim=True)
    correlations = rows @ rows.T
    if not correlations.isfinite().all():
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(correlations).clamp(min=0) + _CORRELATED
    return -float((eigenvalues.log() + 1 / eigenvalues).sum())


def grad_norm(module: NetworkModule, images: Tensor, labels: Tensor) -> float:
    """Σ ‖∂L/∂W‖₂ over the weights W of convolutions and dense layers, with L the cross-entropy of
    the minibatch.

    Abdelfattah et al. 2021, https://arxiv.org/abs/2101.08134, section 3.1.
    """
    copied = _without_dropout(module)
    layers = [node.name for node in module.network.nodes if node.op in ("conv", "dense")]
    weights = [copied.get_parameter(f"{name}.weight") for name in layers]
    gradients = torch.autograd.grad(F.cross_entropy(copied(images), labels), weights)
    return _finite(sum(float(gradient.norm()) for gradient in gradients))


SCORES: dict[str, Callable[[NetworkModule, Tensor, Tensor], float]] = {
    "synflow": synflow,
    "naswot": naswot,
    "jacob_cov": jacob_cov,
    "grad_norm": grad_norm,
}


def scores(network: Network, images: Tensor, labels: Tensor, seed: int) -> dict[str, float]:
    """All scores of a network that have a finite value, by name, for weights drawn with `seed`.

    Args:
        images: float32 (B, C, H, W), normalised, B of 2 or more; on the device to compute on.
        labels: int64 (B,).
    """
    module = build_module(network, seed).to(images.device)
    measured = {name: score(module, images, labels) for name, score in SCORES.items()}
    return {name: value for name, value in measured.items() if math.isfinite(value)}


def _without_dropout(module: NetworkModule) -> NetworkModule:
    """A copy that trains as the module does, but for dropout."""
    copied = copy.deepcopy(module).train()
    for part in copied.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    return copied


def _finite(value: float) -> float:
    return value if math.isfinite(value) else math.nan
