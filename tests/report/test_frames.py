"""A run as pandas frames."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest
from toys.report import entries, record

from nanonas.analysis.findings import Findings
from nanonas.errors import ConfigError
from nanonas.report.charts.progress import by_generation
from nanonas.report.rows.frames import frame, frames

RUN = record(entries(40))


def test_frames_hold_the_rows_of_the_figures() -> None:
    pytest.importorskip("pandas", reason="frames need pandas: pip install 'nanonas[notebook]'")
    found = frames(RUN)
    assert len(found["candidates"]) == len(found["edits"]) == 40
    assert found["candidates"]["accuracy"].max() == pytest.approx(
        max(e.accuracy or 0 for e in RUN.entries)
    )
    assert list(found["generations"]["median"]) == by_generation(Findings(RUN))["median"]
    assert found["epochs"]["epoch"].min() == 1


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ConfigError, match=r"^frames need pandas: pip install 'nanonas\[notebook\]'$"
    ):
        frame(by_generation(Findings(RUN)))
