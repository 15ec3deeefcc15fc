"""Training, and what a candidate's trial makes of it.

The images are the handwritten digits that come with nanonas.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nanonas.core import Budget, Candidate, Evaluation, Proposal, State, training_seed
from nanonas.data import images as data
from nanonas.data.images import DataSpec, Images
from nanonas.errors import RunError
from nanonas.networks.network import Draft, Network
from nanonas.spaces.nano import NanoSpace
from nanonas.training import trial
from nanonas.training.augment import Augment
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures, held_out_pictures, pictures
from nanonas.training.recipe import Recipe, one_cycle
from nanonas.training.train import Training, accuracy
from nanonas.training.trial import Trial
from nanonas.training.weights import load_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE, CLASSES = (1, 8, 8), 10
SPACE = NanoSpace(SHAPE, CLASSES, channels=4, length=2)
DIGITS = DataSpec("digits", seed=3)
RECIPE = Recipe(augment=Augment(crop=1))


def go_on() -> bool:
    return True


@pytest.fixture(scope="module")
def digits() -> tuple[Pictures, Pictures]:
    return pictures(DIGITS, "cpu")


@pytest.fixture(scope="module")
def few(digits: tuple[Pictures, Pictures]) -> Pictures:
    assert digits[0].rows is not None
    return replace(digits[0], rows=digits[0].rows[:200])


def reference(dropout: float = 0.0) -> Network:
    """Three convolutions and a dense layer, 5 thousand parameters."""
    draft, x = Draft(SHAPE, CLASSES), "input"
    for filters, stride in ((8, 1), (16, 2), (24, 1)):
        x = draft.add("conv", x, filters=filters, kernel=3, stride=stride, groups=1, bias=False)
        x = draft.add("act", draft.add("norm", x), kind="relu")
    x = draft.add("globalpool", x)
    if dropout:
        x = draft.add("dropout", x, rate=dropout)
    return draft.finish(draft.add("dense", x, units=CLASSES))


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# --- the schedule ---------------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.2, 0.9])
def test_the_learning_rate_rises_to_its_top_and_falls_to_nothing(warmup: float) -> None:
    factors = [one_cycle(step / 1000, warmup) for step in range(1001)]
    top = round(1000 * warmup)
    assert factors[0] == (0.05 if warmup else 1.0)
    assert factors[top] == 1.0
    assert factors[-1] == pytest.approx(0.0, abs=1e-12)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_every_step_has_its_place_in_the_cycle(
    few: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(
        build_module(reference(), seed=0), few, replace(RECIPE, batch_size=64), 2, seed=0
    )
    rates: list[float] = []
    plain = training._step

    def step(batch: Tensor, generator: torch.Generator) -> Tensor:
        rates.append(training.optimizer.param_groups[0]["lr"])
        return plain(batch, generator)

    monkeypatch.setattr(training, "_step", step)
    assert training.steps == 3  # 200 images in batches of about 64
    for _ in range(2):
        training.run_epoch(go_on)
    assert rates == [RECIPE.lr * one_cycle(step / 6, RECIPE.warmup) for step in range(6)]


# --- training -------------------------------------------------------------------------------------


def test_a_small_network_learns_to_read_digits(digits: tuple[Pictures, Pictures]) -> None:
    train, valid = digits
    training = Training(
        build_module(reference(), seed=0), train, Recipe(batch_size=32, lr=0.2), 4, seed=0
    )
    losses = [training.run_epoch(go_on) for _ in range(4)]
    assert losses[-1] is not None
    assert losses[0] is not None
    assert losses[-1] < losses[0]
    assert accuracy(training.module, valid) > 0.9


def test_each_image_is_seen_once_an_epoch_in_batches_of_nearly_one_size(
    few: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(
        build_module(reference(), seed=0), few, replace(RECIPE, batch_size=48), 2, seed=0
    )
    batches: list[Tensor] = []

    def step(batch: Tensor, generator: torch.Generator) -> Tensor:
        batches.append(batch)
        return torch.zeros(())

    monkeypatch.setattr(training, "_step", step)
    orders: list[Tensor] = []
    for _ in range(2):
        batches.clear()
        training.run_epoch(go_on)
        assert {len(batch) for batch in batches} <= {50, 51}
        orders.append(torch.cat(batches))
        assert torch.equal(orders[-1].sort().values, torch.arange(200))
    assert not torch.equal(*orders)


@pytest.mark.parametrize("images", [2, 3, 7, 8])
def test_no_batch_is_of_one_image_which_batch_norm_could_not_train_on(
    few: Pictures, images: int
) -> None:
    assert few.rows is not None
    pictures = replace(few, rows=few.rows[:images])
    training = Training(
        build_module(reference(), seed=0), pictures, replace(RECIPE, batch_size=2), 1, seed=0
    )
    assert max(1, images // 3) <= training.steps <= images // 2
    assert training.run_epoch(go_on) is not None


def test_the_same_arguments_train_the_same_weights_whatever_the_global_generator(
    few: Pictures,
) -> None:
    trained = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        training = Training(build_module(reference(dropout=0.3), seed=4), few, RECIPE, 2, seed=4)
        losses = [training.run_epoch(go_on) for _ in range(2)]
        trained.append(
            (
                losses,
                {name: tensor.clone() for name, tensor in training.module.state_dict().items()},
            )
        )
    assert trained[0][0] == trained[1][0]
    assert same(trained[0][1], trained[1][1])
    other = Training(build_module(reference(dropout=0.3), seed=4), few, RECIPE, 2, seed=5)
    assert other.run_epoch(go_on) != trained[0][0][0]


def test_interrupted_between_two_epochs_it_goes_on_as_if_it_had_not_been(
    few: Pictures, tmp_path: Path
) -> None:
    whole = Training(build_module(reference(dropout=0.3), seed=0), few, RECIPE, 3, seed=7)
    losses = [whole.run_epoch(go_on) for _ in range(3)]

    first = Training(build_module(reference(dropout=0.3), seed=0), few, RECIPE, 3, seed=7)
    assert first.run_epoch(go_on) == losses[0]
    torch.save(first.state(), tmp_path / "state.pt")
    torch.manual_seed(99)

    second = Training(build_module(reference(dropout=0.3), seed=1), few, RECIPE, 1, seed=7)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (second.epoch, second.epochs) == (1, 3)
    assert [second.run_epoch(go_on) for _ in range(2)] == losses[1:]
    assert same(second.module.state_dict(), whole.module.state_dict())


def test_the_pulse_is_asked_before_every_batch_and_ends_the_epoch(few: Pictures) -> None:
    training = Training(
        build_module(reference(), seed=0), few, replace(RECIPE, batch_size=50), 1, seed=0
    )
    answers = iter([True, True, False])
    assert training.run_epoch(lambda: next(answers)) is None
    assert next(answers, "all asked") == "all asked"
    assert training.epoch == 0


def test_weights_decay_and_biases_and_norms_do_not() -> None:
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("conv", "input", filters=4, kernel=3, stride=1, groups=1, bias=True, name="conv")
    x = draft.add("globalpool", draft.add("norm", x, name="norm"))
    network = draft.finish(draft.add("dense", x, units=CLASSES, name="dense"))
    module = build_module(network, seed=0)
    empty = Pictures(
        torch.zeros(4, *SHAPE, dtype=torch.uint8),
        torch.zeros(4).long(),
        torch.zeros(1),
        torch.ones(1),
    )
    groups = Training(module, empty, RECIPE, 1, seed=0).optimizer.param_groups
    names = {id(p): name for name, p in module.named_parameters()}
    by_decay = {group["weight_decay"]: {names[id(p)] for p in group["params"]} for group in groups}
    assert by_decay == {
        RECIPE.weight_decay: {"conv.weight", "dense.weight"},
        0.0: {"conv.bias", "norm.weight", "norm.bias", "dense.bias"},
    }


def test_a_gradient_is_cut_to_its_norm(few: Pictures) -> None:
    def gradient(clip_norm: float) -> float:
        recipe = replace(RECIPE, clip_norm=clip_norm, batch_size=200)
        training = Training(build_module(reference(), seed=0), few, recipe, 1, seed=0)
        training.run_epoch(go_on)
        return math.sqrt(
            sum(
                float(p.grad.square().sum())
                for p in training.module.parameters()
                if p.grad is not None
            )
        )

    free = gradient(0.0)
    assert gradient(free / 2) == pytest.approx(free / 2, rel=1e-3)
    assert gradient(free * 2) == pytest.approx(free)


def without_norms() -> Network:
    draft, x = Draft(SHAPE, CLASSES), "input"
    for filters in (8, 16):
        x = draft.add("conv", x, filters=filters, kernel=3, stride=2, groups=1, bias=True)
        x = draft.add("act", x, kind="leaky_relu")
    return draft.finish(draft.add("dense", draft.add("globalpool", x), units=CLASSES))


@pytest.mark.parametrize("images", [2, 3, 4, 5, 101])
@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_a_batch_in_pieces_is_the_whole_batch_for_networks_without_norms(
    few: Pictures, images: int, pieces: int
) -> None:
    assert few.rows is not None
    pictures = replace(few, rows=few.rows[:images])
    whole, parted = (
        Training(
            build_module(without_norms(), seed=0),
            pictures,
            replace(RECIPE, batch_size=51),
            2,
            0,
            number,
        )
        for number in (1, pieces)
    )
    seen: list[int] = []
    parted.module.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    for _ in range(2):  # momentum, too
        assert parted.run_epoch(go_on) == pytest.approx(whole.run_epoch(go_on), rel=1e-5)
    for ours, theirs in zip(parted.module.parameters(), whole.module.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    assert min(seen) >= 2  # batch norm cannot train on one
    assert sum(seen) == 2 * images
    assert len(seen) == 2 * sum(
        min(pieces, len(batch) // 2) for batch in torch.arange(images).tensor_split(whole.steps)
    )


def test_accuracy_is_the_share_of_hits(digits: tuple[Pictures, Pictures]) -> None:
    _, valid = digits
    assert valid.rows is not None
    module = build_module(reference(dropout=0.5), seed=0)
    hits = []
    for row in valid.rows.tolist():  # one at a time, normalised by hand
        image = (valid.x[row].float() / 255 - valid.mean.view(-1, 1, 1)) / valid.std.view(-1, 1, 1)
        with torch.no_grad():
            hits.append(module.eval()(image[None])[0].argmax().item() == valid.y[row].item())
    module.train()
    assert accuracy(module, valid) == sum(hits) / len(hits)
    assert not module.training


def test_all_images_count_where_no_rows_are_named(digits: tuple[Pictures, Pictures]) -> None:
    module, everything = build_module(reference(), seed=0), replace(digits[0], rows=None)
    parts = [accuracy(module, part) * len(part) for part in digits]
    assert len(everything) == len(digits[0]) + len(digits[1])
    assert accuracy(module, everything) == pytest.approx(sum(parts) / len(everything))


# --- one candidate --------------------------------------------------------------------------------


def candidate(budget: Budget, number: int = 5) -> Candidate:
    return Candidate(number, Proposal((0, 1), budget=budget), "key")


def measured(budget: Budget, recipe: Recipe = RECIPE, weights: Path | None = None) -> Evaluation:
    return Trial(SPACE, DIGITS, recipe, seed=0, weights=weights)(candidate(budget), go_on)


def test_a_trial_trains_for_its_whole_budget_and_keeps_its_weights(
    digits: tuple[Pictures, Pictures], tmp_path: Path
) -> None:
    evaluation = measured(Budget(3, stop_epoch=1, stop_below=0.05), weights=tmp_path)
    assert (evaluation.number, evaluation.state, evaluation.reason) == (5, State.COMPLETE, None)
    assert len(evaluation.curve) == 3
    assert evaluation.accuracy == evaluation.curve[-1].accuracy
    assert evaluation.seconds > 0

    module = build_module(SPACE.decode((0, 1)))
    load_weights(module, tmp_path / "5.safetensors")
    assert accuracy(module, digits[1]) == evaluation.accuracy
    assert [path.name for path in tmp_path.iterdir()] == ["5.safetensors"]

    again = measured(Budget(3, stop_epoch=1, stop_below=0.05))
    assert (again.metrics, again.curve) == (evaluation.metrics, evaluation.curve)


def test_a_trial_is_the_training_of_its_seed(digits: tuple[Pictures, Pictures]) -> None:
    seed = training_seed(0, 5)
    training = Training(build_module(SPACE.decode((0, 1)), seed), digits[0], RECIPE, 1, seed)
    loss = training.run_epoch(go_on)
    curve = measured(Budget(1)).curve
    assert [(epoch.train_loss, epoch.accuracy) for epoch in curve] == [
        (loss, accuracy(training.module, digits[1]))
    ]


@pytest.mark.parametrize(
    ("budget", "epoch"),
    [  # 10 steps an epoch
        (Budget(11, stop_epoch=2, stop_below=1.1), 10),
        (Budget(12, stop_epoch=11, stop_below=1.1), 11),
        (Budget(10, stop_epoch=2, stop_below=1.1), None),  # nothing is saved after the last
        (Budget(3, stop_epoch=0, stop_below=1.1), None),
    ],
)
def test_what_is_hardly_better_than_chance_is_pruned_once_its_batch_norms_have_settled(
    budget: Budget, epoch: int | None
) -> None:
    evaluation = measured(budget)
    assert len(evaluation.curve) == (epoch or budget.epochs)
    assert evaluation.accuracy == evaluation.curve[-1].accuracy
    if epoch is None:
        assert (evaluation.state, evaluation.reason) == (State.COMPLETE, None)
    else:
        below = f"accuracy {evaluation.accuracy:.3f} is below 1.100"
        assert evaluation.state is State.PRUNED
        assert evaluation.reason == f"{below} after epoch {epoch} of {budget.epochs}"


@pytest.mark.parametrize(
    ("accuracy", "images", "pruned"),
    [(0.5, 16, False), (0.25, 16, True), (0.5, 390, False), (0.5, 400, True), (0.56, 10**6, False)],
)
def test_what_is_within_the_noise_of_few_validation_images_is_not_pruned(
    accuracy: float, images: int, pruned: bool
) -> None:
    assert trial._clearly_below(0.55, accuracy, images) is pruned


def test_what_the_deadline_stops_is_judged_as_it_is(
    tmp_path: Path, digits: tuple[Pictures, Pictures]
) -> None:
    answers = iter([True] * 15)  # 13 batches an epoch
    measure = Trial(SPACE, DIGITS, RECIPE, seed=0, weights=tmp_path)
    evaluation = measure(candidate(Budget(3)), lambda: next(answers, False))
    assert (evaluation.state, evaluation.reason) == (
        State.CUT,
        "the time was up after epoch 1 of 3",
    )
    assert len(evaluation.curve) == 2
    assert math.isnan(evaluation.curve[-1].train_loss)
    module = build_module(SPACE.decode((0, 1)))
    load_weights(module, tmp_path / "5.safetensors")
    assert accuracy(module, digits[1]) == evaluation.accuracy


def test_training_that_diverges_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    evaluation = measured(
        Budget(3), replace(RECIPE, lr=1e20, clip_norm=0.0, warmup=0.0), weights=tmp_path
    )
    assert evaluation.state is State.FAILED
    assert evaluation.accuracy is None
    assert evaluation.reason is not None
    assert evaluation.reason.startswith("training diverged: the loss is ")
    assert evaluation.reason.endswith(" after epoch 1 of 3")
    assert list(tmp_path.iterdir()) == []


def test_a_trial_never_sees_the_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = data.load

    class Sealed(Images):
        def __getattribute__(self, name: str) -> object:
            assert name not in ("x_test", "y_test"), "the test set is closed"
            return super().__getattribute__(name)

    def sealed(*arguments: object, **options: object) -> Images:
        images = plain(*arguments, **options)  # type: ignore[arg-type]
        object.__setattr__(images, "__class__", Sealed)
        return images

    monkeypatch.setattr(data, "load", sealed)
    trial._on_device.cache_clear()
    with pytest.raises(AssertionError, match="the test set is closed"):
        held_out_pictures(DIGITS, "cpu")
    assert measured(Budget(1)).state is State.COMPLETE
    trial._on_device.cache_clear()


def test_weights_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"nowhere/1.safetensors' cannot be written: .*; free space or permissions"
    ):
        save_weights(nn.Linear(2, 2), tmp_path / "nowhere" / "1.safetensors")


def test_saved_weights_are_the_modules_own(tmp_path: Path) -> None:
    module = build_module(reference(), seed=0)  # channels_last, but saved in the usual order
    save_weights(module, tmp_path / "w.safetensors")
    other = build_module(reference(), seed=1)
    load_weights(other, tmp_path / "w.safetensors")
    assert same(module.state_dict(), other.state_dict())
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, *SHAPE)).astype(np.float32))
    assert torch.equal(module.eval()(images), other.eval()(images))
