"""A run as pandas frames, for notebooks. Needs the extra "notebook"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nanonas.analysis.lineage import steps
from nanonas.analysis.record import Record
from nanonas.errors import ConfigError
from nanonas.networks.edits import in_words
from nanonas.report.rows import series
from nanonas.report.rows.sheet import Sheet, sheet

if TYPE_CHECKING:
    import pandas as pd


def frame(found: Sheet) -> pd.DataFrame:
    """The rows of a sheet as they are, numbers as numbers.

    Raises `ConfigError` where pandas is not there.
    """
    try:
        import pandas as pd
    except ImportError:
        raise ConfigError("frames need pandas: pip install 'nanonas[notebook]'") from None
    return pd.DataFrame(list(found.rows), columns=list(found.names))


def frames(record: Record) -> dict[str, pd.DataFrame]:
    """All of a run.

    "candidates", "edits" (how each came about), "epochs" (every learning curve), "generations" and
    "minutes" (best, median, quartiles), "fronts", "trust" (the predictors' rank correlations),
    "twins" and "reasons".

    Raises:
        ConfigError: pandas is not there.
    """
    found = {
        "candidates": series.candidates(record),
        "edits": _edits(record),
        "epochs": series.curves(record, len(record.entries)),
        "generations": series.by_generation(record),
        "minutes": series.by_minute(record),
        "fronts": series.fronts(record, series.trade_offs(record)[0]),
        "trust": series.trust(record),
        "twins": series.twins(record),
        "reasons": series.reasons(record),
    }
    return {name: frame(rows) for name, rows in found.items()}


def _edits(record: Record) -> Sheet:
    rows = []
    for step in steps(record):
        heir = bool(record.entries[step.number].candidate.proposal.inherits)
        rows.append(
            (step.number, step.parent, step.kind, "; ".join(in_words(step.edits)), step.gain, heir)
        )
    return sheet(["#", "parent", "kind", "edits", "gain", "inherits"], rows)
