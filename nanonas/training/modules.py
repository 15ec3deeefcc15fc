"""From a `Network` to a `torch.nn.Module`: one table of modules, by operation; the names of the
nodes are those of the modules.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.core import Shape
from nanonas.networks.network import Network
from nanonas.networks.ops import ACTIVATIONS, NORM_EPS, Node

if TYPE_CHECKING:
    from nanonas.data.preprocessing import Preprocessing


class Add(nn.Module):
    """The sum of its inputs, all of one shape."""

    def forward(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return total


class Concat(nn.Module):
    """Its inputs one after the other along the channels."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


class GlobalPool(nn.Module):
    """Mean over height and width: ``(B, C, H, W) -> (B, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class Zero(nn.Module):
    """Zeros of its input's shape.

    Their gradient is zero, not none, so that what comes before trains like the rest.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x * 0


class GlobalMaxPool(nn.Module):
    """Largest over height and width: ``(B, C, H, W) -> (B, C)``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))


class LayerNorm(nn.LayerNorm):
    """Of the channels of each pixel: ``(B, C, H, W)`` to the same."""

    def forward(self, x: Tensor) -> Tensor:
        # in channels-last memory format nothing is copied
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class SpaceToDepth(nn.PixelUnshuffle):
    """Blocks of pixels as channels; what a block lacks at the right and the bottom is 0."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        block = self.downscale_factor
        whole = F.pad(x, (0, -width % block, 0, -height % block))
        blocks: Tensor = super().forward(whole)
        return blocks


class Slice(nn.Module):
    """The channels from `start` to `stop`."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.start : self.stop]


class SqueezeExcite(nn.Module):
    """Each channel times a gate that is computed from the means of all of them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.expand(F.relu(self.reduce(x.mean(dim=(2, 3)))))  # (B, C)
        return x * gate.sigmoid()[:, :, None, None]


