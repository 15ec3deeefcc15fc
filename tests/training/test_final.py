"""The winner's training, whole and interrupted.

The oracle is the training that nobody interrupted.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from nanonas.core import Pulse
from nanonas.data.images import DataSpec
from nanonas.errors import RunError
from nanonas.spaces.nano import NanoSpace
from nanonas.training import crew, final
from nanonas.training.augment import Augment
from nanonas.training.checkpoint import read_checkpoint, save_checkpoint
from nanonas.training.final import FinalResult, FinalTraining
from nanonas.training.measuring.pace import Pace, Timetable, pace_of
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures, final_pictures, held_out_pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training, accuracy
from nanonas.training.weights import load_weights

NETWORK = NanoSpace((1, 8, 8), 10, channels=4, length=2).decode((0, 1))
RECIPE = Recipe(batch_size=64, lr=0.2, augment=Augment(crop=1))


@pytest.fixture(autouse=True)
def quick_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed and latency are measured for seconds each: here once, and as if it had been a second an
    epoch.
    """
    monkeypatch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(1.0))


def training(
    folder: Path, seed: int = 0, recipe: Recipe = RECIPE, data: str = "digits"
) -> FinalTraining:
    train = final_pictures(DataSpec("digits"), "cpu")
    return FinalTraining(NETWORK, train, held_out, recipe, seed, folder, {"data": data}, threads=1)


def held_out() -> Pictures:
    return held_out_pictures(DataSpec("digits"), "cpu")


def epochs_of(task: FinalTraining, epochs: int) -> list[int]:
    """The epochs that a run goes through: all of them where no checkpoint is continued."""
    seen: list[int] = []
    task.run(epochs, on_epoch=lambda done, of, loss: seen.append(done))
    return seen


def checkpoint_of(task: FinalTraining) -> dict[str, Any]:
    """What a training has kept."""
    checkpoint = read_checkpoint(task.folder, task._identity(), torch.device("cpu"))
    assert checkpoint is not None
    return checkpoint


