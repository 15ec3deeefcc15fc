"""Windows over maps, in numpy: (B, H, W, C), in floating point or in integers.

Sums of integers are exact in float64 as long as they are below 2^53, and BLAS adds them up fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Shape
from nanonas.networks.ops import Node

Map = NDArray[Any]


def convolved(x: Map, weights: Map, stride: int, groups: int) -> Map:
    """A convolution without bias, padded with zeros by half its kernel.

    Args:
        x: (B, H, W, C).
        weights: (F, C / groups, k, k), of the type of `x`.

    Returns:
        (B, H', W', F).
    """
    filters, read, kernel, _ = weights.shape
    total: Any = 0
    for (row, column), seen in taps(x, kernel, stride, 0):
        factors = weights[:, :, row, column]
        if read == 1 and filters == groups:
            total = total + seen * factors[:, 0]
        elif groups == 1:
            total = total + seen @ factors.T
        else:
            split = seen.reshape(*seen.shape[:3], groups, read)
            shared = factors.reshape(groups, filters // groups, read)
            total = total + np.einsum("bhwgc,gfc->bhwgf", split, shared).reshape(
                *seen.shape[:3], filters
            )
    return np.asarray(total)


def taps(x: Map, kernel: int, stride: int, fill: float) -> Iterator[tuple[tuple[int, int], Map]]:
    """Each place of a window, row and column, and what a map shows there to all windows.

    Beyond the map, by (kernel - 1) // 2 on every side, is `fill`.
    """
    padding = (kernel - 1) // 2
    around = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(x, around, constant_values=fill) if padding else x
    height, width = ((size - kernel) // stride + 1 for size in padded.shape[1:3])
    for row in range(kernel):
        for column in range(kernel):
            rows = slice(row, row + (height - 1) * stride + 1, stride)
            columns = slice(column, column + (width - 1) * stride + 1, stride)
            yield (row, column), padded[:, rows, columns]


def largest(x: Map, pool: Node, fill: float, signs: Map | None = None) -> Map:
    """A max pool; the smallest of each window in channels whose sign is negative.

    Args:
        fill: what no value is below.
        signs: (C,), 1 or -1; None: all are 1.
    """
    turned = x if signs is None else x * signs
    best: Map | None = None
    for _, seen in taps(turned, pool.kernel, pool.stride, fill):
        best = seen if best is None else np.maximum(best, seen)
    assert best is not None
    return best if signs is None else best * signs


def summed(x: Map, pool: Node) -> tuple[Map, Map]:
    """The sum of each window, and how many values of the map are in it: (H', W', 1)."""
    total: Any = 0
    counts: Any = 0
    inside = np.ones((1, *x.shape[1:3], 1), x.dtype)
    for _, seen in taps(x, pool.kernel, pool.stride, 0):
        total = total + seen
    for _, seen in taps(inside, pool.kernel, pool.stride, 0):
        counts = counts + seen
    return total, counts[0]


def blocks_as_channels(x: Map, node: Node, fill: float) -> Map:
    """Blocks of stride × stride pixels as channels, in PyTorch's order; `fill` is what a block
    lacks at the right and the bottom.
    """
    side = node.stride
    batch, height, width, channels = x.shape
    missing = ((0, 0), (0, -height % side), (0, -width % side), (0, 0))
    whole = np.pad(x, missing, constant_values=fill)
    rows, columns = whole.shape[1] // side, whole.shape[2] // side
    blocks = whole.reshape(batch, rows, side, columns, side, channels)
    return np.asarray(blocks.transpose(0, 1, 3, 5, 2, 4).reshape(batch, rows, columns, -1))


def zeros(x: Map, shape: Shape, value: float) -> Map:
    """A map of one value: (B, H, W, C) of `shape`, (C, H, W)."""
    channels, height, width = shape
    return np.full((len(x), height, width, channels), value, x.dtype)


ACTIVATION_FUNCTIONS: dict[str, Callable[[Map], Map]] = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.1 * x),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: _gelu(x),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def _sigmoid(x: Map) -> Map:
    from scipy.special import expit

    return np.asarray(expit(x))


def _gelu(x: Map) -> Map:
    from scipy.special import erf

    return np.asarray(0.5 * x * (1 + erf(x / np.sqrt(2))))
