"""A run beside what its configuration and its seed come to: `nanonas replay`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toys.session import InProcess
from toys.storage import by_hand

from nanonas import cli
from nanonas.config.files import configure
from nanonas.core import Told
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.files import weights_in
from nanonas.runs.checking import expected_weights
from nanonas.runs.folder import RunFolder
from nanonas.session import session as session_module
from nanonas.session.replay import Replay
from nanonas.session.start import begin

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")
FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A search with inheritance of six candidates, and its winner. Nobody may change it."""
    config = configure(
        data="digits",
        train_images=40,
        space="nano",
        channels=2,
        length=3,
        population=3,
        strategy="aging",
        inherit=True,
        epochs=2,
        precision="float32",
        evaluations=6,
        finalists=0,
        final_epochs=1,
        workers=1,
        device="cpu",
        out=tmp_path_factory.mktemp("outputs"),
        name="run",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "WorkerPool", InProcess)
        yield begin(config).folder


@pytest.fixture
def run(kept: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(kept.path, tmp_path / "run")))


def told(run: RunFolder) -> list[Told]:
    with RunStore.read(run.store) as store:
        return store.told()


def content(run: RunFolder) -> dict[str, bytes]:
    files = [path for path in run.path.rglob("*") if path.is_file()]
    passing = ("-shm", "-wal")
    return {str(path): path.read_bytes() for path in files if not path.name.endswith(passing)}


