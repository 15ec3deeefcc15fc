"""What a recipe can switch on: each does what it says, and goes on after an interruption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nanonas.core import Shape
from nanonas.data.images import DataSpec
from nanonas.networks.network import Draft, Network, classifier, conv_norm, relu
from nanonas.networks.reference import REFERENCES
from nanonas.training.augment import Augment
from nanonas.training.average import MovingAverage
from nanonas.training.beginning import fresh_module
from nanonas.training.measuring.pace import pace_of
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures, pictures, scaled
from nanonas.training.recipe import Recipe, linear_decay, slower
from nanonas.training.train import Training, accuracy

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(batch_size=50, lr=0.1, augment=Augment(crop=1, flip=True))
SWITCHES: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "muon"},
    "linear": {"schedule": "linear"},
    "alternate flip": {"alternate_flip": True},
    "small images": {"small_images": 0.5},
    "whiten": {"whiten": True},
    "dirac": {"dirac": True},
    "average": {"average": 0.9},
    "biases": {"bias_lr": 4.0},
}


def coloured(number: int = 200, side: int = 16) -> Pictures:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (number, side, side, 3), dtype=torch.uint8, generator=generator)
    y = torch.randint(0, 10, (number,), generator=generator)
    mean, std = torch.full((3,), 0.5), torch.full((3,), 0.29)
    return Pictures(x.permute(0, 3, 1, 2), y, mean, std)


def network(side: int = 16) -> Network:
    draft, x = Draft((3, side, side), 10), "input"
    for filters in (8, 16):
        x = relu(draft, conv_norm(draft, x, filters, 3, 2))
    return classifier(draft, x)


def begun(recipe: Recipe, epochs: float, train: Pictures | None = None) -> Training:
    train = train or coloured()
    return Training(fresh_module(network(), 4, train, recipe), train, recipe, epochs, 4)


def seen_by(training: Training) -> list[Tensor]:
    """The batches that the module gets from here on."""
    batches: list[Tensor] = []
    training.module.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0]))
    return batches


@pytest.mark.parametrize("switch", SWITCHES)
def test_interrupted_it_goes_on_as_if_it_had_not_been(switch: str, tmp_path: Path) -> None:
    recipe = replace(RECIPE, **SWITCHES[switch])
    whole = begun(recipe, 3)
    losses = [whole.run_epoch(lambda: True) for _ in range(3)]
    first = begun(recipe, 3)
    first.run_epoch(lambda: True)
    torch.save(first.state(), tmp_path / "state.pt")
    second = begun(recipe, 1)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [second.run_epoch(lambda: True) for _ in range(2)] == losses[1:]
    for ours, theirs in ((second.module, whole.module), (second.result, whole.result)):
        found, wanted = ours.state_dict(), theirs.state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("switch", [*SWITCHES, "none"])
def test_each_switch_changes_the_training_and_none_alone_does_not(switch: str) -> None:
    plain, other = begun(RECIPE, 1), begun(replace(RECIPE, **SWITCHES.get(switch, {})), 1)
    for training in (plain, other):
        for _ in range(2):  # the second flips otherwise
            training.epochs = 2
            training.run_epoch(lambda: True)
    found, wanted = other.result.state_dict(), plain.result.state_dict()
    equal = all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert equal == (switch == "none")


def test_a_recipe_is_recognised_by_what_it_was_before_there_was_a_choice() -> None:
    before = (
        "Recipe(batch_size=50, lr=0.1, warmup=0.2, momentum=0.9, weight_decay=0.0005, "
        "label_smoothing=0.1, clip_norm=2.0, augment=Augment(crop=1, flip=True, cutout=0, "
        "fill=(128,)), precision='float32', deterministic=False)"
    )
    assert RECIPE.identity == before
    identities = {replace(RECIPE, **switch).identity for switch in SWITCHES.values()}
    assert len(identities | {before}) == len(SWITCHES) + 1


def test_slower_lowers_all_rates() -> None:
    recipe = slower(replace(RECIPE, lr=0.3, muon_lr=0.06), 3)
    assert (recipe.lr, recipe.muon_lr) == (0.3 / 3, 0.06 / 3)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.9])
def test_linear_decay_rises_to_its_top_and_falls_in_a_straight_line(warmup: float) -> None:
    assert linear_decay(0.0, warmup) == (0.05 if warmup else 1.0)
    assert linear_decay(warmup, warmup) == pytest.approx(1.0)
    assert linear_decay((1 + warmup) / 2, warmup) == pytest.approx(0.5)
    assert linear_decay(1.0, warmup) == 0.0


# --- shares of an epoch ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epochs", "steps"), [(0.001, [1]), (0.5, [2]), (1, [4]), (2.25, [4, 4, 1]), (2.99, [4, 4, 4])]
)
def test_the_last_epoch_is_cut_to_what_is_left_of_it(epochs: float, steps: Sequence[int]) -> None:
    training = begun(RECIPE, epochs)
    batches, taken = seen_by(training), []
    while training.epoch < epochs:
        batches.clear()
        training.run_epoch(lambda: True)
        taken.append(len(batches))
    assert taken == steps


def test_a_cut_epoch_is_the_beginning_of_a_whole_one() -> None:
    cut, whole = begun(replace(RECIPE, warmup=0.0), 0.5), begun(replace(RECIPE, warmup=0.0), 1)
    ours, theirs = seen_by(cut), seen_by(whole)
    loss = cut.run_epoch(lambda: True)
    whole.run_epoch(lambda: True)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))
    assert loss is not None
    assert 1 < loss < 4  # a mean over the images that were seen
    assert cut.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 / 2)  # at 1/4 of an epoch


# --- images ---------------------------------------------------------------------------------------


def test_alternating_flips_mirror_each_image_in_every_other_epoch() -> None:
    recipe = replace(RECIPE, augment=Augment(flip=True), alternate_flip=True)
    training = begun(recipe, 3)
    batch = torch.arange(200)
    views = []
    for epoch in range(3):
        training.epoch = epoch
        images, _ = training._gather(batch, torch.Generator().manual_seed(epoch))
        views.append(images)
    assert torch.equal(views[0], views[2])
    assert torch.equal(views[0].flip(3), views[1])
    straight, _ = begun(replace(RECIPE, augment=Augment()), 1)._gather(batch, torch.Generator())
    mirrored = sum(not torch.equal(a, b) for a, b in zip(views[0], straight, strict=True))
    assert 70 < mirrored < 130
    some = torch.tensor([7, 3, 150])  # whatever the batch that an image comes in
    again, _ = training._gather(some, torch.Generator())
    assert torch.equal(again, views[2][some])


def test_images_are_small_for_their_share_of_the_steps() -> None:
    training = begun(replace(RECIPE, small_images=0.625), 2)
    batches = seen_by(training)
    assert training.small
    for _ in range(2):
        training.run_epoch(lambda: True)
    assert [batch.shape[2] for batch in batches] == [12] * 5 + [16] * 3
    assert not training.small


def test_images_are_not_made_smaller_than_they_or_the_network_can_bear() -> None:
    recipe = replace(RECIPE, small_images=1.0)
    tiny = Training(build_module(network(15), 0), coloured(50, 15), recipe, 1, 0)
    draft, x = Draft((3, 16, 16), 10), "input"
    for _ in range(4):  # 16, 8, 4, 2, 1; but 12, 6, 3, 1, and no window fits
        x = draft.add("maxpool", x, kernel=2, stride=2)
    deep = classifier(draft, x)
    assert not deep.takes((3, 12, 12))
    for training in (tiny, Training(build_module(deep, 0), coloured(50), recipe, 1, 0)):
        assert not training.small
        assert training.run_epoch(lambda: True) is not None


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("side", [8, 12, 24])
def test_a_network_takes_what_its_module_computes(name: str, side: int) -> None:
    made = REFERENCES[name]((3, 32, 32), 10)
    images = torch.zeros(2, 3, side, side)
    try:
        build_module(made, 0).eval()(images)
        computed = True
    except RuntimeError:
        computed = False
    assert made.takes((3, side, side)) == computed
    assert not made.takes((1, side, side))


def test_scaled_images_keep_flat_colours_and_means() -> None:
    flat = torch.full((2, 3, 16, 16), 77, dtype=torch.uint8)
    assert (scaled(flat, (12, 12)) == 77).all()
    images = coloured(20).x
    small = scaled(images, (12, 12))
    assert small.shape == (20, 3, 12, 12)
    assert small.float().mean() == pytest.approx(float(images.float().mean()), abs=1.0)


def test_the_speed_of_a_training_counts_both_sizes_of_images() -> None:
    training = begun(replace(RECIPE, small_images=0.5), 2)
    before = {name: tensor.clone() for name, tensor in training.module.state_dict().items()}
    measured = pace_of(training, 0.05)
    assert measured.small > 0
    assert measured.whole > 0
    assert measured.mean == (measured.small + measured.whole) / 2
    after = training.module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


# --- how weights begin ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Pictures:
    return pictures(DataSpec("digits", seed=3), "cpu")[0]


def first_filters(train: Pictures, filters: int, seed: int, whiten: bool = True) -> Tensor:
    shape: Shape = (1, 8, 8)
    draft = Draft(shape, 10)
    made = classifier(draft, relu(draft, conv_norm(draft, "input", filters, 3)))
    module = fresh_module(made, seed, train, replace(RECIPE, whiten=whiten))
    conv = module.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    return conv.weight.detach()


def test_whitened_filters_are_the_principal_directions_of_patches(digits: Pictures) -> None:
    weight = first_filters(digits, 9, seed=0).flatten(1)
    drawn = first_filters(digits, 9, seed=0, whiten=False)
    assert weight.norm() == pytest.approx(float(drawn.norm()), rel=1e-4)
    rows = digits.rows
    assert rows is not None
    images = (digits.x[rows].float() / 255 - digits.mean.view(-1, 1, 1)) / digits.std.view(-1, 1, 1)
    answers = nn.functional.conv2d(images, weight.view(9, 1, 3, 3)).permute(1, 0, 2, 3).flatten(1)
    moments = answers @ answers.T / answers.shape[1]
    spread = moments.diagonal()
    assert (spread[:-1] >= 0.97 * spread[1:]).all()  # the most important first
    off = moments - spread.diag()
    assert off.abs().max() < 0.1 * spread[0]  # uncorrelated, up to the patches that were taken


def test_further_filters_are_opposites_and_the_rest_is_drawn(digits: Pictures) -> None:
    weight, drawn = first_filters(digits, 20, 1), first_filters(digits, 20, 1, whiten=False)
    assert torch.equal(weight[9:18], -weight[:9])
    assert torch.equal(weight[18:], drawn[18:])
    assert torch.equal(weight[:18], first_filters(digits, 20, 1)[:18])


def test_later_filters_begin_as_the_identity_and_the_first_do_not() -> None:
    module = fresh_module(network(), 0, coloured(), replace(RECIPE, dirac=True))
    plain = build_module(network(), 0)
    convs = [
        (a, b)
        for a, b in zip(module.modules(), plain.modules(), strict=True)
        if isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d)
    ]
    (first, untouched), (later, drawn) = convs
    assert torch.equal(first.weight, untouched.weight)
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    identity = nn.functional.conv2d(x, later.weight[:8], padding=1)
    torch.testing.assert_close(identity, x)
    assert torch.equal(later.weight[8:], drawn.weight[8:])


# --- the moving average and biases ----------------------------------------------------------------


def test_the_average_is_that_of_the_weights_by_hand() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = MovingAverage(module, 0.9)
    wanted = float(module.weight.detach())
    for step in range(1, 41):
        with torch.no_grad():
            module.weight.fill_(step)
        average.update(module)
        if step % 5 == 0:
            old = min(0.9**5, (step / 5) / (9 + step / 5))
            wanted = old * wanted + (1 - old) * step
    assert isinstance(average.module, nn.Linear)
    assert float(average.module.weight) == pytest.approx(wanted)


def test_the_average_is_what_is_judged_and_the_weights_go_their_own_way() -> None:
    train = coloured()
    plain, averaged = begun(RECIPE, 3, train), begun(replace(RECIPE, average=0.9), 3, train)
    for _ in range(3):
        assert plain.run_epoch(lambda: True) == averaged.run_epoch(lambda: True)
        accuracy(averaged.result, train)
    assert plain.result is plain.module
    assert not torch.equal(
        torch.cat([p.flatten() for p in averaged.result.parameters()]),
        torch.cat([p.flatten() for p in averaged.module.parameters()]),
    )
    wanted = plain.module.state_dict()
    assert all(torch.equal(t, wanted[n]) for n, t in averaged.module.state_dict().items())


def test_biases_alone_have_their_own_rate() -> None:
    training = begun(replace(RECIPE, bias_lr=8.0, warmup=0.0), 1)
    training.run_epoch(lambda: True)
    names = {id(p): name for name, p in training.module.named_parameters()}
    rates = {
        names[id(p)]: group["lr"]
        for group in training.optimizer.param_groups
        for p in group["params"]
    }
    slow = min(rates.values())
    for name, rate in rates.items():
        assert rate == pytest.approx(slow * (8 if name.endswith(".bias") else 1)), name
