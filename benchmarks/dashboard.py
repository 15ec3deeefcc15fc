"""What it takes the dashboard's server to show one new evaluation, in runs of 1,000 and 10,000
candidates.

    python benchmarks/dashboard.py

The runs are those of benchmarks/report.py. After each new evaluation every part of the page is
asked for as a browser asks for it, and answered as it would be, JSON included. The browser's own
work is not in it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from nanonas.serving.board import make_app
from report import main, pretend

from nanonas.core import Candidate, Evaluation, State
from nanonas.engine.storage.store import RunStore
from nanonas.runs.folder import RunFolder
from nanonas.serving.guard import HEADER, Guard
from nanonas.serving.watch import Live

RESULTS = Path(__file__).parent / "results" / "dashboard.json"
TIMES = 5  # evaluations; the median counts
STATE = {
    "clock.n_intervals": 1,
    "axis.value": "generation",
}  # the page's; the rest is not there yet


def measure(candidates: int) -> dict[str, float]:
    """Seconds by the clock and of the processor for a new evaluation, all parts of the page
    together, and megabytes.
    """
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        pretend(folder, candidates)
        start = time.perf_counter()
        live, guard = Live(folder), Guard("127.0.0.1", 8050)
        app = make_app(live.look, live.ask, guard)
        opened = time.perf_counter() - start
        client = app.server.test_client()
        headers = {"Host": "127.0.0.1:8050", HEADER: guard.token}
        rows: list[tuple[float, float, float]] = []
        for _ in range(TIMES):
            arrive(folder)
            clock, processor, size = time.perf_counter(), time.process_time(), 0
            for body in bodies(app):
                answer = client.post("/_dash-update-component", json=body, headers=headers)
                assert answer.status_code in (200, 204), answer.text
                size += len(answer.data)
            rows.append((time.perf_counter() - clock, time.process_time() - processor, size / 1e6))
        wall, busy, megabytes = (statistics.median(column) for column in zip(*rows, strict=True))
        return {
            "candidates": candidates,
            "open_seconds": round(opened, 2),
            "update_seconds": round(wall, 2),
            "update_processor_seconds": round(busy, 2),
            "update_megabytes": round(megabytes, 2),
        }


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


def bodies(app: Any) -> list[dict[str, Any]]:
    """What a page posts when there is something new."""
    found = []
    for key, callback in app.callback_map.items():
        parts = [*callback["inputs"], *callback["state"]]
        names = {f"{part['id']}.{part['property']}" for part in parts}
        if callback.get("callback") is None or not names & {
            "clock.n_intervals",
            "version.data",
            "slow.data",
        }:
            continue  # the browser's own, or asked for by a click

        def valued(some: list[dict[str, str]]) -> list[dict[str, Any]]:
            return [
                {**part, "value": STATE.get(f"{part['id']}.{part['property']}")} for part in some
            ]

        outputs = [
            dict(zip(("id", "property"), one.rsplit(".", 1), strict=True))
            for one in key.strip(".").split("...")
        ]
        several = key.startswith("..")
        found.append(
            {
                "output": key,
                "outputs": outputs if several else outputs[0],
                "inputs": valued(callback["inputs"]),
                "state": valued(callback["state"]),
                "changedPropIds": [],
            }
        )
    return found


if __name__ == "__main__":
    main(measure, __doc__, RESULTS)
