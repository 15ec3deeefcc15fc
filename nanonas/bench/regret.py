"""Regret, how far from the best: over runs, by query and by second, and as a picture (the extra
"plots").
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

_MOMENTS = 100  # of simulated time that regret is looked at


@dataclass(frozen=True, eq=False)
class Curve:
    """A mean over runs and its 95 % interval: shape (points,) each."""

    x: Floats
    mean: Floats
    low: Floats
    high: Floats

    def values(self) -> dict[str, list[float]]:
        """As JSON has it."""
        return {
            name: getattr(self, name).round(6).tolist() for name in ("x", "mean", "low", "high")
        }


def by_query(lines: Sequence[Floats], queries: int) -> Curve:
    """Regret after 1 … queries queries. A run that ended before keeps what it had."""
    held = np.stack([np.pad(line, (0, queries - len(line)), mode="edge") for line in lines])
    return Curve(np.arange(1.0, queries + 1), *bootstrap(held))


def by_second(lines: Sequence[Floats], elapsed: Sequence[Floats]) -> Curve:
    """Regret at 100 moments, from when every run has its first answer until the first run ends."""
    start, end = max(times[0] for times in elapsed), min(times[-1] for times in elapsed)
    moments = np.linspace(min(start, end), end, _MOMENTS)
    held = [
        line[np.maximum(0, np.searchsorted(times, moments, side="right") - 1)]
        for line, times in zip(lines, elapsed, strict=True)
    ]
    return Curve(moments, *bootstrap(np.stack(held)))


def draw_regret(
    path: Path, curves: Mapping[str, tuple[Curve, Curve]], kind: str, title: str
) -> None:
    """Draws regret against queries and against simulated seconds, with the intervals, as a PNG.

    Args:
        curves: by strategy, in the order of the legend; regrets are accuracies in [0, 1].
        kind: what the regret is in: "test" or "validation".

    Raises:
        ConfigError: matplotlib is not there.
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
    for number, (name, both) in enumerate(curves.items()):
        style = {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}
        for panel, curve in zip(panels, both, strict=True):
            panel.step(curve.x, 100 * curve.mean, where="post", label=name, **style)
            panel.fill_between(
                curve.x,
                100 * curve.low,
                100 * curve.high,
                step="post",
                alpha=0.12,
                color=style["color"],
            )
    for panel, axis in zip(panels, ("queries", "simulated training time (s)"), strict=True):
        panel.set_xlabel(axis)
        panel.set_yscale("symlog", linthresh=0.1)  # a regret of 0 is reached
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"{kind} regret (percentage points)")
    panels[1].legend()
    figure.suptitle(title)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
