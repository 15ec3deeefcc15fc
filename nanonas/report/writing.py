"""A run's report as files: report.html, and figures/*.png where matplotlib is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from nanonas.analysis.findings import Findings
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError, reason_for
from nanonas.files import write_text
from nanonas.report.page import render
from nanonas.runs.folder import RunFolder
from nanonas.runs.reading import read_record
from nanonas.text import command

# candidates that a search may have for its report to be written when it ends: it takes some seconds
AT_END = 1000


@dataclass(frozen=True)
class Written:
    """The files of a report."""

    page: Path
    pictures: tuple[Path, ...]  # none where matplotlib is missing


def write_report(folder: RunFolder, out: Path | None = None, pictures: bool = True) -> Written:
    """Writes report.html and, where matplotlib is installed, figures/*.png.

    Args:
        out: the folder for them; by default the run's own.

    Raises:
        RunError: as `read_record`, or a file cannot be written.
    """
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
            candidates = len(store.candidates())
        return None if candidates > AT_END else write_report(folder, pictures=False).page
    except Exception as error:  # noqa: BLE001 - whatever it is, what was found is safe
        logger.warning(
            "the report could not be written: {}; `{}` tries again",
            reason_for(error),
            command("nanonas report", folder.path),
        )
        return None
