"""The PNG figures, by what is drawn in them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from toys.report import entries, record

from nanonas.analysis.findings import Findings
from nanonas.errors import ConfigError
from nanonas.report.charts.figures import all_charts
from nanonas.report.charts.matplotlib import draw, draw_all

if TYPE_CHECKING:
    from matplotlib.axes import Axes

pytest.importorskip(
    "matplotlib", reason="the figures as PNG need matplotlib: pip install 'nanonas[plots]'"
)

RUN = record(entries(90))
CHARTS = all_charts(Findings(RUN))


def panel(key: str) -> Axes:
    return draw(CHARTS[key]).axes[0]


def test_fitness_shows_best_median_band_and_every_network() -> None:
    drawn, sheet = panel("fitness-generation"), CHARTS["fitness-generation"].sheet
    lines = {line.get_label(): line for line in drawn.get_lines()}
    for name in ("median", "best so far"):
        assert np.asarray(lines[name].get_ydata()) == pytest.approx(100 * np.array(sheet[name]))
    assert np.size(lines["a network"].get_xdata()) == sum(
        e.accuracy is not None for e in RUN.entries
    )
    assert [band.get_label() for band in drawn.collections] == ["middle half"]
    assert drawn.get_xlabel() == "generation"


def test_the_tree_has_a_line_for_each_child_and_the_winners_way() -> None:
    drawn = panel("tree")
    children = sum(bool(e.candidate.proposal.parents) for e in RUN.entries)
    edges, way, dots = drawn.collections
    assert len(edges.get_segments()) == children  # type: ignore[attr-defined]
    assert RUN.winner is not None
    assert way.get_segments()[-1][-1][0] == RUN.winner.number  # type: ignore[attr-defined]
    star = next(
        line for line in drawn.get_lines() if line.get_marker() == "*" and np.size(line.get_xdata())
    )
    assert np.asarray(star.get_xdata()).tolist() == [RUN.winner.number]
    judged = sum(e.accuracy is not None for e in RUN.entries)
    assert len(np.asarray(dots.get_offsets())) == judged - 1  # the star is the winner


def test_the_fronts_are_those_of_the_table() -> None:
    sheet = CHARTS["pareto-params"].sheet
    shown = {str(line.get_label()): line for line in panel("pareto-params").get_lines()}
    for moment in dict.fromkeys(sheet["after"]):
        rows = zip(sheet["after"], sheet["parameters"], strict=True)
        front = [params for after, params in rows if after == moment]
        assert np.asarray(shown[moment].get_xdata()).tolist() == front


def test_every_figure_is_written(tmp_path: Path) -> None:
    written = list(draw_all(CHARTS.values(), tmp_path / "figures"))
    names = {path.stem for path in written}
    assert {
        "fitness-generation",
        "fitness-minute",
        "curves",
        "tree",
        "pareto-params",
        "trust",
        "inheritance",
    } <= names
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


@pytest.mark.parametrize("number", [0, 1, 12])
def test_a_run_that_has_hardly_begun(tmp_path: Path, number: int) -> None:
    assert list(draw_all(all_charts(Findings(record(entries(number)))).values(), tmp_path))


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=r"^the figures as PNG need matplotlib: pip install 'nanonas\[plots\]'$"
    ):
        draw(CHARTS["fitness-minute"])
