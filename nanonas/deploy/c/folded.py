"""The steps of a trained network with their weights in floating point, norms folded into them: what
integers are made from, and what they are compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.deploy.c.maps import (
    ACTIVATION_FUNCTIONS,
    Map,
    blocks_as_channels,
    convolved,
    largest,
    summed,
    zeros,
)
from nanonas.networks.integer import IMAGE, Step
from nanonas.networks.ops import NORM_EPS

Tensors = Mapping[str, NDArray[Any]]  # a module's, by their names in its state


@dataclass(frozen=True)
class Filters:
    """What a convolution computes with, norm included."""

    weights: NDArray[np.float64]  # (F, C / groups, k, k)
    bias: NDArray[np.float64]  # (F,)


def folded(step: Step, tensors: Tensors) -> Filters:
    """The weights and bias of a convolution."""
    name = step.node.name
    if step.node.op == "norm":
        scale, shift = _norm(name, tensors)
        return Filters(scale.reshape(step.weights), shift)
    weights = np.asarray(tensors[f"{name}.weight"], np.float64).reshape(step.weights)
    bias = np.zeros(len(weights))
    if f"{name}.bias" in tensors:
        bias = np.asarray(tensors[f"{name}.bias"], np.float64)
    if step.norm is None:
        return Filters(weights, bias)
    scale, shift = _norm(step.norm, tensors)
    return Filters(weights * scale[:, None, None, None], bias * scale + shift)


def signs(step: Step, tensors: Tensors) -> NDArray[np.int8] | None:
    """1 for each channel in which a pool takes the largest, -1 where it takes the smallest; None
    where it takes the largest everywhere.
    """
    if step.signs is None:
        return None
    return np.where(_norm(step.signs, tensors)[0] < 0, -1, 1).astype(np.int8)


def _norm(name: str, tensors: Tensors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a batch norm multiplies each channel by, and what it adds then."""
    weight, bias, mean, variance = (
        np.asarray(tensors[f"{name}.{part}"], np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / np.sqrt(variance + NORM_EPS)
    return scale, bias - mean * scale


class FloatNetwork:
    """The steps in floating point."""

    def __init__(self, steps: Sequence[Step], tensors: Tensors) -> None:
        self.steps = tuple(steps)
        self.filters = {step.name: folded(step, tensors) for step in steps if step.op == "conv"}
        self.signs = {step.name: signs(step, tensors) for step in steps}

    def run(self, images: NDArray[np.float32]) -> tuple[dict[str, Map], dict[str, Map]]:
        """All tensors for normalised images, (B, H, W, C); and what tables read of each step that
        has one, by its name: sums, before the activation.
        """
        values: dict[str, Map] = {IMAGE: images}
        before: dict[str, Map] = {}
        for step in self.steps:
            read = [values[name] for name in step.inputs] or [images]
            out = self._linear(step, read)
            if step.has_table:
                before[step.name] = out
            if step.act is not None:
                out = ACTIVATION_FUNCTIONS[step.act](out)
            if step.pool is not None:
                out = largest(out, step.pool, -np.inf, self.signs[step.name])
            values[step.name] = np.asarray(out, np.float32)
        return values, before

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, classes), for normalised images, (B, H, W, C)."""
        values, _ = self.run(images)
        return np.asarray(values[self.steps[-1].name][:, 0, 0], np.float32)

    def _linear(self, step: Step, read: Sequence[Map]) -> Map:
        """What a step computes, without its activation and the pool that is computed with it."""
        x = read[0]
        if step.op == "conv":
            filters = self.filters[step.name]
            weights = filters.weights.astype(np.float32)
            summed_up = convolved(x, weights, step.node.stride, step.groups)
            return np.asarray(summed_up + filters.bias.astype(np.float32))
        if step.op == "add":
            return np.asarray(np.sum(read, axis=0))
        if step.op == "concat":
            return np.concatenate(read, axis=-1)
        if step.op == "maxpool":
            return largest(x, step.node, -np.inf, self.signs[step.name])
        if step.op == "avgpool":
            total, counts = summed(x, step.node)
            return np.asarray(total / counts)
        if step.op == "globalpool":
            return np.asarray(x.mean(axis=(1, 2), keepdims=True))
        if step.op == "globalmaxpool":
            return np.asarray(x.max(axis=(1, 2), keepdims=True))
        if step.op == "slice":
            return x[..., int(step.node["start"]) : int(step.node["stop"])]
        if step.op == "space_to_depth":
            return blocks_as_channels(x, step.node, 0)
        if step.op == "zero":
            return zeros(x, step.shape, 0)
        return x  # an activation
