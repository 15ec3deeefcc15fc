"""Stands in for the coming Findings and charts; goes when they are there."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from nanonas.analysis.insights import effects
from nanonas.analysis.lineage import Step, ancestors, family, step
from nanonas.analysis.record import Record
from nanonas.core import Objective
from nanonas.networks import layout
from nanonas.networks.edits import in_words
from nanonas.predictors.audit import audited, audited_scores
from nanonas.report.charts import architecture, figures
from nanonas.report.rows import series
from nanonas.report.rows.sheet import Column, Sheet, sheet
from nanonas.text import costs, duration, percent, signed


class Findings:
    def __init__(self, record: Record) -> None:
        self.record = record

    @cached_property
    def steps(self) -> list[Step]:
        return [step(self.record, e.number) for e in self.record.entries]

    @cached_property
    def families(self) -> list[int]:
        return family(self.record)

    @cached_property
    def effects(self) -> Any:
        return effects(self.record)

    @cached_property
    def way(self) -> list[int]:
        w = self.record.winner
        return ancestors(self.record, w.number) if w else []

    @cached_property
    def trade_offs(self) -> list[str]:
        return series.trade_offs(self.record)

    @cached_property
    def free_scores(self) -> Any:
        return audited_scores(self.record.told, Objective())

    @cached_property
    def predictors(self) -> Any:
        return audited(self.record.told, Objective())

    def network(self, number: int) -> Any:
        return self.record.network(number)


@dataclass(frozen=True)
class Chart:
    key: str
    title: str
    words: str
    sheet: Sheet
    what: str
    height: int
    plot: Any


def chart(f: Any) -> Chart:
    return Chart(f.key, f.title, f.words, f.sheet, f.what, f.plot.layout.height, f.plot)


def all_charts(findings: Findings, *keys: str) -> dict[str, Chart]:
    r = findings.record
    makers = {
        "fitness-generation": lambda: figures.fitness_by_generation(r),
        "fitness-minute": lambda: figures.fitness_by_minute(r),
        "curves": lambda: figures.learning_curves(r),
        **{f"pareto-{o}": (lambda o=o: figures.pareto(r, o)) for o in findings.trade_offs},
        "tree": lambda: figures.evolution_tree(r),
        "credit": lambda: figures.edit_credit(r, findings.steps),
        "mattered": lambda: figures.what_mattered(findings.effects),
        "trust": lambda: figures.predictor_trust(r),
        "inheritance": lambda: figures.inheritance(r),
    }
    found = {k: make() for k, make in makers.items() if not keys or k in keys}
    return {k: chart(f) for k, f in found.items() if f is not None}


def figure(c: Chart) -> dict[str, Any]:
    d: dict[str, Any] = json.loads(c.plot.to_json(validate=False))
    for own, trace in zip(c.plot.data, d["data"], strict=True):
        if own.customdata is not None:
            trace["customdata"] = list(map(int, own.customdata))
    return d


def thinned(c: Chart, most: int) -> Chart:
    for trace in c.plot.data:
        if trace.mode == "markers" and len(trace.x) > most:
            _keep(trace, np.linspace(0, len(trace.x) - 1, most).astype(int))
    return c


def evolution_tree(findings: Findings, last: int | None = None) -> Chart:
    f = figures.evolution_tree(findings.record)
    first, second, _, nodes = f.plot.data
    number = len(nodes.x)
    if last is None or number <= last:
        return chart(f)
    for edges in (first, second):
        _keep(edges, np.flatnonzero(np.repeat(edges.x[1::3] >= number - last, 3)))
    _keep(nodes, np.array(sorted({*findings.way, *range(number - last, number)})))
    places = nodes.y[-last:]
    room = 0.03 * (places.max() - places.min()) + 1
    f.plot.update_xaxes(range=[number - 1.03 * last, number + 0.03 * last])
    f.plot.update_yaxes(range=[places.max() + room, places.min() - room], autorange=False)
    words = f"Drawn are the last {last:,} of {number:,}, and those on the way to the winner: drag to see its beginning. "
    return replace(chart(f), words=words + f.words)


def _keep(trace: Any, places: Any) -> None:
    trace.x, trace.y = trace.x[places], trace.y[places]
    for holder in (trace, trace.marker):
        for name in ("text", "customdata", "symbol", "size", "color"):
            values = getattr(holder, name, None)
            if isinstance(values, (tuple, list, np.ndarray)):
                holder[name] = [values[place] for place in places]


def parts(network: Any, marks: Any = None) -> list[str]:
    import re

    svg = architecture.svg(network, marks, styled=False)
    return re.sub(r"(<g |<path |<title|</svg)", r"\n\1", svg).split("\n")


def came_about(findings: Findings, number: int) -> list[str]:
    one = step(findings.record, number)
    edits = in_words(one.edits)
    parents = [n for n in findings.record.entries[number].candidate.proposal.parents if n < number]
    return [one.kind, *edits] if len(parents) != 1 or not edits else edits


def gone(findings: Findings, number: int) -> list[str]:
    return [layout.words(node) for node in step(findings.record, number).gone]


class tables:  # noqa: N801
    best = staticmethod(lambda f, n: series.best(f.record, n))
    rungs = staticmethod(lambda f: series.rungs(f.record))
    mattered = staticmethod(lambda f: figures.mattered_sheet(f.effects))
    comparison = staticmethod(lambda f: series.comparison(f.record))
    free_scores = staticmethod(lambda f: _old_scores(f.record))
    reasons = staticmethod(lambda f: series.reasons(f.record))
    states = staticmethod(lambda f: series.states(f.record))
    times = staticmethod(lambda f: _old_times(f.record))
    repeat = staticmethod(lambda f: _old_facts(f.record))


class verdict:  # noqa: N801
    @staticmethod
    def cards(f: Findings) -> Any:
        from nanonas.report.words.verdict import cards

        return cards(f.record)

    @staticmethod
    def headline(f: Findings) -> Any:
        from nanonas.report.words.verdict import headline

        return headline(f.record)

    @staticmethod
    def verdict(f: Findings) -> Any:
        from nanonas.report.words.verdict import findings

        return findings(f.record)


def _facts_of(record: Record, entry: Any) -> list[str]:
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


def _old_scores(record: Record) -> Sheet:
    """How well what nobody had to train for orders the networks."""
    found = audited_scores(record.told, Objective())
    rows = [(name, one.tau, one.low, one.high, one.n) for name, one in found.items()]
    return sheet(
        ["score", *(Column(name, signed) for name in ("τ", "low", "high")), "networks"], rows
    )


def _old_times(record: Record) -> Sheet:
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


def _old_facts(record: Record) -> Sheet:
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


def facts(findings: Findings, number: int) -> list[str]:
    return _facts_of(findings.record, findings.record.entries[number])


def _step(self: Findings, number: int) -> Step:
    return self.steps[number] if "steps" in vars(self) else step(self.record, number)


Findings.step = _step  # type: ignore[attr-defined]
