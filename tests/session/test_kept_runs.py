"""Runs that an earlier version made open, report, continue and repeat.

Each was made by the code of its time, and so was what it is expected to continue with: the commit
and the commands stand beside it. `halving_run` has inheritance, twins, rungs and finalists,
`example_run` a comparison, `aging_run` inheritance, and `screened_run` a predictor.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanonas import cli
from nanonas.core import Candidate, Evaluation, Proposal
from nanonas.engine.storage.rows import MIGRATIONS
from nanonas.engine.storage.store import RunStore
from nanonas.runs.folder import RunFolder, read_config
from nanonas.runs.reading import read_record
from nanonas.session.setup import Setup

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
# the format of each one's store
FORMATS = {"halving_run": 1, "example_run": 1, "aging_run": 2, "screened_run": 3}
KEPT = {name: FIXTURES / name for name in FORMATS}


@pytest.fixture(params=KEPT)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """A copy of a kept run."""
    return copied(request.param, tmp_path)


def copied(name: str, tmp_path: Path) -> RunFolder:
    if not KEPT[name].is_dir():
        pytest.skip(f"{KEPT[name]} comes with the repository only")
    return RunFolder(Path(shutil.copytree(KEPT[name], tmp_path / "runs" / name)))


def expected(run: RunFolder) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FIXTURES / f"{run.path.name}_expected.json").read_text())
    return found


def stored(run: RunFolder) -> tuple[list[Candidate], dict[int, Evaluation]]:
    with RunStore.read(run.store) as store:
        return store.candidates(), store.latest()


def asked(candidate: Candidate) -> Proposal:
    """What was asked for, without predictions: their last digits differ from CPU to CPU, and
    promotions have none any more.
    """
    return replace(candidate.proposal, predicted=None)


class Recorded:
    """Answers with what a kept run has measured."""

    slots = 1

    def __init__(self, evaluations: dict[int, Evaluation]) -> None:
        self.evaluations = evaluations
        self.waiting: list[int] = []

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        self.waiting.append(candidate.number)

    def result(self, timeout: float | None = None) -> Evaluation | None:
        return self.evaluations[self.waiting.pop(0)]

    def close(self) -> None:
        self.waiting.clear()


def test_there_is_a_kept_run_of_every_older_format(tmp_path: Path) -> None:
    found = {}
    for name in KEPT:
        with closing(sqlite3.connect(copied(name, tmp_path).store)) as db:
            (found[name],) = db.execute("PRAGMA user_version").fetchone()
    assert found == FORMATS
    assert set(found.values()) == set(range(1, len(MIGRATIONS)))


def test_a_kept_run_opens_read_only_and_is_reported(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = expected(run)["kept"]
    before = run.store.read_bytes()
    run.store.chmod(0o444)
    record = read_record(run)
    assert len(record.entries) == kept
    generation = Setup(read_config(run)).strategy.generation
    assert [entry.generation for entry in record.entries] == [generation(n) for n in range(kept)]
    for verb in ("show", "report"):
        assert cli.main([verb, str(run.path), *(["--no-png"] if verb == "report" else [])]) == 0
    assert "report.html" in capsys.readouterr().out
    assert run.store.read_bytes() == before


def test_a_kept_run_is_bred_again_by_todays_code(run: RunFolder, tmp_path: Path) -> None:
    """The same candidates by number, given the accuracies that were measured then: on any CPU."""
    candidates, evaluations = stored(run)
    config = read_config(run)
    setup = Setup(config)
    with RunStore.begin(tmp_path / "again.db", {}) as store:
        study = setup.study(store, Recorded(evaluations))
        study.run(evaluations=len(candidates))
        again = store.candidates()
    assert [(c.number, c.key, c.generation) for c in again] == [
        (c.number, c.key, c.generation) for c in candidates
    ]
    assert [asked(c) for c in again] == [asked(c) for c in candidates]
    for new, old in zip(again, candidates, strict=True):
        if new.proposal.predicted is not None:
            assert old.proposal.predicted is not None
            assert new.proposal.predicted.mean == pytest.approx(old.proposal.predicted.mean)


@pytest.mark.parametrize(
    ("name", "workers"),
    [("halving_run", 1), ("halving_run", 2), ("aging_run", 2), ("screened_run", 1)],
)
def test_a_kept_run_continues_as_it_would_have(name: str, workers: int, tmp_path: Path) -> None:
    run = copied(name, tmp_path)
    wanted = expected(run)
    kept, after = wanted["kept"], wanted["after"]
    command = f"resume {run.path} --evaluations {kept + len(after)} --workers {workers}"
    assert cli.main([*command.split(), "--final-epochs", "0"]) == 0
    candidates, evaluations = stored(run)
    same_arithmetic = True  # until an accuracy differs: CPUs of other kinds add in other orders
    for row in after:
        candidate, number = candidates[row["number"]], row["number"]
        if row["needs"] > kept and not same_arithmetic:
            break
        proposal = candidate.proposal
        assert (candidate.key, list(proposal.genome)) == (row["key"], row["genome"])
        assert (list(proposal.parents), list(proposal.inherits), proposal.resumes) == (
            row["parents"],
            row["inherits"],
            row["resumes"],
        )
        accuracy = evaluations[number].accuracy
        assert accuracy == pytest.approx(row["accuracy"], abs=0.15)
        same_arithmetic = same_arithmetic and accuracy == row["accuracy"]


def test_a_kept_run_repeats_from_its_configuration(tmp_path: Path) -> None:
    run = copied("halving_run", tmp_path)
    candidates, evaluations = stored(run)
    config = ["--config", str(run.config), "--out", str(tmp_path / "again"), "--name", "again"]
    assert cli.main(["search", *config]) == 0
    again, measured = stored(RunFolder(tmp_path / "again" / "again"))
    assert len(again) == len(candidates)
    first = [number for number in range(len(candidates)) if candidates[number].asked_after == 0]
    assert [asked(again[n]) for n in first] == [asked(candidates[n]) for n in first]
    if all(measured[n].curve == evaluations[n].curve for n in first):  # a CPU of the same kind
        assert [asked(c) for c in again] == [asked(c) for c in candidates]
        assert {n: e.accuracy for n, e in measured.items()} == {
            n: e.accuracy for n, e in evaluations.items()
        }
