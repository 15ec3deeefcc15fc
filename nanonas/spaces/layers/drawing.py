"""A chain of layers as a network."""

from __future__ import annotations

from dataclasses import dataclass, field

from nanonas.core import Shape
from nanonas.networks.network import Draft, Network
from nanonas.spaces.layers.genes import Layer

MAX_CHANNELS = (
    512  # of a concat: twenty of them in a row would double the channels to a million times as many
)


@dataclass
class ChainDrawing:
    """A network while its layers are drawn, one after the other."""

    draft: Draft
    x: str = "input"  # the end of what is drawn
    places: list[str] = field(default_factory=lambda: ["input"])
    norms: set[str] = field(default_factory=set)  # what is the output of a norm

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
        if layer.kind in ("Conv2D", "Dense"):
            self.convolve(layer, bias=not normed) if layer.kind == "Conv2D" else self.connect(
                layer.units
            )
            if normed:
                self.norm()
            if layer.activation != "none":
                self.x = self.draft.add("act", self.x, kind=layer.activation)
        elif layer.kind == "BatchNorm":
            self.norm()
        elif layer.kind == "Dropout":
            self.x = self.draft.add("dropout", self.x, rate=layer.rate)
        else:
            odd = any(side % 2 for side in self.draft.shape(self.x)[1:])
            self.x = self.draft.add(
                layer.kind.lower(), self.x, kernel=3 if odd else layer.window, stride=2
            )

    def convolve(self, layer: Layer, bias: bool) -> None:
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
        self.x = self.draft.add("norm", self.x)
        self.norms.add(self.x)

    def connect(self, units: int) -> None:
        if len(self.draft.shape(self.x)) == 3:
            self.x = self.draft.add("globalpool", self.x)
        self.x = self.draft.add("dense", self.x, units=units)

    def join(self, source: str, how: str) -> None:
        """Adds `source` to the end of the chain, or concatenates the two."""
        if source == self.x:
            return
        shape, end = self.draft.shape(source), self.x
        here = self.draft.shape(end)
        if how == "concat" and here[0] + shape[0] > MAX_CHANNELS:
            how = "add"
        wanted = (here[0] if how == "add" else shape[0], *here[1:])
        self.x = source
        if len(shape) > len(wanted):
            self.x = self.draft.add("globalpool", source)
            shape = shape[:1]
        if shape != wanted and len(wanted) == 1:
            self.connect(wanted[0])
        elif shape != wanted:
            self._conv(wanted[0], 1, stride_between(shape[1:], wanted[1:]), groups=1, bias=False)
            self.norm()
        self.x = self.draft.add(how, end, self.x)

    def finish(self) -> Network:
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
