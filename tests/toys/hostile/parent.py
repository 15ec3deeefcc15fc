"""Has cases of formats read in a process of its own, `toys.hostile.child`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent.parent.parent


def fuzzed(work: Path, cases: int, names: list[str]) -> list[dict[str, Any]]:
    """What came of so many cases of each format, one after the other: how many were `read` and how
    many `refused`, `seconds` of the processor, `peak_mb` of memory, and a `failure` with its `case`
    in base64, both empty where there is none.

    Args:
        work: a folder, to which the files are written.
        names: of the formats, keys of `formats.every`.

    Raises:
        AssertionError: a case ended the process: it crashed, or hung.
    """
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "toys.hostile.child", str(work), str(cases), *names],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        cwd=work,
        check=False,
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (
        f"the reader of {names[len(reports)]} died ({done.returncode}) of {work / 'last.bin'}:\n"
        f"{done.stderr[-3000:]}"
    )
    return reports
