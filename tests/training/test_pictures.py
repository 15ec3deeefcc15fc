"""The images of a training: drawn from a data set, subsampled and shrunk."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nanonas.data.images import DataSpec, load
from nanonas.data.split import split
from nanonas.training.pictures import (
    final_pictures,
    held_out_pictures,
    part,
    pictures,
    shrunk,
)


def test_pictures_share_pixels_and_never_contain_test_images() -> None:
    spec = DataSpec("digits", train_images=500, seed=4)
    images, parts = load("digits"), split(load("digits"), 4, train_images=500)
    train, valid = pictures(spec, "cpu")
    assert train.x.data_ptr() == valid.x.data_ptr()
    assert train.rows is not None
    assert valid.rows is not None
    assert train.rows.tolist() == parts.train.tolist()
    assert valid.rows.tolist() == parts.valid.tolist()
    assert train.x.shape == (1438, 1, 8, 8)
    assert train.mean.tolist() == pytest.approx(images.mean)
    everything, test = final_pictures(spec, "cpu"), held_out_pictures(spec, "cpu")
    assert (len(everything), len(test)) == (1438, 359)
    assert torch.equal(test.y, torch.tensor(np.asarray(images.y_test)))


def test_a_part_is_a_random_subset_of_the_rows_that_shares_pixels() -> None:
    train, _ = pictures(DataSpec("digits", train_images=500), "cpu")
    some = part(train, 0.1, seed=3)
    assert len(some) == 50
    assert some.x.data_ptr() == train.x.data_ptr()
    assert some.rows is not None
    assert train.rows is not None
    assert set(some.rows.tolist()) < set(train.rows.tolist())
    again, other = part(train, 0.1, seed=3), part(train, 0.1, seed=4)
    assert again.rows is not None
    assert other.rows is not None
    assert again.rows.tolist() == some.rows.tolist() != other.rows.tolist()
    assert len(part(train, 1e-6, seed=0)) == 2  # batch norm needs two


def test_shrunk_pictures_are_the_used_ones_in_their_order() -> None:
    train, _ = pictures(DataSpec("digits", train_images=500), "cpu")
    small = shrunk(train, 4)
    assert small.x.shape == (500, 1, 4, 4)
    assert small.x.is_contiguous(memory_format=torch.channels_last)
    assert small.rows is None
    assert torch.equal(small.y, train.y[train.rows])
    means = train.x[train.rows].float().mean(dim=(1, 2, 3))
    assert torch.allclose(small.x.float().mean(dim=(1, 2, 3)), means, atol=8.0)  # of 255
