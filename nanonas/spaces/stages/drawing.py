"""A network of stages, drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from nanonas.networks.network import Draft, Network
from nanonas.spaces.stages.genes import Stage, Whole

QUARTER = 4  # hidden units of squeeze-excite, and branches of a split: the channels by this
SPAN = 3  # of channel attention
GLANCE = 5  # kernel of spatial attention
PIXEL_CHANNELS = 16  # channels of an image of pixels, at most; beyond, it is a map
MAP_WIDENING = 4  # times the stem's width is what reads a map


def drawn(draft: Draft, whole: Whole, stages: Sequence[Stage]) -> Network:
    """The network of a genome's decisions, by the rules of the space."""
    drawing = _Drawing(draft, whole)
    width, kernel = stem(draft.shape("input")[0], whole)
    x = drawing.enter("input", width, kernel, _STEMS[whole.stem])
    for stage in stages:
        x = drawing.enter(x, stage.width, stage.enter, stage.halve)
        for _ in range(stage.depth):
            x = _BLOCKS[stage.block](drawing, x, stage)
    if whole.head == "wide":
        x = drawing.conv_norm_act(x, 2 * draft.shape(x)[0], 1)
    x = draft.add("globalmaxpool" if whole.head == "max" else "globalpool", x)
    return draft.finish(draft.add("dense", x, units=draft.classes))


def stem(channels: int, whole: Whole) -> tuple[int, int]:
    """Width in channels and kernel size of the stem, for images of so many channels.

    What has more channels than pixels have is what a trained network makes of images: many of its
    channels say something, and around each value it has looked already.
    """
    if channels <= PIXEL_CHANNELS:
        return whole.stem_width, 3
    return MAP_WIDENING * whole.stem_width, 1


_STEMS = {"conv": "none", "pooled": "pool", "strided": "stride", "folded": "fold"}


