"""The tables of a report: what was lost, where the time went, what repeats the run."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Entry, Record
from nanonas.maths.intervals import wilson
from nanonas.maths.ranks import kendall
from nanonas.networks.edits import in_words
from nanonas.report.charts.series import NAMES, UNITS
from nanonas.report.rows.mistakes import unsure
from nanonas.report.rows.sheet import Column, Sheet
from nanonas.runs.kept import kept_weights
from nanonas.text import costs, mebibytes, number_of, tested_by

STATES = ("complete", "pruned", "cut", "infeasible", "failed", "running")
BEST = 10  # networks that are listed
_NUMBERS = 12  # of candidates that are listed


def table(findings: Findings, key: str) -> Sheet:
    """A table of `TABLES`."""
    return TABLES[key](findings)


def best(findings: Findings, number: int = BEST) -> Sheet:
    """The best networks, each once."""
    record = findings.record
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
    accuracies = (Column(record.measure, "percent"), Column("from scratch", "percent"))
    return Sheet(("#", *accuracies, "costs", "generation"), rows)


def trained_front(findings: Findings) -> Sheet:
    """The networks of the front that were finally trained: the winner first, then the most accurate
    of the search. The ends of the interval hold the test accuracy with 95 % confidence.
    """
    record = findings.record
    others = [one for one in findings.trade_offs if one in NAMES]
    rows = []
    for entry, result in record.trained_front:
        tested = float(result["test_accuracy"])
        low, high = wilson(tested, int(result["test_images"]))
        costs = [entry.metric(name) for name in others]
        lengths = (float(result["epochs"]), float(result["seconds"]))
        rows.append((entry.number, entry.accuracy, *costs, tested, low, high, *lengths))
    columns: Sequence[Column | str] = (
        "#",
        Column(f"validation {record.measure}", "percent"),
        *(Column(NAMES[name], UNITS[name]) for name in others),
        Column("test accuracy", "percent"),
        Column("at least", "percent"),
        Column("at most", "percent"),
        Column("epochs", "digits"),
        Column("training", "seconds"),
    )
    return Sheet(columns, rows)


def edits(findings: Findings) -> Sheet:
    """How every candidate came about."""
    rows = []
    for step in findings.steps:
        inherits = bool(findings.record.entries[step.number].proposal.inherits)
        words = "; ".join(in_words(step.edits))
        rows.append((step.number, step.parent, step.kind, words, step.gain, inherits))
    return Sheet(("#", "parent", "kind", "edits", "gain", "inherits"), rows)


def rungs(findings: Findings) -> Sheet:
    """How many were trained under each budget, how many of them went on, and how well they were
    ordered for that.

    The order is Kendall's τ between the accuracies on a rung and those on the next, of the ones
    that got there.
    """
    record = findings.record
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


def free_scores(findings: Findings) -> Sheet:
    """How well the free scores rank the networks."""
    scores = findings.free_scores.items()
    rows = [(name, trust.tau, trust.low, trust.high, trust.n) for name, trust in scores]
    interval = (Column(name, "signed") for name in ("τ", "low", "high"))
    return Sheet(("score", *interval, "networks"), rows)


def reasons(findings: Findings) -> Sheet:
    """Why candidates were pruned, cut, refused or failed: similar reasons together, the most
    frequent first.
    """
    record = findings.record
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in record.entries:
        if entry.evaluation is not None and entry.state != "complete":
            similar = re.sub(r"\d+(\.\d+)?", "…", entry.evaluation.reason or "")
            groups.setdefault((entry.state, similar), []).append(entry)
    rows = []
    for (state, _), entries in sorted(groups.items(), key=lambda group: -len(group[1])):
        first = entries[0].evaluation
        reason = (first.reason if first is not None else "") or "no reason was stored"
        rows.append((state, len(entries), reason, _numbers(entries)))
    return Sheet(("state", "candidates", "reason (of the first)", "numbers"), rows)


def states(findings: Findings) -> Sheet:
    """How many candidates ended how, and the time that workers spent on them."""
    record = findings.record
    counts = Counter(entry.state for entry in record.entries)
    busy = dict.fromkeys(counts, 0.0)
    for entry in record.entries:
        if entry.evaluation is not None:
            busy[entry.state] += entry.evaluation.seconds
    rows = [(state, counts[state], busy[state]) for state in STATES if counts[state]]
    return Sheet(("state", "candidates", Column("time on workers", "seconds")), rows)


def comparison(findings: Findings) -> Sheet:
    """The results of `nanonas compare`: means over its trainings."""
    record = findings.record
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
    metric = str(record.comparison[0].get("metric", "")) if record.comparison else ""
    columns: Sequence[Column | str] = (
        "network",
        Column(tested_by(metric), "percent"),
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


def equal_time(findings: Findings) -> Sheet:
    """The results of `nanonas compare --equal-time`: means over the seeds."""
    said = findings.record.equal_time
    rows = [
        (
            row.contender,
            row.test_accuracy,
            row.spread,
            row.ahead,
            row.half,
            row.seeds,
            row.params,
            row.macs,
            row.epochs,
            row.seconds,
        )
        for row in (said.rows if said is not None else ())
    ]
    columns: Sequence[Column | str] = (
        "contender",
        Column(tested_by("" if said is None else said.metric), "percent"),
        Column("spread", "spread"),
        Column("the search is ahead by", "points"),
        Column("known to", "spread"),
        "seeds",
        Column("parameters", "count"),
        Column("MACs", "count"),
        Column("epochs", "digits"),
        Column("time in all", "seconds"),
    )
    return Sheet(columns, rows)


def times(findings: Findings) -> Sheet:
    """Where the time went."""
    record = findings.record
    busy = sum(entry.evaluation.seconds for entry in record.entries if entry.evaluation is not None)
    rows: list[tuple[str, float]] = [
        ("the search, by the clock", record.seconds),
        ("workers, training and judging", busy),
    ]
    if record.final is not None:
        rows.append(("the winner's training", float(record.final["seconds"])))
    others = [result for n, result in record.front_finals.items() if n != _winner(findings)]
    if others:
        seconds = sum(float(result["seconds"]) for result in others)
        rows.append(("the trainings of others of the front", seconds))
    trainings = [training for row in record.comparison for training in row.get("trainings") or ()]
    if trainings:
        compared = sum(float(training["seconds"]) for training in trainings)
        rows.append(("nanonas compare, all trainings", compared))
    return Sheet(("what", Column("time", "seconds")), rows)


def repeat(findings: Findings) -> Sheet:
    """What a user who repeats the run has to know."""
    record = findings.record
    search = record.search
    rows: list[tuple[str, Any]] = [
        ("begun", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.created))),
        ("nanonas", record.version),
        ("seed", search.get("seed")),
        ("data", search.get("data")),
        ("candidates are compared by", record.measure),
        ("fingerprint of the images", record.images.get("fingerprint")),
        ("arithmetic", search.get("precision")),
        ("candidates in flight (lag)", search.get("lag")),
        *record.machine.items(),
        ("latency in the search, on", record.measured_on),
        ("weights on the disk", _weights(record)),
    ]
    if record.final is not None:
        rows += [
            ("winner trained with torch", record.final.get("torch")),
            ("on", record.final.get("hardware")),
        ]
    return Sheet(("what", "value"), [row for row in rows if row[1] not in (None, "")])


def _weights(record: Record) -> str | None:
    """How many weights lie on the disk at most, but for those of a front."""
    kept = kept_weights(record)
    if kept is None:
        return None
    networks, size = number_of(kept.networks, "network"), mebibytes(kept.mebibytes)
    return f"of {networks} at most, {size} (--keep {kept.keep})"


def _winner(findings: Findings) -> int | None:
    winner = findings.record.winner
    return None if winner is None else winner.number


def _numbers(entries: Sequence[Entry]) -> str:
    """Candidates by number; of many the rest is counted."""
    shown = " ".join(f"#{entry.number}" for entry in entries[:_NUMBERS])
    more = len(entries) - _NUMBERS
    return f"{shown} and {more:,} more" if more > 0 else shown


TABLES: Mapping[str, Callable[[Findings], Sheet]] = {
    "best": best,
    "trained-front": trained_front,
    "comparison": comparison,
    "equal-time": equal_time,
    "rungs": rungs,
    "scores": free_scores,
    "reasons": reasons,
    "times": times,
    "states": states,
    "repeat": repeat,
    "unsure": unsure,
}
