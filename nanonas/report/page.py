"""The report of a run: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nanonas.analysis.insights import decided, effects
from nanonas.analysis.lineage import Step, family, step
from nanonas.analysis.record import Entry, Record
from nanonas.core import Objective
from nanonas.networks import layout
from nanonas.networks.edits import in_words
from nanonas.predictors.audit import audited_scores
from nanonas.report.charts import architecture, figures
from nanonas.report.rows import series
from nanonas.report.rows.sheet import Column, Sheet, sheet
from nanonas.report.words.verdict import cards, findings, headline
from nanonas.text import costs, count, duration, percent, signed

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

    own: list[Step] = []
    shown = details(record, _walked(record, own))
    asked = effects(record)
    drawn = figures.all_figures(record, own, asked)
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
        families=len(set(family(record))),
        record=record,
        style=Markup(
            (_HERE / "page.css").read_text(encoding="utf-8") + architecture.STYLE
        ),  # ours: nothing of a run
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
        figures={figure.key: figure for figure in drawn},
        plots=Markup(
            _json({figure.key: json.loads(figure.plot.to_json(validate=False)) for figure in drawn})
        ),
        details=Markup(_json(shown)),
        cards=cards(record),
        headline=headline(record),
        findings=findings(record),
        best=_best(record),
        best_sheet=series.best(record, 10),
        rungs=series.rungs(record) if record.search.get("halving") else None,
        mattered=figures.mattered_sheet(asked),
        comparison=series.comparison(record),
        scores=_scores(record),
        reasons=series.reasons(record),
        states=series.states(record),
        times=_times(record),
        facts=_facts(record),
        config=config,
        made=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC",
    )


def _walked(record: Record, into: list[Step]) -> Iterator[Step]:
    """How each candidate came about; what else is asked of its network is asked while it is at
    hand.
    """
    for entry in record.entries:
        into.append(step(record, entry.number))
        decided(record.space, entry.genome)
        yield into[-1]


@dataclass
class _Words:
    """Texts that come up again and again, each once."""

    all: dict[str, int] = field(default_factory=dict)

    def __call__(self, text: str) -> int:
        return self.all.setdefault(text, len(self.all))


def details(record: Record, own: Iterable[Step]) -> dict[str, Any]:
    """What a click on a node shows, for every candidate, in few bytes: texts are places in "words".

    A candidate: the rows of its drawing ("r": words, shape, parameters, family, as one text with
    tabs), its arcs ("a": from, to and lane, three in a row), the rows that do not read the one
    above ("b"), that are new ("n") and changed ("c"), what is gone ("g"), parents ("p") and
    children ("k"), how it came about ("h") by which edits ("e"), what there is to say of it ("f"),
    and its gain in points ("q").
    """
    words = _Words()
    candidates: list[dict[str, Any]] = []
    children: dict[int, list[int]] = {}
    for one in own:
        entry, network = record.entries[one.number], record.network(one.number)
        drawing = layout.drawing(network)
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
                "g": [words(layout.words(node)) for node in one.gone],
                "p": list(entry.candidate.proposal.parents),
                "h": words(one.kind),
                "e": [words(said) for said in in_words(one.edits)],
                "f": [words(fact) for fact in facts(record, entry)],
                **({} if one.gain is None else {"q": round(100 * one.gain, 2)}),
            }
        )
        if one.parent is not None:
            children.setdefault(one.parent, []).append(one.number)
    for parent, numbers in children.items():
        candidates[parent]["k"] = numbers
    size = {
        "row": architecture.ROW,
        "gap": architecture.GAP,
        "lane": architecture.LANE,
        "width": architecture.WIDTH,
    }
    winner = record.winner.number if record.winner is not None else 0
    return {"words": list(words.all), "candidates": candidates, "size": size, "winner": winner}


def facts(record: Record, entry: Entry) -> list[str]:
    """What there is to say of a candidate, a line each."""
    e, proposal = entry.evaluation, entry.candidate.proposal
    if e is None:
        return ["running, or lost"]
    state = entry.state if entry.accuracy is None else f"{percent(entry.accuracy)}, {entry.state}"
    found = [f"{state}, generation {entry.generation + 1}"]
    if entry.number in record.finalists:
        found.append(f"from scratch, as a finalist: {percent(record.finalists[entry.number])}")
    if "params" in e.metrics and "macs" in e.metrics:
        found.append(costs(e.metrics))
    if e.curve:
        found.append(f"{len(e.curve)} epochs in {duration(e.seconds)}")
    if proposal.resumes is not None:
        found.append(f"goes on with the training of #{proposal.resumes}")
    elif "inherited_share" in e.metrics:
        tensors = f"{e.metrics.get('inherited_tensors', 0):.0f} tensors"
        whose = " and ".join(f"#{number}" for number in proposal.inherits)
        found.append(
            f"inherited {e.metrics['inherited_share']:.0%} of its parameters ({tensors}) from "
            f"{whose}"
        )
    if (predicted := proposal.predicted) is not None:
        how = "chosen because of it" if predicted.chosen else "not chosen by it"
        found.append(
            f"{predicted.by} had expected {percent(-predicted.mean)} ± {100 * predicted.std:.2f}, "
            f"{how}"
        )
    return [*found, *([e.reason] if e.reason else [])]


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


def _scores(record: Record) -> Sheet:
    """How well the free scores rank the networks."""
    found = audited_scores(record.told, Objective())
    rows = [(name, one.tau, one.low, one.high, one.n) for name, one in found.items()]
    return sheet(
        ["score", *(Column(name, signed) for name in ("τ", "low", "high")), "networks"], rows
    )


def _times(record: Record) -> Sheet:
    """Where the time went."""
    busy = sum(entry.evaluation.seconds for entry in record.entries if entry.evaluation is not None)
    rows: list[tuple[str, float]] = [
        ("the search, by the clock", record.seconds),
        ("workers, training and judging", busy),
    ]
    if record.final is not None:
        rows.append(("the winner's training", float(record.final["seconds"])))
    trainings = [one for row in record.comparison for one in row.get("trainings") or ()]
    if trainings:
        rows.append(
            ("nanonas compare, all trainings", sum(float(one["seconds"]) for one in trainings))
        )
    return sheet(["what", Column("time", duration)], rows)


def _facts(record: Record) -> Sheet:
    """What whoever repeats the run has to know."""
    images, machine = record.details("images"), record.details("machine")
    begun = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.created))
    rows: list[tuple[str, Any]] = [
        ("begun", begun),
        ("nanonas", record.version),
        ("seed", record.search.get("seed")),
        ("data", record.search.get("data")),
        ("fingerprint of the images", images.get("fingerprint")),
        ("arithmetic", record.search.get("precision")),
        ("candidates in flight (lag)", record.search.get("lag")),
        *((name, value) for name, value in machine.items()),
    ]
    if record.final is not None:
        rows += [
            ("winner trained with torch", record.final.get("torch")),
            ("on", record.final.get("hardware")),
        ]
    return sheet(
        ["what", "value"], [(name, value) for name, value in rows if value not in (None, "")]
    )


def _json(value: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: whatever is in it, it does not end there."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