class ChannelAttention(nn.Conv1d):
    """Each channel times a gate that is computed from the means of its neighbours."""

    def __init__(self, span: int) -> None:
        super().__init__(1, 1, span, padding=span // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = super().forward(x.mean(dim=(2, 3))[:, None])  # (B, 1, C)
        return x * gate.sigmoid().transpose(1, 2)[..., None]


class SpatialAttention(nn.Conv2d):
    """Each pixel times a gate that is computed from the mean and the largest of the channels around
    it.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__(2, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        gate: Tensor = super().forward(seen)  # (B, 1, H, W)
        return x * gate.sigmoid()


def _conv(node: Node) -> nn.Module:
    return nn.Conv2d(
        node.input_shapes[0][0],
        node.shape[0],
        node.kernel,
        stride=node.stride,
        padding=node.kernel // 2,
        groups=node.groups,
        bias=bool(node["bias"]),
    )


def _norm(node: Node) -> nn.Module:
    norm = nn.BatchNorm2d if len(node.shape) == 3 else nn.BatchNorm1d
    return norm(node.shape[0], eps=NORM_EPS)


def _act(node: Node) -> nn.Module:
    return ACTIVATION_MODULES[str(node["kind"])]()


def _maxpool(node: Node) -> nn.Module:
    return nn.MaxPool2d(node.kernel, node.stride, padding=(node.kernel - 1) // 2)


def _avgpool(node: Node) -> nn.Module:
    padding = (node.kernel - 1) // 2
    return nn.AvgPool2d(node.kernel, node.stride, padding, count_include_pad=False)


ACTIVATION_MODULES: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
}

MODULES: dict[str, Callable[[Node], nn.Module]] = {
    "conv": _conv,
    "norm": _norm,
    "group_norm": lambda node: nn.GroupNorm(int(node["parts"]), node.shape[0], eps=NORM_EPS),
    "layer_norm": lambda node: LayerNorm(node.shape[0], eps=NORM_EPS),
    "act": _act,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "globalpool": lambda node: GlobalPool(),
    "globalmaxpool": lambda node: GlobalMaxPool(),
    "space_to_depth": lambda node: SpaceToDepth(node.stride),
    "slice": lambda node: Slice(int(node["start"]), int(node["stop"])),
    "squeeze_excite": lambda node: SqueezeExcite(node.shape[0], int(node["hidden"])),
    "channel_attention": lambda node: ChannelAttention(int(node["span"])),
    "spatial_attention": lambda node: SpatialAttention(node.kernel),
    "dropout": lambda node: nn.Dropout(float(node["rate"])),
    "zero": lambda node: Zero(),
    "dense": lambda node: nn.Linear(node.input_shapes[0][0], node.shape[0]),
    "add": lambda node: Add(),
    "concat": lambda node: Concat(),
}


_WITH_PARAMETERS = (
    nn.Linear,
    nn.Conv1d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.LayerNorm,
)

# Operations whose backward pass does not need their output, so that a ReLU may overwrite it. An
# operation that is not listed is safe.
OUTPUT_UNUSED = frozenset({"conv", "norm", "add", "dense", "maxpool"})


@dataclass(frozen=True)
class Step:
    """One module's turn in a forward pass. Feature maps are kept by name until their last use."""

    module: str  # the node whose module runs
    inputs: tuple[str, ...]
    output: str
    shape: Shape  # of the output
    done_with: tuple[str, ...] = ()  # outputs that no later step reads


def in_order(network: Network) -> list[Step]:
    """The nodes in their order."""
    return _let_go([Step(one.name, one.inputs, one.name, one.shape) for one in network.nodes])


def steps(network: Network) -> list[Step]:
    """The nodes in their order, but a max pool before the ReLU that only it reads, where the pool
    shrinks the map.

    The largest of the activations is the activation of the largest, so outputs and gradients are
    the same; and the activation has a quarter of the work, which trains the networks of
    benchmarks/throughput.py up to 1.1 times as fast.
    """
    early: dict[str, Node] = {}  # pools, by the activation that they come before
    for node in network.nodes:
        if node.op == "maxpool" and _may_come_early(network, node):
            early[node.inputs[0]] = node
    order: list[Step] = []
    for node in network.nodes:
        if node.name in early:
            pool = early[node.name]
            order.append(Step(pool.name, node.inputs, node.name, pool.shape))
        elif node.op == "maxpool" and node.inputs[0] in early:
            order.append(Step(node.inputs[0], node.inputs, node.name, node.shape))
        else:
            order.append(Step(node.name, node.inputs, node.name, node.shape))
    return _let_go(order)


def _may_come_early(network: Network, pool: Node) -> bool:
    """Whether a max pool may and should run before what it reads."""
    before = network.named.get(pool.inputs[0])
    if before is None or before.op != "act" or len(network.readers[before.name]) > 1:
        return False
    return pool.stride > 1 and ACTIVATIONS[str(before["kind"])].increasing


def _let_go(order: Sequence[Step]) -> list[Step]:
    """The steps, each with the outputs that it is the last to read."""
    last_use = {name: place for place, step in enumerate(order) for name in step.inputs}
    steps = []
    for place, step in enumerate(order):
        done_with = tuple({name for name in step.inputs if last_use[name] == place})
        steps.append(replace(step, done_with=done_with))
    return steps


class NetworkModule(nn.Module):
    """A `Network` as a module: ``(B, C, H, W) -> (B, classes)``, logits. Made by `build_module`.

    Each node is a submodule of its own name and runs once a forward pass, in the order of `steps`.
    """

    preprocessing: Preprocessing | None = None  # of its images; None where nobody has kept it

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network, self.steps = network, steps(network)
        for node in network.nodes:
            self.add_module(node.name, MODULES[node.op](node))
        self._run_in_place()
        self.reset_parameters()

    def _run_in_place(self) -> None:
        """Lets a ReLU overwrite its input where no other step reads it and its producer does not
        need it for backward.
        """
        producers = {step.output: self.network.named[step.module].op for step in self.steps}
        reads = Counter(name for step in self.steps for name in step.inputs)
        for step in self.steps:
            module = self._modules[step.module]
            if isinstance(module, (nn.ReLU, nn.LeakyReLU)) and reads[step.inputs[0]] == 1:
                module.inplace = producers.get(step.inputs[0]) in OUTPUT_UNUSED

    def reset_parameters(self) -> None:
        """Draws new weights: He et al. 2015, https://arxiv.org/abs/1502.01852, for convolutions;
        PyTorch's own for dense layers and norms.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, _WITH_PARAMETERS):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        features = {"input": x}
        output = x
        for step in self.steps:
            output = self._modules[step.module](*(features[name] for name in step.inputs))  # type: ignore[misc]
            for used in step.done_with:
                del features[used]
            features[step.output] = output
        return output


def build_module(network: Network, seed: int | None = None) -> NetworkModule:
    """The module of a network, on the CPU, in channels-last memory format, with fresh weights.

    Args:
        seed: of the weights; None draws from torch's global generator. The global generator's state
            is kept.
    """
    if seed is None:
        return NetworkModule(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_module(network)
