"""The dashboard's page and what it does, with dash (the extra "dashboard"): figures as in the
report, and the controls.

A clock asks every second whether anything is new; only then figures are drawn again. The page loads
nothing from anywhere else, and what it posts is looked at by `guard.Guard` first.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from flask import Response, request

from nanonas.analysis.lineage import ancestors, step
from nanonas.analysis.record import Record
from nanonas.errors import NanonasError
from nanonas.networks import layout
from nanonas.networks.edits import in_words
from nanonas.report.charts import architecture, figures
from nanonas.report.page import facts
from nanonas.report.rows import series
from nanonas.report.rows.sheet import Sheet
from nanonas.report.words.verdict import cards
from nanonas.serving.guard import HEADER, HEADERS, Guard, policy
from nanonas.serving.view import View
from nanonas.text import percent, points

_HERE = Path(__file__).parent
_EVERY = 1000  # ms between two looks
_BEST = 8  # rows of the table of the best
_ASKED = 12  # requests that are listed
_IDLE = 8  # a figure that takes long is drawn again after so many times as long
# of a figure; ten thousand take a browser a second. Its graphics card is no way out: WebGL needs
# eval
_DOTS = 1500
_PAGE = """<!DOCTYPE html>
<html lang="en"><head>{{%metas%}}<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{%title%}}</title><link rel="icon" href="data:,">{{%css%}}<style>{style}</style></head>
<body>{{%app_entry%}}<footer>{{%config%}}{{%scripts%}}{{%renderer%}}</footer></body></html>"""

Part = Any  # a component of dash
Asks = Callable[[str, str | None], str]


def make_app(look: Callable[[], View], ask: Asks, guard: Guard) -> Dash:
    """The application, to be served.

    Args:
        look: returns the run as it is now.
        ask: leaves a request and says so; raises `NanonasError` for what is none.
    """
    view = look()
    style = (_HERE.parent / "report" / "page.css").read_text(encoding="utf-8") + (
        _HERE / "board.css"
    ).read_text(encoding="utf-8")
    app = Dash(
        "nanonas",
        title=f"{view.record.name} · nanonas",
        update_title="",  # the tab's title does not flicker
        assets_folder=str(_HERE / "nothing"),  # no file of anybody's is served
        include_assets_files=False,
        index_string=_PAGE.format(style=style),
        csrf_token_name=guard.cookie,
        csrf_header_name=HEADER,
        enable_mcp=False,
        add_log_handler=False,
    )
    app.layout = lambda: _layout(look())
    cost = _draw(app, look)
    _update(app, look, cost)
    _open(app, look)
    _control(app, ask)
    _watch(app, guard)
    return app


# --- the page -------------------------------------------------------------------------------------


def _layout(view: View) -> Part:
    record = view.record
    fronts = [_figure(f"pareto-{other}") for other in series.trade_offs(record)]
    links = {
        "control": "controls",
        "fitness": "progress",
        "best": "best",
        "tree": "evolution",
        "fronts": "trade-offs",
    }
    return html.Div(
        [
            dcc.Interval(id="clock", interval=_EVERY),
            dcc.Store(id="version"),
            dcc.Store(id="slow"),
            dcc.Store(id="screen"),
            dcc.Store(id="number"),
            dcc.Store(id="shown"),
            html.Header(
                [
                    html.H1([html.Span(className="lamp", id="lamp"), record.name]),
                    html.Div(_searched(record), className="dim"),
                    html.P(id="said", className="lead", **{"aria-live": "polite"}),
                    html.Dl(id="cards", className="cards"),
                ]
            ),
            html.Nav(
                [html.A(words, href=f"#{key}") for key, words in {**links, "lost": "lost"}.items()]
            ),
            html.Main(
                [
                    _section("control", "Steer it", _controls(record)),
                    _section("fitness", "How the search goes", [_axis(), _figure("fitness")]),
                    _section("best", "The best networks", [html.Div(id="best-table")]),
                    _section("tree", "Evolution", [_figure("tree"), *_candidate()]),
                    _section("fronts", "Trade-offs", fronts),
                    html.Div(
                        _section("trust", "The predictor", [_figure("trust")]),
                        id="trust-part",
                        hidden=True,
                    ),
                    _section("lost", "Pruned and failed", [html.Div(id="lost-table")]),
                ]
            ),
            html.Footer(
                "Read-only on the run's store; nothing is loaded from anywhere else.",
                className="foot",
            ),
        ]
    )


def _section(key: str, title: str, parts: Sequence[Part]) -> Part:
    return html.Section([html.H2(title), *parts], id=key)


def _figure(key: str) -> Part:
    """A place for a figure: its title, its words, the plot."""
    settings = {
        "displaylogo": False,
        "responsive": True,
        "modeBarButtonsToRemove": ["lasso2d", "select2d"],
    }
    graph = dcc.Graph(
        id=f"{key}-plot", config=settings, className="plot", figure={"data": [], "layout": _EMPTY}
    )
    return html.Figure([html.H3(id=f"{key}-title"), html.P(id=f"{key}-words"), graph])


_EMPTY = {
    "xaxis": {"visible": False},
    "yaxis": {"visible": False},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "height": 380,
}


def _candidate() -> list[Part]:
    """A place for one candidate, and a field that asks for it by its number."""
    field = dcc.Input(
        id="field", debounce=True, inputMode="numeric", placeholder="number", className="field"
    )
    return [html.Label(["candidate #", field], className="which"), html.Div(id="node")]


def _axis() -> Part:
    return dcc.RadioItems(
        [
            {"label": " by generation", "value": "generation"},
            {"label": " by minute", "value": "minute"},
        ],
        "generation",
        id="axis",
        inline=True,
        className="axis",
    )


def _controls(record: Record) -> list[Part]:
    known = record.space.operation_names
    pick = dcc.Dropdown(
        list(known), id="operation", placeholder="an operation", clearable=True, className="pick"
    )
    genome = dcc.Input(
        id="genome", placeholder="a genome: [0, 1, 2, …]", debounce=False, className="genome"
    )
    return [
        html.Div(
            [
                html.Button("Pause", id="pause", className="main"),
                html.Div([pick, html.Button("Ban", id="ban")], className="ask"),
                html.Div([genome, html.Button("Plant", id="plant")], className="ask"),
            ],
            className="controls",
        ),
        html.P(id="banned", className="banned"),
        html.P(id="answer", className="answer", role="status"),
        html.Details(
            [html.Summary(id="asked-title"), html.Ul(id="asked", className="asked")],
            id="asked-part",
            open=True,
            hidden=True,
        ),
        html.P(
            "A request is recorded with the first candidate that it applies to, so the run can be "
            "repeated. A pause "
            "lets those at work finish and stops the clock; a planted genome becomes the next "
            "candidate.",
            className="dim",
        ),
    ]


def _searched(record: Record) -> str:
    search = record.search
    what = [
        search.get("strategy"),
        f"over {search.get('space')}",
        f"on {search.get('data')}",
        f"seed {search.get('seed')}",
    ]
    return " · ".join(str(word) for word in what)


# --- what is new ----------------------------------------------------------------------------------


@dataclass
class _Cost:
    """What it takes to draw the figures that take longest."""

    seconds: float = 0.0

    def due(self, drawn: dict[str, Any] | None, now: float) -> bool:
        """Whether to draw them again: of a large run rarely, for the search needs the processor,
        too.
        """
        return drawn is None or now - float(drawn["at"]) >= _IDLE * self.seconds


def _update(app: Dash, look: Callable[[], View], cost: _Cost) -> None:
    """Every second: the words, and whether there is something new to draw."""
    app.clientside_callback(
        _SCREEN,
        Output("screen", "data"),
        Input("clock", "n_intervals"),
        State("screen", "data"),
    )

    @app.callback(
        Output("version", "data"),
        Output("slow", "data"),
        Output("lamp", "className"),
        Output("said", "children"),
        Output("cards", "children"),
        Output("pause", "children"),
        Output("pause", "disabled"),
        Output("banned", "children"),
        Output("asked-part", "hidden"),
        Output("asked-title", "children"),
        Output("asked", "children"),
        Input("clock", "n_intervals"),
        State("version", "data"),
        State("slow", "data"),
    )
    def update(_: int | None, version: str | None, slow: dict[str, Any] | None) -> tuple[Any, ...]:
        view = look()
        stale = slow is None or slow["version"] != view.version
        drawn = (
            {"version": view.version, "at": view.now}
            if stale and cost.due(slow, view.now)
            else no_update
        )
        lamp = f"lamp {view.status.replace(' ', '-')}"
        head = (
            lamp,
            view.said,
            _cards(view),
            "Resume" if view.paused else "Pause",
            not view.searching,
        )
        if view.version == version:
            return no_update, drawn, *head, *(no_update,) * 4
        return view.version, drawn, *head, _banned(view), *_asked(view)

    @app.callback(
        Output("best-table", "children"), Output("lost-table", "children"), Input("version", "data")
    )
    def tables(_: str | None) -> tuple[Any, ...]:
        record = look().record
        lost = series.reasons(record)
        nothing = html.P(
            "None so far: every candidate was trained to the end of its budget.", className="dim"
        )
        return _best(record), _table(lost) if len(lost) else nothing


_SCREEN = """function(_, known) {
  const dark = window.matchMedia('(prefers-color-scheme: dark)').matches;
  const narrow = document.documentElement.clientWidth < 640;
  if (known && known.dark === dark && known.narrow === narrow) return window.dash_clientside.no_update;
  return {dark, narrow};
}"""


def _cards(view: View) -> list[Part]:
    ago = max(0.0, view.now - view.last)
    shown = [*cards(view.record), ("since the last news", _rough(ago))]
    return [html.Div([html.Dt(name), html.Dd(value)]) for name, value in shown]


def _rough(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _banned(view: View) -> list[Part]:
    if not view.banned:
        return []
    chips = [
        html.Button(f"{name} ×", id={"allow": name}, title=f"allow {name} again")
        for name in view.banned
    ]
    return ["Banned: ", *chips]


def _asked(view: View) -> tuple[bool, str, list[Part]]:
    """Whether there is nothing to list, a title, and the list."""
    lines = []
    for one in view.asked[:_ASKED]:
        at = time.strftime("%H:%M:%S", time.localtime(one.time)) if one.time else "waits"
        lines.append(
            html.Li(
                [html.B(f"{at} {one.state}" if one.time else at), f" {one.words}"],
                className=one.state,
            )
        )
    waits = sum(one.state == "waits" for one in view.asked)
    number = f"{len(view.asked)} request{'' if len(view.asked) == 1 else 's'}"
    return not view.asked, f"{number}{f', {waits} of them waiting' if waits else ''}", lines


def _best(record: Record) -> Part:
    found = series.best(record, _BEST)
    if not len(found):
        return html.P("There is none yet.", className="dim")
    return _table(found, opens="#")


def _table(sheet: Sheet, opens: str | None = None) -> Part:
    """A table; the numbers in the column `opens` are buttons that open the candidate."""
    sheet = _filled(sheet)
    right = ["number" if numeric else "" for numeric in sheet.numeric]
    head = html.Tr(
        [html.Th(name, className=side) for name, side in zip(sheet.names, right, strict=True)]
    )
    place = sheet.names.index(opens) if opens else -1
    body = []
    for row, said in zip(sheet.rows, sheet.said(), strict=True):
        cells: list[Part] = list(said)
        if place >= 0:
            cells[place] = html.Button(
                f"#{said[place]}", id={"open": int(row[place]), "from": "table"}
            )
        body.append(
            html.Tr(
                [html.Td(cell, className=side) for cell, side in zip(cells, right, strict=True)]
            )
        )
    return html.Div(html.Table([html.Thead(head), html.Tbody(body)]), className="scroll")


def _filled(sheet: Sheet) -> Sheet:
    """Without columns that hold nothing."""
    places = [
        place
        for place, name in enumerate(sheet.names)
        if any(value is not None for value in sheet[name])
    ]
    columns = tuple(sheet.columns[place] for place in places)
    return Sheet(columns, tuple(tuple(row[place] for place in places) for row in sheet.rows))


# --- figures --------------------------------------------------------------------------------------


def _draw(app: Dash, look: Callable[[], View]) -> _Cost:
    cost = _Cost()

    def drawn(
        key: str, make: Callable[..., figures.Figure | None], *more: Any, when: str = "version"
    ) -> None:
        outputs = [Output(f"{key}-{part}", name) for part, name in _PARTS.items()]

        @app.callback(*outputs, Input(when, "data"), Input("screen", "data"), *more)
        def draw(_: str | None, screen: dict[str, bool] | None, *chosen: Any) -> tuple[Any, ...]:
            start = (
                time.thread_time()
            )  # of the processor: by the clock, a busy machine would be taken for a large run
            found = make(look().record, *chosen)
            if found is None:
                return no_update, no_update, no_update
            shown = found.title, found.words, on_screen(thinned(found.plot), **(screen or {}))
            if key == "tree":
                cost.seconds = time.thread_time() - start
            return shown

    by = {"generation": figures.fitness_by_generation, "minute": figures.fitness_by_minute}
    drawn("fitness", lambda record, axis: by[axis](record), Input("axis", "value"))
    drawn("tree", _tree, when="slow")
    drawn("trust", figures.predictor_trust)
    for other in series.trade_offs(look().record):
        drawn(f"pareto-{other}", partial(figures.pareto, other=other), when="slow")

    @app.callback(Output("trust-part", "hidden"), Input("version", "data"))
    def hide(_: str | None) -> bool:
        return len(series.trust(look().record)) == 0

    return cost


def _tree(record: Record) -> figures.Figure:
    way = ancestors(record, record.winner.number) if record.winner is not None else []
    return recent(figures.evolution_tree(record), way)


_PARTS = {"title": "children", "words": "children", "plot": "figure"}


def on_screen(plot: Any, dark: bool = False, narrow: bool = False) -> dict[str, Any]:
    """A figure as the page has it, in its colours and its width."""
    ink, line, card = (
        ("#ececec", "#383c42", "#1f2226") if dark else ("#1a1a1a", "#d9dce1", "#f5f6f8")
    )
    plot.update_layout(
        font={"color": ink, "size": 13, "family": "system-ui, sans-serif"},
        hoverlabel={"bgcolor": card, "font": {"color": ink}},
        uirevision="kept",  # who has zoomed in stays there
    )
    plot.update_xaxes(gridcolor=line, linecolor=line)
    plot.update_yaxes(gridcolor=line, linecolor=line)
    if narrow:
        plot.update_layout(margin={"l": 44, "r": 6}, font_size=11)
        if any(trace.name == "network" for trace in plot.data):
            plot.update_traces(marker_colorbar=_LYING, selector={"name": "network"})
            plot.update_layout(margin_b=110)
    found: dict[str, Any] = plot.to_dict()
    for own, trace in zip(plot.data, found["data"], strict=True):
        if own.customdata is not None:
            trace["customdata"] = list(
                map(int, own.customdata)
            )  # dash reads what was clicked from a plain list
    return found


def thinned(plot: Any) -> Any:
    """A figure with at most so many dots that a browser draws them in a moment: every so-many-th of
    many.
    """
    for trace in plot.data:
        if trace.mode == "markers" and len(trace.x) > _DOTS:
            _keep(trace, np.linspace(0, len(trace.x) - 1, _DOTS).astype(int))
    return plot


def recent(found: figures.Figure, winner: Sequence[int]) -> figures.Figure:
    """The tree of a large run: its last networks, with those on the way to the winner."""
    first, second, _, nodes = found.plot.data
    number = len(nodes.x)
    if number <= _DOTS:
        return found
    for edges in (first, second):
        _keep(edges, np.flatnonzero(np.repeat(edges.x[1::3] >= number - _DOTS, 3)))
    _keep(nodes, np.array(sorted({*winner, *range(number - _DOTS, number)})))
    places = nodes.y[-_DOTS:]
    room = 0.03 * (places.max() - places.min()) + 1
    found.plot.update_xaxes(range=[number - 1.03 * _DOTS, number + 0.03 * _DOTS])
    found.plot.update_yaxes(range=[places.max() + room, places.min() - room], autorange=False)
    words = f"Drawn are the last {_DOTS:,} of {number:,}, and those on the way to the winner: drag to see its beginning. "
    return replace(found, words=words + found.words)


def _keep(trace: Any, places: Any) -> None:
    """Leaves a trace those of its points only."""
    trace.x, trace.y = trace.x[places], trace.y[places]
    for holder in (trace, trace.marker):
        for name in ("text", "customdata", "symbol", "size", "color"):
            values = getattr(holder, name, None)  # asked for once: plotly looks long for it
            if isinstance(values, (tuple, list, np.ndarray)):
                holder[name] = [values[place] for place in places]


_LYING = {
    "orientation": "h",
    "yref": "container",
    "y": 0,
    "yanchor": "bottom",
    "len": 1,
}  # a scale below the picture


# --- one candidate --------------------------------------------------------------------------------


def _open(app: Dash, look: Callable[[], View]) -> None:
    @app.callback(
        Output("number", "data"),
        Input("tree-plot", "clickData"),
        Input("field", "value"),
        Input({"open": ALL, "from": ALL}, "n_clicks"),
        prevent_initial_call=True,
    )
    def choose(click: dict[str, Any] | None, typed: str | None, clicks: list[int | None]) -> Any:
        asked = ctx.triggered_id
        if asked == "field":
            return int(typed) if typed and typed.strip().isdecimal() else no_update
        if isinstance(asked, dict):
            return int(asked["open"]) if any(one["value"] for one in ctx.triggered) else no_update
        number = click["points"][0].get("customdata") if click else None
        return no_update if number is None else int(number)

    @app.callback(
        Output("node", "children"),
        Output("shown", "data"),
        Input("number", "data"),
        Input("version", "data"),
        State("shown", "data"),
    )
    def show(number: int | None, _: str | None, shown: list[Any] | None) -> Any:
        record = look().record
        if number is None or not 0 <= number < len(record.entries):
            if record.winner is None:
                return [html.P("Click a network to see it.", className="dim")], None
            number = record.winner.number
        now = [number, record.entries[number].state, len(_children(record, number))]
        return (no_update, no_update) if now == shown else (_node(record, number), now)


def _node(record: Record, number: int) -> list[Part]:
    """A candidate: what there is to say of it, how it differs from its parent, and its drawing."""
    entry, own = record.entries[number], step(record, number)
    parents = [n for n in entry.candidate.proposal.parents if n < number]
    children = _children(record, number)
    edits = in_words(own.edits)
    came = [own.kind, *edits] if len(parents) != 1 or not edits else edits
    left: list[Part] = [
        html.H3(f"#{number}{' (planted)' if entry.candidate.proposal.planted else ''}")
    ]
    left.append(html.Ul([html.Li(fact) for fact in facts(record, entry)]))
    left += [
        _links("parents" if len(parents) > 1 else "parent", parents, "up"),
        _links("children", children, "down"),
    ]
    left += [
        html.H3("how it came about"),
        html.Ul([html.Li(words) for words in came], id="difference"),
    ]
    if own.gain is not None:
        left.append(html.P(f"{points(own.gain)} points over its parent", className="gain"))
    if own.gone:
        gone = " · ".join(layout.words(node) for node in own.gone)
        left.append(html.P(f"its parent also had: {gone}", className="dim"))
    if own.marks:
        left.append(
            html.P("in the drawing, solid green is new, dashed orange is changed", className="dim")
        )
    numbers = ", ".join(map(str, entry.genome))
    left.append(
        html.Details(
            [
                html.Summary("its genome, to be copied, edited and planted"),
                html.Code(f"[{numbers}]"),
            ]
        )
    )
    accuracy = "" if entry.accuracy is None else f", {percent(entry.accuracy)}"
    drawn = architecture.svg(
        record.network(number), own.marks, title=f"architecture of #{number}{accuracy}"
    )
    source = "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
    right = html.Img(src=source, alt=f"architecture of #{number}", className="network")
    return [html.Div([html.Div(left), html.Div(right, className="drawing")], className="both")]


def _children(record: Record, number: int) -> list[int]:
    return [entry.number for entry in record.entries if number in entry.candidate.proposal.parents]


def _links(label: str, numbers: Sequence[int], way: str) -> Part:
    if not numbers:
        return None
    buttons = [
        html.Button(f"#{number}", id={"open": number, "from": way}) for number in numbers[:40]
    ]
    more = f"and {len(numbers) - 40} more" if len(numbers) > 40 else ""
    return html.P([f"{label} ", *buttons, more])


# --- controls -------------------------------------------------------------------------------------


def _control(app: Dash, ask: Asks) -> None:
    @app.callback(
        Output("answer", "children"),
        Output("operation", "value"),
        Input("pause", "n_clicks"),
        Input("ban", "n_clicks"),
        Input("plant", "n_clicks"),
        Input({"allow": ALL}, "n_clicks"),
        State("pause", "children"),
        State("operation", "value"),
        State("genome", "value"),
        prevent_initial_call=True,
    )
    def control(
        _: Any, __: Any, ___: Any, ____: Any, label: str, operation: str | None, genome: str | None
    ) -> Any:
        if not any(one["value"] for one in ctx.triggered):
            return no_update, no_update  # a button that has just been made
        asked = ctx.triggered_id
        try:
            if isinstance(asked, dict):
                return ask("allow", str(asked["allow"])), no_update
            if asked == "pause":
                return ask("resume" if label == "Resume" else "pause", None), no_update
            if asked == "ban":
                return (
                    (ask("ban", operation), None)
                    if operation
                    else ("choose an operation first", no_update)
                )
            return ask("plant", genome), no_update
        except NanonasError as error:
            return f"refused: {error}", no_update


# --- who is answered ------------------------------------------------------------------------------


def _watch(app: Dash, guard: Guard) -> None:
    """Looks at every request first, and hands the token to the page."""
    content = policy(list(app.csp_hashes()))

    @app.server.before_request
    def look_at() -> Response | None:
        refused = guard.refusal(request.method, request.headers)
        return None if refused is None else Response(f"{refused}\n", 403, mimetype="text/plain")

    @app.server.after_request
    def add(response: Response) -> Response:
        for name, value in {**HEADERS, "Content-Security-Policy": content}.items():
            response.headers[name] = value
        # Also to a page of ours that was opened before this process began: its next request has the
        # new token.
        if (request.path == "/" or response.status_code == 403) and not guard.foreign(
            request.headers
        ):
            response.set_cookie(guard.cookie, guard.token, samesite="Strict")
        return response
