"""A damaged run is saved into a new one, which goes on to where the whole one came to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from toys.engine import by_number
from toys.serving import Run, begun
from toys.storage import PAGE, by_hand

from nanonas import cli
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.runs.reading import read_record
from nanonas.runs.rescuing import condition, rescue

TOTAL = 40


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that is over. Nobody may change it."""
    return begun(tmp_path_factory.mktemp("outputs") / "run", TOTAL).folder


@pytest.fixture
def run(kept: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(kept.path, tmp_path / "run")))


def lose(run: RunFolder, candidate: int) -> None:
    """Overwrites the page that a candidate lies on, and the beginning of the file."""
    with RunStore.read(run.store) as store:
        genome = str(list(store.candidates()[candidate].proposal.genome)).encode()
    content = bytearray(run.store.read_bytes())
    start = content.index(genome) // PAGE * PAGE
    content[start : start + PAGE] = b"\xa5" * PAGE
    content[:100] = bytes(100)
    run.store.write_bytes(content)


def content(run: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}


def test_what_is_saved_goes_on_to_the_same_end(
    run: RunFolder, kept: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lose(run, 25)
    before = content(run)
    assert cli.main(["rescue", str(run.path), "--check"]) == 1
    looked = capsys.readouterr().out
    assert looked.startswith(f"{run.path}: the store is damaged\n  file is not a database\n")
    assert f"`nanonas rescue {run.path} --to NEW_FOLDER` saves " in looked
    assert cli.main(["rescue", str(run.path), "--to", str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    new = RunFolder(tmp_path / "new")
    assert {path.name for path in new.path.iterdir()} == {"study.db", "config.yaml"}
    entries = read_record(new).entries
    assert 0 < len(entries) <= 25
    assert said.startswith(f"{new.path}: {len(entries)} candidates, ")
    assert f"candidate #{len(entries)} is lost, and " in said
    assert "asks for what is lost again, and for " in said
    assert content(run) == before
    assert by_number(new.store)[: len(entries)] == by_number(kept.store)[: len(entries)]
    Run(new.path).go(TOTAL)
    assert by_number(new.store) == by_number(kept.store)


def test_a_whole_store_is_whole(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rescue", str(run.path), "--check"]) == 0
    assert capsys.readouterr().out == (
        f"{run.path}: the store is whole; 40 candidates, 40 evaluations and 3 events\n"
    )


def test_the_configuration_is_taken_from_where_it_still_is(
    run: RunFolder, kept: RunFolder, tmp_path: Path
) -> None:
    run.config.write_text("search: [", encoding="utf-8")
    first, _ = rescue(run, tmp_path / "first")
    assert first.config.read_bytes() == kept.config.read_bytes()
    shutil.copy(kept.config, run.config)
    with by_hand(run.store) as db:
        db.execute("UPDATE run SET config = 'gone'")
    second, state = rescue(run, tmp_path / "second")
    assert "the configuration is lost, and is taken from config.yaml" in list(state.lost())
    Run(second.path).go(TOTAL)
    assert by_number(second.store) == by_number(kept.store)
    run.config.unlink()
    with pytest.raises(RunError, match="put the run's configuration there"):
        rescue(run, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_the_best_is_one_of_those_that_are_left(run: RunFolder, tmp_path: Path) -> None:
    with RunStore.read(run.store) as store:
        candidates = store.candidates()
    names = tuple(map(str, range(10)))
    for number, path in ((39, run.best_genome), (39, run.front / "39.json")):
        path.parent.mkdir(exist_ok=True)
        genome = candidates[number].proposal.genome
        GenomeFile("nano", genome, (1, 8, 8), names, known={"candidate": number}).write(path)
    values = json.loads(run.best_genome.read_text())
    run.best_genome.write_text(json.dumps(values | {"options": {"channels": 128, "length": 6}}))
    lose(run, 20)
    new, _ = rescue(run, tmp_path / "new")
    winner = read_record(new).winner
    assert winner is not None
    file = read_genome(new.best_genome)
    assert (file.known["candidate"], file.genome) == (winner.number, winner.genome)
    assert list(new.front.iterdir()) == []


def test_what_cannot_be_rescued(run: RunFolder, tmp_path: Path) -> None:
    with RunStore.resume(run.store), pytest.raises(RunError, match="is going on: stop it first"):
        condition(run)
    with pytest.raises(RunError, match="is there already: name a new folder with --to"):
        rescue(run, run.path)
    with pytest.raises(RunError, match="lies in the run itself: name another folder with --to"):
        rescue(run, run.path / "new")
    run.store.write_bytes(b"nothing" * 1000)
    with pytest.raises(RunError, match="nothing of a run can be read in "):
        rescue(run, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("flags", [[], ["--check", "--to", "new"]])
def test_one_of_two_flags_is_given(
    run: RunFolder, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["rescue", str(run.path), *flags]) == 2
    assert "rescue takes --to NEW_FOLDER to save a run" in capsys.readouterr().err
