"""One candidate under the budgets of others: inherited weights, resumed trainings, less data, too
little memory.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nanonas.core import (
    DEVICE_LOST,
    Budget,
    Candidate,
    Evaluation,
    Genome,
    Proposal,
    Pulse,
    State,
    training_seed,
)
from nanonas.data.images import DataSpec
from nanonas.engine.evaluators.attempt import attempt
from nanonas.errors import DeviceError, DeviceLost
from nanonas.networks.limits import Limits
from nanonas.spaces.nano import NanoSpace
from nanonas.training import trial as trials
from nanonas.training.augment import Augment
from nanonas.training.inheritance.inherit import inherit as inheriting
from nanonas.training.inheritance.parents import Parent
from nanonas.training.measuring import costs
from nanonas.training.measuring.agent import Agent, Device, Measured, TimeUp
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures, pictures
from nanonas.training.pretrained import Pretrained, classifier_of
from nanonas.training.recipe import Recipe, recipe_at
from nanonas.training.train import Training, accuracy
from nanonas.training.trial import WARM_LR, Trial
from nanonas.training.weights import load_weights, read_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = NanoSpace((1, 16, 16), 10, channels=4, length=4)
DIGITS = DataSpec("digits", 16, train_images=200, seed=3)
RECIPE = Recipe(batch_size=50, augment=Augment(crop=2))
PARENT: Genome = (0, 3, 4, 0)
CHILD: Genome = (0, 3, 2, 0)


def go_on() -> bool:
    return True


def trial(weights: Path | None = None, **options: object) -> Trial:
    return Trial(SPACE, DIGITS, RECIPE, seed=0, weights=weights, **options)  # type: ignore[arg-type]


def candidate(
    number: int,
    genome: Genome,
    budget: Budget,
    inherits: tuple[int, ...] = (),
    resumes: int | None = None,
) -> Candidate:
    parents = inherits if resumes is None else (resumes,)
    return Candidate(number, Proposal(genome, parents, budget, None, resumes, inherits), "key")


def trained(
    folder: Path, number: int, genome: Genome = PARENT, budget: Budget | None = None
) -> Evaluation:
    """An earlier candidate, whose weights are in the folder afterwards."""
    evaluation = trial(folder)(candidate(number, genome, budget or Budget(2)), go_on)
    assert evaluation.state is State.COMPLETE
    return evaluation


def first_step(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Training, dict[str, Tensor]]]:
    """Each training that begins from here on, with the tensors that it begins with."""
    begun: list[tuple[Training, dict[str, Tensor]]] = []
    plain = Training.run_epoch

    def run_epoch(self: Training, pulse: Callable[[], bool]) -> float | None:
        if self.epoch == 0:
            begun.append(
                (self, {name: tensor.clone() for name, tensor in self.module.state_dict().items()})
            )
        return plain(self, pulse)

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    return begun


# --- inherited weights ----------------------------------------------------------------------------


def test_a_child_begins_with_what_its_parent_has_and_says_how_much_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, 3)
    begun = first_step(monkeypatch)
    evaluation = trial(tmp_path)(candidate(5, CHILD, Budget(1), inherits=(3,)), go_on)
    assert (evaluation.state, evaluation.reason) == (State.COMPLETE, None)
    [(training, tensors)] = begun
    parents, _ = read_weights(tmp_path / "3.safetensors")
    assert torch.equal(last(tensors), last(parents))
    assert (
        0.5 < evaluation.metrics["inherited_share"] < 1
    )  # all but a separable convolution, where a pool was
    assert 0 < evaluation.metrics["inherited_tensors"] < len(tensors)
    assert training.recipe.lr == WARM_LR * RECIPE.lr
    again = trial(tmp_path)(candidate(5, CHILD, Budget(1), inherits=(3,)), go_on)
    assert (again.metrics, again.curve) == (evaluation.metrics, evaluation.curve)
    assert trial()(candidate(5, CHILD, Budget(1)), go_on).curve != evaluation.curve


def test_a_child_that_inherits_has_half_of_all_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, 3)
    begun = first_step(monkeypatch)
    recipe = replace(RECIPE, optimizer="muon")
    child = replace(trial(tmp_path), recipe=recipe)
    child(candidate(5, CHILD, Budget(1), inherits=(3,)), go_on)
    [(training, _)] = begun
    assert training.recipe.lr == WARM_LR * RECIPE.lr
    assert training.recipe.muon_lr == WARM_LR * RECIPE.muon_lr


def test_what_is_kept_of_an_averaged_training_is_what_was_judged(tmp_path: Path) -> None:
    averaged = replace(trial(tmp_path), recipe=replace(RECIPE, average=0.9, optimizer="muon"))
    evaluation = averaged(candidate(5, CHILD, Budget(2)), go_on)
    module = build_module(SPACE.decode(CHILD))
    load_weights(module, tmp_path / "5.safetensors")
    _, valid = pictures(DIGITS, "cpu")
    assert accuracy(module, valid) == evaluation.accuracy
    averages, _ = read_weights(tmp_path / "5.safetensors")
    replace(averaged, recipe=replace(RECIPE, optimizer="muon"))(
        candidate(5, CHILD, Budget(2)), go_on
    )
    plain, _ = read_weights(tmp_path / "5.safetensors")  # of the same seed
    assert not torch.equal(last(averages), last(plain))


def last(tensors: dict[str, Tensor]) -> Tensor:
    """The classifier's weight: the only one with two dimensions."""
    [found] = [tensor for tensor in tensors.values() if tensor.ndim == 2]
    return found