def test_a_run_is_what_it_comes_to_and_stays_as_it_is(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(run)
    assert cli.main(["replay", str(run.path), "--check", "--train", "6"]) == 0
    said = capsys.readouterr().out
    assert "candidates, derived again: all 6 as asked for\n" in said
    assert "files: all as the store says\n" in said
    assert "epoch by epoch as it is stored\n" in said
    assert said.endswith("nothing differs\n")
    assert content(run) == before


def test_networks_with_inherited_weights_are_trained_again_to_the_same_curve(
    run: RunFolder,
) -> None:
    repeats = list(Replay(run).trainings(6))
    assert any(repeat.told.candidate.proposal.inherits for repeat in repeats)
    assert [repeat.told.number for repeat in repeats[:1]] == [ranking(told(run))[0].number]
    for repeat in repeats:
        assert repeat.comparable
        assert repeat.equal
        assert repeat.again.curve == repeat.told.evaluation.curve


def test_an_accuracy_that_was_changed_is_found_by_training_again(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    last = told(run)[-1].evaluation
    with by_hand(run.store) as db:
        metrics = json.dumps({**last.metrics, "accuracy": 0.99})
        query = "UPDATE evaluation SET metrics = ? WHERE number = ?"
        db.execute(query, [metrics, last.number])
    assert cli.main(["replay", str(run.path)]) == 1
    said = capsys.readouterr().out
    assert f"candidate #{last.number}: 99.00 %, but now " in said
    assert "on the same kind of machine\n" in said
    assert cli.main(["replay", str(run.path), "--no-check"]) == 0


def test_a_row_that_was_damaged_is_said_before_anything_else(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with by_hand(run.store, checksums=True) as db:
        db.execute("UPDATE evaluation SET seconds = seconds + 1 WHERE number = 2")
    for verb in ("show", "report", "replay"):
        assert cli.main([verb, str(run.path)]) == 2
        said = capsys.readouterr()
        assert "study.db is damaged (the row evaluation 3 is not what was written)" in said.err
        assert "`nanonas rescue " in said.err
        assert not said.out


def test_on_another_kind_of_machine_other_numbers_are_no_difference(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    with by_hand(run.store) as db:
        db.execute(
            "UPDATE event SET details = '{\"hardware\": \"3 cores of Z80\"}' WHERE kind = 'machine'"
        )
        db.execute("UPDATE evaluation SET curve = '[[1.0, 0.5]]'")
    assert cli.main(["replay", str(run.path)]) == 0
    assert "so that equal numbers are not to be expected\n" in capsys.readouterr().out


def missing(run: RunFolder) -> None:
    (run.weights / "2.safetensors").unlink()


def cut_off(run: RunFolder) -> None:
    path = run.weights / "2.safetensors"
    path.write_bytes(path.read_bytes()[:-5])


def swapped(run: RunFolder) -> None:
    shutil.copy(run.weights / "0.safetensors", run.weights / "2.safetensors")


def unknown(run: RunFolder) -> None:
    shutil.copy(run.weights / "0.safetensors", run.weights / "77.safetensors")


def other_seed(run: RunFolder) -> None:
    run.config.write_text(run.config.read_text().replace("\n  seed: 0", "\n  seed: 1"))


def no_config(run: RunFolder) -> None:
    run.config.write_text("search: [")


def boasting(run: RunFolder) -> None:
    values = json.loads(run.best_genome.read_text())
    values["known"]["accuracy"] = 0.999
    run.best_genome.write_text(json.dumps(values))


def another_best(run: RunFolder) -> None:
    values = json.loads(run.best_genome.read_text())
    values["known"]["candidate"] = 99
    run.best_genome.write_text(json.dumps(values))


def better_test(run: RunFolder) -> None:
    path = run.final / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_accuracy": 1.0}))


def no_model(run: RunFolder) -> None:
    (run.final / "model.safetensors").unlink()


def cut_off_model(run: RunFolder) -> None:
    path = run.final / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def secretly_tested(run: RunFolder) -> None:
    with by_hand(run.store) as db:
        db.execute("DELETE FROM event WHERE kind = 'test set opened'")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (missing, "weights/2.safetensors: is missing"),
        (cut_off, "weights/2.safetensors: cannot be read: "),
        (swapped, "weights/2.safetensors: is of another network than the candidate's"),
        (unknown, "weights/77.safetensors: is of a candidate that the store does not know"),
        (other_seed, "config.yaml: the run was begun with search.seed = 0, not 1"),
        (no_config, "config.yaml: "),
        (boasting, "best_genome.json: says that candidate #"),
        (another_best, "best_genome.json: is of candidate 99, which the store does not know"),
        (better_test, "final/genome.json: has another test accuracy than final/result.json"),
        (no_model, "final/model.safetensors: is missing, though the winner was trained"),
        (cut_off_model, "final/model.safetensors: cannot be read: "),
        (secretly_tested, "final: has a test accuracy, but no event says that the test was"),
    ],
)
def test_a_folder_that_is_not_what_its_store_says(
    run: RunFolder, change: Callable[[RunFolder], None], said: str
) -> None:
    change(run)
    (found,) = Replay(run).files()
    assert str(found).startswith(said)


def test_a_run_without_any_weights_is_no_difference_and_that_is_said(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(run.weights)
    for path in (*run.finalists.glob("*"), *run.final.glob("*")):
        if path.name != "result.json":
            path.unlink()
    assert list(Replay(run).files()) == []
    assert cli.main(["replay", str(run.path), "--check", "--train", "0"]) == 0
    said = capsys.readouterr().out
    assert "final: not compared, for none of the weights are here\nnothing differs\n" in said


def test_images_that_were_moved_are_no_difference(run: RunFolder) -> None:
    run.config.write_text(run.config.read_text().replace("data: digits", "data: /elsewhere"))
    assert list(Replay(run).files()) == []


def test_the_folder_of_a_search_that_goes_on_is_not_compared(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.weights / "2.safetensors").unlink()
    with RunStore.resume(run.store):
        assert cli.main(["replay", str(run.path), "--train", "0"]) == 0
    assert "files: not compared, for the search is going on\n" in capsys.readouterr().out


def test_a_kept_run_with_rungs_and_finalists_is_derived_again(tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(FIXTURES / "halving_run", tmp_path / "halving_run")))
    replay = Replay(folder)
    assert [*replay.candidates(), *replay.files()] == []


def test_weights_that_the_search_needs_are_expected_and_those_that_it_does_not_are_not(
    tmp_path: Path,
) -> None:
    folder = RunFolder(Path(shutil.copytree(FIXTURES / "halving_run", tmp_path / "halving_run")))
    folder.config.write_text(folder.config.read_text().replace("keep_weights: 20", "keep: front"))
    replay = Replay(folder)
    needed, best = replay.needed(), ranking(replay.stored.told)[0].number
    assert needed is not None
    for path in folder.weights.glob("*.safetensors"):
        if int(path.stem) not in {*needed, best}:
            path.unlink()
    there = {int(path.stem) for path in folder.weights.iterdir()}
    assert best in there
    assert len(there) < len(replay.stored.told)
    assert [*replay.files()] == []
    gone = max(there - {best})
    weights_in(folder.weights, gone).unlink()
    assert [str(one) for one in replay.files()] == [f"weights/{gone}.safetensors: is missing"]


def test_weights_of_the_best_few_are_expected_where_only_those_are_kept(run: RunFolder) -> None:
    replay = Replay(run)
    few = configure(keep="top:2")
    best = {one.number for one in ranking(replay.stored.told)[:2]}
    assert expected_weights(few, replay.stored) == best
