"""The file of experience: what is in it, who writes it, and what is done where it is damaged."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from toys.storage import filled

from nanonas.config.files import configure
from nanonas.engine.storage.events import EXPERIENCE, IMAGES
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.predictors.experience import PastRun, Task, Trained
from nanonas.runs.experience import (
    LARGEST,
    begun_with,
    experience_file,
    learnt,
    leave,
    read_experience,
    supplied,
    write_experience,
)
from nanonas.runs.folder import RunFolder

TASK = Task((3, 32, 32), 10, 45_000, 90_000)


def a_run(name: str, number: int = 8) -> PastRun:
    networks = tuple(Trained((n, 2 * n, 3), 0.5 + n / 2000, 1.5) for n in range(number))
    return PastRun(name, "stages", {"channels": 4}, TASK, networks)


def test_a_run_that_was_killed_before_its_images_were_noted_leaves_nothing(tmp_path: Path) -> None:
    filled(tmp_path / "study.db", 30)
    search = configure(epochs=3).search
    notes = {"fingerprint": "f", "input_shape": [1, 8, 8], "class_names": ["a", "b"], "train": 9}
    with RunStore.resume(tmp_path / "study.db") as store:
        assert learnt(store, search) is None
        assert begun_with(RunFolder(tmp_path), store, search) is None
        store.event(EXPERIENCE, {"digest": "0", "runs": 1})
        with pytest.raises(RunError, match="stopped while it began, and holds nothing yet: remove"):
            begun_with(RunFolder(tmp_path), store, search)
        store.event(IMAGES, notes)
        left = learnt(store, search)
    assert left is not None
    assert left.task == Task((1, 8, 8), 2, 9, 27)


# --- the file -------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path, runs = tmp_path / "experience.jsonl", (a_run("a"), a_run("b", 3))
    write_experience(path, runs)
    assert read_experience(path) == runs
    assert [json.loads(line)["run"] for line in path.read_text().splitlines()] == ["a", "b"]


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[:-30],
        lambda line: line.replace('"format": 1', '"format": 2'),
        lambda line: line.replace('"classes": 10', '"classes": 1'),
        lambda line: line.replace("[3, 32, 32]", "[32, 32]"),
        lambda line: line.replace('"accuracy": 0.5', '"accuracy": 7.5'),
        lambda line: line.replace('"genome"', '"genes"'),
        lambda line: "[]",
    ],
)
def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path, change: object) -> None:
    path = tmp_path / "experience.jsonl"
    write_experience(path, [a_run("a")])
    assert callable(change)
    path.write_text(change(path.read_text()))
    with pytest.raises(RunError, match=r"experience\.jsonl.* cannot be read .*\(--no-experience\)"):
        read_experience(path)


def test_a_run_leaves_itself_once_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "experience.jsonl"
    own = [run.run for run in supplied()]
    leave(path, a_run("a"))
    leave(path, a_run("b"))
    leave(path, a_run("a", 9))  # resumed
    assert [run.run for run in read_experience(path)] == [*own, "b", "a"]
    assert len(read_experience(path)[-1].networks) == 9
    write_experience(path, [a_run(str(n), 600) for n in range(100)], LARGEST)
    assert 0.9 * LARGEST < path.stat().st_size <= LARGEST
    assert read_experience(path)[-1].run == "99"


def test_runs_that_end_at_once_all_leave_something(tmp_path: Path) -> None:
    path = tmp_path / "experience.jsonl"
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda name: leave(path, a_run(name)), "abc"))
    assert {"a", "b", "c"} <= {run.run for run in read_experience(path)}


def test_what_comes_with_nanonas_can_be_learnt_from() -> None:
    runs = supplied()
    assert {run.space for run in runs} == {"stages"}
    assert {run.task.input_shape for run in runs} == {(1, 8, 8), (3, 32, 32)}


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert experience_file() is None  # as all tests have it
    monkeypatch.setenv("NANONAS_EXPERIENCE", str(tmp_path / "mine"))
    assert experience_file() == tmp_path / "mine"
    monkeypatch.delenv("NANONAS_EXPERIENCE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert experience_file() == tmp_path / "nanonas" / "experience.jsonl"
