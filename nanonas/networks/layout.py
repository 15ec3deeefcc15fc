"""A network as rows and arcs, for whatever draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanonas.core import Shape
from nanonas.networks.network import Network
from nanonas.networks.ops import Node

FAMILIES = {
    "conv": "conv",
    "dense": "dense",
    "maxpool": "pool",
    "avgpool": "pool",
    "globalpool": "pool",
    "add": "join",
    "concat": "join",
}


@dataclass(frozen=True)
class Row:
    """A layer: an operation with the norm and the activation that follow it."""

    words: str  # "3×3 conv · norm · relu"
    shape: Shape  # of its output
    params: int
    family: str  # of `FAMILIES`, "separable", "image" or "other"
    nodes: tuple[str, ...]  # names


@dataclass(frozen=True)
class Drawing:
    """Rows from top to bottom, the image first, and what reads what: (from, to), places of rows,
    from < to.
    """

    rows: tuple[Row, ...]
    links: tuple[tuple[int, int], ...]

    def reads(self, place: int) -> list[int]:
        """The rows that a row reads; none where that is the one above it alone, or where it is the
        image.
        """
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
            free = (
                n for n, taken in enumerate(lanes) if all(end <= a or b <= start for a, b in taken)
            )
            lane = next(free, len(lanes))
            if lane == len(lanes):
                lanes.append([])
            lanes[lane].append((start, end))
            placed.append((start, end, lane))
        return sorted(placed)


def drawing(network: Network) -> Drawing:
    """What there is to draw of a network."""
    groups: list[list[Node]] = []
    row_of = {"input": 0}
    for node in network.nodes:
        last = groups[-1] if groups else []
        follows = (
            last and node.inputs == (last[-1].name,) and len(network.readers[last[-1].name]) == 1
        )
        if follows and node.op in ("norm", "act"):
            last.append(node)
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
    return Drawing((image, *(_row(group) for group in groups)), tuple(sorted(links)))


def mark(row: Row, marks: Mapping[str, str]) -> str:
    """What is marked of a row: "new" where its first node is, "changed" where any is, else nothing."""
    found = [marks.get(name, "") for name in row.nodes]
    if found and found[0] == "new":
        return "new"
    return "changed" if any(found) else ""


def words(node: Node) -> str:
    """An operation in a few words."""
    a = dict(node.attributes)
    size = f"{a['kernel']}×{a['kernel']} " if "kernel" in a else ""
    stride = f" /{a['stride']}" if a.get("stride", 1) != 1 else ""
    if node.op == "conv":
        return f"{size}{'depthwise' if a['groups'] != 1 else 'conv'}{stride}"
    if node.op in ("maxpool", "avgpool"):
        return f"{size}{node.op[:3]} pool{stride}"
    named = {
        "globalpool": "global pool",
        "act": str(a.get("kind")),
        "dropout": f"dropout {a.get('rate')}",
    }
    return named.get(node.op, node.op)


def _row(group: Sequence[Node]) -> Row:
    first = group[0]
    family = FAMILIES.get(first.op, "other")
    if first.op == "conv" and first["groups"] != 1:
        family = "separable"
    said = " · ".join(words(node) for node in group)
    return Row(
        said,
        group[-1].shape,
        sum(n.params for n in group),
        family,
        tuple(node.name for node in group),
    )


def shape_in_words(shape: Shape) -> str:
    return "×".join(map(str, shape))
