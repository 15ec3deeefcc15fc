"""C source in a bundle: compiled and compared, or said not to be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nanonas.deploy import checking
from nanonas.deploy.bundle import Export
from nanonas.deploy.c.compiled import compiler
from nanonas.deploy.c.writing import FILES
from nanonas.deploy.subject import subject_at


@pytest.mark.skipif(compiler() is None, reason="there is no C compiler here")
def test_c_is_compiled_and_computes_what_its_reference_does(run: Path, tmp_path: Path) -> None:
    made = Export(["c"]).run(subject_at(run), tmp_path / "bundle")
    [verdict] = made.verdicts
    assert verdict.passed
    assert verdict.note.endswith("and the reference agree on 100 images")
    assert verdict.accuracy is not None
    assert made.own.accuracy is not None
    assert abs(verdict.accuracy.share - made.own.accuracy.share) <= 0.01
    assert verdict.agreement is not None
    assert verdict.agreement > 0.95
    said = json.loads((made.folder / "verification.json").read_text(encoding="utf-8"))
    assert said["formats"]["c"]["note"] == verdict.note
    card = (made.folder / "card.md").read_text(encoding="utf-8")
    assert "bytes of RAM" in card
    assert "C11" in card


def test_c_that_computes_something_else_is_not_called_exported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "compiler", lambda: "cc")
    wrong = np.zeros((100, 10), np.int8)
    monkeypatch.setattr(checking, "compiled_logits", lambda *_: wrong)
    made = Export(["c"]).run(subject_at(run), tmp_path / "bundle")
    assert [one.reason for one in made.failed] == ["the compiled program computes other integers"]
    assert not any((made.folder / name).exists() for name in FILES)


def test_without_a_compiler_that_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "compiler", lambda: None)
    made = Export(["c"]).run(subject_at(run), tmp_path / "bundle")
    assert made.verdicts[0].passed
    assert made.verdicts[0].note.endswith("not compiled, for there is no C compiler here")
