"""Regret, the distance from the best network: over runs, by query and by second, and as a figure
(needs the extra "plots").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanonas.core import Floats
from nanonas.errors import ConfigError
from nanonas.files import replacing
from nanonas.maths.intervals import bootstrap

_MOMENTS = 100  # of simulated time at which regret is evaluated


@dataclass(frozen=True, eq=False)
class Curve:
    """A mean over runs and its 95 % interval at some points: shape (points,) each."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats

    def values(self) -> dict[str, list[float]]:
        """As plain lists for JSON, rounded to 6 digits."""
        arrays = {"x": self.x, "mean": self.mean, "low": self.low, "high": self.high}
        return {name: array.round(6).tolist() for name, array in arrays.items()}


def by_query(lines: Sequence[Floats], queries: int) -> Curve:
    """Regret after each query.

    Args:
        lines: the regret of each run, shape (its queries,), 1 or more; a run that ended early keeps
            its last value.
        queries: length of the curve.
    """
    held = np.stack([np.pad(line, (0, queries - len(line)), mode="edge") for line in lines])
    return Curve(np.arange(1.0, queries + 1), *bootstrap(held))


def by_second(lines: Sequence[Floats], elapsed: Sequence[Floats]) -> Curve:
    """Regret at 100 moments, from when every run has its first answer until the first run ends.

    Args:
        lines: the regret of each run after each of its queries, shape (its queries,).
        elapsed: the simulated seconds after each of these queries, of the same shapes.
    """
    start = max(times[0] for times in elapsed)
    end = min(times[-1] for times in elapsed)
    moments = np.linspace(min(start, end), end, _MOMENTS)
    held: list[Floats] = []
    for line, times in zip(lines, elapsed, strict=True):
        answered = np.searchsorted(times, moments, side="right")  # queries done at each moment
        held.append(line[np.maximum(0, answered - 1)])
    return Curve(moments, *bootstrap(np.stack(held)))


def draw_regret(
    path: Path, curves: Mapping[str, tuple[Curve, Curve]], kind: str, title: str
) -> None:
    """Draws regret against queries and against simulated seconds, with the intervals, as a PNG.

    Args:
        path: replaced if it exists.
        curves: by query and by second, of each strategy, in the order of the legend; regrets are
            differences of accuracies in [0, 1].
        kind: the images of the accuracies: "test" or "validation".
        title: above the figure.

    Raises:
        ConfigError: matplotlib is not installed.
        RunError: the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            "a picture of the regret needs matplotlib: pip install 'nanonas[plots]'"
        ) from None
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for number, (name, pair) in enumerate(curves.items()):
        color, line = f"C{number % 10}", "-" if number < 10 else "--"
        for panel, curve in zip(panels, pair, strict=True):
            mean, low, high = 100 * curve.mean, 100 * curve.low, 100 * curve.high
            panel.step(curve.x, mean, where="post", label=name, color=color, linestyle=line)
            panel.fill_between(curve.x, low, high, step="post", alpha=0.12, color=color)
    for panel, axis in zip(panels, ("queries", "simulated training time (s)"), strict=True):
        panel.set_xlabel(axis)
        panel.set_yscale("symlog", linthresh=0.1)  # linear near 0, which regret reaches
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"{kind} regret (percentage points)")
    panels[1].legend()
    figure.suptitle(title)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
