"""A run as pandas frames, for notebooks. Needs the extra "notebook"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.errors import ConfigError
from nanonas.report.charts import evolution, progress, worth
from nanonas.report.rows import tables
from nanonas.report.rows.sheet import Sheet

if TYPE_CHECKING:
    import pandas as pd


def frame(sheet: Sheet) -> pd.DataFrame:
    """The rows of a sheet as they are, numbers as numbers.

    Raises:
        ConfigError: pandas is not there.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ConfigError("frames need pandas: pip install 'nanonas[notebook]'") from None
    return pd.DataFrame(list(sheet.rows), columns=list(sheet.names))


def frames(record: Record) -> dict[str, pd.DataFrame]:
    """All of a run.

    "candidates", "edits" (how each came about), "epochs" (every learning curve), "generations" and
    "minutes" (best, median, quartiles), "fronts", "trust" (the predictors' rank correlations),
    "twins" and "reasons".

    Raises:
        ConfigError: pandas is not there.
    """
    findings = Findings(record)
    sheets = {
        "candidates": evolution.candidates(findings),
        "edits": tables.edits(findings),
        "epochs": progress.curves(findings, len(record.entries)),
        "generations": progress.by_generation(findings),
        "minutes": progress.by_minute(findings),
        "fronts": progress.fronts(findings, findings.trade_offs[0]),
        "trust": worth.trust(findings),
        "twins": worth.twins(findings),
        "reasons": tables.reasons(findings),
    }
    return {name: frame(sheet) for name, sheet in sheets.items()}
