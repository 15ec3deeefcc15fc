"""The benchmarks run; what they find is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def test_throughput_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "throughput.json"
    tiny = ["--networks", "plain_61k", "--seconds", "0.1", "--repetitions", "1", "--warm-up", "1", "--images", "600"]
    command = [sys.executable, str(BENCHMARKS / "throughput.py"), *tiny, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "plain_61k" in done.stdout

    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["hardware"]["cores"] >= 1
    assert result["versions"]["torch"]
    assert result["settings"]["repetitions"] == 1
    row = result["networks"]["plain_61k"]
    rates = {label: rate["median"] for label, rate in row["images_per_second"].items()}
    assert {"nanonas float32", "loop, 0 workers", "loop, 2 workers"} <= set(rates)
    assert min(rates.values()) > 0
    assert row["best_loop"] == max((label for label in rates if label.startswith("loop")), key=rates.__getitem__)
    best = rates[row["best_loop"]]
    assert row["times_as_fast"]["nanonas float32"]["of_medians"] == pytest.approx(rates["nanonas float32"] / best)
    share = rates["nanonas float32"] * 6 * row["macs"] / (1e9 * result["peak_gflops"]["float32"]["median"])
    assert row["share_of_peak"]["nanonas float32"] == pytest.approx(share, abs=1e-4)


def test_scores_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "scores.json"
    tiny = ["--spaces", "layers", "--networks", "3", "--epochs", "1"]
    command = [sys.executable, str(BENCHMARKS / "scores.py"), *tiny, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    assert result["hardware"]["cores"] >= 1
    layers = result["spaces"]["layers"]
    params, accuracies = ([row[name] for row in layers["each"]] for name in ("params", "accuracy"))
    pairs = [(0, 1), (0, 2), (1, 2)]
    signs = [[(a[i] > a[j]) - (a[i] < a[j]) for i, j in pairs] for a in (params, accuracies)]
    ties = [sum(map(abs, one)) for one in signs]  # tau-b: pairs that are no ties, in each of the two
    agreeing = sum(a * b for a, b in zip(*signs, strict=True))
    assert layers["scores"]["params"]["tau"] == pytest.approx(
        agreeing / max(1e-12, (ties[0] * ties[1]) ** 0.5), abs=1e-3
    )


def test_report_runs_from_end_to_end(tmp_path: Path) -> None:
    out = tmp_path / "results" / "report.json"
    command = [sys.executable, str(BENCHMARKS / "report.py"), "--candidates", "150", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert run["candidates"] == 150
    assert run["pictures"] >= 5
    assert run["page"]["cpu_seconds"] > 0
    assert run["megabytes"] < 6


def test_dashboard_runs_from_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("dash", reason="the dashboard needs dash: pip install 'nanonas[dashboard]'")
    out = tmp_path / "results" / "dashboard.json"
    command = [sys.executable, str(BENCHMARKS / "dashboard.py"), "--candidates", "60", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(out.read_text(encoding="utf-8"))["runs"]
    assert run["candidates"] == 60
    assert run["update_processor_seconds"] > 0
