"""A network as a drawing: its layers from top to bottom, with shapes and parameters; skips are arcs
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from html import escape

from nanonas.core import Shape
from nanonas.networks.layout import drawing
from nanonas.networks.network import Network
from nanonas.text import count

# pixels: a layer's height, the room below it, an arc's width, a layer's width
ROW, GAP, LANE, WIDTH = 22, 6, 9, 330

STYLE = """
.nn text{font:12px system-ui,sans-serif;fill:#1a1a1a}.nn .dim{fill:#555}
.nn rect{stroke:#0003;rx:4px}.nn path{fill:none;stroke:#8a8a8a;stroke-width:1.5}
.nn .conv{fill:#cfe4f5}.nn .separable{fill:#e3f1fb}.nn .dense{fill:#f7d9c4}
.nn .pool{fill:#fbe7b8}.nn .join{fill:#c9ead9}.nn .other,.nn .image{fill:#eee}
.nn .new rect{stroke:#009e73;stroke-width:2.5}
.nn .changed rect{stroke:#d55e00;stroke-width:2.5;stroke-dasharray:5 3}
@media (prefers-color-scheme:dark){.nn text{fill:#eee}.nn .dim{fill:#b5b5b5}
.nn rect{stroke:#fff3}.nn path{stroke:#999}
.nn .conv{fill:#1d4465}.nn .separable{fill:#1b3547}.nn .dense{fill:#643a1f}
.nn .pool{fill:#594715}.nn .join{fill:#17503a}.nn .other,.nn .image{fill:#333}
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
        title: what it is, for readers who cannot see it.
        styled: with the style inside; else the page that shows it has to have `STYLE`.
    """
    begin, *rest = parts(network, marks)
    style = f"<style>{STYLE}</style>" if styled else ""
    return "".join([begin, f"<title>{escape(title)}</title>", style, *rest])


def parts(network: Network, marks: Mapping[str, str] | None = None) -> list[str]:
    """The drawing in pieces of markup, to be joined; without title and style.

    The pieces come up again and again, in one network and from network to network: a page of
    10,000 drawings has each piece once, and of a drawing only which pieces it consists of. They
    hold nothing but what operations are called, and are escaped.
    """
    layers = drawing(network, marks)
    arcs = layers.arcs
    left = 12 + LANE * (1 + max((lane for *_, lane in arcs), default=0))
    follows = {end for start, end in layers.links if end - start == 1}
    pieces = [_begin(left, len(layers.rows))]
    for place, row in enumerate(layers.rows):
        pieces.append(_at(left, place, place in follows, row.mark))
        pieces.append(_layer(row.words, row.shape, row.params, row.family))
    pieces += [_arc(left, start, end, lane) for start, end, lane in arcs]
    return [*pieces, "</svg>"]


# The same few pieces for all networks of a run: making them anew took longer than the layout.


@lru_cache(maxsize=1_000)
def _begin(left: int, rows: int) -> str:
    width, height = left + WIDTH + 4, rows * (ROW + GAP) + 4
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" class="nn" role="img" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    )


@lru_cache(maxsize=10_000)
def _at(left: int, place: int, follows: bool, marked: str) -> str:
    """Where a layer stands; with a line from the one above, if it reads that."""
    top = _top(place)
    line = f'<path d="M{left + WIDTH // 2} {top - GAP}V{top}"/>' if follows else ""
    kind = f' class="{marked}"' if marked else ""
    return f'{line}<g{kind} transform="translate({left} {top})">'


@lru_cache(maxsize=20_000)
def _layer(words: str, shape: Shape, params: int, family: str) -> str:
    line = ROW - 7
    right = f'class="dim" y="{line}" text-anchor="end"'
    counted = f'<text {right} x="{WIDTH - 8}">{count(params)}</text>' if params else ""
    return (
        f'<rect class="{family}" width="{WIDTH}" height="{ROW}" rx="4"/>'
        f'<text x="8" y="{line}">{escape(words)}</text>'
        f'<text {right} x="{WIDTH - 56}">{"×".join(map(str, shape))}</text>{counted}</g>'
    )


@lru_cache(maxsize=20_000)
def _arc(left: int, start: int, end: int, lane: int) -> str:
    """From the side of one layer to that of another, around those between."""
    x = left - 8 - LANE * lane
    a, b = f"{_top(start) + ROW * 0.7:.1f}", f"{_top(end) + ROW * 0.3:.1f}"
    down, up = f"{_top(start) + ROW * 0.7 + 10:.1f}", f"{_top(end) + ROW * 0.3 - 10:.1f}"
    return f'<path d="M{left} {a}C{x} {a} {x} {a} {x} {down}V{up}C{x} {b} {x} {b} {left} {b}"/>'


def _top(place: int) -> int:
    return 2 + place * (ROW + GAP)