def test_the_same_network_begins_with_all_of_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, 3)
    begun = first_step(monkeypatch)
    evaluation = trial(tmp_path)(candidate(5, PARENT, Budget(1), inherits=(3,)), go_on)
    parents, _ = read_weights(tmp_path / "3.safetensors")
    assert begun[0][1].keys() == parents.keys()
    assert all(torch.equal(tensor, parents[name]) for name, tensor in begun[0][1].items())
    assert evaluation.metrics["inherited_share"] == 1.0
    assert evaluation.metrics["inherited_tensors"] == len(parents)


def test_all_begin_with_a_pretrained_network_and_parents_come_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its body learns at its own rate, also where a parent of the same search had it before."""
    network = SPACE.decode(PARENT)
    module = build_module(network, seed=7)
    its, head = module.state_dict(), classifier_of(network)
    begins_with = Pretrained(Parent(network, its), "things", same_classes=False)
    own = replace(trial(tmp_path), pretrained=begins_with, recipe=replace(RECIPE, body_lr=0.25))
    begun = first_step(monkeypatch)
    evaluation = own(candidate(3, PARENT, Budget(1)), go_on)
    tensors = begun[0][1]
    for name, tensor in tensors.items():
        assert torch.equal(tensor, its[name]) != (name.split(".")[0] == head), name
    new = sum(tensor.numel() for tensor in module.get_submodule(head).parameters())
    assert evaluation.metrics["ancestor_share"] == pytest.approx(1 - new / network.params)

    sent = pickle.loads(pickle.dumps(own))  # as workers get it
    heir = sent(candidate(5, PARENT, Budget(1), inherits=(3,)), go_on)
    parents, _ = read_weights(tmp_path / "3.safetensors")
    assert all(torch.equal(begun[1][1][name], tensor) for name, tensor in parents.items())
    assert heir.metrics["inherited_share"] == 1.0
    for training, _ in begun:
        slow, fast = sorted({group["lr"] for group in training.optimizer.param_groups})
        assert slow == pytest.approx(0.25 * fast)


def damaged(folder: Path) -> str:
    path = folder / "3.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    return "cannot be read"


def nobodys(folder: Path) -> str:
    save_weights(build_module(SPACE.decode(PARENT)), folder / "3.safetensors")
    return "do not say whose they are"


def anothers(folder: Path) -> str:
    about = {"genome": json.dumps(PARENT), "image_size": ""}
    save_weights(build_module(SPACE.decode(CHILD)), folder / "3.safetensors", about)
    return "where its network has the shape"


def missing(folder: Path) -> str:
    (folder / "3.safetensors").unlink()
    return "cannot be read"


@pytest.mark.parametrize("spoil", [missing, damaged, nobodys, anothers])
@pytest.mark.parametrize("resumed", [False, True])
def test_without_its_parents_weights_it_is_trained_from_scratch_and_says_why(
    tmp_path: Path, spoil: Callable[[Path], str], resumed: bool
) -> None:
    trained(tmp_path, 3)
    said = spoil(tmp_path)
    budget = Budget(3, begin=2)
    wanted = (
        candidate(5, PARENT, budget, resumes=3)
        if resumed
        else candidate(5, PARENT, Budget(3), inherits=(3,))
    )
    evaluation = trial(tmp_path)(wanted, go_on)
    scratch = trial()(candidate(5, PARENT, Budget(3)), go_on)
    assert (evaluation.state, evaluation.curve) == (
        State.COMPLETE,
        scratch.curve,
    )  # all three epochs
    assert evaluation.reason is not None
    assert evaluation.reason.startswith("begun from scratch, for ")
    assert said in evaluation.reason
    assert "\n" not in evaluation.reason
    assert not any(name.startswith("inherited") for name in evaluation.metrics)


def test_without_a_folder_nothing_is_inherited() -> None:
    evaluation = trial()(candidate(5, PARENT, Budget(1), inherits=(3,)), go_on)
    assert evaluation.reason == "begun from scratch, for there is no folder with the weights of #3"


# --- trainings that go on -------------------------------------------------------------------------


def test_what_goes_on_trains_for_the_epochs_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, 3, budget=Budget(2))
    before = (tmp_path / "3.safetensors").read_bytes()
    begun = first_step(monkeypatch)
    evaluation = trial(tmp_path)(candidate(5, PARENT, Budget(5, begin=2), resumes=3), go_on)
    [(training, tensors)] = begun
    parents, _ = read_weights(tmp_path / "3.safetensors")
    assert all(torch.equal(tensor, parents[name]) for name, tensor in tensors.items())
    assert (training.epochs, training.recipe.lr) == (3, WARM_LR * RECIPE.lr)
    assert len(evaluation.curve) == 3
    assert evaluation.metrics["inherited_share"] == 1.0
    assert (tmp_path / "3.safetensors").read_bytes() == before  # others may resume it, too
    module = build_module(SPACE.decode(PARENT))
    load_weights(module, tmp_path / "5.safetensors")
    assert accuracy(module, pictures(DIGITS, "cpu")[1]) == evaluation.accuracy


def test_what_goes_on_at_another_size_of_images_keeps_all_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Norms measure anew what is no longer the same; convolutions and the classifier are as they
    were.
    """
    trained(tmp_path, 3, budget=Budget(1, image_size=8))
    begun = first_step(monkeypatch)
    evaluation = trial(tmp_path)(
        candidate(5, PARENT, Budget(2, begin=1, image_size=12), resumes=3), go_on
    )
    parents, about = read_weights(tmp_path / "3.safetensors")
    assert about["image_size"] == "8"
    weights = {name: tensor for name, tensor in begun[0][1].items() if tensor.ndim > 1}
    assert weights
    assert all(torch.equal(tensor, parents[name]) for name, tensor in weights.items())
    assert evaluation.metrics["inherited_share"] == 1.0


