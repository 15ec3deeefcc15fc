"""Which node of a child is which node of its parent, and so what the edit between them changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nanonas.core import Integers
from nanonas.networks.network import Network
from nanonas.networks.ops import Node

# What a pair is worth: the sum over the columns of `_columns` that are equal. Before an edit
# everything has the same origin, behind it everything has the same future, so these two find its
# place. The future counts for more: of a new unit with a skip around it and the old one behind it,
# the new one has the old origin and the old one the old future.
WEIGHTS = {
    "origin": 4,
    "future": 6,
    "reads": 1,
    "read_by": 1,
    "grouped": 3,
    "attributes": 1,
    "kernel": 1,
    "width": 1,
}
TOGETHER = 8  # what it is worth that a norm, say, stays with its convolution


@dataclass(frozen=True)
class Alignment:
    """Two networks, node by node; names of nodes. `same` and `changed` map the child's nodes to its
    parent's.

    Both keep the order: of two pairs, the one that is first in the child is first in the parent.
    """

    # equal operation, attributes and shapes; between images of two sizes, channels for shapes
    same: Mapping[str, str]
    # the same operation between the same neighbours, with other attributes or shapes
    changed: Mapping[str, str]
    new: tuple[str, ...]  # nodes of the child, in its order, that the parent does not have
    gone: tuple[str, ...]  # nodes of the parent, in its order, that the child does not have


def align(parent: Network, child: Network) -> Alignment:
    """Pairs the nodes of a child with those of its parent.

    First a common subsequence of (operation, attributes, shapes), in topological order, the one
    that is worth most by `WEIGHTS`: a long one, of pairs that stand in the same surroundings.
    Longest alone is misled by what is everywhere, norms and activations. Between two neighbours of
    it, another one of the operations alone. 0.7 ms for 25 nodes each.
    """
    sized = parent.input_shape == child.input_shape
    old, young = _columns(parent, sized), _columns(child, sized)
    exact = _common(young, old, "exact")
    inexact: list[tuple[int, int]] = []
    i = j = 0
    for next_i, next_j in [*exact, (len(child.nodes), len(parent.nodes))]:
        if next_i > i and next_j > j:
            gap = _common(_part(young, i, next_i), _part(old, j, next_j), "op")
            inexact += [(i + a, j + b) for a, b in gap]
        i, j = next_i + 1, next_j + 1
    same = {child.nodes[a].name: parent.nodes[b].name for a, b in exact}
    changed = {child.nodes[a].name: parent.nodes[b].name for a, b in inexact}
    paired = {*same.values(), *changed.values()}
    return Alignment(
        same,
        changed,
        new=tuple(n.name for n in child.nodes if n.name not in same and n.name not in changed),
        gone=tuple(n.name for n in parent.nodes if n.name not in paired),
    )


Columns = dict[str, Integers]
"""A network in columns of numbers, shape (nodes,) each: equal numbers stand for equal things.

Things are numbered by their hashes, 64 bits that the networks of a process have in common.
"""


@lru_cache(maxsize=256)
def _columns(network: Network, sized: bool) -> Columns:
    """The nodes as columns; remembered, for a parent has several children."""
    origin, kind = {"input": hash("input")}, {"input": hash("image")}
    for node in network.nodes:
        inputs = [origin[name] for name in node.inputs]
        if node.traits.commutative:
            inputs.sort()
        kind[node.name] = hash((node.op, node.attributes))
        origin[node.name] = hash(("origin", kind[node.name], *inputs))
    future: dict[str, int] = {}
    for node in reversed(network.nodes):
        ends = sorted(future[reader.name] for reader in network.readers[node.name])
        future[node.name] = hash(("future", kind[node.name], *ends))
    compared = slice(None if sized else 1)  # the part of a shape that must be equal
    rows = []
    before: Node | None = None
    for node in network.nodes:
        shapes = (node.shape, *node.input_shapes)
        readers = network.readers[node.name]
        rows.append(
            {
                "exact": hash((kind[node.name], *(shape[compared] for shape in shapes))),
                "op": hash(node.op),
                "origin": origin[node.name],
                "future": future[node.name],
                "reads": hash(("reads", *sorted(kind[name] for name in node.inputs))),
                "read_by": hash(("read by", *sorted(kind[reader.name] for reader in readers))),
                "grouped": int(node.grouped),
                "attributes": kind[node.name],
                "together": int(_together(before, node)),
                "kernel": hash(("kernel", node.kernel)),
                "width": hash(("width", *(shape[0] for shape in shapes))),
            }
        )
        before = node
    return {column: np.array([row[column] for row in rows], dtype=np.int64) for column in rows[0]}


def _together(before: Node | None, node: Node) -> bool:
    """Whether a node is of one unit with the one before it: a norm, an activation, and what follows
    a depthwise convolution.
    """
    if before is None or node.inputs != (before.name,):
        return False
    return node.traits.trails or before.grouped


def _part(columns: Columns, begin: int, end: int) -> Columns:
    return {column: values[begin:end] for column, values in columns.items()}


def _common(a: Columns, b: Columns, column: str) -> list[tuple[int, int]]:
    """The common subsequence of a column that is worth most, as pairs of positions."""
    shape = len(a[column]), len(b[column])
    score = np.ones(shape, dtype=np.int64)
    for other, weight in WEIGHTS.items():
        score += weight * (a[other][:, None] == b[other])
    score *= a[column][:, None] == b[column]
    together = TOGETHER * (a["together"][:, None] & b["together"])
    # of the first i of a and the first j of b: the best worth, and the best that ends in the pair
    # of their last ones (0: they are no pair)
    best = np.zeros((shape[0] + 1, shape[1] + 1), dtype=np.int64)
    ended = np.zeros_like(best)
    for i in range(shape[0]):
        joined = np.where(ended[i, :-1] > 0, ended[i, :-1] + together[i], 0)
        ended[i + 1, 1:] = np.where(score[i] > 0, score[i] + np.maximum(best[i, :-1], joined), 0)
        best[i + 1, 1:] = np.maximum.accumulate(np.maximum(best[i, 1:], ended[i + 1, 1:]))
    pairs: list[tuple[int, int]] = []
    i, j = shape
    joined_to_next = False
    while i and j:
        if joined_to_next or (best[i, j] == ended[i, j] > 0):
            i, j = i - 1, j - 1
            pairs.append((i, j))
            joined_to_next = bool(ended[i, j] > 0 and ended[i, j] + together[i, j] > best[i, j])
        elif best[i, j] == best[i - 1, j]:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]
