"""A trained network in 8-bit integers, and what it computes with them: the reference that the C
code agrees with, integer for integer.

Weights have a scale for each filter, with 0 in the middle. Activations have one for each tensor,
from the least to the greatest value that calibration images lead to. Pools, slices and lone ReLUs
keep the scale of what they read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.data.preprocessing import Preprocessing
from nanonas.deploy.c.fixed import (
    LARGEST_BIAS,
    LARGEST_WEIGHT,
    LOWEST,
    MOST_PRODUCTS,
    Scale,
    fixed,
    fixed_together,
    rescaled,
    saturated,
    scale_of,
)
from nanonas.deploy.c.folded import Filters, FloatNetwork, Tensors
from nanonas.deploy.c.maps import (
    ACTIVATION_FUNCTIONS,
    Map,
    blocks_as_channels,
    convolved,
    largest,
    summed,
    zeros,
)
from nanonas.errors import InvalidInput
from nanonas.networks.arena import Plan, plan
from nanonas.networks.integer import IMAGE, Step, roundings, undeployable
from nanonas.networks.network import Network

BATCH = 32  # images that are computed at once
_FINEST = 2.0**-12  # the scale of a sum, in units of the coarsest of its summands
# operations whose output has the scale of their input
_KEEPING = frozenset({"maxpool", "avgpool", "globalmaxpool", "slice", "space_to_depth"})


@dataclass(frozen=True)
class Numbers:
    """The constants of a step, as the C code has them; empty where a step has none of a kind."""

    weights: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))
    bias: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    # one for each filter of a convolution or input of a sum; one for a global pool
    multipliers: tuple[int, ...] = ()
    shifts: tuple[int, ...] = ()  # as many
    signs: NDArray[np.int8] | None = None  # of channels, 1 or -1; None: all are 1
    table: NDArray[np.int8] | None = None  # of an activation, for -128, -127, …, 127


@dataclass(frozen=True)
class IntegerNetwork:
    """A network in 8-bit integers; made by `quantised`."""

    network: Network
    plan: Plan
    pixels: NDArray[np.int8]  # (C, 256): what each value of each channel of an image becomes
    scales: Mapping[str, Scale]  # of each tensor, by its step; that of the image is `IMAGE`
    sums: Mapping[str, Scale]  # of what tables read, by step
    numbers: Mapping[str, Numbers]  # by step

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.int8]:
        """The integers that stand for the logits: (B, classes), for pixels, (B, H, W, C)."""
        batches = [self.run(batch)[self.plan.steps[-1].name] for batch in _batches(images)]
        return np.concatenate(batches)[:, 0, 0]

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.int8]]:
        """All tensors for pixels, (B, H, W, C)."""
        channels = np.arange(images.shape[-1])
        values = {IMAGE: self.pixels[channels, images]}
        for step in self.plan.steps:
            read = [values[name] for name in step.inputs] or [values[IMAGE]]
            out = self._linear(step, read)
            numbers = self.numbers[step.name]
            if numbers.table is not None:
                out = numbers.table[out.astype(np.int64) - LOWEST]
            elif step.op == "act":  # a ReLU that could not be the end of another step
                out = np.maximum(out, np.int8(self.scales[step.name].zero))
            if step.pool is not None:
                out = _largest(out, step, numbers)
            values[step.name] = out
        return values

    def _linear(self, step: Step, read: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
        """What a step computes, without its table and the pool that is computed with it."""
        x = read[0]
        if step.op == "conv":
            return self._convolved(step, x)
        if step.op in ("add", "concat"):
            return self._joined(step, read)
        if step.op == "maxpool":
            return _largest(x, step, self.numbers[step.name])
        zero = self.scales[step.inputs[0]].zero if step.inputs else self.scales[step.name].zero
        if step.op == "avgpool":
            total, counts = summed(x.astype(np.int64) - zero, step.node)
            return saturated((2 * total + counts) // (2 * counts), zero)
        if step.op == "globalpool":
            total = (x.astype(np.int64) - zero).sum(axis=(1, 2), keepdims=True)
            return self._saturated(step, total)
        if step.op == "globalmaxpool":
            return np.asarray(x.max(axis=(1, 2), keepdims=True))
        if step.op == "slice":
            return x[..., int(step.node["start"]) : int(step.node["stop"])]
        if step.op == "space_to_depth":
            return blocks_as_channels(x, step.node, zero)
        if step.op == "zero":
            return zeros(x, step.shape, zero)
        return x  # an activation

    def _convolved(self, step: Step, x: NDArray[np.int8]) -> NDArray[np.int8]:
        numbers = self.numbers[step.name]
        centred = x.astype(np.float64) - self.scales[step.inputs[0]].zero
        weights = numbers.weights.astype(np.float64)
        sums = convolved(centred, weights, step.node.stride, step.groups) + numbers.bias
        return self._saturated(step, sums)

    def _saturated(self, step: Step, sums: Map) -> NDArray[np.int8]:
        """Sums, one for each filter, in the scale of what the step writes or its table reads."""
        numbers = self.numbers[step.name]
        return saturated(rescaled(sums, numbers.multipliers, numbers.shifts), self._zero(step))

    def _joined(self, step: Step, read: Sequence[NDArray[np.int8]]) -> NDArray[np.int8]:
        numbers = self.numbers[step.name]
        parts = [
            (x.astype(np.int64) - self.scales[name].zero) * multiplier
            for name, x, multiplier in zip(step.inputs, read, numbers.multipliers, strict=True)
        ]
        joined = np.sum(parts, axis=0) if step.op == "add" else np.concatenate(parts, axis=-1)
        return saturated(rescaled(joined, 1, numbers.shifts[0]), self._zero(step))

    def _zero(self, step: Step) -> int:
        """The integer that is 0 before a step's table."""
        return self.sums.get(step.name, self.scales[step.name]).zero