def test_a_limit_is_for_those_that_begin_and_not_for_those_that_go_on(tmp_path: Path) -> None:
    limits = Limits(max_memory_mb=1e-6)
    trained(tmp_path, 3)
    over = trial(tmp_path, limits=limits)(candidate(4, PARENT, Budget(2)), go_on)
    assert (over.state, over.curve, over.accuracy) == (State.INFEASIBLE, (), None)
    assert over.reason is not None
    assert "above the limit of 1e-06 MiB (--max-memory-mb)" in over.reason
    assert over.metrics.keys() == {"memory"}
    assert not (tmp_path / "4.safetensors").exists()
    on = trial(tmp_path, limits=limits)(candidate(5, PARENT, Budget(3, begin=2), resumes=3), go_on)
    assert (on.state, on.metrics["memory"]) == (State.COMPLETE, over.metrics["memory"])
    mended = replace(candidate(6, PARENT, Budget(1)), again=True)
    again = trial(tmp_path, limits=limits)(mended, go_on)
    assert (again.state, set(again.metrics)) == (State.COMPLETE, {"accuracy"})


def test_a_measured_latency_leaves_the_training_its_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []
    plain = Training.run_epoch

    def run_epoch(self: Training, pulse: Callable[[], bool]) -> float | None:
        threads.append(torch.get_num_threads())
        return plain(self, pulse)

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    evaluation = trial(threads=2, measured=frozenset({"latency"}))(
        candidate(5, PARENT, Budget(1)), go_on
    )
    torch.set_num_threads(1)
    assert (
        evaluation.metrics["latency_low"]
        <= evaluation.metrics["latency"]
        <= evaluation.metrics["latency_high"]
    )
    assert threads == [2]


