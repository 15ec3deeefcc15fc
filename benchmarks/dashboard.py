"""What it takes the dashboard's server to show one new evaluation, in runs of 1,000 and 10,000
candidates.

    python benchmarks/dashboard.py

The runs are those of benchmarks/report.py. After each new evaluation the page asks what is new, and
every part that a thread beside does not draw is drawn, at once and not when it is due. The answer
is JSON, as a browser gets it; the browser's own work is not in it.
"""

from __future__ import annotations

import json
import math
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from report import main, pretend

from nanonas.core import Candidate, Evaluation, State
from nanonas.engine.storage.store import RunStore
from nanonas.runs.folder import RunFolder
from nanonas.serving.live import LivePage
from nanonas.serving.watch import Watch

RESULTS = Path(__file__).parent / "results" / "dashboard.json"
TIMES = 5  # evaluations; the median counts


def measure(candidates: int) -> dict[str, float]:
    """Seconds by the clock and of the processor for a new evaluation, all parts of the page
    together, and megabytes.
    """
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        pretend(folder, candidates)
        begin = time.perf_counter()
        live = LivePage(Watch(folder).look, idle=0, patience=math.inf)
        page = live.whole("cookie")
        opened = time.perf_counter() - begin
        version = all_drawn(live)
        drawn = time.perf_counter() - begin
        rows: list[tuple[float, float, float]] = []
        for _ in range(TIMES):
            arrive(folder)
            clock, processor = time.perf_counter(), time.thread_time()
            news = live.news(version)
            size = len(json.dumps(news).encode()) / 1e6
            rows.append((time.perf_counter() - clock, time.thread_time() - processor, size))
            assert {"cards", "fitness", "tree"} <= set(news["parts"])
            version = all_drawn(live)
        wall, busy, megabytes = (statistics.median(column) for column in zip(*rows, strict=True))
        return {
            "candidates": candidates,
            "open_seconds": round(opened, 2),
            "page_megabytes": round(len(page.encode()) / 1e6, 2),
            "all_drawn_seconds": round(drawn, 2),
            "update_seconds": round(wall, 2),
            "update_processor_seconds": round(busy, 2),
            "update_megabytes": round(megabytes, 2),
        }


def all_drawn(live: LivePage) -> str:
    """Waits for what is drawn beside, and returns the version of the page."""
    while live.busy:
        time.sleep(0.05)
    version = str(live.news("")["version"])
    return all_drawn(live) if live.busy else version


def arrive(folder: RunFolder) -> None:
    """One more candidate, and its evaluation."""
    with RunStore.resume(folder.store) as store:
        last = store.candidates()[-1]
        number = last.number + 1
        store.asked(
            Candidate(
                number, replace(last.proposal, parents=(last.number,)), f"key {number}", number
            )
        )
        store.arrived(
            Evaluation(
                number, State.COMPLETE, {"accuracy": 0.5, "params": 1e5, "macs": 1e6}, (), 5.0
            )
        )


if __name__ == "__main__":
    main(measure, __doc__, RESULTS)
