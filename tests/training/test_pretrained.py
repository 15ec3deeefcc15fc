"""Trainings that begin with the weights of another network. The oracle is that network."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from loguru import logger
from safetensors.torch import load_file
from torch import Tensor

from nanonas.core import Shape
from nanonas.data.images import DataSpec
from nanonas.deploy.folding import folded
from nanonas.errors import RunError
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training import crew, final
from nanonas.training.augment import Augment
from nanonas.training.final import FinalTraining, read_result
from nanonas.training.folded import unfolded
from nanonas.training.inheritance.parents import Parent
from nanonas.training.measuring.pace import Pace
from nanonas.training.modules import NetworkModule, build_module
from nanonas.training.pictures import Pictures, final_pictures, held_out_pictures
from nanonas.training.pretrained import Pretrained, classifier_of, with_channels
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")

COLOUR: Shape = (3, 16, 16)
DIGIT: Shape = (1, 8, 8)
RECIPE = Recipe(batch_size=128, lr=0.1, augment=Augment(crop=1), optimizer="muon")
# one whose stem reads pixels, one whose stem reads blocks of pixels
STEMS = ["plain", "convnext"]


def network(name: str = "plain", shape: Shape = DIGIT, classes: int = 10) -> Network:
    """A hand-made network whose genome is the same for all shapes and classes."""
    genome = StagesSpace(COLOUR, 4, limits=Limits(max_params=8000)).ancestors()[name]
    return StagesSpace(shape, classes).decode(genome)


def trained(of: Network) -> NetworkModule:
    """As after a training: no scale is 1 any more, no shift and no mean 0."""
    module, generator = build_module(of, seed=1), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("running_var", "weight")) and tensor.dim() == 1:
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.dim() == 1:
                tensor.normal_(0.0, 0.3, generator=generator)
    return module.eval()


def pretrained(module: NetworkModule, same_classes: bool = False) -> Pretrained:
    return Pretrained(Parent(module.network, module.state_dict()), "cars", same_classes)


def images(shape: Shape, number: int = 8) -> Tensor:
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("classes", [10, 3])
def test_all_but_the_classifier_comes_along(classes: int) -> None:
    """However many classes there were: their names were others."""
    parent, drawn = trained(network(classes=classes)), build_module(network(), seed=5)
    child, head = build_module(network(), seed=5), classifier_of(network())
    begun = pretrained(parent).begin(child, images(DIGIT))
    state, of_head = child.state_dict(), drawn.get_submodule(head).state_dict()
    assert begun.body == {node.name for node in network().nodes if node.tensors} - {head}
    for name, tensor in parent.state_dict().items():
        if not name.startswith(f"{head}."):
            assert torch.equal(state[name], tensor), name
    for name, tensor in of_head.items():
        assert torch.equal(state[f"{head}.{name}"], tensor)
    new = sum(tensor.numel() for tensor in of_head.values())
    assert begun.share == pytest.approx(1 - new / network().params)
    assert begun.of_body == 1


def test_the_classifier_of_the_same_classes_comes_along() -> None:
    parent, child = trained(network()), build_module(network(), seed=5)
    assert pretrained(parent, same_classes=True).begin(child, images(DIGIT)).share == 1
    assert torch.equal(child.eval()(images(DIGIT)), parent(images(DIGIT)))


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("was", [3, 1])
def test_a_grey_image_is_to_both_what_it_was(name: str, was: int) -> None:
    """Between grey and colour, both ways."""
    grey, colour = network(name, (1, 16, 16), 4), network(name, COLOUR, 4)
    old, new = (colour, grey) if was == 3 else (grey, colour)
    parent, child = trained(old), build_module(new, seed=5).eval()
    brought = with_channels(old, parent.state_dict(), new)
    begun = Pretrained(brought, "cars", True).begin(child, images(new.input_shape))
    assert begun.share == 1
    pictures = images((1, 16, 16))
    alike = {1: pictures, 3: pictures.repeat(1, 3, 1, 1)}
    answers = child(alike[new.input_shape[0]]), parent(alike[was])
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)


def test_images_of_another_size() -> None:
    parent, child = trained(network(shape=(1, 16, 16))), build_module(network(), seed=5)
    assert pretrained(parent).begin(child, images(DIGIT)).share > 0.9


def test_norms_that_were_folded_are_norms_again() -> None:
    """They compute what they did, by statistics of the new images: so in training, too, where those
    of a batch are used.
    """
    parent = trained(network("resnet", COLOUR, 4))
    tensors, norms = unfolded(parent.network, folded(parent).state_dict())
    found = Pretrained(Parent(parent.network, tensors), "cars", True, norms)
    child, pictures = build_module(parent.network, seed=5), images(COLOUR)
    found.begin(child, pictures)
    expected = parent(pictures)
    torch.testing.assert_close(child.eval()(pictures), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(child.train()(pictures), expected, rtol=0.05, atol=0.05)
    assert unfolded(parent.network, parent.state_dict())[1] == frozenset()  # nothing was folded


def test_weights_that_are_no_networks_are_refused() -> None:
    parent = trained(network())
    tensors = {**parent.state_dict(), f"{classifier_of(network())}.bias": torch.zeros(7)}
    with pytest.raises(RunError, match=r"the weights of parent 1 of 1 have the shape \(7,\)"):
        Pretrained(Parent(network(), tensors), "cars", True).begin(
            build_module(network()), images(DIGIT)
        )


# --- the training ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def few() -> Pictures:
    return replace(final_pictures(DataSpec("digits"), "cpu"), rows=torch.arange(256))


def after_a_step(few: Pictures, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """How far each parameter of the body, and of the rest, has moved in a step."""
    module = build_module(network(), seed=5)
    body = pretrained(trained(network(classes=3))).begin(module, images(DIGIT)).body
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    few = replace(few, rows=torch.arange(100))
    Training(module, few, recipe, 1, seed=0, body=body).whole_epoch()
    moved = {name: tensor - before[name] for name, tensor in module.state_dict().items()}
    return (
        {name: tensor for name, tensor in moved.items() if name.split(".")[0] in body},
        {name: tensor for name, tensor in moved.items() if name.split(".")[0] not in body},
    )


def test_a_body_learns_at_its_own_rate(few: Pictures) -> None:
    sgd = replace(RECIPE, optimizer="sgd", warmup=0.0, weight_decay=0.0, momentum=0.0)
    (whole, head), (part, same) = (
        after_a_step(few, replace(sgd, body_lr=factor)) for factor in (1.0, 0.25)
    )
    for name, moved in whole.items():
        if name.endswith(("weight", "bias")):
            torch.testing.assert_close(part[name], 0.25 * moved, rtol=1e-2, atol=1e-6)
    assert all(torch.equal(same[name], moved) for name, moved in head.items())


@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_a_frozen_body_stays_as_it_is_statistics_included(few: Pictures, optimizer: str) -> None:
    body, head = after_a_step(few, replace(RECIPE, optimizer=optimizer, body_lr=0.0))
    assert not any(moved.any() for moved in body.values())
    assert all(moved.any() for moved in head.values())


@pytest.fixture
def final_training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FinalTraining]:
    monkeypatch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(1.0))

    def made(folder: Path, few: Pictures, body_lr: float, processes: int = 1) -> FinalTraining:
        parent = trained(network(classes=3))
        return FinalTraining(
            network(),
            few,
            lambda: held_out_pictures(DataSpec("digits"), "cpu"),
            replace(RECIPE, average=0.5, body_lr=body_lr),
            0,
            folder,
            {},
            threads=1,
            processes=processes,
            pretrained=pretrained(parent),
        )

    return made


@pytest.mark.parametrize("body_lr", [0.3, 0.0])
def test_interrupted_it_ends_as_if_it_had_not_been(
    tmp_path: Path, few: Pictures, final_training: Callable[..., FinalTraining], body_lr: float
) -> None:
    def stop(done: int, of: int, loss: float) -> None:
        raise KeyboardInterrupt

    whole, parted = tmp_path / "whole", tmp_path / "parted"
    result = final_training(whole, few, body_lr).run(3)
    with pytest.raises(KeyboardInterrupt):
        final_training(parted, few, body_lr).run(3, on_epoch=stop)
    seen: list[int] = []
    again = final_training(parted, few, body_lr).run(
        3, on_epoch=lambda done, of, loss: seen.append(done)
    )
    assert seen == [2, 3]
    assert replace(again, seconds=0.0) == replace(result, seconds=0.0)
    ours, theirs = (load_file(place / "model.safetensors") for place in (parted, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert result.began_with is not None
    assert asdict(result)["began_with"]["name"] == "cars"
    assert result.began_with["body_lr"] == body_lr
    assert read_result(whole) == result


@pytest.mark.parametrize("bound", ["FINE_TUNED", "MOST_EPOCHS"])
def test_a_time_to_fill_is_not_filled_with_forgetting(
    tmp_path: Path,
    few: Pictures,
    final_training: Callable[..., FinalTraining],
    monkeypatch: pytest.MonkeyPatch,
    bound: str,
) -> None:
    """Neither where there is so much time from the beginning, nor where that turns out later."""

    def task(place: str) -> FinalTraining:
        tuned = final_training(tmp_path / place, few, 0.3)
        return tuned if bound == "FINE_TUNED" else replace(tuned, pretrained=None)

    monkeypatch.setattr(final, bound, 2)
    for place, pace in (("promised", 0.01), ("found", 1000.0)):
        monkeypatch.setattr(crew, "pace_of", lambda training, patience, pace=pace: Pace(pace))
        assert 0 < task(place).run(deadline=time.monotonic() + 100).epochs <= 2
    assert task("asked").run(3).epochs == 3


def test_where_little_comes_along_that_is_said(
    tmp_path: Path,
    few: Pictures,
    final_training: Callable[..., FinalTraining],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the body: a classifier for many classes may be most of a network."""
    said: list[str] = []
    handler = logger.add(said.append, format="{message}", level="WARNING")
    monkeypatch.setattr(final, "LITTLE", 0.2)  # for small networks, of which more fits
    try:
        alike = final_training(tmp_path / "alike", few, 0.0)
        alike.run(1)
        assert said == []
        replace(alike, network=network("convnext"), folder=tmp_path / "other").run(1)
    finally:
        logger.remove(handler)
    assert len(said) == 1
    assert "of the network's body 14.0% begins with the weights of cars" in said[0]
    assert "next to no body to freeze" in said[0]


def test_other_weights_are_another_training(
    tmp_path: Path, few: Pictures, final_training: Callable[..., FinalTraining]
) -> None:
    first = final_training(tmp_path, few, 0.3)
    first.run(1)
    seen: list[int] = []
    for other in (first, replace(first, pretrained=pretrained(trained(network()))), first):
        other.run(1, on_epoch=lambda done, of, loss: seen.append(done))
        seen.append(0)
    assert seen == [0, 1, 0, 1, 0]  # the first one's checkpoint had made room by then


def test_processes_train_a_body_as_one_does(
    tmp_path: Path, few: Pictures, final_training: Callable[..., FinalTraining]
) -> None:
    """Its norms are frozen, so that they do not depend on which process has which image."""
    alone, two = tmp_path / "alone", tmp_path / "two"
    final_training(alone, few, 0.0).run(2)
    final_training(two, few, 0.0, processes=2).run(2)
    ours, theirs = (load_file(place / "model.safetensors") for place in (two, alone))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=1e-4)
