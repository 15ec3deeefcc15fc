"""What is kept of the look at the test set: answers that the weights give again, and pictures of
the images themselves.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toys.images import image_folder

from nanonas.data.answers import read_answers
from nanonas.data.images import DataSpec, load
from nanonas.data.thumbnails import SIDE, read_thumbnails
from nanonas.spaces.nano import NanoSpace
from nanonas.training.augment import Augment, normalise
from nanonas.training.examination import EXAMINED, examine
from nanonas.training.modules import build_module
from nanonas.training.pictures import final_pictures, held_out_pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import accuracy, logits_of

MODULE = build_module(NanoSpace((1, 8, 8), 10, channels=4, length=2).decode((0, 1)), seed=0)
RECIPE = Recipe(augment=Augment(crop=1, cutout=2))
SPEC = DataSpec("digits")


def test_answers_are_those_of_the_module_and_count_as_its_accuracy(tmp_path: Path) -> None:
    test = held_out_pictures(SPEC, "cpu")
    found = examine(MODULE, final_pictures(SPEC, "cpu"), test, RECIPE)
    with torch.inference_mode():
        expected = MODULE.eval()(normalise(test.x, test.mean, test.std))
    torch.testing.assert_close(torch.from_numpy(found.answers.logits), expected)
    assert found.accuracy == accuracy(MODULE, test)
    assert np.array_equal(found.answers.labels, load("digits").y_test)
    found.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(EXAMINED)
    read = read_answers(tmp_path / "predictions.npz")
    assert np.array_equal(read.logits, found.answers.logits)


def test_pictures_are_of_the_worst_errors_and_of_every_class(tmp_path: Path) -> None:
    images = load("digits")
    found = examine(MODULE, final_pictures(SPEC, "cpu"), held_out_pictures(SPEC, "cpu"), RECIPE)
    found.write(tmp_path)
    kept = read_thumbnails(tmp_path / "pictures.npz")
    assert len(kept.errors) == 24
    assert np.array_equal(kept.errors, images.x_test[kept.error_rows])
    wrong = found.answers.logits.argmax(axis=1) != found.answers.labels
    assert wrong[kept.error_rows].all()
    assert sorted(set(kept.labels.tolist())) == list(range(10))
    assert not kept.shrunk
    for pixels, label in zip(kept.plain, kept.labels, strict=True):
        (places,) = np.nonzero((images.x_train == pixels).all(axis=(1, 2, 3)))
        assert label in images.y_train[places]
    # the augmentation moves by a pixel and paints over: no more than that is otherwise
    assert (kept.augmented != kept.plain).any(axis=(1, 2, 3)).all()
    assert kept.augmentation == "moved by up to 1 pixel, a square of 2 pixels painted over"


@pytest.mark.parametrize("number", [0, 3])
def test_large_images_are_shrunk_in_proportion_and_there_may_be_no_error(number: int) -> None:
    """The oracle is the mean colour, which shrinking keeps."""
    x = torch.zeros(8, 3, 100, 200, dtype=torch.uint8)
    x[:, :, :, 100:] = 200
    images = held_out_pictures(SPEC, "cpu")
    large = replace(
        images,
        x=x.contiguous(memory_format=torch.channels_last),
        y=torch.zeros(8, dtype=torch.int64),
        mean=torch.zeros(3),
        std=torch.ones(3),
    )

    class Fixed(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(batch), 2)
            logits[:, 0] = 1.0
            logits[:number, 1] = 2.0
            return logits

    found = examine(Fixed(), large, large, Recipe())
    kept = found.thumbnails
    assert kept.errors.shape == (number, SIDE // 2, SIDE, 3)
    assert kept.plain.shape == (8, SIDE // 2, SIDE, 3)
    assert kept.plain.mean() == pytest.approx(100, abs=1)
    assert kept.plain[:, :, -1].min() == 200
    assert (kept.full_size, kept.augmentation, found.temperature) == ((100, 200), "", None)
    assert found.accuracy == (8 - number) / 8


def test_what_overflows_costs_no_training() -> None:
    class Overflown(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.full((len(batch), 10), float("nan"))

    found = examine(Overflown(), *(held_out_pictures(SPEC, "cpu"),) * 2, RECIPE)
    assert np.isfinite(found.answers.logits).all()


def test_images_of_a_folder_keep_their_files_names(tmp_path: Path, cache: Path) -> None:
    root = image_folder(tmp_path / "pets")
    test = held_out_pictures(DataSpec(str(root)), "cpu")
    assert len(test.names) == len(test) == 4
    for name, label in zip(test.names, test.y.tolist(), strict=True):
        assert (root / name).is_file()
        assert name.split("/")[0] == ("cat", "dog")[label]
    assert held_out_pictures(SPEC, "cpu").names == ()
    assert len(logits_of(MODULE, held_out_pictures(SPEC, "cpu"))) == 359
