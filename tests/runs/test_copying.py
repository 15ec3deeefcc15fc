"""A copy of a run opens, resumes and reports; the oracle is the run that nobody copied."""

from __future__ import annotations

import shutil
import sqlite3
import tarfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from toys.engine import by_number
from toys.serving import Run, begun
from toys.storage import PAGE

from nanonas import cli
from nanonas.core import Candidate, Evaluation, Pulse
from nanonas.engine.requests import PLANT, Request, RequestFiles
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.runs.copying import backup
from nanonas.runs.folder import RunFolder, find
from nanonas.runs.reading import read_record

TOTAL = 20


@dataclass
class Copied(Run):
    """A search that is copied while it trains a candidate."""

    at: int = 7
    to: Path = Path()

    def _measure(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        (self.path / "weights").mkdir(exist_ok=True)
        (self.path / "weights" / f"{candidate.number}.safetensors").write_bytes(b"weights")
        if candidate.number == self.at:
            RequestFiles(self.folder.requests).put(Request(PLANT, genome=(1, 2, 3)))
            backup(self.folder, self.to)
        return super()._measure(candidate, pulse)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that is over. Nobody may change it."""
    return begun(tmp_path_factory.mktemp("outputs") / "run", TOTAL).folder


@pytest.fixture
def run(kept: RunFolder, tmp_path: Path) -> RunFolder:
    copy = RunFolder(Path(shutil.copytree(kept.path, tmp_path / "outputs" / "run")))
    copy.weights.mkdir()
    (copy.weights / "3.safetensors").write_bytes(b"weights")
    return copy


def test_a_copy_of_a_search_that_goes_on_resumes_to_the_same_end(tmp_path: Path) -> None:
    original = Copied(tmp_path / "outputs" / "run", to=tmp_path / "copies" / "copy")
    original.go(TOTAL)
    copy = Run(tmp_path / "copies" / "copy")
    with RunStore.read(copy.folder.store) as store:
        assert len(store.candidates()) == 8
        assert len(store.evaluations()) == 7
    assert len(list(copy.folder.requests.iterdir())) == 1  # nobody has heard of it yet
    assert len(read_record(copy.folder).entries) == 8
    copy.go(TOTAL)
    assert by_number(copy.folder.store) == by_number(original.folder.store)


def test_a_copy_is_whole_and_writes_ahead(run: RunFolder, tmp_path: Path) -> None:
    made = backup(run, tmp_path / "copies" / "copy")
    assert (made.candidates, made.evaluations) == (TOTAL, TOTAL)
    names = {path.name for path in made.path.iterdir()}
    assert names == {"study.db", "config.yaml", "weights"}
    assert [path.name for path in made.path.parent.iterdir()] == ["copy"]
    with closing(sqlite3.connect(made.path / "study.db")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert by_number(made.path / "study.db") == by_number(run.store)


@pytest.mark.parametrize("link", [True, False])
def test_weights_are_shared_or_copied_and_what_is_edited_is_copied(
    run: RunFolder, tmp_path: Path, link: bool
) -> None:
    copy = RunFolder(backup(run, tmp_path / "copy", link=link).path)
    name = "3.safetensors"
    assert (copy.weights / name).samefile(run.weights / name) == link
    assert (copy.weights / name).read_bytes() == b"weights"
    assert not copy.config.samefile(run.config)


@pytest.mark.parametrize("name", ["copy.tar", "copy.tar.gz", "copy.tgz"])
def test_an_archive_holds_a_run(run: RunFolder, tmp_path: Path, name: str) -> None:
    made = backup(run, run.path.parent / name)
    with tarfile.open(made.path) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert by_number(find(tmp_path / "unpacked").store) == by_number(run.store)
    assert find(run.path.parent) == run


def test_copies_lie_beside_the_runs_where_none_is_taken_for_the_newest(run: RunFolder) -> None:
    made = backup(run)
    assert made.path.parent == run.path.parent / "backups"
    assert made.path.name.startswith("run_")
    assert find(run.path.parent) == run
    assert find(made.path.parent).path == made.path
    run.path.parent.with_name("disk").mkdir()
    assert backup(run, run.path.parent.with_name("disk")).path.name.startswith("run_")


def test_the_stores_of_comparisons_are_copied_as_stores(run: RunFolder, tmp_path: Path) -> None:
    inner = run.path / "compare" / "equal-time" / "random"
    with RunStore.begin(inner / "study.db", {"search": {}}) as store:
        store.event("started")  # in the log only
        copy = backup(run, tmp_path / "copy").path / inner.relative_to(run.path)
    assert {path.name for path in copy.iterdir()} == {"study.db"}
    with RunStore.read(copy / "study.db") as store:
        assert [event.kind for event in store.events()] == ["started"]


def left(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("outputs/copy", "lies among the runs of "),
        ("outputs/run/copies/copy", "lies in the run itself"),
        ("there", "is there already: choose another name with --to"),
        ("there/copy", "cannot be written: "),
    ],
)
def test_where_a_copy_cannot_be(run: RunFolder, tmp_path: Path, to: str, said: str) -> None:
    (tmp_path / "there").touch()
    before = left(tmp_path)
    with pytest.raises(RunError, match=said):
        backup(run, tmp_path / to)
    assert left(tmp_path) == before


def test_a_damaged_run_has_no_copy(run: RunFolder, tmp_path: Path) -> None:
    content = run.store.read_bytes()
    run.store.write_bytes(content[: 4 * PAGE] + bytes(len(content) - 4 * PAGE))
    with pytest.raises(RunError, match=r"is damaged .*nanonas rescue"):
        backup(run, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".*"))


def test_the_command_says_what_was_copied(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    assert cli.main(["backup", str(run.path), "--to", str(copy)]) == 0
    assert capsys.readouterr().out == (
        f"{copy}: 20 candidates, 20 evaluations\n`nanonas resume {copy}` goes on from it\n"
    )
