"""Charts for the page: the JSON that plotly.js draws, written without plotly."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from textwrap import wrap
from typing import Any

import numpy as np

from nanonas.report.charts.chart import (
    BLUE,
    GREY,
    NAME,
    VERMILLION,
    Axis,
    Band,
    Cells,
    Chart,
    Edges,
    Intervals,
    Line,
    Mark,
    Points,
    Rule,
)

STAR = 18  # pixels
_HOVER = {"hovertemplate": "%{text}<extra></extra>"}


def figure(chart: Chart) -> dict[str, Any]:
    """A chart as plotly's "data" and "layout", plain values that are JSON as they are.

    Colours of text, grid and background are left out. A mark is one trace or two, in its order;
    dots that a click opens have the candidates' numbers as `customdata`.
    """
    traces: list[dict[str, Any]] = []
    shapes = []
    for mark in chart.marks:
        if isinstance(mark, Rule):
            shapes.append(_rule(mark))
        else:
            traces += _TRACES[type(mark)](mark)
    layout = {
        "template": {"data": {"scatter": [{"type": "scatter"}]}},
        "xaxis": _axis(chart.x),
        "yaxis": _axis(chart.y),
        "margin": {"l": 60, "r": 12, "t": 12, "b": 50},
        "height": chart.height,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hoverlabel": {"namelength": -1},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "dragmode": "pan" if chart.pan else False,
    }
    if chart.pan:
        layout["hovermode"] = "closest"
    if shapes:
        layout["shapes"] = shapes
    return {"data": traces, "layout": layout}


def _axis(axis: Axis) -> dict[str, Any]:
    drawn: dict[str, Any] = {"title": {"text": axis.title}, "zeroline": False, "automargin": True}
    if axis.range is not None:
        drawn["range"] = list(axis.range[::-1] if axis.down else axis.range)
    elif axis.down:
        drawn["autorange"] = "reversed"
    if axis.step is not None:
        drawn["dtick"] = axis.step
    if axis.log:
        drawn |= {"type": "log", "dtick": "D2"}
    if axis.hidden:
        drawn["visible"] = False
    if axis.names:
        drawn |= {"tickvals": list(range(len(axis.names))), "ticktext": list(axis.names)}
        drawn["showgrid"] = False
        drawn["title"]["standoff"] = 14  # or it lies on long names
    return drawn


def _points(points: Points) -> list[dict[str, Any]]:
    marker: dict[str, Any] = {"color": points.colour, "size": points.size}
    if points.opacity < 1:
        marker["opacity"] = points.opacity
    if points.symbols is not None:
        marker["symbol"] = list(points.symbols)
        marker["size"] = [STAR if symbol == "star" else points.size for symbol in points.symbols]
    trace = {**_trace(points.x, points.y, points.name), **_HOVER, "mode": "markers"}
    trace |= {"text": list(points.text), "marker": marker}
    if points.values is not None:
        low, high = points.limits
        known = np.where(np.isfinite(points.values), points.values, low)
        title = {"text": points.scale}
        marker |= {
            "color": _packed(known),
            "colorscale": "Cividis",
            "cmin": low,
            "cmax": max(high, low + 1e-6),
            "line": {"width": 0.7, "color": GREY},
            "colorbar": {"title": title, "thickness": 10, "len": 0.6, "outlinewidth": 0},
        }
        trace["showlegend"] = False
    if points.numbers is not None:
        trace["customdata"] = list(points.numbers)
    return [trace]


def _line(line: Line) -> list[dict[str, Any]]:
    shape = "hv" if line.steps else "linear"
    style = {"color": line.colour, "width": line.width, "shape": shape, "dash": line.dash}
    trace = {**_trace(line.x, line.y, line.name), "mode": "lines", "line": style}
    if line.dots:
        trace |= {"mode": "lines+markers", "marker": {"size": line.dots}}
    if line.says:
        trace["hovertemplate"] = f"%{{y:.2f}}<extra>{line.name}</extra>"
    else:
        trace["hoverinfo"] = "skip"
    return [trace]


def _band(band: Band) -> list[dict[str, Any]]:
    """The lower edge, and the upper one, which fills what is between."""
    group = {"legendgroup": "band"} if band.name else {"showlegend": False}
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", **group}
    low, high = (_trace(band.x, y, band.name) for y in (band.low, band.high))
    filled = {"fill": "tonexty", "fillcolor": _transparent(band.colour, 0.3)}
    return [{**low, **edge, "showlegend": False}, {**high, **edge, **filled}]


def _edges(edges: Edges) -> list[dict[str, Any]]:
    gaps = np.full((len(edges.starts), 1, 2), np.nan)
    way = np.concatenate([edges.starts[:, None], edges.ends[:, None], gaps], axis=1)  # (n, 3, 2)
    x, y = way.reshape(-1, 2).T
    colour = _transparent(edges.colour, edges.opacity)
    line = {"color": colour, "width": edges.width, "dash": edges.dash}
    named = bool(edges.name) and len(x) > 0
    shown = {"mode": "lines", "line": line, "hoverinfo": "skip", "showlegend": named}
    return [{**_trace(x, y, edges.name), **shown}]


def _intervals(found: Intervals) -> list[dict[str, Any]]:
    order = slice(None, None, -1)  # plotly's first row is at the bottom
    names = ["<br>".join(wrap(name, NAME)) for name in found.names]
    colours = [
        GREY if not clear else BLUE if mean > found.against else VERMILLION
        for mean, clear in zip(found.mean, found.clear, strict=True)
    ]
    symbols = ["circle" if clear else "circle-open" for clear in found.clear]
    error = {
        "type": "data",
        "array": _packed((found.high - found.mean)[order]),
        "arrayminus": _packed((found.mean - found.low)[order]),
        "thickness": 2,
        "width": 4,
        "color": GREY,
    }
    return [
        {
            "type": "scatter",
            "x": _packed(found.mean[order]),
            "y": names[order],
            "mode": "markers",
            "marker": {"size": 11, "color": colours[order], "symbol": symbols[order]},
            "error_x": error,
            "text": list(found.text)[order],
            "hovertemplate": "%{y}<br>%{text}<extra></extra>",
            "showlegend": False,
        }
    ]


def _cells(cells: Cells) -> list[dict[str, Any]]:
    traces = []
    for shares, colour, most in cells.layers:
        known = [[None if np.isnan(share) else float(share) for share in row] for row in shares]
        trace = {
            "type": "heatmap",
            "z": known,
            "zmin": 0,
            "zmax": most,
            # from the page itself, light or dark, to the colour
            "colorscale": [[0, _transparent(colour, 0.0)], [1, _transparent(colour, 0.9)]],
            "showscale": False,
            "xgap": 1,
            "ygap": 1,
            "text": [list(row) for row in cells.said],
            "texttemplate": "%{text}",
            "customdata": [list(row) for row in cells.text],
            "hovertemplate": "%{customdata}<extra></extra>",
            "hoverongaps": False,
        }
        traces.append(trace)
    return traces


def _rule(rule: Rule) -> dict[str, Any]:
    across = "y" if rule.axis == "x" else "x"
    line = {"color": GREY, "dash": "dash", "width": 1}
    ends = {f"{rule.axis}0": rule.at, f"{rule.axis}1": rule.at, f"{across}0": 0, f"{across}1": 1}
    return {"type": "line", "line": line, **ends, f"{rule.axis}ref": rule.axis,
            f"{across}ref": f"{across} domain"}  # fmt: skip


_TRACES: Mapping[type[Mark], Callable[[Any], list[dict[str, Any]]]] = {
    Points: _points,
    Line: _line,
    Band: _band,
    Edges: _edges,
    Intervals: _intervals,
    Cells: _cells,
}


def _trace(x: Any, y: Any, name: str) -> dict[str, Any]:
    return {"type": "scatter", "x": _packed(x), "y": _packed(y), "name": name}


def _packed(values: Any) -> Any:
    """Numbers as plotly.js reads them in the fewest bytes: in single precision, base64."""
    array = np.asarray(values, dtype="<f4")
    if array.size == 0:
        return []
    return {"dtype": "f4", "bdata": base64.b64encode(array.tobytes()).decode("ascii")}


def _transparent(colour: str, opacity: float) -> str:
    if opacity >= 1:
        return colour
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
