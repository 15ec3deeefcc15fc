"""The page and the words about networks of a front that were trained, and about its hypervolume."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toys.report import entries, record

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.core import Objective
from nanonas.engine.storage.events import Event
from nanonas.maths.intervals import wilson
from nanonas.report import page
from nanonas.report.charts.chart import Line, Points
from nanonas.report.charts.figures import all_charts
from nanonas.report.rows.tables import trained_front
from nanonas.report.words.verdict import headline, verdict

BOTH = (Objective(), Objective("params", maximize=False))


def result(accuracy: float, **more: Any) -> dict[str, Any]:
    values = {"test_accuracy": accuracy, "test_images": 300, "epochs": 5, "latency_ms": 0.2}
    return {**values, "seconds": 3.0, **more}


def run(others: tuple[int, ...] = (3, 4), opened: tuple[str, ...] = ()) -> Record:
    purposes = opened or ("the winner", *(f"front, #{number}" for number in others))
    events = [Event(1.0, "test set opened", {"for": purpose}) for purpose in purposes]
    return record(
        entries(40),
        objectives=BOTH,
        events=tuple(events),
        final=result(0.93),
        front_finals={number: result(0.9 - number / 100) for number in others},
    )


def test_the_table_has_sizes_accuracies_and_an_interval() -> None:
    found = run()
    assert found.winner is not None
    sheet = trained_front(Findings(found))
    assert sheet["#"][0] == found.winner.number
    assert set(sheet["#"][1:]) == {3, 4}
    accuracies = [found.entries[number].accuracy for number in sheet["#"]]
    assert sheet["validation accuracy"] == accuracies
    assert accuracies[1:] == sorted(accuracies[1:], reverse=True)
    assert sheet["parameters"] == [1000 + number for number in sheet["#"]]
    for test, low, high in zip(
        sheet["test accuracy"], sheet["at least"], sheet["at most"], strict=True
    ):
        assert (low, high) == wilson(test, 300)
    assert len(trained_front(Findings(run(others=())))) == 0
    # one that a user has trained, of a run that trains no winner
    alone = trained_front(Findings(replace(run(), final=None)))
    assert set(alone["#"]) == {3, 4}


def test_the_page_has_the_table_the_dots_and_the_hypervolume() -> None:
    found = Findings(run())
    part = page.draw("fronts", found)
    assert "3 tests of 3 networks" in part.html.replace("\n", " ")
    assert 'data-open="3"' in part.html or 'data-open="#3"' in part.html
    assert set(part.plots) == {"pareto-params", "hypervolume"}
    (dots,) = [
        mark
        for mark in all_charts(found, "pareto-params")["pareto-params"].marks
        if isinstance(mark, Points) and mark.name == "finally trained"
    ]
    assert sorted(dots.x)[:2] == [1003.0, 1004.0]
    assert "networks of the front" not in page.draw("fronts", Findings(run(others=()))).html


def test_the_hypervolume_rises_to_that_at_the_end() -> None:
    chart = all_charts(Findings(run()), "hypervolume")["hypervolume"]
    (line,) = chart.marks
    assert isinstance(line, Line)
    assert (np.diff(line.y) >= 0).all()
    assert line.y[-1] == 100
    assert len(line.x) == len(chart.sheet)
    assert " minutes, 95% of it were there" in chart.words
    assert "hypervolume" not in all_charts(Findings(record(entries(40))))


def test_the_headline_names_the_others() -> None:
    said = headline(Findings(run()))[-1]
    assert said.startswith("Of the front, 2 others were finally trained, and tested once, too: #")
    assert "#3 with 1.0K parameters is right on 87.00 % of them" in said
    assert "one other network was" in headline(Findings(run(others=(3,))))[-1]
    assert "Of the front" not in headline(Findings(run(others=())))[-1]


@pytest.mark.parametrize(
    ("opened", "sign", "words"),
    [
        ((), "for", "once for each of 3 networks of the front, the winner among them"),
        ((), "for", "these are 3 tests of 3 networks, and nothing was chosen by it"),
        (("the winner", "front, #3", "front, #3"), "open", "3 times for winners"),
        (("the winner", "train, 9 epochs", "front, #3"), "open", "3 times for winners"),
    ],
)
def test_how_often_the_test_set_was_opened_is_said(
    opened: tuple[str, ...], sign: str, words: str
) -> None:
    first = verdict(Findings(run(opened=opened)))[0]
    assert first.sign == sign
    assert words in first.words
