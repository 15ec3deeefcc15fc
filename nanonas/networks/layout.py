"""A network as rows and arcs, to be drawn as SVG or in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from nanonas.core import Shape
from nanonas.networks.network import Network
from nanonas.networks.ops import Attribute, Node


@dataclass(frozen=True)
class Row:
    """A layer: an operation with the norm and the activation that follow it."""

    words: str  # "3×3 conv · norm · relu"
    shape: Shape  # of its output
    params: int
    family: str  # "image", "conv", "separable", "dense", "pool", "join" or "other"
    nodes: tuple[str, ...]  # names
    mark: str = ""  # "new" where its first node is, "changed" where any is marked


@dataclass(frozen=True)
class Drawing:
    """Rows from top to bottom, the image first, and what reads what: (from, to), places of rows,
    from < to.
    """

    rows: tuple[Row, ...]
    links: tuple[tuple[int, int], ...]

    def reads(self, place: int) -> list[int]:
        """The rows that a row reads; [] where that is the row above it alone, and for the image."""
        sources = [start for start, end in self.links if end == place]
        return [] if sources == [place - 1] else sources

    @property
    def arcs(self) -> list[tuple[int, int, int]]:
        """The links that pass a row, (from, to, lane): arcs in a lane do not overlap; short ones
        are inside.
        """
        lanes: list[list[tuple[int, int]]] = []
        placed: list[tuple[int, int, int]] = []
        far = [link for link in self.links if link[1] - link[0] > 1]
        for start, end in sorted(far, key=lambda link: (link[1] - link[0], link)):
            lane = 0
            while lane < len(lanes) and any(a < end and start < b for a, b in lanes[lane]):
                lane += 1
            if lane == len(lanes):
                lanes.append([])
            lanes[lane].append((start, end))
            placed.append((start, end, lane))
        return sorted(placed)


def drawing(network: Network, marks: Mapping[str, str] | None = None) -> Drawing:
    """The rows and links of a network.

    Args:
        marks: "new" or "changed", by the name of a node.
    """
    groups: list[list[Node]] = []
    row_of = {"input": 0}
    for node in network.nodes:
        if groups and node.traits.trails and _continues(network, groups[-1][-1], node):
            groups[-1].append(node)
        else:
            groups.append([node])
        row_of[node.name] = len(groups)
    image = Row("image", network.input_shape, 0, "image", ())
    links = {
        (row_of[name], row_of[node.name])
        for node in network.nodes
        for name in node.inputs
        if row_of[name] != row_of[node.name]
    }
    rows = (_row(group, marks or {}) for group in groups)
    return Drawing((image, *rows), tuple(sorted(links)))


def _continues(network: Network, last: Node, node: Node) -> bool:
    """Whether a node reads the last one alone, and is its only reader."""
    return node.inputs == (last.name,) and len(network.readers[last.name]) == 1


def _row(group: Sequence[Node], marks: Mapping[str, str]) -> Row:
    kinds = tuple((node.op, node.attributes, node.shape, node.input_shapes) for node in group)
    row_words, params, family = _described(kinds)
    names = tuple(node.name for node in group)
    marked = [marks.get(name, "") for name in names]
    mark = "changed" if any(marked) else ""
    if marked[0] == "new":
        mark = "new"
    return Row(row_words, group[-1].shape, params, family, names, mark)


@lru_cache(maxsize=20_000)
def _described(
    kinds: tuple[tuple[str, tuple[tuple[str, Attribute], ...], Shape, tuple[Shape, ...]], ...],
) -> tuple[str, int, str]:
    """The words, the parameters and the family of a row, by what its nodes are; remembered, for the
    networks of a run have most of their rows in common.
    """
    nodes = [Node("", op, (), attributes, shape, inputs) for op, attributes, shape, inputs in kinds]
    row_words = " · ".join(node.words for node in nodes)
    return row_words, sum(node.params for node in nodes), _family(nodes[0])


def _family(node: Node) -> str:
    family = node.traits.family
    if node.traits.trails:
        return "other"
    return "separable" if family == "conv" and node.grouped else family


def shape_in_words(shape: Shape) -> str:
    """As in 16×32×32."""
    return "×".join(map(str, shape))
