"""What a killed or starved session leaves behind, and what is done about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from toys.engine import BUDGET, SPACE, score, study
from toys.ray import ThreadRay, cluster_of
from toys.session import InProcess

from nanonas import cli
from nanonas.config.files import configure
from nanonas.core import Candidate, Evaluation, Proposal, Pulse, State, Told
from nanonas.data import images as images_module
from nanonas.engine.evaluators.attempt import Unkept, attempt
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError, Unwritten
from nanonas.files import sweep, weights_in
from nanonas.runs.folder import RunFolder
from nanonas.session import session as session_module
from nanonas.session import start as start_module
from nanonas.session.mending import Prepared, damaged_weights, mend
from nanonas.session.start import begin
from nanonas.strategies.aging import AgingEvolution
from nanonas.training.weights import read_weights

pytestmark = pytest.mark.usefixtures("one_thread")


# --- files that could not be written --------------------------------------------------------------


class FullDisk:
    """`score`, on a disk on which there is no space for what candidate number `at` keeps."""

    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        if candidate.number == self.at:
            raise Unwritten("'4.safetensors' cannot be written: No space left on device")
        return score(candidate, pulse)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_search_ends_where_weights_cannot_be_written_and_goes_on_with_the_same_candidate(
    tmp_path: Path, workers: int
) -> None:
    measure = FullDisk(4)
    evaluator = WorkerPool([measure]) if workers else SerialEvaluator(measure)
    made = study(tmp_path / "run" / "study.db", AgingEvolution(SPACE, population_size=3), evaluator)
    with pytest.raises(RunError, match=r"^'4\.safetensors' cannot be written: No space left"):
        made.run(8)
    made.store.close()
    with RunStore.read(tmp_path / "run" / "study.db") as store:
        assert sorted(store.latest()) == [0, 1, 2, 3]  # nothing is stored of number 4
        assert len(store.candidates()) == 5


def test_it_is_no_failure_of_the_candidate() -> None:
    result = attempt(FullDisk(0), Candidate(0, Proposal((1, 1, 1, 1), budget=BUDGET), ""), bool)
    assert isinstance(result, Unkept)
    assert (result.state, result.accuracy) == (State.CUT, None)


# --- part files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def test_part_files_of_processes_that_are_gone_are_removed(tmp_path: Path, gone: int) -> None:
    parts = [f".a.json.{gone}.part", f".b.c.{os.getpid()}.part", f".d.{os.getppid()}.part"]
    others = [".e.part", "f.1.part", ".g.x.part", f".h.{gone}.copy.part", "i.json", ".j.lock"]
    for name in (*parts, *others):
        (tmp_path / name).touch()
    sweep(tmp_path, "[!b]*")
    assert names(tmp_path) == {*parts[1:], *others}
    sweep(tmp_path)
    assert names(tmp_path) == {parts[2], *others}
    sweep(tmp_path, all_of_them=True)
    assert names(tmp_path) == set(others)
    sweep(tmp_path / "nowhere")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- weights --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A search with inheritance, of five candidates. Nobody may change it."""
    config = configure(
        data="digits",
        train_images=40,
        space="nano",
        channels=2,
        length=3,
        population=2,
        strategy="aging",
        inherit=True,
        epochs=1,
        precision="float32",
        evaluations=5,
        lag=1,
        finalists=0,
        final_epochs=0,
        workers=1,
        device="cpu",
        out=tmp_path_factory.mktemp("outputs"),
        name="run",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "WorkerPool", InProcess)
        yield begin(config).folder


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [cut_off, emptied])
def test_damaged_weights_are_trained_again_before_others_begin_with_them(
    damage: Callable[[Path], None],
    kept: RunFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)
    run = RunFolder(Path(shutil.copytree(kept.path, tmp_path / "run")))
    before = weights(run)
    assert len(before) == 5
    heirs = [n for n, one in enumerate(candidates(run)) if one.proposal.inherits]
    parent = candidates(run)[heirs[0]].proposal.inherits[0]
    for number in (parent, heirs[0]):  # the latter begins with the former
        damage(run.weights / f"{number}.safetensors")
    left = run.weights / f".{parent}.safetensors.1.part"
    left.touch()
    with RunStore.read(run.store) as store:
        assert [told.number for told in damaged_weights(run, store.told())] == [parent, heirs[0]]
    assert cli.main(["resume", str(run.path)]) == 0
    assert names(run.weights) == before.keys()
    assert weights(run) == before
    assert f"the weights of #{parent} are damaged; it is trained again" in capsys.readouterr().err
    with RunStore.read(run.store) as store:
        assert len(store.evaluations()) == 5