# --- latency of another device --------------------------------------------------------------------


class Board(Agent):
    """One that answers with what is planned."""

    def measure(self, graph: bytes, batch: int = 1, seconds: float = 5, go: Pulse = go_on) -> Any:
        if isinstance(PLANNED[0], Exception):
            raise PLANNED[0]
        return PLANNED[0]


PLANNED: list[Any] = []


def on_board(planned: object, monkeypatch: pytest.MonkeyPatch) -> Evaluation:
    """The evaluation of a candidate, of at most 5 ms, whose latency another device measures."""
    monkeypatch.setattr(costs, "onnx_to_measure", lambda module: b"graph")
    PLANNED[:] = [planned]
    asking = trial(limits=Limits(max_latency_ms=5.0), agent=Board("http://board"))
    return attempt(asking, candidate(5, PARENT, Budget(1)), go_on)


def test_the_latency_of_another_device_is_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    took = Measured(4.5, 4.0, 5.0, 6.0, 60, True, None, 1.0, Device("a board", 1, "1.23.2"))
    evaluation = on_board(took, monkeypatch)
    assert evaluation.state is State.COMPLETE
    found = {key: value for key, value in evaluation.metrics.items() if "latency" in key}
    assert found == {"latency": 4.5, "latency_low": 4.0, "latency_high": 5.0}
    slow = on_board(replace(took, median=5.5), monkeypatch)
    assert (slow.state, slow.curve) == (State.INFEASIBLE, ())


def test_a_device_that_is_lost_says_nothing_of_a_candidate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = on_board(DeviceLost("it is away"), monkeypatch)
    assert (lost.state, lost.reason, lost.metrics) == (State.CUT, "it is away", {DEVICE_LOST: 1.0})
    late = on_board(TimeUp("the time was up"), monkeypatch)
    assert (late.state, late.reason, late.metrics) == (State.CUT, "the time was up", {})
    refused = on_board(DeviceError("it never ends"), monkeypatch)
    assert (refused.state, refused.reason) == (State.FAILED, "DeviceError: it never ends")


# --- less data ------------------------------------------------------------------------------------


def test_shrunk_images_are_trained_on_and_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = first_step(monkeypatch)
    evaluation = trial()(candidate(5, PARENT, Budget(1, image_size=8)), go_on)
    [(training, _)] = begun
    assert training.pictures.x.shape[2:] == (8, 8)
    assert len(training.pictures) == 200
    assert training.recipe.augment.crop == 1  # half the pixels of half as many
    valid = trials._on_device(DIGITS, 8, "cpu")[1]
    assert accuracy(training.module, valid) == evaluation.accuracy
    assert "image_size" not in evaluation.metrics  # the budget has it


def test_a_share_of_the_images_is_a_part_of_every_larger_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = first_step(monkeypatch)
    for number, share in enumerate((0.1, 0.5, 1.0)):
        trial()(candidate(number, PARENT, Budget(1, share=share)), go_on)
    rows = [
        set(training.pictures.rows.tolist())
        for training, _ in begun
        if training.pictures.rows is not None
    ]
    assert [len(some) for some in rows] == [20, 100, 200]
    assert rows[0] < rows[1] < rows[2]


@pytest.mark.parametrize(
    ("crop", "cutout", "size"), [(4, 16, 16), (31, 32, 8), (1, 0, 31), (0, 5, 24)]
)
def test_crops_and_cutouts_shrink_with_the_images(crop: int, cutout: int, size: int) -> None:
    recipe = replace(RECIPE, augment=Augment(crop, True, cutout))
    found = recipe_at(recipe, (3, 32, 32), size)
    assert found.augment.crop == pytest.approx(crop * size / 32, abs=0.8)
    assert found.augment.cutout == pytest.approx(cutout * size / 32, abs=0.5)
    images = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    assert found.augment(images, None, torch.Generator()).shape == images.shape
    assert replace(found, augment=recipe.augment) == recipe
    assert recipe_at(recipe, (3, 32, 32), None) == recipe


