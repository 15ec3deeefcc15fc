"""When an exported file does what the network does, and when it does not."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from nanonas.commands.export import _table
from nanonas.deploy.alone import check
from nanonas.deploy.bundle import Bundle
from nanonas.deploy.verdicts import Accuracy, Timing, Verdict, wrong_floats, wrong_int8
from nanonas.maths.intervals import wilson

EXPECTED = np.array([[2.0, -10.0, 0.0], [1.0, 0.9999, -3.0], [0.0, 0.5, 4.0]])  # largest: 10


def changed(*cells: tuple[int, int, float]) -> NDArray[np.float64]:
    logits: NDArray[np.float64] = EXPECTED.copy()
    for row, column, by in cells:
        logits[row, column] += by
    return logits


def test_logits_may_differ_by_a_share_of_the_largest() -> None:
    assert wrong_floats(EXPECTED, EXPECTED) == ""
    assert wrong_floats(changed((2, 0, 0.9e-3)), EXPECTED) == ""
    assert "up to 0.0011 off, but 0.001 is allowed" in wrong_floats(
        changed((2, 0, 1.1e-3)), EXPECTED
    )


def test_another_class_is_wrong_where_the_difference_is_clear() -> None:
    near = changed((1, 0, -0.9e-4), (1, 1, 0.9e-4))  # the two exchange their places
    assert near[1].argmax() == 1
    assert wrong_floats(near, EXPECTED) == ""
    expected = EXPECTED.copy()
    expected[1, 1] = 1 - 1.5e-3  # ahead by more than is allowed, and each is off by less
    logits = expected.copy()
    logits[1, :2] += [-0.9e-3, 0.9e-3]
    assert wrong_floats(logits, expected) == "it gives another class for 1 image"


def test_what_is_malformed_is_wrong() -> None:
    assert wrong_floats(EXPECTED[:2], EXPECTED) == "its logits are (2, 3), but must be (3, 3)"
    assert "are no numbers" in wrong_floats(changed((0, 0, np.nan)), EXPECTED)


def test_int8_may_lose_some_points_of_accuracy() -> None:
    expected = np.eye(2)[np.zeros(200, int)]
    labels = np.zeros(200, np.int64)
    logits = expected.copy()
    logits[:3] = [0, 1]  # 1.5 points
    assert wrong_int8(logits, expected, labels, 1.5) == ""
    assert wrong_int8(logits, expected, labels, 1.0) == (
        "it loses 1.50 points of accuracy, but --int8-loss allows 1"
    )
    assert Accuracy.of(logits, labels) == Accuracy(0.985, *wilson(0.985, 200), 200)


def test_a_timing_has_the_median_and_the_tail() -> None:
    timing = Timing.of(np.arange(1.0, 101.0))
    assert timing.median == 50.5
    assert 39 <= timing.low < 50 < timing.high <= 62
    assert timing.p95 == pytest.approx(95.05)
    assert timing.n == 100


def test_the_clean_process_cannot_import_nanonas(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("import sys; print(sys.argv[1]); import nanonas", encoding="utf-8")
    words = [sys.executable, "-I", check.__file__, "run", str(program), "hello"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "hello\n")
    assert done.stderr.splitlines()[-1] == ("ModuleNotFoundError: nanonas is not to be used here")


def test_a_terminal_of_80_columns_shows_the_whole_table() -> None:
    slow, exact = Timing(1234.5, 1230.0, 1239.0, 4321.0, 40), Accuracy(1.0, 0.9, 1.0, 300)
    measured: dict[str, Any] = {
        "difference": 1e-5,
        "agreement": 1.0,
        "accuracy": exact,
        "timing": slow,
    }
    files = {"nanonas": ("22.safetensors",), "pytorch": ("model.py", "model.safetensors")}
    own, source = (Verdict(kind, names, 98_765_432, **measured) for kind, names in files.items())
    failed = Verdict("int8", ("model.int8.onnx",), 65_432, "it is no graph")
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(_table(Bundle(Path("b"), own, (source, failed), {}, "images")))
    said = console.export_text()
    assert "…" not in said
    header = "size off by same class accuracy latency p95"
    assert header in " ".join(said.split())
    row = "model.py 98,765 kB 1e-05 100.00 % 100.00 % 1234 ms 4321 ms passed"
    assert row in " ".join(said.split())
    assert max(map(len, said.splitlines())) <= 80