def stop_after(epoch: int) -> object:
    def on_epoch(done: int, of: int, loss: float) -> None:
        if done == epoch:
            raise KeyboardInterrupt

    return on_epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinalResult]:
    """Three epochs, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
        patch.setattr(crew, "pace_of", lambda training, patience: Pace(1.0))
        return folder, training(folder).run(3)


def test_the_result_says_what_was_trained_and_the_weights_give_the_same_again(
    whole: tuple[Path, FinalResult],
) -> None:
    folder, result = whole
    task = training(folder)
    assert (result.params, result.macs) == (NETWORK.params, NETWORK.macs)
    assert (result.epochs, result.seed, result.device, result.latency_ms) == (3, 0, "cpu", 1.5)
    assert (
        (result.train_images, result.test_images)
        == (len(task.train), len(task.test()))
        == (1438, 359)
    )
    assert result.torch == torch.__version__
    assert result.hardware
    assert result.seconds > 0
    module = build_module(NETWORK)
    load_weights(module, folder / "model.safetensors")
    assert accuracy(module, task.test()) == result.test_accuracy > 0.3
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.safetensors",
        "model.safetensors",
        "pictures.npz",
        "predictions.npz",
        "result.json",
    ]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_interrupted_and_begun_again_it_ends_as_if_it_had_not_been(
    whole: tuple[Path, FinalResult], tmp_path: Path, epoch: int
) -> None:
    folder, uninterrupted = whole
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path).run(3, on_epoch=stop_after(epoch))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    seen: list[int] = []
    result = training(tmp_path).run(3, on_epoch=lambda done, of, loss: seen.append(done))
    assert seen == list(range(epoch + 1, 4))
    assert replace(result, seconds=0.0) == replace(uninterrupted, seconds=0.0)
    ours, theirs = (
        load_file(tmp_path / "model.safetensors"),
        load_file(folder / "model.safetensors"),
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_finished_training_is_only_read(
    whole: tuple[Path, FinalResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, result = whole
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(
        final, "examine", lambda *arguments: pytest.fail("the test set was opened once more")
    )
    assert training(folder).run(3) == result
    assert training(folder).run(deadline=time.monotonic() + 100) == result
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"recipe": replace(RECIPE, lr=0.1)}, {"data": "other images"}],
    ids=["seed", "recipe", "data"],
)
def test_the_checkpoint_of_another_training_is_not_continued(
    whole: tuple[Path, FinalResult], tmp_path: Path, other: dict[str, object]
) -> None:
    folder, _ = whole
    content = (folder / "checkpoint.safetensors").read_bytes()
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    assert epochs_of(training(tmp_path, **other), 3) == [1, 2, 3]  # type: ignore[arg-type]
    assert (
        tmp_path / "earlier-1" / "checkpoint.safetensors"
    ).read_bytes() == content  # nothing that was stored is lost


def test_another_number_of_epochs_is_another_training(
    whole: tuple[Path, FinalResult], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path / "final")
    before = {path.name: path.read_bytes() for path in (tmp_path / "final").iterdir()}
    assert epochs_of(training(tmp_path / "final"), 2) == [1, 2]
    aside = tmp_path / "final" / "earlier-1"
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    assert epochs_of(training(tmp_path / "final"), 3) == [1, 2, 3]
    assert (tmp_path / "final" / "earlier-2" / "model.safetensors").exists()


def test_a_training_that_its_deadline_shortened_is_known_again(tmp_path: Path) -> None:
    past = time.monotonic() - 1
    assert training(tmp_path).run(3, past).epochs == 1
    assert epochs_of(training(tmp_path), 3) == []
    assert not (tmp_path / "earlier-1").exists()


def test_a_finished_training_can_be_done_again(
    whole: tuple[Path, FinalResult], tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path / "final")
    assert replace(training(tmp_path / "final").run(3, again=True), seconds=0) == replace(
        whole[1], seconds=0
    )
    assert (tmp_path / "final" / "earlier-1" / "result.json").exists()


def test_the_test_set_is_opened_after_the_last_epoch(tmp_path: Path) -> None:
    happened: list[str] = []

    def opened() -> Pictures:
        happened.append("test")
        return held_out()

    task = replace(training(tmp_path), test=opened)
    task.run(2, on_epoch=lambda done, of, loss: happened.append(f"epoch {done}"))
    assert happened == ["epoch 1", "epoch 2", "test"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_not_continued(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    assert epochs_of(training(tmp_path), 1) == [1]


def test_a_checkpoint_cut_off_anywhere_is_not_continued(
    whole: tuple[Path, FinalResult], tmp_path: Path
) -> None:
    content = (whole[0] / "checkpoint.safetensors").read_bytes()
    for share in (0.01, 0.5, 0.99):
        (tmp_path / "checkpoint.safetensors").write_bytes(content[: int(share * len(content))])
        assert epochs_of(training(tmp_path), 1) == [1]


@pytest.mark.parametrize("left", [-5.0, 0.0, 6.0])
def test_the_deadline_chooses_the_epochs_and_part_of_one_where_one_is_too_much(
    tmp_path: Path, left: float
) -> None:
    task = training(tmp_path)
    result = task.run(deadline=time.monotonic() + left)
    assert result.epochs == 0.02 if left <= 0 else result.epochs >= 1
    assert result == FinalResult(**asdict(result))
    assert task.run(deadline=time.monotonic() + left) == result  # finished: it is only read


def test_when_time_runs_out_the_cycle_is_shortened_and_still_ends_at_its_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a promise that nothing will keep
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(1e-4))
    planned: list[int] = []
    result = training(tmp_path).run(
        deadline=time.monotonic() + 4.0, on_epoch=lambda done, of, loss: planned.append(of)
    )
    assert len(planned) == planned[-1] == math.ceil(result.epochs)
    assert 1 <= planned[-1] < 2000  # of the 10 thousand that were promised


def test_when_there_is_more_time_than_was_expected_the_cycle_is_lengthened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when other work made the machine slow while its speed was measured."""
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(1.5))
    planned: list[int] = []
    result = training(tmp_path).run(
        deadline=time.monotonic() + 6.0, on_epoch=lambda done, of, loss: planned.append(of)
    )
    assert len(planned) == planned[-1] == math.ceil(result.epochs) > 2
    asked = training(tmp_path / "asked").run(2, deadline=time.monotonic() + 6.0)
    assert asked.epochs == 2  # a number that was asked for stays


