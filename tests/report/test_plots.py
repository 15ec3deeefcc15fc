"""The PNG figures, by what is drawn in them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys.report import entries, record

from nanonas.errors import ConfigError
from nanonas.report.charts import matplotlib as plots
from nanonas.report.rows import series

pytest.importorskip(
    "matplotlib", reason="the figures as PNG need matplotlib: pip install 'nanonas[plots]'"
)

RUN = record(entries(90))


def test_fitness_shows_best_median_band_and_every_network() -> None:
    (panel,) = plots.fitness(RUN, "generation").axes
    lines = {line.get_label(): line for line in panel.get_lines()}
    found = series.by_generation(RUN)
    assert list(lines["median"].get_ydata()) == pytest.approx(100 * found.floats("median"))
    assert list(lines["best so far"].get_ydata()) == pytest.approx(
        100 * found.floats("best so far")
    )
    assert len(lines["a network"].get_xdata()) == sum(e.accuracy is not None for e in RUN.entries)
    assert [band.get_label() for band in panel.collections] == ["middle half"]
    assert panel.get_xlabel() == "generation"


def test_the_tree_has_a_line_for_each_child_and_the_winners_way() -> None:
    panel = plots.evolution_tree(RUN).axes[0]
    children = sum(bool(e.candidate.proposal.parents) for e in RUN.entries)
    assert len(panel.collections[0].get_segments()) == children  # type: ignore[attr-defined]
    dots = panel.collections[1].get_offsets()
    assert len(np.asarray(dots)) == sum(e.accuracy is not None for e in RUN.entries)
    assert RUN.winner is not None
    assert panel.get_lines()[0].get_xdata()[0] == RUN.winner.number  # type: ignore[index]


def test_the_fronts_are_those_of_the_table() -> None:
    (panel,) = plots.pareto(RUN, "params").axes
    found = series.fronts(RUN, "params")
    shown = {str(line.get_label()): line for line in panel.get_lines()}
    for moment in dict.fromkeys(found["after"]):
        assert list(shown[moment].get_xdata()) == found.where("after", moment)["parameters"]


def test_every_figure_is_written(tmp_path: Path) -> None:
    written = list(plots.draw_all(RUN, tmp_path / "figures"))
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
    assert list(plots.draw_all(record(entries(number)), tmp_path))


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
        plots.fitness(RUN, "minute")
