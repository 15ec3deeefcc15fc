"""The tables of a report: what was lost, where the time went, what repeats the run."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from nanonas.analysis.findings import Findings
from nanonas.analysis.insights import Effect
from nanonas.analysis.record import Entry, Record
from nanonas.maths.ranks import kendall
from nanonas.networks.edits import in_words
from nanonas.report.rows.sheet import Column, Sheet
from nanonas.text import costs

NAMES = {"params": "parameters", "macs": "MACs", "latency": "latency", "memory": "memory"}
UNITS = {"params": "count", "macs": "count", "latency": "milliseconds", "memory": "mebibytes"}
STATES = ("complete", "pruned", "cut", "infeasible", "failed", "running")
_NUMBERS = 12  # of candidates that are listed


def best(record: Record, number: int) -> Sheet:
    """The best networks, each once."""
    rows = [
        (
            entry.number,
            entry.accuracy,
            record.finalists.get(entry.number),
            costs(entry.metrics),
            entry.generation + 1,
        )
        for entry in record.distinct[:number]
    ]
    accuracies = (Column("accuracy", "percent"), Column("from scratch", "percent"))
    return Sheet(("#", *accuracies, "costs", "generation"), rows)


def candidates(record: Record) -> Sheet:
    """Every candidate, a row each."""
    measured = {name for entry in record.trained for name in entry.metrics}
    names = ["params", "macs", *(name for name in ("latency", "memory") if name in measured)]
    rows = [
        (
            entry.number,
            entry.generation + 1,
            entry.state,
            entry.accuracy,
            *(entry.metrics.get(name) for name in names),
            None if entry.evaluation is None else entry.evaluation.seconds,
            _numbers(entry.proposal.parents) or None,
        )
        for entry in record.entries
    ]
    metrics = (Column(NAMES[name], UNITS[name]) for name in names)
    accuracy, seconds = Column("accuracy", "percent"), Column("time", "seconds")
    return Sheet(("#", "generation", "state", accuracy, *metrics, seconds, "parents"), rows)


def edits(findings: Findings) -> Sheet:
    """How every candidate came about."""
    rows = []
    for step in findings.steps:
        inherits = bool(findings.record.entries[step.number].proposal.inherits)
        words = "; ".join(in_words(step.edits))
        rows.append((step.number, step.parent, step.kind, words, step.gain, inherits))
    return Sheet(("#", "parent", "kind", "edits", "gain", "inherits"), rows)


def rungs(record: Record) -> Sheet:
    """How many were trained under each budget, how many of them went on, and how well they were
    ordered for that.

    The order is Kendall's τ between the accuracies on a rung and those on the next, of the ones
    that got there.
    """
    resumed = {entry.proposal.resumes: entry for entry in record.trained}
    rungs: dict[tuple[int, float, int], list[Entry]] = {}
    for entry in record.trained:
        budget = entry.proposal.budget
        if budget is not None:
            rung = (budget.epochs, budget.share, budget.image_size or 0)
            rungs.setdefault(rung, []).append(entry)
    rows = []
    for (epochs, share, size), entries in sorted(rungs.items()):
        went_on = [(entry, resumed[entry.number]) for entry in entries if entry.number in resumed]
        both = [(_measured(early), _measured(late)) for early, late in went_on]
        pairs = np.array([pair for pair in both if None not in pair], dtype=np.float64)
        order = str(kendall(*pairs.T)) if len(pairs) >= 3 else None
        accuracies = [accuracy for entry in entries if (accuracy := _measured(entry)) is not None]
        pixels = f"{size} pixels" if size else "as they are"
        row = (epochs, share, pixels, len(entries), len(went_on), max(accuracies, default=None))
        rows.append((*row, order))
    share_column, best_column = Column("of the images", "share"), Column("best", "percent")
    budget_columns = ("epochs", share_column, "images")
    return Sheet((*budget_columns, "trained", "went on", best_column, "order on the next"), rows)


def _measured(entry: Entry) -> float | None:
    return entry.metrics.get("accuracy")


def mattered(found: Sequence[Effect]) -> Sheet:
    """All questions about decisions, with their answers."""
    rows = [(*_effect(effect), _stands_out(effect)) for effect in found]
    return Sheet(("decision", *_EFFECT, "networks", "families", "stands out"), rows)


def earned(found: Sequence[Effect]) -> Sheet:
    """What each kind of edit earned."""
    rows = [(*_effect(effect), effect.better, _stands_out(effect)) for effect in found]
    better = Column("better than the parent", "percent")
    return Sheet(("edit", *_EFFECT, "children", "parents", better, "stands out"), rows)


_EFFECT = tuple(Column(name, "points") for name in ("effect", "low", "high"))


def _effect(effect: Effect) -> tuple[Any, ...]:
    return effect.words, effect.mean, effect.low, effect.high, effect.n, effect.families


def _stands_out(effect: Effect) -> str:
    return "yes" if effect.clear else "no"


def free_scores(findings: Findings) -> Sheet:
    """How well the free scores rank the networks."""
    scores = findings.free_scores.items()
    rows = [(name, trust.tau, trust.low, trust.high, trust.n) for name, trust in scores]
    interval = (Column(name, "signed") for name in ("τ", "low", "high"))
    return Sheet(("score", *interval, "networks"), rows)


def reasons(record: Record) -> Sheet:
    """Why candidates were pruned, cut, refused or failed: similar reasons together, the most
    frequent first.
    """
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in record.entries:
        if entry.evaluation is not None and entry.state != "complete":
            similar = re.sub(r"\d+(\.\d+)?", "…", entry.evaluation.reason or "")
            groups.setdefault((entry.state, similar), []).append(entry)
    rows = []
    for (state, _), entries in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = entries[0].evaluation
        reason = (first.reason if first is not None else "") or "no reason was stored"
        numbers = _numbers([entry.number for entry in entries], _NUMBERS)
        rows.append((state, len(entries), reason, numbers))
    return Sheet(("state", "candidates", "reason (of the first)", "numbers"), rows)


def states(record: Record) -> Sheet:
    """How many candidates ended how, and the time that workers spent on them."""
    counts = Counter(entry.state for entry in record.entries)
    busy = dict.fromkeys(counts, 0.0)
    for entry in record.entries:
        if entry.evaluation is not None:
            busy[entry.state] += entry.evaluation.seconds
    rows = [(state, counts[state], busy[state]) for state in STATES if counts[state]]
    return Sheet(("state", "candidates", Column("time on workers", "seconds")), rows)


def comparison(record: Record) -> Sheet:
    """The results of `nanonas compare`: means over its trainings."""
    rows = [
        (
            row.get("network", "?"),
            row.get("test_accuracy"),
            row.get("spread"),
            len(row.get("trainings") or ()) or None,
            row.get("params"),
            row.get("macs"),
            row.get("latency_ms"),
            row.get("epochs"),
            row.get("search_seconds"),
            row.get("train_seconds"),
        )
        for row in record.comparison
    ]
    columns: Sequence[Column | str] = (
        "network",
        Column("test accuracy", "percent"),
        Column("spread", "spread"),
        "trainings",
        Column("parameters", "count"),
        Column("MACs", "count"),
        Column("latency", "milliseconds"),
        Column("epochs", "digits"),
        Column("search", "seconds"),
        Column("one training", "seconds"),
    )
    return Sheet(columns, rows)


def times(record: Record) -> Sheet:
    """Where the time went."""
    busy = sum(entry.evaluation.seconds for entry in record.entries if entry.evaluation is not None)
    rows: list[tuple[str, float]] = [
        ("the search, by the clock", record.seconds),
        ("workers, training and judging", busy),
    ]
    if record.final is not None:
        rows.append(("the winner's training", float(record.final["seconds"])))
    trainings = [training for row in record.comparison for training in row.get("trainings") or ()]
    if trainings:
        compared = sum(float(training["seconds"]) for training in trainings)
        rows.append(("nanonas compare, all trainings", compared))
    return Sheet(("what", Column("time", "seconds")), rows)


def repeat(record: Record) -> Sheet:
    """What a user who repeats the run has to know."""
    search = record.search
    rows: list[tuple[str, Any]] = [
        ("begun", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.created))),
        ("nanonas", record.version),
        ("seed", search.get("seed")),
        ("data", search.get("data")),
        ("fingerprint of the images", record.images.get("fingerprint")),
        ("arithmetic", search.get("precision")),
        ("candidates in flight (lag)", search.get("lag")),
        *record.machine.items(),
    ]
    if record.final is not None:
        rows += [
            ("winner trained with torch", record.final.get("torch")),
            ("on", record.final.get("hardware")),
        ]
    return Sheet(("what", "value"), [row for row in rows if row[1] not in (None, "")])


def _numbers(numbers: Sequence[int], most: int | None = None) -> str:
    """Candidates by number; of more than `most` the rest is counted."""
    shown = " ".join(f"#{number}" for number in numbers[:most])
    more = 0 if most is None else len(numbers) - most
    return f"{shown} and {more:,} more" if more > 0 else shown
