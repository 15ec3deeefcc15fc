"""Whatever a stranger has done to a file, it is read correctly or refused in one sentence; never
does a reader crash, hang, take much memory, run a program or write elsewhere.

The cases are the same in every run, whatever hypothesis is told: a failure prints its case in
base64, which `read_case` reads again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from toys.hostile.formats import every
from toys.hostile.parent import fuzzed

pytest.importorskip("onnxruntime", reason="needs pip install 'nanonas[onnx]'")
pytest.importorskip("pyarrow", reason="needs pip install 'nanonas[parquet]'")
pytest.importorskip("starlette", reason="needs pip install 'nanonas[serve]'")
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="memory is limited and measured as Linux does"
)

FEW, MANY = 120, 10_000


def require_none_failed(reports: list[dict[str, Any]]) -> None:
    for report in reports:
        print({key: value for key, value in report.items() if key not in ("failure", "case")})
        assert not report["failure"], f"{report['format']}: {report['failure']}\n{report['case']}"


def test_some_cases_of_every_format(tmp_path: Path) -> None:
    reports = fuzzed(tmp_path, FEW, list(every()))
    assert [report["format"] for report in reports] == list(every())
    require_none_failed(reports)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list(every()))
def test_ten_thousand_cases(name: str, tmp_path: Path) -> None:
    reports = fuzzed(tmp_path, MANY, [name])
    require_none_failed(reports)
    assert reports[0]["read"] + reports[0]["refused"] >= 0.9 * MANY
