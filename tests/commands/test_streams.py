"""What the command line writes to, when that is not a UTF-8 terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def nanonas(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nanonas", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment})


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("asked", [["spaces"], ["show", "no such → folder"]])
def test_what_a_stream_cannot_say_is_replaced(
    encoding: str, asked: list[str], tmp_path: Path
) -> None:
    done = nanonas(*asked, PYTHONIOENCODING=encoding)
    assert done.returncode == (0 if asked == ["spaces"] else 2), done.stderr
    assert b"Traceback" not in done.stderr
    arrow = "→" if encoding == "utf-8" else "?"
    if asked != ["spaces"]:
        assert f"no such {arrow} folder" in done.stderr.decode(encoding)
    done = nanonas("train", "--help", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
