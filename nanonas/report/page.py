"""The report of a run: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Entry, Record
from nanonas.networks import layout
from nanonas.report.charts import architecture
from nanonas.report.charts.figures import all_charts, mattered
from nanonas.report.charts.plotly import figure
from nanonas.report.rows.tables import all_tables
from nanonas.report.words.candidate import portrait
from nanonas.report.words.verdict import cards, headline, verdict
from nanonas.text import count, percent

_HERE = Path(__file__).parent
_DRAWN = 3  # of the best networks


def render(record: Record, config: str = "") -> str:
    """The report as HTML.

    Args:
        config: the run's config.yaml, to be shown.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape
    from plotly.offline import get_plotlyjs

    findings = Findings(record)
    drawn = all_charts(findings)
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = lambda text: Markup(
        re.sub("`(.+?)`", r"<code>\1</code>", str(escape(text)))
    )
    return environment.get_template("page.html.j2").render(
        zip=zip,
        percent=percent,
        families=len(set(findings.tree.families)),
        record=record,
        style=Markup(
            (_HERE / "page.css").read_text(encoding="utf-8") + architecture.STYLE
        ),  # ours: nothing of a run
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        figures=drawn,
        plots=Markup(_json({key: figure(chart) for key, chart in drawn.items()})),
        details=Markup(_json(details(findings))),
        cards=cards(findings),
        headline=headline(findings),
        findings=verdict(findings),
        best=_best(record),
        tables=all_tables(findings),
        halving=bool(record.search.get("halving")),
        mattered=mattered(findings),
        config=config,
        made=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    )


@dataclass
class _Words:
    """Texts that come up again and again, each once."""

    all: dict[str, int] = field(default_factory=dict)

    def __call__(self, text: str) -> int:
        return self.all.setdefault(text, len(self.all))


def details(findings: Findings) -> dict[str, Any]:
    """What a click on a node shows, for every candidate, in few bytes: texts are places in "words".

    A candidate: the rows of its drawing ("r": words, shape, parameters, family, as one text with
    tabs), its arcs ("a": from, to and lane, three in a row), the rows that do not read the one
    above ("b"), that are new ("n") and changed ("c"), what is gone ("g"), parents ("p") and
    children ("k"), how it came about ("h") by which edits ("e"), what there is to say of it ("f"),
    and its gain in points ("q").
    """
    words, record = _Words(), findings.record
    candidates: list[dict[str, Any]] = []
    for one in findings.steps:
        entry, network = record.entries[one.number], record.network(one.number)
        drawing, own = layout.drawing(network), portrait(findings, one)
        marks = [layout.mark(row, one.marks) for row in drawing.rows]
        joined = {end for start, end in drawing.links if end - start == 1}
        rows = [
            words(
                f"{row.words}\t{'×'.join(map(str, row.shape))}\t{count(row.params) if row.params else ''}\t{row.family}"
            )
            for row in drawing.rows
        ]
        candidates.append(
            {
                "r": rows,
                "a": [number for arc in drawing.arcs for number in arc],
                "b": [place for place in range(1, len(rows)) if place not in joined],
                "n": [place for place, mark in enumerate(marks) if mark == "new"],
                "c": [place for place, mark in enumerate(marks) if mark == "changed"],
                "g": [words(layer) for layer in own.gone],
                "p": list(entry.candidate.proposal.parents),
                "e": [words(line) for line in own.came_about],
                "f": [words(fact) for fact in own.facts],
                **({} if own.gain is None else {"q": round(own.gain, 2)}),
            }
        )
        if findings.tree.children[one.number]:
            candidates[-1]["k"] = findings.tree.children[one.number]
    size = {
        "row": architecture.ROW,
        "gap": architecture.GAP,
        "lane": architecture.LANE,
        "width": architecture.WIDTH,
    }
    winner = record.winner.number if record.winner is not None else 0
    return {"words": list(words.all), "candidates": candidates, "size": size, "winner": winner}


@dataclass(frozen=True)
class Drawn:
    """One of the best networks, with its drawing."""

    entry: Entry
    words: str
    svg: Any  # markup


def _best(record: Record) -> list[Drawn]:
    from markupsafe import Markup

    winner = [record.winner] if record.winner is not None else []
    keys = {entry.candidate.key for entry in winner}
    others = [entry for entry in record.distinct if entry.candidate.key not in keys]
    found = []
    for entry in [*winner, *others][:_DRAWN]:
        network = record.network(entry.number)
        title = f"architecture of #{entry.number}"
        said = f"{network.params:,} parameters, {network.macs:,} MACs, depth {network.depth}"
        found.append(
            Drawn(entry, said, Markup(architecture.svg(network, title=title, styled=False)))
        )
    return found


def _json(value: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: whatever is in it, it does not end there."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
