"""From a `Network` to a `torch.nn.Module`. One table of operations; the names of the nodes are those of the modules."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nanonas.spaces.network import Network, Node


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
    """Zeros of its input's shape. Their gradient is zero, not none, so that what comes before trains like the rest."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def _conv(node: Node) -> nn.Module:
    kernel = node.number("kernel")
    return nn.Conv2d(
        node.input_shapes[0][0],
        node.number("filters"),
        kernel,
        stride=node.number("stride"),
        padding=kernel // 2,
        groups=node.number("groups"),
        bias=bool(node["bias"]),
    )


def _norm(node: Node) -> nn.Module:
    return nn.BatchNorm2d(node.shape[0]) if len(node.shape) == 3 else nn.BatchNorm1d(node.shape[0])


def _act(node: Node) -> nn.Module:
    return ACTIVATIONS[str(node["kind"])]()


def _maxpool(node: Node) -> nn.Module:
    kernel = node.number("kernel")
    return nn.MaxPool2d(kernel, node.number("stride"), padding=(kernel - 1) // 2)


def _avgpool(node: Node) -> nn.Module:
    kernel = node.number("kernel")
    return nn.AvgPool2d(kernel, node.number("stride"), padding=(kernel - 1) // 2, count_include_pad=False)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.1),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
}

MODULES: dict[str, Callable[[Node], nn.Module]] = {
    "conv": _conv,
    "norm": _norm,
    "act": _act,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "globalpool": lambda node: GlobalPool(),
    "dropout": lambda node: nn.Dropout(float(node["rate"])),
    "zero": lambda node: Zero(),
    "dense": lambda node: nn.Linear(node.input_shapes[0][0], node.number("units")),
    "add": lambda node: Add(),
    "concat": lambda node: Concat(),
}


class NetworkModule(nn.Module):
    """A `Network` as a module: ``(B, C, H, W) -> (B, classes)``, logits. Made by `build_module`.

    Each node is a submodule of its own name and runs once a forward pass; a feature map is let go after its last use.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        last_use = {name: node.name for node in network.nodes for name in node.inputs}
        self._plan: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        for node in network.nodes:
            self.add_module(node.name, MODULES[node.op](node))
            done_with = tuple({name for name in node.inputs if last_use[name] == node.name})
            self._plan.append((node.name, node.inputs, done_with))
        self._run_in_place()
        self.reset_parameters()

    def _run_in_place(self) -> None:
        """Lets a ReLU overwrite its input where nobody else reads it and its producer needs it no more for backward."""
        producers = {node.name: node for node in self.network.nodes}
        readers = [name for node in self.network.nodes for name in node.inputs]
        for node in self.network.nodes:
            module = self._modules[node.name]
            if isinstance(module, (nn.ReLU, nn.LeakyReLU)) and readers.count(node.inputs[0]) == 1:
                producer = producers.get(node.inputs[0])
                module.inplace = producer is not None and producer.op in ("conv", "norm", "add", "dense")

    def reset_parameters(self) -> None:
        """Draws new weights: He et al. 2015, https://arxiv.org/abs/1502.01852, for convolutions; PyTorch's own else."""
        for module in self.children():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)):
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        features = {"input": x}
        output = x
        for name, inputs, done_with in self._plan:
            output = self._modules[name](*(features[i] for i in inputs))  # type: ignore[misc]
            for used in done_with:
                del features[used]
            features[name] = output
        return output


def build_module(network: Network, seed: int | None = None) -> NetworkModule:
    """The module of a network, on the CPU, in channels-last memory format, with fresh weights.

    Args:
        seed: of the weights; None draws from torch's global generator. The global generator's state is kept.
    """
    if seed is None:
        return NetworkModule(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_module(network)
