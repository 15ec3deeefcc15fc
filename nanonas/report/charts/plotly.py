"""What all figures of the page have in common: colours, lines, axes.

Colours are those of Okabe & Ito (2008, https://jfly.uni-koeln.de/color/) and the scale cividis
(Nuñez et al. 2018, https://doi.org/10.1371/journal.pone.0199239): both are told apart with any
colour vision. Text, grid and background are left to the page, which may be light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nanonas.core import Floats

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

BLUE, ORANGE, GREEN, PINK, SKY, VERMILLION, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
)
PALETTE = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILLION, YELLOW)
GREY, SCALE = "#888888", "Cividis"
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def scatter(x: Floats, y: Floats, text: Sequence[str] | None = None, **more: Any) -> Any:
    """Lines or markers; `text` is what is said of each point under the mouse."""
    from plotly.graph_objects import Scatter

    hover = {} if text is None else {"text": text, "hovertemplate": "%{text}<extra></extra>"}
    return Scatter(x=short(x), y=short(y), **hover, **more)


def line(
    x: Floats, y: Floats, name: str, colour: str, shape: str = "linear", width: float = 2
) -> Any:
    """A named line."""
    line = {"color": colour, "width": width, "shape": shape}
    return scatter(
        x,
        y,
        name=name,
        mode="lines",
        line=line,
        hovertemplate="%{y:.2f}<extra>" + name + "</extra>",
    )


def short(values: Any) -> Any:
    """In the fewest bytes that show the same: whole numbers as such, others in single precision."""
    array = np.asarray(values)
    if array.dtype.kind in "iu":
        return array.astype(np.int32)
    return array.astype(np.float32) if array.dtype.kind == "f" else values


def _gapped(values: Sequence[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def readable(values: Floats) -> tuple[float, float] | None:
    """A range that the worst tenth of accuracies, in per cent, may leave: else nobody sees the
    others apart.
    """
    known = values[np.isfinite(values)]
    if len(known) < 10:
        return None
    low, high = float(np.quantile(known, 0.1)), float(known.max())
    room = max(1.0, 0.12 * (high - low))
    return max(0.0, low - room), min(101.0, high + room)


def dressed(plot: Plot, x: str, y: str, y_range: tuple[float, float] | None = None) -> Plot:
    """Axes and margins as all figures have them."""
    plot.update_layout(
        template="none",
        xaxis_title_text=x,
        yaxis_title_text=y,
        margin={"l": 60, "r": 12, "t": 12, "b": 50},
        height=380,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"namelength": -1},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
    )
    plot.update_xaxes(zeroline=False, automargin=True)
    plot.update_yaxes(zeroline=False, automargin=True)
    if y_range is not None:
        plot.update_yaxes(range=list(y_range))
    return plot


def edges(pairs: Sequence[tuple[int, int]], places: Floats, name: str, line: dict[str, Any]) -> Any:
    """Straight lines from parents to children: x is the number, y the place."""
    x: list[float | None] = []
    y: list[float | None] = []
    for parent, child in pairs:
        x += [parent, child, None]
        y += [float(places[parent]), float(places[child]), None]
    return scatter(
        _gapped(x),
        _gapped(y),
        name=name,
        mode="lines",
        line=line,
        hoverinfo="skip",
        showlegend=bool(x),
    )
