"""Result files of benchmarks that go on where they were interrupted: one entry for each label, with
its settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from throughput import surroundings

from nanonas.maths.intervals import mean_interval


@dataclass
class Results:
    """A JSON file of entries by label. What it already holds is continued."""

    path: Path
    _entries: dict[str, dict[str, Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._entries = (
            json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        )

    def entry(
        self, label: str, settings: Mapping[str, Any], rows: str, **about: Any
    ) -> dict[str, Any]:
        """The entry of a label, to be filled and kept; a new one has an empty list of `rows`, and
        what it was made on.

        Raises:
            SystemExit: what is there was measured with other settings.
        """
        new = {**about, **surroundings(), "settings": dict(settings), rows: []}
        entry = self._entries.setdefault(label, new)
        if entry["settings"] != settings:
            raise SystemExit(
                f"{self.path} has {label!r} with other settings, {entry['settings']}: take "
                "another --label or --out"
            )
        return entry

    def keep(self) -> None:
        """Writes the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self._entries, indent=1) + "\n", encoding="utf-8")


def with_interval(values: Sequence[float], form: str = ".2f") -> str:
    """The mean of one value or more, and where there are two the half of its 95 % interval: "0.42 ±
    0.11".

    Args:
        form: how the mean is written; the half is written without a sign.
    """
    if len(values) < 2:
        return format(values[0], form)
    mean, half = mean_interval(values)
    return f"{mean:{form}} ± {half:{form.removeprefix('+')}}"
