"""Weights of classes in the loss, and what groups do to what a validation says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys.images import npz
from toys.photos import leaking_digits

from nanonas.data.images import DataSpec
from nanonas.maths.intervals import wilson
from nanonas.networks.network import Draft, Network
from nanonas.training.augment import Augment
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures, final_pictures, held_out_pictures, pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training, accuracy, class_weights

pytestmark = pytest.mark.usefixtures("one_thread", "cache")

WEIGHTED = Recipe(augment=Augment(), balance="weights", batch_size=12, clip_norm=0, lr=0.1)


class Linear(nn.Module):
    """Logits of all pixels, without a batch norm, so that pieces see what the whole sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(100, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layer(x.flatten(1))
        return logits


def small_cnn() -> Network:
    """Three convolutions and a dense layer, for digits."""
    draft, x = Draft((1, 8, 8), 10), "input"
    for filters, stride in ((16, 1), (32, 2), (32, 1)):
        x = draft.add("conv", x, filters=filters, kernel=3, stride=stride, groups=1, bias=False)
        x = draft.add("act", draft.add("norm", x), kind="relu")
    return draft.finish(draft.add("dense", draft.add("globalpool", x), units=10))


@pytest.fixture
def uneven(tmp_path: Path) -> Pictures:
    """36 images of three classes: 24, 9 and 3."""
    y = np.repeat([0, 1, 2], [24, 9, 3])
    x = np.random.default_rng(0).integers(0, 256, (36, 10, 10), dtype=np.uint8)
    path = npz(tmp_path / "uneven.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    return final_pictures(DataSpec(path), "cpu")


def test_an_image_counts_by_its_class(uneven: Pictures) -> None:
    assert class_weights(uneven).tolist() == pytest.approx([36 / 72, 36 / 27, 36 / 9])
    assert class_weights(uneven)[uneven.y].mean().item() == pytest.approx(1)
    some = replace(uneven, rows=torch.arange(20, 33))
    assert class_weights(some).tolist() == pytest.approx([13 / 8, 13 / 18, 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_pytorchs_with_weights(uneven: Pictures, smoothing: float) -> None:
    training = Training(Linear(), uneven, replace(WEIGHTED, label_smoothing=smoothing), 1, seed=0)
    logits = torch.randn(36, 3, generator=torch.Generator().manual_seed(1))
    weights = class_weights(uneven)
    each = torch.stack(
        [
            weights[y] * F.cross_entropy(row[None], y[None], label_smoothing=smoothing)
            for row, y in zip(logits, uneven.y, strict=True)
        ]
    )
    assert training._loss(logits, uneven.y).item() == pytest.approx(each.mean().item())
    if not smoothing:
        theirs = F.cross_entropy(logits, uneven.y, weight=weights, reduction="sum") / 36
        assert training._loss(logits, uneven.y).item() == pytest.approx(theirs.item())


def test_pieces_of_a_batch_add_up_with_weights(uneven: Pictures) -> None:
    trained = []
    for pieces in (1, 2, 3):
        module = Linear()
        training = Training(module, uneven, WEIGHTED, 2, seed=0, pieces=pieces)
        losses = [training.whole_epoch() for _ in range(2)]
        trained.append((losses, module.layer.weight.detach()))
    for losses, weights in trained[1:]:
        assert losses == pytest.approx(trained[0][0], rel=1e-5)
        assert torch.allclose(weights, trained[0][1], atol=1e-6)


def test_rare_classes_are_found_with_weights(tmp_path: Path) -> None:
    """Of images that mostly say nothing, all are called common without weights."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [570, 30])
    x = rng.normal(110, 40, (600, 10, 10)) + 4 * y[:, None, None]
    x = x.clip(0, 255).astype(np.uint8)
    path = npz(tmp_path / "rare.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    train = final_pictures(DataSpec(path), "cpu")
    found = []
    for balance in ("none", "weights"):
        recipe = replace(WEIGHTED, balance=balance, lr=0.02, label_smoothing=0)
        training = Training(Linear(), train, recipe, 6, seed=0)
        for _ in range(6):
            training.whole_epoch()
        found.append(accuracy(training.module, replace(train, rows=torch.arange(570, 600))))
    assert found[1] > found[0] + 0.2


def test_what_was_trained_before_there_were_weights_is_recognised() -> None:
    assert "balance" not in Recipe().identity
    assert "balance='weights'" in WEIGHTED.identity


@pytest.mark.slow
def test_groups_make_validation_say_what_the_test_says(tmp_path: Path) -> None:
    """Frames of a film in training and in validation: the network knows them by heart, and the
    validation is right about nothing but that. With groups, validation and test agree.
    """
    root = leaking_digits(tmp_path / "digits", originals=14, copies=6, test=30)
    measured = {}
    for groups in (None, r"(\d/film\d+)_"):
        spec = DataSpec(str(root), valid_share=0.25, groups=groups)
        train, valid = pictures(spec, "cpu")
        module = build_module(small_cnn(), 0)
        training = Training(module, train, Recipe(augment=Augment()), 12, seed=0)
        for _ in range(12):
            training.whole_epoch()
        test = held_out_pictures(spec, "cpu")
        measured[groups] = [
            wilson(accuracy(training.module, held), independent)
            for held, independent in ((valid, len(valid) // (6 if groups else 1)), (test, 300))
        ]
    leaking, grouped = measured.values()
    assert leaking[0][0] > leaking[1][1]  # the validation is better than the test, surely
    assert grouped[0][1] > grouped[1][0]  # the intervals overlap
    assert grouped[0][0] < grouped[1][1]