# --- too little memory ----------------------------------------------------------------------------

EXHAUSTED = {
    "cpu": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"
    ),
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "python": MemoryError(),
}


def short_of_memory(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, where: str, times: int
) -> list[int]:
    """Lets a training, or the inheriting before it, run out of memory; hears in how many pieces
    trainings begin.
    """
    pieces: list[int] = []
    left = iter(range(times))

    def fail() -> None:
        if next(left, None) is not None:
            raise error

    plain = Training._step

    def step(self: Training, batch: Tensor, draw: torch.Generator) -> Tensor:
        pieces.append(self.pieces)
        if where == "step" and len(pieces) % 3 == 0:
            fail()
        return plain(self, batch, draw)

    def inherit(*arguments: object) -> object:
        if where == "inherit":
            fail()
        return inheriting(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "_step", step)
    monkeypatch.setattr(trials, "inherit", inherit)
    return pieces


@pytest.mark.parametrize("kind", EXHAUSTED)
@pytest.mark.parametrize("where", ["step", "inherit"])
def test_what_does_not_fit_is_begun_again_in_two_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    trained(tmp_path, 3)
    pieces = short_of_memory(monkeypatch, EXHAUSTED[kind], where, times=1)
    wanted = candidate(5, CHILD, Budget(2), inherits=(3,))
    evaluation = attempt(trial(tmp_path), wanted, go_on)
    assert (evaluation.state, evaluation.reason) == (State.COMPLETE, None)
    assert evaluation.metrics["pieces"] == 2
    assert len(evaluation.curve) == 2
    assert evaluation.metrics["inherited_share"] > 0.5
    assert pieces == ([1] * 3 if where == "step" else []) + [2] * 8  # from its first epoch on
    module = build_module(SPACE.decode(CHILD), training_seed(0, 5))
    load_weights(module, tmp_path / "5.safetensors")
    assert accuracy(module, pictures(DIGITS, "cpu")[1]) == evaluation.accuracy


def test_the_fewest_pieces_that_fit_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    error = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    pieces = short_of_memory(monkeypatch, error, "step", times=3)
    evaluation = attempt(trial(), candidate(5, CHILD, Budget(1)), go_on)
    assert (evaluation.state, evaluation.metrics["pieces"]) == (State.COMPLETE, 8)
    assert pieces[:10] == [1, 1, 1, 2, 2, 2, 4, 4, 4, 8]
    assert set(pieces[9:]) == {8}


@pytest.mark.parametrize("kind", EXHAUSTED)
@pytest.mark.parametrize("where", ["step", "inherit"])
def test_what_does_not_fit_in_eight_pieces_either_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    trained(tmp_path, 3)
    short_of_memory(monkeypatch, EXHAUSTED[kind], where, times=4)
    evaluation = attempt(trial(tmp_path), candidate(5, CHILD, Budget(2), inherits=(3,)), go_on)
    assert (evaluation.state, evaluation.accuracy) == (State.FAILED, None)
    assert evaluation.reason is not None
    assert evaluation.reason.startswith("out of memory (")
    assert not (tmp_path / "5.safetensors").exists()


def test_another_error_is_no_reason_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = short_of_memory(
        monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "step", times=1
    )
    evaluation = attempt(trial(), candidate(5, CHILD, Budget(2)), go_on)
    assert evaluation.reason == "RuntimeError: mat1 and mat2 shapes cannot be multiplied"
    assert pieces == [1, 1, 1]


def test_what_fits_says_nothing_of_pieces() -> None:
    assert trial()(candidate(5, CHILD, Budget(1)), go_on).metrics.keys() == {"accuracy"}


def test_the_images_of_a_candidate_are_shared_by_all_of_a_process() -> None:
    full: tuple[Pictures, Pictures] = trials._on_device(DIGITS, None, "cpu")
    assert trials._on_device(DIGITS, None, "cpu")[0] is full[0]
    assert trials._on_device(DIGITS, 8, "cpu")[0] is trials._on_device(DIGITS, 8, "cpu")[0]