@pytest.mark.parametrize(("begun_with", "epochs"), [(3.0, 2.5), (1.0, 0.95 * 2.5)])
def test_of_few_epochs_the_last_is_as_much_of_one_as_there_is_time_for(
    begun_with: float, epochs: float, tmp_path: Path
) -> None:
    """Two whole ones would leave a fifth of the time."""
    task, table = training(tmp_path), Timetable(Pace(10.0))
    made = Training(build_module(NETWORK, 0), task.train, RECIPE, begun_with, 0)
    test = 2.0 + 1.0  # seconds that are kept for it
    task._replan(made, table, time.monotonic() + test + 25.0, fills=True)
    assert made.epochs == pytest.approx(epochs, abs=0.02)


@given(
    small=st.floats(0.1, 10),
    whole=st.floats(0.1, 10),
    share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    load=st.floats(0.2, 5),
    done=st.integers(0, 40),
    seconds=st.floats(1, 1000),
)
def test_a_timetable_fills_the_time(
    small: float, whole: float, share: float, load: float, done: int, seconds: float
) -> None:
    """On a machine that is by `load` slower than it was when it was measured."""
    table = Timetable(Pace(whole, small, share))
    for _ in range(done):
        table.note(share > 0, load * (small if share else whole))
    epochs = table.epochs(done, seconds)
    factor = load if done else 1.0
    on_small = max(0.0, share * epochs - done)
    took = factor * (small * on_small + whole * (epochs - done - on_small))
    assert took == pytest.approx(seconds)


def test_a_timetable_without_a_measurement_waits_for_an_epoch_on_whole_images() -> None:
    table = Timetable(None)
    table.note(True, 1.0)
    assert table.epochs(1, 10.0) == math.inf
    table.note(False, 2.0)
    assert table.epochs(2, 10.0) == 7.0


