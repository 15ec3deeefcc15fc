"""Charts are the same in both renderers: what plotly.js reads is what the chart holds."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from toys.report import entries, record

from nanonas.analysis.findings import Findings
from nanonas.core import Floats
from nanonas.report.charts.chart import (
    Axis,
    Band,
    Chart,
    Edges,
    Intervals,
    Line,
    Points,
    Rule,
    thinned,
)
from nanonas.report.charts.evolution import evolution_tree
from nanonas.report.charts.figures import all_charts
from nanonas.report.charts.plotly import figure
from nanonas.report.rows.sheet import Sheet

RUN = record(entries(90))
CHARTS = all_charts(Findings(RUN))


def numbers(packed: Any) -> Floats:
    return np.frombuffer(base64.b64decode(packed["bdata"]), "<f4").astype(np.float64)


@pytest.mark.parametrize("key", CHARTS)
def test_plotly_itself_takes_it(key: str) -> None:
    from plotly.graph_objects import Figure

    drawn = json.loads(json.dumps(figure(CHARTS[key]), allow_nan=False))
    Figure(drawn)  # validates every name and value
    assert drawn["layout"]["height"] == CHARTS[key].height


@pytest.mark.parametrize("key", CHARTS)
def test_every_mark_is_drawn_with_its_values(key: str) -> None:
    traces = iter(figure(CHARTS[key])["data"])
    for mark in CHARTS[key].marks:
        if isinstance(mark, Rule):
            continue
        drawn = next(traces)
        if isinstance(mark, Points | Line):
            assert numbers(drawn["x"]) == pytest.approx(mark.x, rel=1e-6)
            assert numbers(drawn["y"]) == pytest.approx(mark.y, rel=1e-6)
        elif isinstance(mark, Band):
            assert numbers(drawn["y"]) == pytest.approx(mark.low, rel=1e-6)
            assert numbers(next(traces)["y"]) == pytest.approx(mark.high, rel=1e-6)
        elif isinstance(mark, Edges) and len(mark.starts):
            y = numbers(drawn["y"])
            assert y[::3] == pytest.approx(mark.starts[:, 1], rel=1e-6)
            assert y[1::3] == pytest.approx(mark.ends[:, 1], rel=1e-6)
            assert np.isnan(y[2::3]).all()
    assert list(traces) == []


def test_intervals_are_in_order_from_the_top() -> None:
    ends = np.array([1.0, -2.0])
    rows = Intervals(["more", "less"], ends, ends - 1, ends + 0.5, [False, True], ["", ""])
    chart = Chart("a", "", "", Axis(), Axis(), (rows,), Sheet([], []))
    (drawn,) = figure(chart)["data"]
    assert drawn["y"] == ["less", "more"]  # plotly's first row is at the bottom
    assert list(numbers(drawn["x"])) == [-2, 1]
    assert list(numbers(drawn["error_x"]["arrayminus"])) == [1, 1]
    assert drawn["marker"]["symbol"] == ["circle", "circle-open"]


def test_a_click_on_a_node_opens_its_candidate() -> None:
    nodes = figure(CHARTS["tree"])["data"][-1]
    assert nodes["customdata"] == list(range(90))
    assert nodes["marker"]["symbol"].count("star") == 1
    assert RUN.winner is not None
    assert nodes["marker"]["symbol"].index("star") == RUN.winner.number


def test_of_a_large_run_the_last_networks_and_the_way_to_the_winner_are_drawn() -> None:
    findings = Findings(RUN)
    chart = evolution_tree(findings, last=30)
    nodes = figure(chart)["data"][-1]["customdata"]
    assert nodes == sorted({*findings.tree.way, *range(60, 90)})
    assert chart.words.startswith("Drawn are the last 30 of 90")
    assert evolution_tree(findings, last=90).words == CHARTS["tree"].words


def test_of_many_dots_a_browser_gets_some() -> None:
    chart = CHARTS["fitness-generation"]
    before, after = (
        next(mark for mark in one.marks if isinstance(mark, Points))
        for one in (chart, thinned(chart, 20))
    )
    assert len(after.x) == len(after.text) == 20
    assert (after.x[0], after.x[-1]) == (before.x[0], before.x[-1])
    assert thinned(chart, 1000) == chart


def test_an_axis_that_goes_down_has_its_range_turned() -> None:
    chart = Chart("a", "", "", Axis(), Axis(range=(1, 2), down=True), (), Sheet([], []))
    assert figure(chart)["layout"]["yaxis"]["range"] == [2, 1]


def test_plotly_is_not_needed_to_draw() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from toys.report import entries, record\n"
        "from nanonas.analysis.findings import Findings\n"
        "from nanonas.report.charts import figures, plotly\n"
        "for chart in figures.all_charts(Findings(record(entries(30)))).values():\n"
        "    plotly.figure(chart)\n"
        "print('plotly' in sys.modules, 'torch' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False False\n"
