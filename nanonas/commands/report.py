"""nanonas report"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger
from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import parse
from nanonas.runs.reading import read_record

if TYPE_CHECKING:
    from nanonas.runs.folder import RunFolder
import importlib.util

from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.files import write_text
from nanonas.runs.folder import RunFolder


@dataclass(frozen=True)
class Report:
    """Writes what a run has found as one page that opens anywhere, report.html, and its figures as
    PNG.
    """

    source: Positional[Path] = Path("outputs")
    """A run's folder, or a folder of runs (its newest)."""
    out: Path | None = None
    """The folder for report.html and figures/; by default the run's own."""
    png: bool = True
    """Draw the PNG figures, too, where matplotlib is installed."""


def report(arguments: Sequence[str]) -> None:
    """nanonas report"""
    given = parse(Report, "report", arguments)

    from nanonas.runs.folder import find

    written = write_report(find(given.source), given.out, given.png)
    console = Console()
    console.print(str(written.page), markup=False, highlight=False, soft_wrap=True)
    if written.pictures:
        said = f"{written.pictures[0].parent}: {len(written.pictures)} figures"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    elif given.png:
        console.print(
            "the figures as PNG need matplotlib: pip install 'nanonas\\[plots]'", highlight=False
        )


# candidates that a search may have for its report to be written when it ends: it takes some seconds
AT_END = 1000


@dataclass(frozen=True)
class Written:
    """What a report is made of."""

    page: Path
    pictures: tuple[Path, ...]  # none where matplotlib is missing


def write_report(folder: RunFolder, out: Path | None = None, pictures: bool = True) -> Written:
    """Writes report.html and, where matplotlib is there, figures/*.png.

    Args:
        out: the folder for them; by default the run's own.

    Raises:
        RunError: as `read_record`, or a file cannot be written.
    """
    from nanonas.analysis.findings import Findings
    from nanonas.report.page import render

    findings, out = Findings(read_record(folder)), out or folder.path
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{str(out)!r} cannot be made: {error.strerror}; choose another folder with --out"
        ) from None
    config = folder.config.read_text(encoding="utf-8") if folder.config.exists() else ""
    page = out / "report.html"
    write_text(page, render(findings, config))
    drawn: tuple[Path, ...] = ()
    if pictures and importlib.util.find_spec("matplotlib") is not None:
        from nanonas.report.charts.figures import all_charts
        from nanonas.report.charts.matplotlib import draw_all

        drawn = tuple(draw_all(all_charts(findings).values(), out / "figures"))
    return Written(page, drawn)


def write_at_end(folder: RunFolder) -> Path | None:
    """The page of a search that has just ended; None where it would take long, or cannot be made.

    A search's end does not wait for a report for more than a few seconds, and does not fail because
    of one.
    """
    try:
        with RunStore.read(folder.store) as store:
            many = len(store.candidates()) > AT_END
        return None if many else write_report(folder, pictures=False).page
    except Exception as error:  # noqa: BLE001 - whatever it is, what was found is safe
        logger.warning(
            "the report could not be written: {!r}; `nanonas report {}` tries again",
            error,
            folder.path,
        )
        return None
