"""The notebook runs from top to bottom on the run that comes along, and answers what it asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "analysis.ipynb"


def test_the_notebook_runs_and_answers(tmp_path: Path) -> None:
    for name in ("nbclient", "ipykernel", "pandas", "matplotlib"):
        pytest.importorskip(name, reason=f"the notebook needs {name}: pip install 'nanonas[dev]'")
    code = (
        "import sys, nbformat, nbclient\n"
        "notebook = nbformat.read(sys.argv[1], as_version=4)\n"
        "nbclient.NotebookClient(notebook, timeout=100, resources={'metadata': {'path': "
        "sys.argv[2]}}).execute()\n"
        "nbformat.write(notebook, sys.argv[3])\n"
    )
    out = tmp_path / "executed.ipynb"
    command = [sys.executable, "-c", code, str(NOTEBOOK), str(NOTEBOOK.parent), str(out)]
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]

    cells = json.loads(out.read_text(encoding="utf-8"))["cells"]
    asked = [
        place
        for place, cell in enumerate(cells)
        if "".join(cell["source"]).startswith(("## 1.", "## 2.", "## 3."))
    ]
    assert len(asked) == 3
    for place in asked:
        answers = [
            o
            for o in cells[place + 1]["outputs"]
            if o["output_type"] == "stream" and o["name"] == "stdout"
        ]
        assert "".join("".join(answer["text"]) for answer in answers).strip()
    shown = [
        o for cell in cells for o in cell.get("outputs", ()) if "image/png" in o.get("data", {})
    ]
    assert len(shown) >= 3


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