@dataclass
class _Drawing:
    """The parts that blocks are made of, with the norm and the activation of the whole network."""

    draft: Draft
    whole: Whole

    def conv(self, x: str, filters: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        return self.draft.add(
            "conv", x, filters=filters, kernel=kernel, stride=stride, groups=groups, bias=False
        )

    def depthwise(self, x: str, kernel: int) -> str:
        channels = self.draft.shape(x)[0]
        return self.conv(x, channels, kernel, groups=channels)

    def norm(self, x: str) -> str:
        if self.whole.norm == "group":
            # eight groups, or as many as divide the channels
            return self.draft.add("group_norm", x, parts=math.gcd(8, self.draft.shape(x)[0]))
        return self.draft.add("layer_norm" if self.whole.norm == "layer" else "norm", x)

    def act(self, x: str) -> str:
        return self.draft.add("act", x, kind=self.whole.activation)

    def conv_norm_act(self, x: str, filters: int, kernel: int) -> str:
        return self.act(self.norm(self.conv(x, filters, kernel)))

    def add(self, x: str, y: str) -> str:
        return self.draft.add("add", x, y)

    def attend(self, x: str, stage: Stage) -> str:
        """The stage's attention."""
        if stage.attention == "squeeze_excite":
            hidden = max(1, self.draft.shape(x)[0] // QUARTER)
            return self.draft.add("squeeze_excite", x, hidden=hidden)
        if stage.attention == "channel":
            return self.draft.add("channel_attention", x, span=SPAN)
        if stage.attention == "spatial":
            return self.draft.add("spatial_attention", x, kernel=GLANCE)
        return x

    def enter(self, x: str, filters: int, kernel: int, halve: str) -> str:
        """A convolution to a stage's width that halves the map, norm and activation.

        A pool stands before the norm: a quarter of the work for both. Where a side of the map is 1
        nothing is halved.
        """
        sides = self.draft.shape(x)[1:]
        if min(sides) == 1:
            halve = "none"
        if halve == "stride":
            x = self.conv(x, filters, 3, stride=2)  # a stride would skip what 1×1 does not see
        else:
            if halve == "fold":
                x = self.draft.add("space_to_depth", x, stride=2)
            x = self.conv(x, filters, kernel)
        if halve == "pool":
            window = 3 if any(side % 2 for side in sides) else 2  # both round up
            x = self.draft.add("maxpool", x, kernel=window, stride=2)
        return self.act(self.norm(x))


def _plain(d: _Drawing, x: str, stage: Stage) -> str:
    return d.attend(d.conv_norm_act(x, stage.width, stage.kernel), stage)


def _residual(d: _Drawing, x: str, stage: Stage) -> str:
    return d.add(x, _plain(d, x, stage))


def _double(d: _Drawing, x: str, stage: Stage) -> str:
    return d.add(x, _plain(d, d.conv_norm_act(x, stage.width, stage.kernel), stage))


def _basic(d: _Drawing, x: str, stage: Stage) -> str:
    """He et al. 2016, https://arxiv.org/abs/1512.03385, figure 5, left."""
    y = d.conv_norm_act(x, stage.width, stage.kernel)
    y = d.norm(d.conv(y, stage.width, stage.kernel))
    return d.act(d.add(x, d.attend(y, stage)))


def _bottleneck(d: _Drawing, x: str, stage: Stage) -> str:
    """He et al. 2016, https://arxiv.org/abs/1512.03385, figure 5, right."""
    inner = max(4, stage.width // stage.expansion)
    y = d.conv_norm_act(d.conv_norm_act(x, inner, 1), inner, stage.kernel)
    y = d.norm(d.conv(y, stage.width, 1))
    return d.act(d.add(x, d.attend(y, stage)))


def _mbconv(d: _Drawing, x: str, stage: Stage) -> str:
    """Sandler et al. 2018, https://arxiv.org/abs/1801.04381; with attention as in Howard et al.
    2019, https://arxiv.org/abs/1905.02244.
    """
    y = d.conv_norm_act(x, stage.width * stage.expansion, 1) if stage.expansion > 1 else x
    y = d.act(d.norm(d.depthwise(y, stage.kernel)))
    return d.add(x, d.norm(d.conv(d.attend(y, stage), stage.width, 1)))


def _convnext(d: _Drawing, x: str, stage: Stage) -> str:
    """Liu et al. 2022, https://arxiv.org/abs/2201.03545."""
    return d.add(x, _pointwise(d, d.norm(d.depthwise(x, stage.kernel)), stage))


def _split(d: _Drawing, x: str, stage: Stage) -> str:
    """A quarter of the channels as they are, the others through depthwise convolutions of growing
    kernels; then as in ConvNeXt. After Yu et al. 2024, https://arxiv.org/abs/2303.16900.
    """
    ends = [n * stage.width // QUARTER for n in range(QUARTER + 1)]
    parts = [d.draft.add("slice", x, start=a, stop=b) for a, b in pairwise(ends)]
    seen = [
        d.depthwise(part, min(kernel, stage.kernel))
        for part, kernel in zip(parts[1:], (3, 5, 7), strict=True)
    ]
    y = d.norm(d.draft.add("concat", parts[0], *seen))
    return d.add(x, _pointwise(d, y, stage))


def _pointwise(d: _Drawing, x: str, stage: Stage) -> str:
    """Two 1×1 convolutions with an activation between them, and the stage's attention.

    The norm at the end takes the place of ConvNeXt's layer scale: what is added begins at a known
    size, so that high learning rates do not tear it apart.
    """
    y = d.act(d.conv(x, stage.width * stage.expansion, 1))
    return d.attend(d.norm(d.conv(y, stage.width, 1)), stage)


_BLOCKS: dict[str, Callable[[_Drawing, str, Stage], str]] = {
    "plain": _plain,
    "residual": _residual,
    "double": _double,
    "basic": _basic,
    "bottleneck": _bottleneck,
    "mbconv": _mbconv,
    "convnext": _convnext,
    "split": _split,
}
