"""The figures of a run, as charts: each says what is to be seen, and has the rows that it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from nanonas.analysis.findings import Findings
from nanonas.report.charts import evolution, mistakes, progress, worth
from nanonas.report.charts.chart import Chart
from nanonas.report.charts.series import NAMES

CHARTS: Mapping[str, Callable[[Findings], Chart | None]] = {
    "class-accuracy": mistakes.class_accuracy,
    "confusion": mistakes.confusion,
    "reliability": mistakes.reliability,
    "refusing": mistakes.refusing,
    "fitness-generation": progress.fitness_by_generation,
    "fitness-minute": progress.fitness_by_minute,
    "curves": progress.learning_curves,
    **{f"pareto-{metric}": partial(progress.pareto, other=metric) for metric in NAMES},
    "hypervolume": progress.front_growth,
    "tree": evolution.evolution_tree,
    "credit": evolution.edit_credit,
    "mattered": evolution.what_mattered,
    "trust": worth.predictor_trust,
    "inheritance": worth.inheritance,
}


def all_charts(findings: Findings, *keys: str) -> dict[str, Chart]:
    """The charts that the run has data for, by key, in the order of the page.

    Args:
        keys: of those to draw; by default all.
    """
    drawn = {key: CHARTS[key](findings) for key in CHARTS if not keys or key in keys}
    return {key: chart for key, chart in drawn.items() if chart is not None}
