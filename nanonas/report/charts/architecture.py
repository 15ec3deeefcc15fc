"""A network as a drawing: its layers from top to bottom, with shapes and parameters; skips are arcs
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from nanonas.networks.layout import Row, drawing, mark, shape_in_words
from nanonas.networks.network import Network
from nanonas.text import count

ROW, GAP, LANE, WIDTH = (
    22,
    6,
    9,
    330,
)  # pixels: a layer's height, the room below it, an arc's width, a layer's width

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


def svg(
    network: Network,
    marks: Mapping[str, str] | None = None,
    *,
    title: str = "architecture",
    styled: bool = True,
) -> str:
    """The drawing as an SVG element, for a page or a file of its own; it follows the reader's dark
    mode.

    Args:
        marks: "new" or "changed", by the name of a node: its layer gets a coloured edge (changed:
            dashed).
        title: what it is, for those who cannot see it.
        styled: with the style inside; else whoever shows it has `STYLE` in the page.
    """
    found = drawing(network)
    arcs = found.arcs
    left = 12 + LANE * (1 + max((lane for *_, lane in arcs), default=0))
    height = len(found.rows) * (ROW + GAP) + 4
    parts = [
        _markup(row, place, left, mark(row, marks or {})) for place, row in enumerate(found.rows)
    ]
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


def _markup(row: Row, place: int, left: float, marked: str) -> str:
    top = _top(place)
    line = top + ROW - 7
    params = f'<text class="dim" x="{left + WIDTH - 8}" y="{line}" text-anchor="end">{count(row.params)}</text>'
    return (
        f'<g class="{marked}"><rect class="{row.family}" x="{left}" y="{top}" width="{WIDTH}" height="{ROW}" rx="4"/>'
        f'<text x="{left + 8}" y="{line}">{escape(row.words)}</text>'
        f'<text class="dim" x="{left + WIDTH - 56}" y="{line}" text-anchor="end">{shape_in_words(row.shape)}</text>'
        f"{params if row.params else ''}</g>"
    )


def _top(place: int) -> int:
    return 2 + place * (ROW + GAP)


def _arc(start: int, end: int, lane: int, left: float) -> str:
    """From the side of one row to that of another, around those between."""
    x, a, b = left - 8 - LANE * lane, _top(start) + ROW * 0.7, _top(end) + ROW * 0.3
    return f"M{left} {a}C{x} {a} {x} {a} {x} {a + 10}V{b - 10}C{x} {b} {x} {b} {left} {b}"
