"""The rows behind the figures: how the search went, what it weighed up, and whether its guesses
were worth anything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from nanonas.analysis.record import Entry, Record
from nanonas.analysis.twins import twins as pairs_of_twins
from nanonas.core import Floats, Objective
from nanonas.engine.ranking import front_of
from nanonas.maths.ranks import Correlation, kendall
from nanonas.predictors.audit import WINDOW, predictions
from nanonas.report.rows.sheet import Column, Sheet, sheet
from nanonas.text import costs, count, duration, mebibytes, milliseconds, percent, signed

MOMENTS = 4  # of a search that its fronts are drawn at
_POINTS = 200  # that a curve over candidates has at most
_QUARTILES = (0.25, 0.5, 0.75)

SAID = {"params": count, "macs": count, "latency": milliseconds, "memory": mebibytes}
NAMES = {"params": "parameters", "macs": "MACs", "latency": "latency", "memory": "memory"}


def _whole(number: float) -> str:
    return f"{number:.0f}"


ACCURACIES = ("best so far", "best", "upper quartile", "median", "lower quartile")


def by_generation(record: Record) -> Sheet:
    """How good each generation was, and the best until then."""
    found: dict[int, list[float]] = {}
    for entry in record.entries:
        if entry.accuracy is not None:
            found.setdefault(entry.generation, []).append(entry.accuracy)
    rows, best = [], -np.inf
    for generation in sorted(found):
        low, median, high = np.quantile(found[generation], _QUARTILES)
        best = max(best, *found[generation])
        rows.append(
            (
                generation + 1,
                len(found[generation]),
                best,
                max(found[generation]),
                float(high),
                float(median),
                float(low),
            )
        )
    return sheet(["generation", "networks", *(Column(name, percent) for name in ACCURACIES)], rows)


def by_minute(record: Record) -> Sheet:
    """The best until each moment, and median and quartiles of the last ones (a generation's worth)
    that arrived.
    """
    arrived = sorted(
        (entry.elapsed, entry.number, entry.accuracy)
        for entry in record.entries
        if entry.elapsed is not None and entry.accuracy is not None
    )
    accuracies = np.array([accuracy for _, _, accuracy in arrived])
    window = max(10, int(record.search.get("population", 30)))
    rows = []
    for place in _places(
        len(arrived), _POINTS, first=min(4, len(arrived) - 1)
    ):  # of fewer there is no median
        recent = accuracies[max(0, place + 1 - window) : place + 1]
        low, median, high = np.quantile(recent, _QUARTILES)
        best = float(accuracies[: place + 1].max())
        rows.append(
            (arrived[place][0] / 60, place + 1, best, float(high), float(median), float(low))
        )
    names = ("best so far", "upper quartile", "median", "lower quartile")
    return sheet(
        [
            Column("minute", lambda m: f"{m:.2f}"),
            "networks",
            *(Column(name, percent) for name in names),
        ],
        rows,
    )


def arrivals(record: Record) -> Sheet:
    """Every accuracy: of which candidate, and when it arrived."""
    rows = [
        (
            entry.number,
            entry.generation + 1,
            None if entry.elapsed is None else entry.elapsed / 60,
            entry.accuracy,
        )
        for entry in record.entries
        if entry.accuracy is not None
    ]
    return sheet(
        ["#", "generation", Column("minute", lambda m: f"{m:.2f}"), Column("accuracy", percent)],
        rows,
    )


def fronts(record: Record, other: str) -> Sheet:
    """The best trade-offs of accuracy and another metric, less of which is better, at each quarter
    of the search.
    """
    known = [
        entry
        for entry in record.trained
        if entry.accuracy is not None and entry.metric(other) is not None
    ]
    rows = []
    both = (Objective(), Objective(other, maximize=False))
    for moment in range(1, MOMENTS + 1):
        until = round(len(known) * moment / MOMENTS)
        told = [entry.told for entry in known[:until] if entry.told is not None]
        members = [one.evaluation for one in front_of(told, both)]
        members.sort(key=lambda one: one.metrics[other])
        rows += [
            (f"first {until:,}", one.number, one.accuracy, one.metrics[other]) for one in members
        ]
    return sheet(
        ["after", "#", Column("accuracy", percent), Column(NAMES[other], SAID[other])], rows
    )


def trade_offs(record: Record) -> list[str]:
    """The metrics that are weighed against accuracy: the other objectives, or the parameters."""
    return [one.name for one in record.objectives if one.name != "accuracy"] or ["params"]


def curves(record: Record, number: int) -> Sheet:
    """The learning curves of the best networks, with what their trainings went on with."""
    rows = []
    for entry in record.distinct[:number]:
        for epoch, accuracy, loss in _curve(record, entry):
            rows.append((entry.number, epoch, accuracy, loss))
    return sheet(
        ["#", "epoch", Column("accuracy", percent), Column("training loss", "{:.3f}".format)], rows
    )


def _curve(record: Record, entry: Entry) -> list[tuple[int, float, float]]:
    before, begin, resumes = [], 0, entry.candidate.proposal.resumes
    if resumes is not None and resumes < entry.number:
        before = _curve(record, record.entries[resumes])
        begin = before[-1][0] if before else 0
    assert entry.evaluation is not None
    own = [
        (begin + n, one.accuracy, one.train_loss) for n, one in enumerate(entry.evaluation.curve, 1)
    ]
    return [*before, *own]


def trust(record: Record) -> Sheet:
    """How well each predictor ordered the last 100 networks that it had predicted, as the search
    went on.

    A prediction was made before its network was trained. What failed or was pruned counts as worse
    than all others.
    """
    rows = []
    for name, some in predictions(record.told, Objective()).items():
        numbers, means, losses = np.array(some).T
        for place in _places(len(some), _POINTS // 2, first=9):
            recent = slice(max(0, place + 1 - WINDOW), place + 1)
            found = kendall(means[recent], losses[recent])
            rows.append((name, int(numbers[place]), found.tau, found.low, found.high, found.n))
    return sheet(
        ["predictor", "after #", *(Column(n, signed) for n in ("τ", "low", "high")), "networks"],
        rows,
    )


def twins(record: Record) -> Sheet:
    """Children that inherited weights, and the same networks from scratch."""
    rows = [
        (heir.number, heir.evaluation.accuracy, twin.number, twin.evaluation.accuracy)
        for heir, twin in pairs_of_twins(record.told)
    ]
    with_weights, scratch = Column("inherited", percent), Column("from scratch", percent)
    return sheet(["#", with_weights, "twin #", scratch], rows)


def rungs(record: Record) -> Sheet:
    """How many were trained under each budget, how many of them went on, and how well they were
    ordered for that.

    The order is Kendall's τ between the accuracies on a rung and those on the next, of the ones
    that got there.
    """
    resumed = {
        e.candidate.proposal.resumes: e
        for e in record.trained
        if e.candidate.proposal.resumes is not None
    }
    groups: dict[tuple[int, float, int], list[Entry]] = {}
    for entry in record.trained:
        budget = entry.candidate.proposal.budget
        if budget is not None:
            groups.setdefault((budget.epochs, budget.share, budget.image_size or 0), []).append(
                entry
            )
    rows = []
    for (epochs, share, size), some in sorted(groups.items()):
        on = [(entry, resumed[entry.number]) for entry in some if entry.number in resumed]
        both = [(_measured(a), _measured(b)) for a, b in on]
        pairs = np.array([pair for pair in both if None not in pair], dtype=np.float64)
        order = kendall(*pairs.T) if len(pairs) >= 3 else None
        best = max((a for entry in some if (a := _measured(entry)) is not None), default=None)
        said = f"{size} pixels" if size else "as they are"
        rows.append((epochs, share, said, len(some), len(on), best, order))
    columns: list[Column | str] = [
        "epochs",
        Column("of the images", "{:.0%}".format),
        "images",
        "trained",
        "went on",
    ]
    return sheet(
        [*columns, Column("best", percent), Column("order on the next", _correlated)], rows
    )


def _correlated(found: Correlation) -> str:
    return str(found)


def _measured(entry: Entry) -> float | None:
    return None if entry.evaluation is None else entry.evaluation.accuracy


def reasons(record: Record) -> Sheet:
    """Why candidates were pruned, cut, refused or failed: alike reasons together, the most frequent
    first.
    """
    found: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], list[Entry]] = {}
    for entry in record.entries:
        if entry.evaluation is None or entry.state == "complete":
            continue
        alike = entry.state, re.sub(r"\d+(\.\d+)?", "…", entry.evaluation.reason or "")
        found[alike] += 1
        examples.setdefault(alike, []).append(entry)
    rows = []
    for kind, number in found.most_common():
        some = examples[kind]
        first = some[0].evaluation
        assert first is not None
        rows.append((kind[0], number, first.reason or "no reason was stored", _numbers(some)))
    return sheet(["state", "candidates", "reason (of the first)", "numbers"], rows)


def states(record: Record) -> Sheet:
    """How many candidates ended how, and the time that workers spent on them."""
    counts = Counter(entry.state for entry in record.entries)
    busy: Counter[str] = Counter()
    for entry in record.entries:
        if entry.evaluation is not None:
            busy[entry.state] += entry.evaluation.seconds  # type: ignore[assignment]
    order = ("complete", "pruned", "cut", "infeasible", "failed", "running")
    rows = [(state, counts[state], float(busy[state])) for state in order if counts[state]]
    return sheet(["state", "candidates", Column("time on workers", duration)], rows)


def candidates(record: Record) -> Sheet:
    """Every candidate, a row each."""
    extra = [
        name
        for name in ("latency", "memory")
        if any(entry.metric(name) is not None for entry in record.trained)
    ]
    rows = [
        (
            entry.number,
            entry.generation + 1,
            entry.state,
            entry.accuracy,
            entry.metric("params"),
            entry.metric("macs"),
            *(entry.metric(name) for name in extra),
            None if entry.evaluation is None else entry.evaluation.seconds,
            " ".join(f"#{parent}" for parent in entry.candidate.proposal.parents) or None,
        )
        for entry in record.entries
    ]
    metrics = [Column(NAMES[name], SAID[name]) for name in ("params", "macs", *extra)]
    accuracy, seconds = Column("accuracy", percent), Column("time", duration)
    return sheet(["#", "generation", "state", accuracy, *metrics, seconds, "parents"], rows)


def comparison(record: Record) -> Sheet:
    """What `nanonas compare` found: means over its trainings."""
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
        Column("test accuracy", percent),
        Column("spread", lambda s: f"± {100 * s:.2f}"),
        "trainings",
        Column("parameters", count),
        Column("MACs", count),
        Column("latency", milliseconds),
        Column("epochs", "{:.3g}".format),
        Column("search", duration),
        Column("one training", duration),
    )
    return sheet(columns, rows)


def best(record: Record, number: int) -> Sheet:
    """The best networks, each once."""
    rows = [
        (
            entry.number,
            entry.accuracy,
            record.finalists.get(entry.number),
            costs(entry.evaluation.metrics) if entry.evaluation is not None else None,
            entry.generation + 1,
        )
        for entry in record.distinct[:number]
    ]
    scratch = [Column("from scratch", percent)]
    return sheet(["#", Column("accuracy", percent), *scratch, "costs", "generation"], rows)


def _places(of: int, most: int, first: int = 0) -> list[int]:
    """At most so many places in a list, evenly, the last one among them."""
    if not 0 <= first < of:
        return []
    places: Floats = np.linspace(first, of - 1, min(most, of - first))
    return [int(place) for place in np.unique(places.round())]


def _numbers(entries: Sequence[Entry], most: int = 12) -> str:
    said = " ".join(f"#{entry.number}" for entry in entries[:most])
    return f"{said} and {len(entries) - most:,} more" if len(entries) > most else said