def test_what_damaged_weights_come_of_is_trained_again_where_it_is_gone_and_goes_again(
    kept: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)
    run = RunFolder(Path(shutil.copytree(kept.path, tmp_path / "run")))
    before = weights(run)
    heir = max(n for n, one in enumerate(candidates(run)) if one.proposal.inherits)
    gone = {f"{number}.safetensors" for number in range(heir)}  # all that it may come of
    for name in gone:
        (run.weights / name).unlink()
    cut_off(run.weights / f"{heir}.safetensors")
    assert cli.main(["resume", str(run.path)]) == 0
    assert weights(run) == {name: before[name] for name in before.keys() - gone}


def test_a_search_whose_weights_are_gone_makes_those_again_that_others_begin_with(
    kept: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)
    runs = [RunFolder(Path(shutil.copytree(kept.path, tmp_path / name))) for name in ("a", "b")]
    shutil.rmtree(runs[1].weights)
    for run in runs:
        assert cli.main(["resume", str(run.path), "--evaluations", "8"]) == 0
    assert results(runs[0]) == results(runs[1])
    assert any(one.proposal.inherits for one in candidates(runs[1])[5:])
    there, all_of_them = weights(runs[1]), weights(runs[0])
    assert 3 <= len(there) < len(all_of_them) == 8
    assert there == {name: all_of_them[name] for name in there}


@pytest.mark.timeout(60)
def test_on_a_cluster_those_weights_are_made_again_by_the_places_that_there_are(
    kept: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The processes of the search hold all cores: others would wait for them for ever."""
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)
    monkeypatch.setattr(images_module, "_held", {})
    ray = ThreadRay([(1, 0)])
    monkeypatch.setattr(
        start_module,
        "joined",
        lambda address: nullcontext(None if address is None else cluster_of(ray)),
    )
    runs = [RunFolder(Path(shutil.copytree(kept.path, tmp_path / name))) for name in ("a", "b")]
    shutil.rmtree(runs[1].weights)
    for run, cluster in zip(runs, ("none", "auto"), strict=True):
        asked = ["resume", str(run.path), "--evaluations", "8", "--cluster", cluster]
        assert cli.main(asked) == 0
    assert results(runs[0]) == results(runs[1])
    assert len(ray.actors) == 1
    there, all_of_them = weights(runs[1]), weights(runs[0])
    assert there == {name: all_of_them[name] for name in there}


def test_what_arrives_while_weights_are_made_again_is_not_lost(
    kept: RunFolder, tmp_path: Path
) -> None:
    """Others are at work; limits that are measured are not looked at again."""
    run = RunFolder(Path(shutil.copytree(kept.path, tmp_path / "run")))
    with RunStore.read(run.store) as store:
        told = store.told()
    heir = next(one for one in told if one.candidate.proposal.inherits)
    parent = told[heir.candidate.proposal.inherits[0]]
    weights_in(run.weights, parent.number).unlink()
    asked: list[Candidate] = []

    def measure(candidate: Candidate, pulse: Pulse) -> Evaluation:
        asked.append(candidate)
        return Evaluation(candidate.number, State.COMPLETE, {"accuracy": 0.5})

    evaluator = SerialEvaluator(measure)
    prepared = Prepared(evaluator, lambda candidate: mend([parent], told, run, evaluator))
    evaluator.submit(told[4].candidate)
    prepared.submit(heir.candidate)
    assert asked == [told[4].candidate, replace(parent.candidate, again=True)]
    results = [prepared.result() for _ in range(2)]
    assert [one.number for one in results if one] == [4, heir.number]
    assert prepared.result() is None


def results(run: RunFolder) -> list[Told]:
    """All but how long they took."""
    with RunStore.read(run.store) as store:
        told = store.told()
    return [Told(one.candidate, replace(one.evaluation, seconds=0.0)) for one in told]


def weights(run: RunFolder) -> dict[str, object]:
    """What each file holds; not its bytes, for the order of metadata is by chance."""
    found = {path.name: read_weights(path) for path in run.weights.glob("*.safetensors")}
    return {
        name: (about, {part: tensor.tolist() for part, tensor in tensors.items()})
        for name, (tensors, about) in found.items()
    }


def candidates(run: RunFolder) -> list[Candidate]:
    with RunStore.read(run.store) as store:
        return store.candidates()
