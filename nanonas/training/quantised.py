"""A network as it will compute in 8-bit integers, in floating point that gradients go through.

Weights are rounded to 255 steps around 0, with a scale for each filter; maps to 256 steps between
their two ends, 0 being one of them. A gradient passes a rounding as if it were not there (Bengio et
al. 2013, https://arxiv.org/abs/1308.3432; Jacob et al. 2018, https://arxiv.org/abs/1712.05877). The
ends of the maps begin where calibration finds them and are learnt: what lies beyond moves its end,
what lies between moves the step by its own rounding error (Esser et al. 2020, LSQ,
https://arxiv.org/abs/1902.08153).

What is rounded is what both int8 exports round: the output of each node, but not where only a ReLU
reads it, or a norm that becomes part of it; pools and slices keep the steps of what they read. An
ONNX graph has a few roundings more, inside of gates and activations and before a norm behind a max
pool; the C source has none but these.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nanonas.networks.network import Network
from nanonas.networks.ops import Node
from nanonas.training.augment import normalise
from nanonas.training.modules import NetworkModule, build_module, in_order
from nanonas.training.pictures import Pictures

IMAGE = "input"  # the tensor that a network's first nodes read
STEPS = 255  # between the lowest and the highest integer of a map
LARGEST_WEIGHT = 127  # weights lie around 0, from -127

Ranges = Mapping[str, tuple[float, float]]  # the ends of maps, by node; 0 lies between them

_AT_A_TIME = 64  # images of a calibration
# operations whose output has the steps of their input
_KEEPING = frozenset(
    {"maxpool", "avgpool", "globalmaxpool", "slice", "space_to_depth", "zero", "dropout"}
)
_LAYERS = frozenset({"conv", "dense", "norm"})  # what an activation is the end of
_WITH_FILTERS = (nn.Conv1d, nn.Conv2d, nn.Linear)


# --- what is rounded ------------------------------------------------------------------------------


def rounded_maps(network: Network) -> dict[str, str]:
    """The nodes whose outputs lie on steps, each with the node whose steps these are: itself, or
    one before it, or `IMAGE`.
    """
    found = {IMAGE: IMAGE}
    for node in network.nodes:
        first = node.inputs[0]
        if node.op in _KEEPING or (_is_relu(node) and first in found):
            if first in found:
                found[node.name] = found[first]
        elif not _goes_on(network, node):
            found[node.name] = node.name
    return found


def _goes_on(network: Network, node: Node) -> bool:
    """Whether a node's sums are rounded only by what reads them: a ReLU, or a norm that is folded
    into the node; also behind a max pool.
    """
    reader = _only_reader(network, node)
    if reader is not None and reader.op == "maxpool" and node.op in _LAYERS:
        reader = _only_reader(network, reader)
    if reader is None:
        return False
    if _is_relu(reader):
        return node.op in _LAYERS or node.op == "add"
    return reader.op == "norm" and node.op in ("conv", "dense")


def _is_relu(node: Node) -> bool:
    return node.op == "act" and node["kind"] == "relu"


def _only_reader(network: Network, node: Node) -> Node | None:
    readers = network.readers[node.name]
    return readers[0] if len(readers) == 1 else None


# --- rounding -------------------------------------------------------------------------------------


def rounded(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """A map on the 256 steps between two ends, low <= 0 <= high, low < high; what lies beyond is
    held at them.
    """
    out: Tensor = _Rounding.apply(x, low, high)  # type: ignore[no-untyped-call]
    return out


class _Rounding(torch.autograd.Function):
    """As one operation, for its parts would each keep a map for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(x, low, high)
        # Ends half-way between two steps, as of a symmetric range, must not both be rounded
        # outwards: that would be 257 steps.
        step = (high - low) / STEPS
        lowest = (low / step).round()
        return _on_steps(x.clamp(lowest * step, (lowest + STEPS) * step), low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, low, high = ctx.saved_tensors
        held = x.clamp(low, high)
        beyond = (x - held).sign_()  # -1 below, 1 above, 0 between: floats, for masks are slower
        passing = gradient * (1 - beyond.abs())
        # of what lies beyond: all of it, and above less below
        outside = gradient.sum() - passing.sum()
        between = (gradient * beyond).sum()
        # what a step that grows by 1 adds to the rounded map: as much as rounding does, in steps
        rounding = _on_steps(held, low, high).sub_(held)
        by_step = (gradient * rounding).sum() / (high - low)
        return passing, (outside - between) / 2 - by_step, (outside + between) / 2 + by_step


def _on_steps(held: Tensor, low: Tensor, high: Tensor) -> Tensor:
    step = (high - low) / STEPS
    return (held / step).round_().mul_(step)


def rounded_weight(weight: Tensor) -> Tensor:
    """Filters, (F, …), each on 255 steps around 0, up to its largest weight."""
    largest = weight.detach().abs().flatten(1).amax(dim=1)  # (F,)
    step = (largest / LARGEST_WEIGHT).where(largest > 0, 1.0)
    step = step.view(-1, *[1] * (weight.ndim - 1))
    return _nearest(weight / step) * step


def _nearest(x: Tensor) -> Tensor:
    """The nearest integers; the gradient passes as if nothing had been done."""
    return x + (x.round() - x).detach()


# --- modules --------------------------------------------------------------------------------------


class _Walk(nn.Module):
    """The nodes of a network in their order, (B, C, H, W) -> (B, classes), with something done to
    each output on the way.
    """

    def __init__(self, module: NetworkModule) -> None:
        super().__init__()
        self.network, self.steps = module.network, in_order(module.network)
        self.layers = copy.deepcopy(module)
        for layer in self.layers.modules():
            if isinstance(layer, (nn.ReLU, nn.LeakyReLU)):
                layer.inplace = False  # as fits another order, and maps that nothing is done to
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        features = {IMAGE: self.settled(IMAGE, x)}
        output = x
        for step in self.steps:
            inputs = tuple(features[name] for name in step.inputs)
            output = self.settled(step.module, self.computed(step.module, inputs))
            for used in step.done_with:
                del features[used]
            features[step.output] = output
        return output

    def computed(self, name: str, inputs: tuple[Tensor, ...]) -> Tensor:
        """What a node makes of its inputs."""
        out: Tensor = self.layers.get_submodule(name)(*inputs)
        return out

    def settled(self, name: str, x: Tensor) -> Tensor:
        """What becomes of a node's output, or of the image."""
        raise NotImplementedError


class _Watched(_Walk):
    """Remembers the ends of all maps that it has seen, 0 included."""

    def __init__(self, module: NetworkModule) -> None:
        super().__init__(module)
        self.ends: dict[str, tuple[float, float]] = {}

    def settled(self, name: str, x: Tensor) -> Tensor:
        low, high = self.ends.get(name, (0.0, 0.0))
        self.ends[name] = min(low, float(x.min())), max(high, float(x.max()))
        return x


class Held(_Walk):
    """A network whose maps are held between ends, and not rounded: calibrated by any images, it is
    given steps between these ends.
    """

    def __init__(self, module: NetworkModule, ranges: Ranges) -> None:
        super().__init__(module)
        self.ranges = {name: ends for name, ends in ranges.items() if name != IMAGE}

    def settled(self, name: str, x: Tensor) -> Tensor:
        if name not in self.ranges:
            return x
        low, high = self.ranges[name]
        return x.clamp(low, high)


class QuantisedModule(_Walk):
    """A network with rounded weights and maps, to train; norms keep their statistics.

    Args:
        module: in eval mode, norms folded into layers; it is copied.
        ranges: the ends of the maps to begin with, of all nodes and the image; see `calibrated`.
    """

    ends: Tensor  # (maps, 2), to begin with

    def __init__(self, module: NetworkModule, ranges: Ranges) -> None:
        super().__init__(module)
        self.steps_of = rounded_maps(module.network)
        names = [name for name, owner in self.steps_of.items() if name == owner]
        self.places = {name: place for place, name in enumerate(names)}
        # a map of zeros has any steps
        ends = [ranges[name] if ranges[name] != (0, 0) else (0.0, float(STEPS)) for name in names]
        self.register_buffer("ends", torch.tensor(ends))
        # of the ends, as logarithms: ends far too wide come near as fast as others
        self.stretch = nn.Parameter(torch.zeros(len(names), 2))
        self.filters = {node.name: self._filters(node.name) for node in module.network.nodes}

    def _filters(self, name: str) -> list[str]:
        """The weights of a node that are filters, by their names in its module."""
        parts = self.layers.get_submodule(name).named_modules()
        return [
            f"{part}.weight" if part else "weight"
            for part, layer in parts
            if isinstance(layer, _WITH_FILTERS)
        ]

    def computed(self, name: str, inputs: tuple[Tensor, ...]) -> Tensor:
        layer, filters = self.layers.get_submodule(name), self.filters[name]
        if not filters:
            return super().computed(name, inputs)
        weights = {one: rounded_weight(layer.get_parameter(one)) for one in filters}
        out: Tensor = functional_call(layer, weights, inputs)
        return out

    def settled(self, name: str, x: Tensor) -> Tensor:
        owner = self.steps_of.get(name)
        if owner is None or (owner != name and self._exact(name)):
            return x
        place = self.places[owner]
        # the image's ends are given: they are those of its pixels
        stretch = self.stretch[place].exp() if owner != IMAGE else 1.0
        low, high = (self.ends[place] * stretch).unbind()
        return rounded(x, low, high)

    def _exact(self, name: str) -> bool:
        """Whether a node that keeps its input's steps leaves every value on one."""
        return self.network.named[name].op != "avgpool"

    @torch.no_grad()
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The ends of the maps that have steps of their own, as they are learnt by now."""
        ends = (self.ends * self.stretch.exp()).tolist()
        learnt = {name: (ends[place][0], ends[place][1]) for name, place in self.places.items()}
        low, high = self.ends[self.places[IMAGE]].tolist()
        return {**learnt, IMAGE: (low, high)}

    def floating(self) -> NetworkModule:
        """The network with the weights as they are learnt by now, not rounded; in eval mode."""
        module = build_module(self.network, seed=0)
        module.load_state_dict(self.layers.state_dict())
        module.preprocessing = self.layers.preprocessing
        return module.eval()


# --- calibration ----------------------------------------------------------------------------------


@torch.no_grad()
def calibrated(module: NetworkModule, pictures: Pictures) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each node's output for some pictures, 0 included, as the
    exporters take them; of the image, what its pixels can be.
    """
    watched = _Watched(module)
    rows = pictures.rows if pictures.rows is not None else torch.arange(len(pictures))
    for batch in torch.split(rows, _AT_A_TIME):
        watched(normalise(pictures.x[batch], pictures.mean, pictures.std))
    black, white = -pictures.mean / pictures.std, (1 - pictures.mean) / pictures.std
    return {**watched.ends, IMAGE: (float(black.min()), float(white.max()))}
