"""nanonas report"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.text import number_of


@dataclass(frozen=True)
class Report:
    """Writes what a run has found as one page that opens anywhere, and its figures as PNG."""

    source: Positional[Path] = Path("outputs")
    """A run's folder, or a folder of runs (its newest)."""
    out: Path | None = None
    """The folder for report.html and figures/; by default the run's own."""
    png: bool = True
    """Draw the PNG figures, too, where matplotlib is installed."""


def report(arguments: Sequence[str]) -> None:
    """nanonas report"""
    given = parse(Report, "report", arguments)

    from nanonas.report.writing import write_report
    from nanonas.runs.folder import find

    written = write_report(find(given.source), given.out, given.png)
    console = Console()
    console.print(str(written.page), markup=False, highlight=False, soft_wrap=True)
    if written.pictures:
        folder, figures = written.pictures[0].parent, len(written.pictures)
        console.print(
            f"{folder}: {number_of(figures, 'figure')}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    elif given.png:
        console.print(
            "the figures as PNG need matplotlib: pip install 'nanonas\\[plots]'", highlight=False
        )


VERB = Verb(Report, report)