@pytest.mark.parametrize("faster", [True, False])
def test_cores_that_were_not_worth_their_while_are_tried_again(
    faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads wait for each other on busy cores, so one is chosen; then the other work ends."""
    threads: list[int] = []
    measured: list[int] = []

    def paces(made: Training, patience: float) -> Pace:
        measured.append(threads[-1])
        quick = faster and len(measured) > 2
        return Pace((0.1 if quick else 50.0) if threads[-1] == 2 else 1.0)

    monkeypatch.setattr(crew, "cores", lambda: 2)
    monkeypatch.setattr(crew, "prepare", threads.append)
    monkeypatch.setattr(final, "prepare", threads.append)
    monkeypatch.setattr(crew, "pace_of", paces)
    monkeypatch.setattr(final, "ONCE_MORE", (0.0, 1e9))
    monkeypatch.setattr(final, "WORTH_A_TEAM", 0.0)
    task = replace(training(tmp_path), threads=None)
    result = task.run(deadline=time.monotonic() + 5.0)
    assert sorted(measured) == [1, 1, 2, 2]
    assert result.threads == (2 if faster else 1)
    assert checkpoint_of(task)["threads"] == result.threads


def test_more_threads_are_taken_where_they_are_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    speeds = {1: 2.0, 8: 0.5}
    monkeypatch.setattr(crew, "cores", lambda: 8)
    monkeypatch.setattr(crew, "prepare", threads.append)
    monkeypatch.setattr(final, "prepare", threads.append)
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(speeds[threads[-1]]))
    replace(training(tmp_path), threads=None).run(1)
    assert sorted(threads[:2]) == [1, 8]
    assert set(threads[2:]) == {8}


def test_measuring_the_speed_leaves_the_training_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    task = training(tmp_path)
    made = Training(build_module(NETWORK, 0), task.train, RECIPE, 3, 0)
    before = {name: tensor.clone() for name, tensor in made.module.state_dict().items()}
    assert pace_of(made, 0.05).whole > 0
    assert made.epoch == 0
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in made.module.state_dict().items()
    )


def test_steps_that_take_forever_are_measured_once(tmp_path: Path) -> None:
    """As on a busy machine, where threads wait for each other: the deadline does not wait."""
    task = training(tmp_path)
    made = Training(build_module(NETWORK, 0), task.train, RECIPE, 3, 0)
    ticks: list[float] = []

    def clock() -> float:
        ticks.append(10.0 * len(ticks))
        return ticks[-1]

    assert pace_of(made, 0.5, clock).whole == 10.0 * made.steps
    assert len(ticks) == 2


def test_a_training_that_diverges_is_one_sentence(tmp_path: Path) -> None:
    recipe = replace(RECIPE, lr=1e20, warmup=0.0, clip_norm=0.0)
    with pytest.raises(RunError) as error:
        training(tmp_path, recipe=recipe).run(2)
    assert str(error.value).startswith("final training diverged: the loss is ")
    assert str(error.value).endswith(
        " after epoch 1 with lr 1.11111e+19; train again with a lower --lr"
    )


def test_a_training_that_diverges_is_begun_again_with_a_third_of_the_learning_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_epoch = Training.run_epoch

    def diverging(self: Training, pulse: Pulse) -> float | None:
        loss = run_epoch(self, pulse)
        return float("nan") if self.recipe.lr > 0.5 * RECIPE.lr else loss

    monkeypatch.setattr(Training, "run_epoch", diverging)
    assert training(tmp_path).run(1).lr == RECIPE.lr / 3


def test_a_recipe_with_all_switches_goes_on_after_a_crash_to_the_same_end(tmp_path: Path) -> None:
    """Muon's momentum, the average, flips and small images among what a checkpoint holds."""
    recipe = replace(
        RECIPE,
        optimizer="muon",
        schedule="linear",
        average=0.9,
        bias_lr=2.0,
        alternate_flip=True,
        whiten=True,
        dirac=True,
        augment=Augment(crop=1, flip=True),
    )
    task = training(tmp_path / "whole", recipe=recipe)
    result = task.run(3)
    cut = training(tmp_path / "cut", recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        cut.run(3, on_epoch=stop_after(2))  # type: ignore[arg-type]
    assert epochs_of(cut, 3) == [3]
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    module = build_module(NETWORK)
    load_weights(module, tmp_path / "whole" / "model.safetensors")
    assert accuracy(module, held_out()) == result.test_accuracy


def test_a_checkpoint_of_before_there_were_other_recipes_is_continued(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path).run(2, on_epoch=stop_after(1))  # type: ignore[arg-type]
    checkpoint = checkpoint_of(training(tmp_path))
    checkpoint["identity"]["recipe"] = (
        "Recipe(batch_size=64, lr=0.2, warmup=0.2, momentum=0.9, weight_decay=0.0005, "
        "label_smoothing=0.1, clip_norm=2.0, augment=Augment(crop=1, flip=False, cutout=0, "
        "fill=(128,)), precision='float32', deterministic=False)"
    )
    save_checkpoint(tmp_path, checkpoint)
    assert epochs_of(training(tmp_path), 2) == [2]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        RunError, match=r"the folder '.*file' cannot be used: .*; choose another one"
    ):
        training(tmp_path / "file").run(1)
