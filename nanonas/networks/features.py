"""What a predictor reads of a `Network`, of whatever space: how large, how deep, which operations,
where, and in what order.

The features come in groups that belong together (`GROUPS`), so that a predictor can learn for each
of them how much it matters. Counts are log(1 + count): one convolution more is much where there are
two, and little where there are twenty.

Runs that resume predict as before, so the features and their order are fixed. An operation that is
not in `KINDS` counts as what its family is like.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from nanonas.core import Floats, Shape
from nanonas.networks.network import Network
from nanonas.networks.ops import Node

KINDS: dict[str, str] = {  # what is counted, and its place among `PLACES`
    "conv1": "conv",
    "conv3": "conv",
    "conv5": "conv",
    "conv7": "conv",
    "depthwise": "depthwise",
    "maxpool": "pool",
    "avgpool": "pool",
    "dense": "end",
    "dropout": "pool",
    "add": "join",
    "concat": "join",
}
CONVOLUTIONS = tuple(KINDS)[:5]
ON_MAPS = tuple(kind for kind in KINDS if kind not in ("dense", "dropout", "concat"))
LIKE = {"pool": "avgpool", "join": "add", "dense": "dense"}  # kinds, by family
ACTIVATIONS = ("relu", "leaky_relu", "silu", "gelu", "hardswish")  # that have a share of their own
# what a link leads from and to; "end" is all behind the maps
PLACES = ("conv", "depthwise", "pool", "join", "end")
# halvings of the map since the image, 5 and more together; vectors have a level of their own
LEVELS = 6
GROUPS: dict[str, int] = {  # and how many features each has, in the order of `features`
    "size": 3,
    "depth": 5,
    "operations": len(KINDS) + len(ACTIVATIONS) + 1,
    "levels": LEVELS * (len(ON_MAPS) + 1),
    "links": (len(PLACES) + 1) * len(PLACES),
}


def features(network: Network) -> Floats:
    """The network in numbers, shape (sum of `GROUPS`,).

    size: logarithms of the parameters, of the multiply-accumulates and of all values that an image
    becomes.
    depth: layers of weights on the longest path and on the shortest, all of them, joins, and
    (logarithm of) paths.
    operations: how many of each kind; the share of each activation; norms for each convolution.
    levels: after so many halvings, how many operations of each kind, and how wide (mean log2 of the
    channels).
    links: which kind of operation follows which, norms and activations left out.
    """
    counts: Counter[str | tuple[str, int] | tuple[str, str]] = Counter()
    places = {"input": "input"}  # of what a node passes on
    widths: dict[int, list[float]] = {level: [] for level in range(LEVELS)}
    for node in network.nodes:
        kind, level = _kind(node), _level(network.input_shape, node.shape)
        if kind is None:  # what leads through it
            places[node.name] = "end" if node.flattens else places[node.inputs[0]]
            counts[_passing(node)] += 1
            continue
        counts[kind] += 1
        counts[kind, level] += 1
        places[node.name] = place = "end" if level >= LEVELS else KINDS[kind]
        for name in node.inputs:
            counts[places[name], place] += 1
        if node.traits.family == "conv" and level < LEVELS:
            widths[level].append(math.log2(node.shape[0]))
    sizes = (network.params, network.macs, _values(network))
    convolutions = sum(counts[kind] for kind in CONVOLUTIONS)
    activations = max(1, sum(counts[kind] for kind in ACTIVATIONS))
    return np.array(
        [
            *(math.log(1 + size) for size in sizes),
            *_depths(network),
            *(math.log1p(counts[kind]) for kind in KINDS),
            *(counts[kind] / activations for kind in ACTIVATIONS),
            counts["norm"] / max(1, convolutions),
            *(math.log1p(counts[kind, level]) for level in range(LEVELS) for kind in ON_MAPS),
            *(sum(widths[level]) / max(1, len(widths[level])) / 4 for level in range(LEVELS)),
            *(math.log1p(counts[a, b]) for a in ("input", *PLACES) for b in PLACES),
        ],
        dtype=np.float64,
    )


def _kind(node: Node) -> str | None:
    """One of `KINDS`; None for what a signal passes through: norms, activations and the like."""
    family = node.traits.family
    if family == "conv":
        if node.grouped:
            return "depthwise"
        return f"conv{min(7, node.kernel // 2 * 2 + 1)}"
    if node.op in KINDS:
        return node.op
    return None if node.flattens else LIKE.get(family)


def _passing(node: Node) -> str:
    """What a node counts as that has no kind."""
    family = node.traits.family
    if family == "norm":
        return "norm"
    return str(node.values.get("kind", node.op)) if family == "act" else node.op


def _level(image: Shape, shape: Shape) -> int:
    """Halvings since the image; `LEVELS` for a vector."""
    if len(shape) == 1:
        return LEVELS
    return min(LEVELS - 1, round(math.log2(max(image[1:]) / max(shape[1:]))))


def _values(network: Network) -> int:
    return sum(math.prod(node.shape) for node in network.nodes)


def _depths(network: Network) -> list[float]:
    longest, shortest, paths = {"input": 0}, {"input": 0}, {"input": 1.0}
    for node in network.nodes:
        layer = node.traits.is_layer
        longest[node.name] = layer + max(longest[name] for name in node.inputs)
        shortest[node.name] = layer + min(shortest[name] for name in node.inputs)
        paths[node.name] = sum(paths[name] for name in node.inputs)
    end = network.nodes[-1].name
    layers = sum(node.traits.is_layer for node in network.nodes)
    joins = sum(node.traits.family == "join" for node in network.nodes)
    return [
        *map(math.log1p, (longest[end], shortest[end], layers, joins)),
        math.log1p(paths[end]) / 2,
    ]
