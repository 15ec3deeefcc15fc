"""A network as a drawing: its layers from top to bottom, with shapes and parameters; skips are arcs beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from nanonas.core import Shape
from nanonas.results.text import count
from nanonas.spaces.network import Network, Node

ROW, GAP, LANE, WIDTH = 22, 6, 9, 330  # pixels: a layer's height, the room below it, an arc's width, a layer's width
FAMILIES = {
    "conv": "conv",
    "dense": "dense",
    "maxpool": "pool",
    "avgpool": "pool",
    "globalpool": "pool",
    "add": "join",
    "concat": "join",
}

STYLE = """
.nn text{font:12px system-ui,sans-serif;fill:#1a1a1a}.nn .dim{fill:#555}.nn rect{stroke:#0003;rx:4px}
.nn .conv{fill:#cfe4f5}.nn .separable{fill:#e3f1fb}.nn .dense{fill:#f7d9c4}.nn .pool{fill:#fbe7b8}
.nn .join{fill:#c9ead9}.nn .other,.nn .image{fill:#eee}.nn path{fill:none;stroke:#8a8a8a;stroke-width:1.5}
.nn .new rect{stroke:#009e73;stroke-width:2.5}.nn .changed rect{stroke:#d55e00;stroke-width:2.5;stroke-dasharray:5 3}
@media (prefers-color-scheme:dark){.nn text{fill:#eee}.nn .dim{fill:#b5b5b5}.nn rect{stroke:#fff3}
.nn .conv{fill:#1d4465}.nn .separable{fill:#1b3547}.nn .dense{fill:#643a1f}.nn .pool{fill:#594715}
.nn .join{fill:#17503a}.nn .other,.nn .image{fill:#333}.nn path{stroke:#999}
.nn .new rect{stroke:#2fd6a5}.nn .changed rect{stroke:#ff8a3c}}
"""


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
    """Rows from top to bottom, the image first, and what reads what: (from, to), places of rows, from < to."""

    rows: tuple[Row, ...]
    links: tuple[tuple[int, int], ...]

    def reads(self, place: int) -> list[int]:
        """The rows that a row reads; none where that is the one above it alone, or where it is the image."""
        sources = [start for start, end in self.links if end == place]
        return [] if sources == [place - 1] else sources

    @property
    def arcs(self) -> list[tuple[int, int, int]]:
        """The links that pass a row, (from, to, lane): arcs in a lane do not overlap; short ones are inside."""
        lanes: list[list[tuple[int, int]]] = []
        placed: list[tuple[int, int, int]] = []
        far = [link for link in self.links if link[1] - link[0] > 1]
        for start, end in sorted(far, key=lambda link: (link[1] - link[0], link)):
            free = (n for n, taken in enumerate(lanes) if all(end <= a or b <= start for a, b in taken))
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
        follows = last and node.inputs == (last[-1].name,) and len(network.readers[last[-1].name]) == 1
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


def svg(
    network: Network, marks: Mapping[str, str] | None = None, *, title: str = "architecture", styled: bool = True
) -> str:
    """The drawing as an SVG element, for a page or a file of its own; it follows the reader's dark mode.

    Args:
        marks: "new" or "changed", by the name of a node: its layer gets a coloured edge (changed: dashed).
        title: what it is, for those who cannot see it.
        styled: with the style inside; else whoever shows it has `STYLE` in the page.
    """
    found = drawing(network)
    arcs = found.arcs
    left = 12 + LANE * (1 + max((lane for *_, lane in arcs), default=0))
    height = len(found.rows) * (ROW + GAP) + 4
    parts = [_markup(row, place, left, mark(row, marks or {})) for place, row in enumerate(found.rows)]
    middle = left + WIDTH / 2
    for start, end in found.links:
        if end - start == 1:
            parts.append(f'<path d="M{middle} {_top(start) + ROW}V{_top(end)}"/>')
    parts += [f'<path d="{_arc(start, end, lane, left)}"/>' for start, end, lane in arcs]
    style = f"<style>{STYLE}</style>" if styled else ""
    width = left + WIDTH + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="nn" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><title>{escape(title)}</title>{style}{"".join(parts)}</svg>'
    )


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
    named = {"globalpool": "global pool", "act": str(a.get("kind")), "dropout": f"dropout {a.get('rate')}"}
    return named.get(node.op, node.op)


def _row(group: Sequence[Node]) -> Row:
    first = group[0]
    family = FAMILIES.get(first.op, "other")
    if first.op == "conv" and first["groups"] != 1:
        family = "separable"
    said = " · ".join(words(node) for node in group)
    return Row(said, group[-1].shape, sum(n.params for n in group), family, tuple(node.name for node in group))


def _markup(row: Row, place: int, left: float, marked: str) -> str:
    top = _top(place)
    line = top + ROW - 7
    params = f'<text class="dim" x="{left + WIDTH - 8}" y="{line}" text-anchor="end">{count(row.params)}</text>'
    return (
        f'<g class="{marked}"><rect class="{row.family}" x="{left}" y="{top}" width="{WIDTH}" height="{ROW}" rx="4"/>'
        f'<text x="{left + 8}" y="{line}">{escape(row.words)}</text>'
        f'<text class="dim" x="{left + WIDTH - 56}" y="{line}" text-anchor="end">{_shape(row.shape)}</text>'
        f"{params if row.params else ''}</g>"
    )


def _top(place: int) -> int:
    return 2 + place * (ROW + GAP)


def _arc(start: int, end: int, lane: int, left: float) -> str:
    """From the side of one row to that of another, around those between."""
    x, a, b = left - 8 - LANE * lane, _top(start) + ROW * 0.7, _top(end) + ROW * 0.3
    return f"M{left} {a}C{x} {a} {x} {a} {x} {a + 10}V{b - 10}C{x} {b} {x} {b} {left} {b}"


def _shape(shape: Shape) -> str:
    return "×".join(map(str, shape))
