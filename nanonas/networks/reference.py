"""Networks made by hand, to compare with and to measure the machine with.

All take any input shape (C, H, W) and number of classes; strides and pools stop where a side of the
map is 1. The figures are for (3, 32, 32) and 10 classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanonas.core import Shape
from nanonas.networks.network import Draft, Network, classifier, conv_norm, depthwise, relu


def resnet18(input_shape: Shape, classes: int) -> Network:
    """ResNet-18 with a CIFAR stem, 3×3 of stride 1 and no pooling: 11.17M parameters, 556M MACs.

    He et al. 2016, https://arxiv.org/abs/1512.03385, table 1; the stem as is usual for 32×32
    images.
    """
    return _resnet(input_shape, classes, widths=(64, 128, 256, 512), blocks=2)


def resnet20(input_shape: Shape, classes: int) -> Network:
    """The CIFAR ResNet-20 with 1×1 projections where the width changes: 272K parameters, 40.8M
    MACs.

    He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2. Theirs pads the shortcut with
    zeros instead (option A: 270K parameters).
    """
    return _resnet(input_shape, classes, widths=(16, 32, 64), blocks=3)


def resnet8(input_shape: Shape, classes: int) -> Network:
    """MLPerf Tiny's image classifier, with norms on its projections: 78K parameters, 12.5M MACs.

    Banbury et al. 2021, https://arxiv.org/abs/2106.07597, section 4.1: a ResNet-20 with a block a
    stage.
    """
    return _resnet(input_shape, classes, widths=(16, 32, 64), blocks=1)


def baseline(input_shape: Shape, classes: int) -> Network:
    """What a practitioner writes without a search: six 3×3 convolutions, a pool after every two.

    177K parameters, 22.8M MACs.
    """
    return _plain(input_shape, classes, widths=(24, 24, 48, 48, 96, 112), pooled=(1, 3))


def plain_242k(input_shape: Shape, classes: int) -> Network:
    """Six 3×3 convolutions, three pools: 242K parameters, 12.7M MACs.

    For `benchmarks/throughput.py`.
    """
    return _plain(input_shape, classes, widths=(16, 32, 48, 64, 96, 160), pooled=(0, 2, 4))


def residual_247k(input_shape: Shape, classes: int) -> Network:
    """Eight 3×3 convolutions, four of them around a skip, three pools: 247K parameters, 18.3M MACs.

    For `benchmarks/recipe.py`: plain 3×3 convolutions make the most of a CPU.
    """
    return _residual(input_shape, classes, widths=(16, 32, 64, 96), blocks=(0, 1, 2, 1))


def residual_96k(input_shape: Shape, classes: int) -> Network:
    """The same with a block more, narrower: 96K parameters, 8.5M MACs.

    For `benchmarks/recipe.py`.
    """
    return _residual(input_shape, classes, widths=(16, 24, 40, 56), blocks=(0, 1, 2, 1))


def plain_61k(input_shape: Shape, classes: int) -> Network:
    """Four 3×3 convolutions, three pools: 61K parameters, 3.4M MACs.

    For `benchmarks/throughput.py`.
    """
    return _plain(input_shape, classes, widths=(16, 32, 64, 64), pooled=(0, 1, 2))


def separable_57k(input_shape: Shape, classes: int) -> Network:
    """A 3×3 convolution, then six separable ones, three pools: 57K parameters, 5.6M MACs.

    For `benchmarks/throughput.py`.
    """
    return _plain(
        input_shape,
        classes,
        widths=(32, 32, 32, 64, 64, 128, 256),
        pooled=(2, 3, 5),
        separable=True,
    )


def linear(input_shape: Shape, classes: int) -> Network:
    """A linear classifier of the mean of each channel: 40 parameters, 30 MACs.

    Of images it is next to nothing; of the maps of a trained network it is the usual way to use
    them, a linear probe (Alain & Bengio 2016, https://arxiv.org/abs/1610.01644).
    """
    return classifier(Draft(input_shape, classes), "input")


REFERENCES: dict[str, Callable[[Shape, int], Network]] = {
    "resnet18": resnet18,
    "resnet20": resnet20,
    "resnet8": resnet8,
    "baseline": baseline,
    "plain_242k": plain_242k,
    "residual_247k": residual_247k,
    "residual_96k": residual_96k,
    "plain_61k": plain_61k,
    "separable_57k": separable_57k,
    "linear": linear,
}


def _plain(
    input_shape: Shape,
    classes: int,
    widths: Sequence[int],
    pooled: Sequence[int],
    separable: bool = False,
) -> Network:
    """A 3×3 convolution, norm and ReLU for each width, 2×2 max pooling after those in `pooled`;
    separable from the second on.
    """
    draft = Draft(input_shape, classes)
    x = "input"
    for n, width in enumerate(widths):
        kernel = 3
        if separable and n:
            x, kernel = depthwise(draft, x, 3), 1
        x = relu(draft, conv_norm(draft, x, width, kernel))
        if n in pooled and min(draft.shape(x)[1:]) > 1:
            x = draft.add("maxpool", x, kernel=2, stride=2)
    return classifier(draft, x)


def _residual(
    input_shape: Shape, classes: int, widths: Sequence[int], blocks: Sequence[int]
) -> Network:
    """For each width a 3×3 convolution, 2×2 max pooling (not for the second), norm and ReLU; then
    so many blocks x + ReLU(norm(conv(x))).
    """
    draft = Draft(input_shape, classes)
    x = "input"
    for stage, (width, number) in enumerate(zip(widths, blocks, strict=True)):
        x = draft.add("conv", x, filters=width, kernel=3, stride=1, groups=1, bias=False)
        if stage != 1 and min(draft.shape(x)[1:]) > 1:
            x = draft.add("maxpool", x, kernel=2, stride=2)
        x = relu(draft, draft.add("norm", x))
        for _ in range(number):
            x = draft.add("add", x, relu(draft, conv_norm(draft, x, width, 3)))
    return classifier(draft, x)


def _resnet(input_shape: Shape, classes: int, widths: Sequence[int], blocks: int) -> Network:
    """A 3×3 stem, then stages of `blocks` basic blocks; each stage but the first halves the map."""
    draft = Draft(input_shape, classes)
    x = relu(draft, conv_norm(draft, "input", widths[0], 3))
    for stage, width in enumerate(widths):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            y = relu(draft, conv_norm(draft, x, width, 3, stride))
            y = conv_norm(draft, y, width, 3)
            if draft.shape(x) != draft.shape(y):
                x = conv_norm(draft, x, width, 1, stride)
            x = relu(draft, draft.add("add", x, y))
    return classifier(draft, x)
