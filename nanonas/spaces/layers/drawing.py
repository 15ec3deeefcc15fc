"""A chain of layers as a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanonas.core import Shape
from nanonas.networks.network import Draft, Network
from nanonas.spaces.layers.genes import Layer

# of a concat: twenty of them in a row would double the channels to a million times as many
MAX_CHANNELS = 512


def drawn(draft: Draft, layers: Sequence[Layer]) -> tuple[Network, list[bool]]:
    """The network of a chain, by the rules of the space, and whether each layer has an effect."""
    drawing = ChainDrawing(draft)
    effects: list[bool] = []
    while len(effects) < len(layers):
        number = len(effects)
        unit = drawing.unit(layers[number:])
        start = drawing.x
        drawing.add(unit[0], normed=len(unit) == 2)
        if drawing.x == start:
            effects.append(False)
            drawing.places.append(start)
            continue
        for layer in unit:
            effects.append(True)
            if layer.skip:
                source = max(0, len(effects) - layer.skip)
                drawing.join(drawing.places[source], layer.join)
            drawing.places.append(start)  # inside a unit there is no place but its input
        drawing.places[-1] = drawing.x
    return drawing.finish(), effects


@dataclass
class ChainDrawing:
    """A network while its layers are drawn, one after the other."""

    draft: Draft
    x: str = "input"  # the end of what is drawn
    places: list[str] = field(default_factory=lambda: ["input"])  # where skips begin
    norms: set[str] = field(default_factory=set)  # outputs of norms

    def unit(self, layers: Sequence[Layer]) -> Sequence[Layer]:
        """The first of the layers, together with the norm that goes before its activation."""
        first = layers[0]
        if first.kind not in ("Conv2D", "Dense") or not self.takes(first):
            return layers[:1]
        return layers[:2] if layers[1:] and layers[1].kind == "BatchNorm" else layers[:1]

    def takes(self, layer: Layer) -> bool:
        """Whether the layer has an effect at this end of the chain."""
        sides = self.draft.shape(self.x)[1:]
        if layer.kind in ("MaxPool", "AvgPool"):
            return bool(sides) and min(sides) > 1
        if layer.kind == "BatchNorm":
            return self.x not in self.norms
        return bool(sides) or layer.kind != "Conv2D"

    def add(self, layer: Layer, normed: bool) -> None:
        """Adds the layer, where it has an effect, and the norm before its activation if it is
        `normed`.
        """
        if not self.takes(layer):
            return
        if layer.kind == "Conv2D":
            self.convolve(layer, bias=not normed)
            self.activate(layer, normed)
        elif layer.kind == "Dense":
            self.connect(layer.units)
            self.activate(layer, normed)
        elif layer.kind == "BatchNorm":
            self.norm()
        elif layer.kind == "Dropout":
            self.x = self.draft.add("dropout", self.x, rate=layer.rate)
        else:
            odd = any(side % 2 for side in self.draft.shape(self.x)[1:])
            window = 3 if odd else layer.window
            self.x = self.draft.add(layer.kind.lower(), self.x, kernel=window, stride=2)

    def activate(self, layer: Layer, normed: bool) -> None:
        """Adds the norm of a unit and its activation."""
        if normed:
            self.norm()
        if layer.activation != "none":
            self.x = self.draft.add("act", self.x, kind=layer.activation)

    def convolve(self, layer: Layer, bias: bool) -> None:
        """Adds a convolution, in two halves where it is separable."""
        channels, *sides = self.draft.shape(self.x)
        kernel, stride = layer.kernel, layer.stride if min(sides) > 1 else 1
        if layer.separable and kernel > 1:
            self._conv(channels, kernel, stride, groups=channels, bias=False)
            kernel = stride = 1
        self._conv(layer.filters, kernel, stride, groups=1, bias=bias)

    def _conv(self, filters: int, kernel: int, stride: int, groups: int, bias: bool) -> None:
        self.x = self.draft.add(
            "conv", self.x, filters=filters, kernel=kernel, stride=stride, groups=groups, bias=bias
        )

    def norm(self) -> None:
        """Adds a norm."""
        self.x = self.draft.add("norm", self.x)
        self.norms.add(self.x)

    def connect(self, units: int) -> None:
        """Adds a dense layer, on the global average of a map."""
        if len(self.draft.shape(self.x)) == 3:
            self.x = self.draft.add("globalpool", self.x)
        self.x = self.draft.add("dense", self.x, units=units)

    def join(self, source: str, how: str) -> None:
        """Adds `source` to the end of the chain, or concatenates the two."""
        if source == self.x:
            return
        end = self.x
        shape, end_shape = self.draft.shape(source), self.draft.shape(end)
        if how == "concat" and end_shape[0] + shape[0] > MAX_CHANNELS:
            how = "add"
        channels = end_shape[0] if how == "add" else shape[0]
        wanted = (channels, *end_shape[1:])
        self.x = source
        if len(shape) > len(wanted):
            self.x = self.draft.add("globalpool", source)
            shape = shape[:1]
        if shape != wanted and len(wanted) == 1:
            self.connect(channels)
        elif shape != wanted:
            stride = stride_between(shape[1:], wanted[1:])
            self._conv(channels, kernel=1, stride=stride, groups=1, bias=False)
            self.norm()
        self.x = self.draft.add(how, end, self.x)

    def finish(self) -> Network:
        """The network, with its classifier."""
        self.connect(self.draft.classes)
        return self.draft.finish(self.x)


def stride_between(large: Shape, small: Shape) -> int:
    """The power of two that takes a map of one size to the other; there is one, as all halvings
    round up.
    """
    stride = 1
    while any(-(-a // stride) != b for a, b in zip(large, small, strict=True)):
        stride *= 2
    return stride
