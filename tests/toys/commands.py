"""Searches by the command line that somebody kills."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError


def killed(run: Path, arguments: Sequence[str], after: int) -> tuple[int, str]:
    """Begins the search `run` in a process of its own and kills it when so many evaluations have
    arrived.

    Returns how many had arrived then, and what it had printed.
    """
    command = [
        sys.executable,
        "-m",
        "nanonas",
        "search",
        *arguments,
        "--out",
        str(run.parent),
        "--name",
        run.name,
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    end = time.monotonic() + 60
    while (before := arrived(run)) < after and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.kill()
    return before, process.communicate()[0].decode()


def arrived(run: Path) -> int:
    """How many evaluations a run has by now."""
    try:
        with RunStore.read(run / "study.db") as store:
            return len(store.evaluations())
    except RunError:  # not there yet
        return 0
