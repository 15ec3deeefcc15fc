"""The RAM that CMSIS-NN needs besides the arena where it computes a network's convolutions: Lai,
Suda & Chandra 2018, https://arxiv.org/abs/1801.06601.

The C code asks CMSIS-NN itself before each convolution, and computes one on its own for which there
is too little. So these are the sizes of July 2026 (`arm_…_get_buffer_size`): where a later version
needs more, it is slower, not wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nanonas.networks.arena import WORD
from nanonas.networks.integer import Step

_HELIUM_CHANNELS = 124  # of a depthwise convolution that are computed at a time: CH_IN_BLOCK_MVE


@dataclass(frozen=True)
class Scratch:
    """What the largest of the convolutions needs."""

    filters: int
    rows: int  # bytes of the rows that a pool waits for
    buffer: int  # bytes that CMSIS-NN itself writes, on cores without Helium
    helium_buffer: int  # on cores with it


def scratch(steps: Sequence[Step]) -> Scratch:
    """What the convolutions of a network need, one after the other; there is always one, for a
    classifier ends with a dense layer.
    """
    convolutions = [step for step in steps if step.op == "conv"]
    return Scratch(
        max(step.node.shape[0] for step in convolutions),
        _words(max(_rows(step) for step in convolutions)),
        _words(max(_buffer(step) for step in convolutions)),
        _words(max(_helium_buffer(step) for step in convolutions)),
    )


def _rows(step: Step) -> int:
    columns = (step.input_shape[2] - 1) // step.node.stride + 1
    return 0 if step.pool is None else step.pool.kernel * columns * step.node.shape[0]


def _buffer(step: Step) -> int:
    """Columns of the image in 16 bits: two of a convolution, one of a depthwise one."""
    values = step.input_shape[0] * step.node.kernel**2
    return 2 * values if step.depthwise else 2 * 2 * _multiple(values, 4)


def _helium_buffer(step: Step) -> int:
    """Four columns in 8 bits."""
    if step.depthwise:
        return 4 * _HELIUM_CHANNELS * step.node.kernel**2
    return 4 * _multiple(step.input_shape[0] * step.node.kernel**2, 16)


def _words(size: int) -> int:
    """A size in whole words, and not 0, for C has no array of no size."""
    return _multiple(max(size, 1), WORD)


def _multiple(size: int, of: int) -> int:
    return -(-size // of) * of
