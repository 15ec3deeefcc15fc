"""A run's page: one HTML file that needs nothing else, or the same page served while the run goes
on.

The page is made of parts, each drawn by itself from what was found. A file has all of them; a live
page gets a part again when it has changed. Python draws everything, figures and architectures too:
the page's script only shows them.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from nanonas.analysis.findings import MOST, Findings
from nanonas.analysis.record import Entry, Record
from nanonas.report import thumbnails
from nanonas.report.charts import architecture
from nanonas.report.charts.chart import Chart, thinned
from nanonas.report.charts.evolution import evolution_tree, mattered
from nanonas.report.charts.figures import all_charts
from nanonas.report.charts.plotly import figure
from nanonas.report.rows.sheet import Sheet
from nanonas.report.rows.tables import table
from nanonas.report.words.candidate import Portrait, portrait
from nanonas.report.words.mistakes import mistakes
from nanonas.report.words.verdict import cards, headline, verdict
from nanonas.text import number_of, percent

_HERE = Path(__file__).parent
_DRAWN = 3  # of the best networks, with their architectures
# dots of a figure that is drawn again and again: ten thousand take a browser a second, and its
# graphics card is no way out, for WebGL needs eval
_DOTS = 1500
CHUNK = 1000  # candidates that are packed together
_ROWS = 200  # of a table below such a figure; of a file's, `MOST`, as of its dots


@dataclass(frozen=True)
class Part:
    """A piece of the page.

    Attributes:
        html: its contents.
        plots: of its figures, by key, what plotly draws.
    """

    html: str
    plots: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Served:
    """What the page has besides when it is served.

    Attributes:
        operations: the names that may be banned.
        cookie: the name of the cookie with the token, which the page sends with what it asks for.
        version: of the parts, as the page asks for what is new.
    """

    operations: Sequence[str]
    cookie: str
    version: str


@dataclass(frozen=True)
class _Source:
    """What a part is drawn from."""

    findings: Findings
    config: str  # the text of config.yaml
    live: bool

    def table(self, key: str) -> Sheet:
        return table(self.findings, key)

    def charts(self, *keys: str) -> list[Chart]:
        charts = all_charts(self.findings, *keys).values()
        most = _DOTS if self.live else MOST
        return [thinned(chart, most) for chart in charts]


def render(findings: Findings, config: str = "") -> str:
    """The report: one HTML file that loads nothing from anywhere.

    Args:
        config: the text of the run's config.yaml, to be shown.
    """
    record = findings.record
    children = _children(findings)
    # first, while each network is at hand: what else is found by networks is kept
    panels = [_panel(findings, number, children[number]) for number in findings.shown]
    parts = {key: draw(key, findings, config) for key in PARTS}
    made = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    subtitle = f"a report by nanonas, made {made} · {number_of(len(record.entries), 'candidate')}"
    return whole(record, subtitle, parts, panels, numbers=findings.shown)


def draw(key: str, findings: Findings, config: str = "", live: bool = False) -> Part:
    """A part of the page.

    Args:
        key: one of `PARTS`.
        config: the text of config.yaml.
        live: whether it is drawn again and again: of much, as much as a browser shows in a moment.
    """
    contents = PARTS[key](_Source(findings, config, live))
    charts: list[Chart] = contents.get("figures", [])
    plots = {chart.key: figure(chart) for chart in charts}
    if "figures" in contents:
        contents["figures"] = [_Figure(chart, _ROWS if live else MOST) for chart in charts]
    return Part(fill(f"part_{key}", **contents), plots)


def candidate(findings: Findings, number: int) -> str:
    """What a click on a candidate shows."""
    entries = findings.record.entries
    children = [entry.number for entry in entries if number in entry.proposal.parents]
    return _panel(findings, number, children)


def whole(
    record: Record,
    subtitle: str,
    parts: Mapping[str, Part],
    panels: Sequence[str],
    served: Served | None = None,
    numbers: Sequence[int] = (),
) -> str:
    """The page with all its parts.

    Args:
        panels: what a click on each candidate shows; of a live page, of the winner alone.
        served: None: it is a file.
        numbers: of a file, those of the candidates that the panels are of, in their order.
    """
    from markupsafe import Markup

    winner = record.winner.number if record.winner is not None else None
    shown = None
    if winner is not None and panels:
        shown = panels[0 if served else numbers.index(winner)]
    plots = {key: plot for part in parts.values() for key, plot in part.plots.items()}
    data = {
        "winner": winner,
        "candidates": len(record.entries),
        "chunk": CHUNK,
        "live": served and {"cookie": served.cookie, "version": served.version},
    }
    frame = {
        "name": record.name,
        "subtitle": subtitle,
        "live": served is not None,
        "operations": served.operations if served else (),
        "winner": winner,
        "panel": None if shown is None else Markup(shown),
        "policy": policy(),
        "style": Markup(_style()),
        "plotly": Markup(_plotly()),
        "script": Markup(_script()),
    }
    return fill(
        "page",
        frame=frame,
        parts={key: Markup(part.html) for key, part in parts.items()},
        plots=Markup(_json(plots)),
        data=Markup(_json(data)),
        packed=Markup(_json({} if served else _candidates(record, panels, numbers))),
    )


def fill(macro: str, **values: Any) -> str:
    """A macro of the template, filled in."""
    return str(getattr(_template(), macro)(**values)).strip()


def policy(*more: str) -> str:
    """The Content-Security-Policy of the page: no script but its own, and no request to anywhere.

    Args:
        more: what a server adds: see `nanonas.serving.guard`.
    """
    hashes = " ".join(_hash(script) for script in (_plotly(), _script()))
    rules = ("default-src 'none'", f"script-src {hashes}", "style-src 'unsafe-inline'")
    return "; ".join([*rules, "img-src data: blob:", *more])


# --- the parts ------------------------------------------------------------------------------------


def _cards(source: _Source) -> dict[str, Any]:
    return {"cards": cards(source.findings)}


def _found(source: _Source) -> dict[str, Any]:
    best = _filled(source.table("best"))
    sentences = headline(source.findings)
    return {"headline": sentences, "best": best, "live": source.live}


def _believe(source: _Source) -> dict[str, Any]:
    arguments = verdict(source.findings)
    return {
        "arguments": arguments,
        "equal": source.findings.record.equal_time,
        "contenders": _filled(source.table("equal-time")),
        "comparison": source.table("comparison"),
    }


def _wrong(source: _Source) -> dict[str, Any]:
    findings = source.findings
    judged = findings.judgement
    return {
        "sentences": mistakes(findings),
        "wrong": 0 if judged is None else judged.accuracy.of - judged.accuracy.images,
        "errors": thumbnails.errors(findings),
        "samples": thumbnails.samples(findings),
        "kept": findings.record.thumbnails,
        "figures": source.charts("class-accuracy", "confusion", "reliability", "refusing"),
        "unsure": source.table("unsure"),
    }


@dataclass(frozen=True)
class _Drawn:
    """One of the best networks, with its drawing."""

    entry: Entry
    words: str
    svg: Any  # markup


def _best(source: _Source) -> dict[str, Any]:
    from markupsafe import Markup

    record = source.findings.record
    entries = [record.winner] if record.winner is not None else []
    entries += [one for one in record.distinct if one.candidate.key != entries[0].candidate.key]
    drawn = []
    for entry in entries[:_DRAWN]:
        network = record.network(entry.number)
        svg = architecture.svg(network, title=f"architecture of #{entry.number}", styled=False)
        params, macs = int(entry.metrics["params"]), int(entry.metrics["macs"])
        words = f"{params:,} parameters, {macs:,} MACs, depth {network.depth}"
        drawn.append(_Drawn(entry, words, Markup(svg)))
    return {"drawn": drawn}


def _fitness(source: _Source) -> dict[str, Any]:
    return {"figures": source.charts("fitness-generation", "fitness-minute", "curves")}


def _fronts(source: _Source) -> dict[str, Any]:
    trade_offs = (f"pareto-{one}" for one in source.findings.trade_offs)
    return {
        "trained": _filled(source.table("trained-front")),
        "figures": source.charts(*trade_offs, "hypervolume"),
    }


def _tree(source: _Source) -> dict[str, Any]:
    last = _DOTS if source.live else None
    return {"figures": [evolution_tree(source.findings, last)]}


def _credit(source: _Source) -> dict[str, Any]:
    return {"figures": source.charts("credit")}


def _mattered(source: _Source) -> dict[str, Any]:
    families = len(set(source.findings.tree.families))
    questions = mattered(source.findings)
    return {
        "figures": source.charts("mattered"),
        "questions": questions,
        "families": families,
    }


def _tools(source: _Source) -> dict[str, Any]:
    halving = source.findings.record.search.get("halving")
    return {
        "figures": source.charts("trust", "inheritance"),
        "rungs": source.table("rungs") if halving else None,
        "scores": source.table("scores"),
    }


def _lost(source: _Source) -> dict[str, Any]:
    return {"reasons": source.table("reasons"), "live": source.live}


def _time(source: _Source) -> dict[str, Any]:
    return {"times": source.table("times"), "states": source.table("states")}


def _repeat(source: _Source) -> dict[str, Any]:
    facts = source.table("repeat")
    return {"command": source.findings.record.command, "facts": facts, "config": source.config}


PARTS: Mapping[str, Callable[[_Source], dict[str, Any]]] = {
    "cards": _cards,
    "found": _found,
    "believe": _believe,
    "wrong": _wrong,
    "best": _best,
    "fitness": _fitness,
    "fronts": _fronts,
    "tree": _tree,
    "credit": _credit,
    "mattered": _mattered,
    "tools": _tools,
    "lost": _lost,
    "time": _time,
    "repeat": _repeat,
}


class _Figure:
    """A chart as the template has it: its words, and its table, cut to the last `most` rows."""

    def __init__(self, chart: Chart, most: int) -> None:
        self.key, self.title, self.words = chart.key, chart.title, chart.words
        self.what, self.height, self.rows = chart.what, chart.height, len(chart.sheet)
        self.sheet = Sheet(chart.sheet.columns, chart.sheet.rows[-most:])


def _filled(sheet: Sheet) -> Sheet:
    """Without the columns that hold nothing."""
    kept = [
        place
        for place, name in enumerate(sheet.names)
        if any(value is not None for value in sheet[name])
    ]
    columns = tuple(sheet.columns[place] for place in kept)
    return Sheet(columns, tuple(tuple(row[place] for place in kept) for row in sheet.rows))


# --- candidates -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Panel:
    """One candidate, for the template.

    Attributes:
        parents: the numbers of the candidates that it was bred from.
        marked: whether the drawing marks layers as new or changed.
        svg: the drawing, as markup.
    """

    number: int
    planted: bool
    words: Portrait
    parents: Sequence[int]
    children: Sequence[int]
    marked: bool
    genome: str
    svg: Any


def _panel(findings: Findings, number: int, children: Sequence[int]) -> str:
    """What a click on a candidate shows: how it came about, what became of it, its architecture."""
    from markupsafe import Markup

    entry, step = findings.record.entries[number], findings.step(number)
    drawing = architecture.parts(findings.record.network(number), step.marks)
    shown = _Panel(
        number,
        planted=entry.proposal.planted,
        words=portrait(findings, step),
        parents=[parent for parent in entry.proposal.parents if parent < number],
        children=children,
        marked=bool(step.marks),
        genome=f"[{', '.join(map(str, entry.genome))}]",
        svg=Markup("\n".join(drawing)),  # each piece on a line of its own: see `packed`
    )
    return fill("panel", one=shown)


def _children(findings: Findings) -> list[list[int]]:
    """The candidates that were bred from each, by number."""
    children: list[list[int]] = [[] for _ in findings.record.entries]
    for entry in findings.record.entries:
        for parent in entry.proposal.parents:
            if parent < entry.number:
                children[parent].append(entry.number)
    return children


def _candidates(record: Record, panels: Sequence[str], numbers: Sequence[int]) -> dict[str, Any]:
    """What the script of a file shows at a click: the panels, and whose they are, where it has not
    those of all.
    """
    everyone = len(numbers) == len(record.entries)
    return {"chunks": packed(panels), "numbers": None if everyone else list(numbers)}


def packed(panels: Sequence[str]) -> list[str]:
    """Panels as base64 of compressed JSON, in chunks of `CHUNK`: ten thousand are 78 MB as they
    are, and 2 MB so.

    A chunk has every line once, and of each panel the places of its lines: gzip alone, which looks
    back 32 kB, does not see what one drawing has in common with another, and makes 5 MB of them.
    """
    chunks = []
    for first in range(0, len(panels), CHUNK):
        places: dict[str, int] = {}
        candidates = [
            [places.setdefault(line, len(places)) for line in panel.splitlines()]
            for panel in panels[first : first + CHUNK]
        ]
        text = json.dumps({"lines": list(places), "candidates": candidates}, ensure_ascii=False)
        chunks.append(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())
    return chunks


# --- what the page is written with ----------------------------------------------------------------


@cache
def _template() -> Any:
    """The template's macros."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(zip=zip, percent=percent)
    environment.filters["code"] = lambda text: Markup(
        re.sub("`(.+?)`", r"<code>\1</code>", str(escape(text)))
    )
    return environment.get_template("page.html.j2").module


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@cache
def _script() -> str:
    return (_HERE / "page.js").read_text(encoding="utf-8")


@cache
def _style() -> str:
    return (_HERE / "page.css").read_text(encoding="utf-8") + architecture.STYLE


@cache
def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _json(value: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: whatever is in it, it does not end there."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
