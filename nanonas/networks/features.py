"""What a predictor reads of a `Network`, of whatever space: how large, how deep, which operations,
where, and in what order.

The features come in groups that belong together (`GROUPS`), so that a predictor can learn for each
of them how much it matters. Counts are log(1 + count): one convolution more is much where there are
two, and little where there are twenty.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from nanonas.core import Floats, Shape
from nanonas.networks.network import Network
from nanonas.networks.ops import ACTIVATIONS, Node

KINDS = (
    "conv1",
    "conv3",
    "conv5",
    "conv7",
    "depthwise",
    "maxpool",
    "avgpool",
    "dense",
    "dropout",
    "add",
    "concat",
)
PLACES = (
    "conv",
    "depthwise",
    "pool",
    "join",
    "end",
)  # what a link leads from and to; "end" is all behind the maps
LEVELS = (
    6  # halvings of the map since the image, 5 and more together; vectors have a level of their own
)
GROUPS: dict[str, int] = {  # and how many features each has, in the order of `features`
    "size": 3,
    "depth": 5,
    "operations": len(KINDS) + len(ACTIVATIONS) + 1,
    "levels": LEVELS * (len(KINDS) - 3 + 1),
    "links": (len(PLACES) + 1) * len(PLACES),
}


def features(network: Network) -> Floats:
    """The network in numbers, shape (sum of `GROUPS`,).

    size: logarithms of the parameters, of the multiply-accumulates and of all values that an image
    becomes.
    depth: weighted layers on the longest way and on the shortest, all of them, joins, and
    (logarithm of) ways.
    operations: how many of each kind; the share of each activation; norms for each convolution.
    levels: after so many halvings, how many operations of each kind, and how wide (mean log2 of the
    channels).
    links: which kind of operation follows which, norms and activations left out.
    """
    kinds = {node.name: _kind(node) for node in network.nodes}
    places = {"input": "input"}  # of what a node passes on
    levels = {node.name: _level(network.input_shape, node.shape) for node in network.nodes}
    counts: Counter[str | tuple[str, int] | tuple[str, str]] = Counter()
    widths: dict[int, list[float]] = {level: [] for level in range(LEVELS)}
    for node in network.nodes:
        kind, level = kinds[node.name], levels[node.name]
        if kind not in KINDS:  # norms, activations: what leads through them
            counts[node.op if node.op != "act" else str(node["kind"])] += 1
            places[node.name] = places[node.inputs[0]] if node.op != "globalpool" else "end"
            continue
        counts[kind] += 1
        counts[kind, level] += 1
        places[node.name] = place = _place(kind, level)
        for name in node.inputs:
            counts[places[name], place] += 1
        if node.op == "conv" and level < LEVELS:
            widths[level].append(math.log2(node.shape[0]))
    convolutions = sum(counts[kind] for kind in KINDS[:5])
    activations = max(1, sum(counts[kind] for kind in ACTIVATIONS))
    return np.array(
        [
            *(math.log(1 + size) for size in (network.params, network.macs, _values(network))),
            *_depths(network),
            *(math.log1p(counts[kind]) for kind in KINDS),
            *(counts[kind] / activations for kind in ACTIVATIONS),
            counts["norm"] / max(1, convolutions),
            *(
                math.log1p(counts[kind, level])
                for level in range(LEVELS)
                for kind in KINDS
                if kind in _ON_MAPS
            ),
            *(sum(widths[level]) / max(1, len(widths[level])) / 4 for level in range(LEVELS)),
            *(math.log1p(counts[a, b]) for a in ("input", *PLACES) for b in PLACES),
        ],
        dtype=np.float64,
    )


_ON_MAPS = tuple(kind for kind in KINDS if kind not in ("dense", "dropout", "concat"))


def _kind(node: Node) -> str:
    if node.op != "conv":
        return node.op
    if node.number("groups") > 1:
        return "depthwise"
    return f"conv{min(7, node.number('kernel'))}"


def _place(kind: str, level: int) -> str:
    if level >= LEVELS or kind == "dense":
        return "end"
    if kind in ("add", "concat"):
        return "join"
    if kind in ("maxpool", "avgpool", "dropout"):
        return "pool"
    return "depthwise" if kind == "depthwise" else "conv"


def _level(image: Shape, shape: Shape) -> int:
    """Halvings since the image; `LEVELS` for a vector."""
    if len(shape) == 1:
        return LEVELS
    return min(LEVELS - 1, round(math.log2(max(image[1:]) / max(shape[1:]))))


def _values(network: Network) -> int:
    return sum(math.prod(node.shape) for node in network.nodes)


def _depths(network: Network) -> list[float]:
    longest, shortest, ways = {"input": 0}, {"input": 0}, {"input": 1.0}
    for node in network.nodes:
        own = node.op in ("conv", "dense")
        longest[node.name] = own + max(longest[name] for name in node.inputs)
        shortest[node.name] = own + min(shortest[name] for name in node.inputs)
        ways[node.name] = sum(ways[name] for name in node.inputs)
    end = network.nodes[-1].name
    weighted = sum(node.op in ("conv", "dense") for node in network.nodes)
    joins = sum(node.op in ("add", "concat") for node in network.nodes)
    return [
        *map(math.log1p, (longest[end], shortest[end], weighted, joins)),
        math.log1p(ways[end]) / 2,
    ]
