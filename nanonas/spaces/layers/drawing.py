"""A chain of layers as a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanonas.core import Shape
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import Attribute
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

    @property
    def shape(self) -> Shape:
        """Of the end's output."""
        return self.draft.shape(self.x)

    def _append(self, op: str, *before: str, **attributes: Attribute) -> None:
        """Adds an operation that reads `before` and the end, and is the end then."""
        self.x = self.draft.add(op, *before, self.x, name=None, **attributes)

    def unit(self, layers: Sequence[Layer]) -> Sequence[Layer]:
        """The first of the layers, together with the norm that goes before its activation."""
        first = layers[0]
        if first.kind not in ("Conv2D", "Dense") or not self.takes(first):
            return layers[:1]
        return layers[:2] if layers[1:] and layers[1].kind == "BatchNorm" else layers[:1]

    def takes(self, layer: Layer) -> bool:
        """Whether the layer has an effect at this end of the chain."""
        sides = self.shape[1:]
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
            self._append("dropout", rate=layer.rate)
        else:
            odd = any(side % 2 for side in self.shape[1:])
            window = 3 if odd else layer.window
            self._append(layer.kind.lower(), kernel=window, stride=2)

    def activate(self, layer: Layer, normed: bool) -> None:
        """Adds the norm of a unit and its activation."""
        if normed:
            self.norm()
        if layer.activation != "none":
            self._append("act", kind=layer.activation)

    def convolve(self, layer: Layer, bias: bool) -> None:
        """Adds a convolution, in two halves where it is separable."""
        channels, *sides = self.shape
        kernel, stride = layer.kernel, layer.stride if min(sides) > 1 else 1
        if layer.separable and kernel > 1:
            self._conv(channels, kernel, stride, groups=channels, bias=False)
            kernel = stride = 1
        self._conv(layer.filters, kernel, stride, groups=1, bias=bias)

    def _conv(self, filters: int, kernel: int, stride: int, groups: int, bias: bool) -> None:
        self._append(
            "conv", filters=filters, kernel=kernel, stride=stride, groups=groups, bias=bias
        )

    def norm(self) -> None:
        """Adds a norm."""
        self._append("norm")
        self.norms.add(self.x)

    def connect(self, units: int) -> None:
        """Adds a dense layer, on the global average of a map."""
        if len(self.shape) == 3:
            self._append("globalpool")
        self._append("dense", units=units)

    def join(self, source: str, how: str) -> None:
        """Adds `source` to the end of the chain, or concatenates the two."""
        if source == self.x:
            return
        end, end_shape = self.x, self.shape
        self.x = source
        shape = self.shape
        if how == "concat" and end_shape[0] + shape[0] > MAX_CHANNELS:
            how = "add"
        channels = end_shape[0] if how == "add" else shape[0]
        wanted = (channels, *end_shape[1:])
        if len(shape) > len(wanted):
            self._append("globalpool")
        if self.shape != wanted and len(wanted) == 1:
            self.connect(channels)
        elif self.shape != wanted:
            stride = stride_between(shape[1:], wanted[1:])
            self._conv(channels, kernel=1, stride=stride, groups=1, bias=False)
            self.norm()
        self._append(how, end)

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