def _largest(x: NDArray[np.int8], step: Step, numbers: Numbers) -> NDArray[np.int8]:
    pool = step.pool or step.node
    signs = None if numbers.signs is None else numbers.signs.astype(np.int16)
    return np.asarray(largest(x.astype(np.int16), pool, -999, signs)).astype(np.int8)


def _batches(images: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


# --- the making -----------------------------------------------------------------------------------


Ends = Mapping[str, tuple[float, float]]  # of the outputs of nodes


def quantised(
    network: Network,
    tensors: Tensors,
    preprocessing: Preprocessing,
    images: NDArray[np.uint8],
    ends: Ends | None = None,
) -> IntegerNetwork:
    """A trained network in 8-bit integers.

    Args:
        tensors: the module's state: its weights and the statistics of its norms, by name.
        preprocessing: says how pixels are normalised.
        images: for calibration, (N, H, W, C), of the network's input shape, as they were stored for
            training; some hundreds of training images are enough.
        ends: between which some nodes' outputs are held, as they were learnt in a fine-tuning; the
            others have those that the images lead to.

    Raises:
        InvalidInput: an operation has no form in integers, there are no images, or they are of
            another shape; or a sum of so many products could exceed 32 bits.
    """
    _check(network, images)
    planned = plan(network)
    floating = FloatNetwork(planned.steps, tensors)
    levels = np.arange(256)[:, None] / 255  # (256, C)
    normalised = (levels - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    image = scale_of(float(normalised.min()), float(normalised.max()))
    ranges = _ranges(floating, normalised.astype(np.float32), images)
    if ends:
        _narrow(ranges, network, planned.steps, ends)
    making = _Making(floating, ranges, image)
    for step in planned.steps:
        making.take(step)
    pixels = image.integers(normalised.T)
    return IntegerNetwork(network, planned, pixels, making.scales, making.sums, making.numbers)


def _check(network: Network, images: NDArray[np.uint8]) -> None:
    if unknown := undeployable(network):
        raise InvalidInput(
            f"the network has {', '.join(unknown)}, which have no form in 8-bit integers here; "
            "search with --target mcu"
        )
    channels, *sides = network.input_shape
    if len(images) == 0 or images.shape[1:] != (*sides, channels) or images.dtype != np.uint8:
        raise InvalidInput(
            f"calibration needs images of shape (N, {sides[0]}, {sides[1]}, {channels}) in uint8, "
            f"but has {images.shape} in {images.dtype}"
        )


Ranges = dict[str, tuple[float, float]]


def _ranges(
    floating: FloatNetwork, normalised: NDArray[np.float32], images: NDArray[np.uint8]
) -> tuple[Ranges, Ranges]:
    """The least and the greatest value of each tensor, and of what each table reads."""
    channels = np.arange(images.shape[-1])
    written, read = Ranges(), Ranges()
    for batch in _batches(images):
        values, before = floating.run(normalised[batch, channels])
        for ranges, seen in ((written, values), (read, before)):
            for name, x in seen.items():
                low, high = ranges.get(name, (0.0, 0.0))
                ranges[name] = (min(low, float(x.min())), max(high, float(x.max())))
    return written, read


def _narrow(
    ranges: tuple[Ranges, Ranges], network: Network, steps: Sequence[Step], ends: Ends
) -> None:
    """Puts given ends of nodes' outputs in the place of those that were measured."""
    written, read = ranges
    of_step: dict[str, list[tuple[float, float]]] = {}
    for node, name in roundings(network).items():
        if node in ends:
            of_step.setdefault(name, []).append(ends[node])
    for step in steps:
        *before, last = of_step.get(step.name, [written[step.name]])
        # a ReLU is where the integers end, so these begin at 0
        written[step.name] = (0.0, last[1]) if step.act == "relu" else last
        if before and step.has_table:
            read[step.name] = before[-1]


class _Making:
    """The integers of the steps, one after the other."""

    def __init__(self, floating: FloatNetwork, ranges: tuple[Ranges, Ranges], image: Scale) -> None:
        self.floating = floating
        self.written, self.read = ranges
        self.scales: dict[str, Scale] = {IMAGE: image}
        self.sums: dict[str, Scale] = {}
        self.numbers: dict[str, Numbers] = {}

    def take(self, step: Step) -> None:
        """Makes the scales and the constants of a step whose inputs have theirs."""
        self.scales[step.name] = self._scale(step)
        if step.has_table:
            keeps = step.op == "act"
            self.sums[step.name] = (
                self.scales[step.inputs[0]]
                if keeps
                else scale_of(*self.read[step.name], self._finest(step))
            )
        self.numbers[step.name] = self._numbers(step)

    def _scale(self, step: Step) -> Scale:
        if step.op in _KEEPING or (step.op == "act" and not step.has_table):
            return self.scales[step.inputs[0]]
        finest = 0.0 if step.has_table else self._finest(step)
        return scale_of(*self.written[step.name], finest)

    def _finest(self, step: Step) -> float:
        if step.op not in ("add", "concat"):
            return 0.0
        return _FINEST * max(self.scales[name].scale for name in step.inputs)

    def _numbers(self, step: Step) -> Numbers:
        out = self.sums.get(step.name, self.scales[step.name])
        signs = self.floating.signs[step.name]
        table = self._table(step, out) if step.has_table else None
        if step.op == "conv":
            filters = self.floating.filters[step.name]
            return _convolution(step, filters, self.scales[step.inputs[0]], out, signs, table)
        if step.op in ("add", "concat"):
            factors = [self.scales[name].scale / out.scale for name in step.inputs]
            multipliers, shift = fixed_together(factors)
            shifts = (shift,) * len(factors)
            return Numbers(multipliers=tuple(multipliers), shifts=shifts, table=table)
        if step.op == "globalpool":
            pixels = step.input_shape[1] * step.input_shape[2]
            multiplier, shift = fixed(self.scales[step.inputs[0]].scale / (out.scale * pixels))
            return Numbers(multipliers=(multiplier,), shifts=(shift,))
        return Numbers(signs=signs, table=table)

    def _table(self, step: Step, read: Scale) -> NDArray[np.int8]:
        """What an activation makes of each 8-bit integer, from -128 on."""
        real = read.real(np.arange(LOWEST, LOWEST + 256))
        return self.scales[step.name].integers(ACTIVATION_FUNCTIONS[str(step.act)](real))


def _convolution(
    step: Step,
    filters: Filters,
    read: Scale,
    out: Scale,
    signs: NDArray[np.int8] | None,
    table: NDArray[np.int8] | None,
) -> Numbers:
    """The integers of a convolution. The scale of a filter is that of its largest weight, or a
    coarser one where its bias would be beyond 32 bits otherwise.
    """
    products = int(np.prod(step.weights[1:]))
    if products > MOST_PRODUCTS:
        raise InvalidInput(
            f"{step.name} adds up {products:,} products, but 32 bits hold {MOST_PRODUCTS:,}; "
            "take a network with fewer channels"
        )
    largest_weight = np.abs(filters.weights).max(axis=(1, 2, 3))
    scales = np.maximum(
        largest_weight / LARGEST_WEIGHT, np.abs(filters.bias) / (read.scale * LARGEST_BIAS)
    )
    scales = np.where(scales > 0, scales, 1.0)
    weights = np.rint(filters.weights / scales[:, None, None, None]).astype(np.int8)
    bias = np.rint(filters.bias / (read.scale * scales)).astype(np.int32)
    pairs = [fixed(read.scale * float(scale) / out.scale) for scale in scales]
    multipliers = tuple(multiplier for multiplier, _ in pairs)
    return Numbers(weights, bias, multipliers, tuple(shift for _, shift in pairs), signs, table)
