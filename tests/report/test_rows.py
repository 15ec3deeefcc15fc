"""The rows behind the figures: brute force is the oracle."""

from __future__ import annotations

import statistics
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kendalltau
from toys.report import BUDGET, SPACE, entries, entry, evaluated, record

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Entry, searching
from nanonas.config.files import configure, to_values
from nanonas.core import Budget, Objective, State
from nanonas.engine.storage.events import Event
from nanonas.report.charts import evolution, progress, worth
from nanonas.report.rows import tables
from nanonas.report.rows.sheet import Column, Sheet
from nanonas.text import mebibytes

RUN = record(entries(80))
FOUND = Findings(RUN)


def test_a_generation_is_the_statistics_of_its_members() -> None:
    found = progress.by_generation(FOUND)
    for generation, networks, best, median in zip(
        found["generation"], found["networks"], found["best"], found["median"], strict=True
    ):
        own = [
            e.accuracy
            for e in RUN.entries
            if e.generation + 1 == generation and e.accuracy is not None
        ]
        assert (networks, best, median) == (
            len(own),
            max(own),
            pytest.approx(statistics.median(own)),
        )
    assert found["best so far"] == list(np.maximum.accumulate(found["best"]))


def test_minutes_rise_and_end_with_the_best() -> None:
    found = progress.by_minute(FOUND)
    assert found["minute"] == sorted(found["minute"])
    assert found["best so far"][-1] == max(
        e.accuracy for e in RUN.entries if e.accuracy is not None
    )


def test_fronts_are_what_nobody_dominates() -> None:
    known = [e for e in RUN.trained if e.accuracy is not None]
    fronts = progress.fronts(FOUND, "params")
    shown = [
        number
        for after, number in zip(fronts["after"], fronts["#"], strict=True)
        if after == f"first {len(known)}"
    ]
    points = [(e.accuracy or 0, e.metric("params") or 0, e.number) for e in known]
    expected = {
        n
        for a, p, n in points
        if not any((x >= a and y < p) or (x > a and y <= p) for x, y, _ in points)
    }
    assert set(shown) == expected


def test_a_curve_goes_on_where_the_training_did() -> None:
    genome = SPACE.sample(np.random.default_rng(0))
    run = record(
        [
            entry(0, genome, 0.5),
            entry(1, genome, 0.8, parents=(0,), resumes=0, budget=Budget(9, begin=2)),
        ]
    )
    found = progress.curves(Findings(run), 1)
    assert found["epoch"] == [1, 2, 3, 4]
    assert found["accuracy"] == [0.25, 0.5, 0.4, 0.8]
    assert len(tables.rungs(Findings(run))) == 2
    assert tables.rungs(Findings(run))["went on"] == [1, 0]


def test_trust_is_kendalls_tau_of_the_last_hundred() -> None:
    found = worth.trust(FOUND)
    pairs = [
        (one.candidate.proposal.predicted, one.evaluation)
        for one in RUN.told
        if one.candidate.proposal.predicted is not None
    ]
    losses = [Objective().loss(e) if e.state is State.COMPLETE else np.inf for _, e in pairs]
    means = [p.mean for p, _ in pairs if p is not None]
    assert found["τ"][-1] == pytest.approx(kendalltau(means[-100:], losses[-100:]).statistic)
    assert found["networks"][-1] == min(100, len(pairs))


def test_twins_are_found() -> None:
    found = worth.twins(FOUND)
    assert len(found) > 3
    for number, twin in zip(found["#"], found["twin #"], strict=True):
        assert RUN.entries[number].candidate.key == RUN.entries[twin].candidate.key


def test_alike_reasons_are_together() -> None:
    found = tables.reasons(FOUND)
    failed = [e for e in RUN.entries if e.state == "failed"]
    assert found["candidates"] == [len(failed)]
    assert sum(tables.states(FOUND)["candidates"]) == len(RUN.entries)


def test_an_accuracy_on_shrunk_images_is_not_compared() -> None:
    genome = SPACE.sample(np.random.default_rng(0))
    small = entry(0, genome, 0.9)
    assert small.accuracy == 0.9
    assert entry(0, genome, 0.9, budget=Budget(4, image_size=8)).accuracy is None
    assert replace(small, evaluation=evaluated(0, 0.9, State.INFEASIBLE)).accuracy is None
    assert replace(small, evaluation=None).state == "running"


def test_pauses_do_not_count() -> None:
    events = [
        Event(0, kind, {}, at)
        for at, kind in [(100, "started"), (130, "interrupted"), (500, "started"), (520, "ended")]
    ]
    assert searching(events, [110.0, 125.0, 510.0]) == ([10.0, 25.0, 40.0], 50.0)
    killed = [Event(0, "started", {}, at) for at in (100, 500)]
    assert searching(killed, [110.0, 510.0]) == ([10.0, 20.0], 20.0)


@pytest.mark.parametrize("some", [[], entries(1), [replace(entries(1)[0], evaluation=None)]])
def test_nothing_yet_is_no_error(some: list[Entry]) -> None:
    findings = Findings(record(some))
    for found in (
        progress.by_generation(findings),
        progress.by_minute(findings),
        progress.fronts(findings, "params"),
        progress.curves(findings, 3),
        worth.trust(findings),
        evolution.candidates(findings),
        tables.states(findings),
        tables.reasons(findings),
        tables.rungs(findings),
        tables.best(findings, 3),
    ):
        assert len(found.said()) == len(found)


def test_a_sheet_knows_its_columns() -> None:
    found = Sheet(["name", Column("share", "share")], [("a", 0.5), ("b", None)])
    assert found.said() == [["a", "50%"], ["b", "–"]]
    assert found.numeric == (False, True)
    assert found["share"] == [0.5, None]
    with pytest.raises(KeyError):
        found["nothing"]
    with pytest.raises(ValueError, match="a row must have 2 values, but has 1"):
        Sheet(["a", "b"], [(1,)])
    assert BUDGET.epochs == 4


def test_the_report_says_how_many_weights_lie_on_the_disk_at_most() -> None:
    def said(**settings: object) -> object:
        made = configure(space="layers", strategy="aging", population=6, lag=2, **settings)
        rows = tables.table(Findings(replace(RUN, config=to_values(made))), "repeat").rows
        return dict(rows).get("weights on the disk")

    assert said(max_params=2**18) == "of 20 networks at most, 20.0 MiB (--keep top:20)"
    inherited = 3 + 6 + 3 * 2  # the best, the living, and two in flight with two parents each
    told = f"of {inherited} networks at most, {inherited}.0 MiB (--keep top:3)"
    assert said(max_params=2**18, inherit=True, keep="top:3") == told
    assert str(said(halving=3, epochs=9)).startswith("of 80 networks at most, ")
    largest = max(int(entry.metrics["params"]) for entry in RUN.trained)
    assert (
        said(keep="front")
        == f"of 1 network at most, {mebibytes(4 * largest / 2**20)} (--keep front)"
    )
    for config in ({}, {"search": {"space": "none"}}):
        rows = tables.table(Findings(replace(RUN, config=config)), "repeat").rows
        assert "weights on the disk" not in dict(rows)
