"""Splits: by class, disjoint, and a function of the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from toys.images import labels

from nanonas.data.images import Images
from nanonas.data.split import split
from nanonas.errors import ConfigError, DataError


def with_labels(values: Sequence[int] | NDArray[np.int64], own_valid: int = 0) -> Images:
    y = np.asarray(values, np.int64)
    x = np.zeros((len(y), 8, 8, 1), np.uint8)
    names = tuple(str(number) for number in range(int(y.max()) + 1))
    return Images("made", names, x, y, x, y, (0.5,), (0.5,), False, "", own_valid)


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 60), min_size=2, max_size=8),
    seed=st.integers(0, 2**32),
    share=st.floats(0.05, 0.5),
    number=st.none() | st.integers(8, 300),
)
def test_split_is_stratified_disjoint_and_a_function_of_the_seed(
    sizes: list[int], seed: int, share: float, number: int | None
) -> None:
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    images = with_labels(y)
    parts = split(images, seed, share, number)
    for index in (parts.train, parts.valid):
        assert np.array_equal(index, np.unique(index))
        assert index.min() >= 0
        assert index.max() < len(y)
    assert not np.intersect1d(parts.train, parts.valid).size
    held = np.array([max(1, round(share * size)) for size in sizes])
    assert np.bincount(y[parts.valid]).tolist() == held.tolist()
    left = np.array(sizes) - held
    chosen = np.bincount(y[parts.train], minlength=len(sizes))
    assert chosen.min() >= 1
    if number is None or number >= left.sum():
        assert chosen.tolist() == left.tolist()
    else:
        assert chosen.sum() == number
        assert (chosen <= left).all()
        assert (np.abs(chosen - left * (number / left.sum())) <= len(sizes)).all()
    again = split(images, seed, share, number)
    assert np.array_equal(parts.train, again.train)
    assert np.array_equal(parts.valid, again.valid)
    assert np.array_equal(split(images, seed, share).valid, parts.valid)
    assert np.isin(parts.train, split(images, seed, share).train).all()


def test_another_seed_is_another_split() -> None:
    images = with_labels(labels(100))
    assert not np.array_equal(split(images, 0).valid, split(images, 1).valid)


@pytest.mark.parametrize(
    ("sizes", "share", "fits"),
    [
        ((50, 20), 0.999, 0.95),
        ((2, 40), 0.8, 0.5),
        ((3, 9), 0.9, 0.66),
        ((900, 901), 0.9999, 0.998),
    ],
)
def test_a_share_that_leaves_none_to_train_on_is_told_one_that_fits(
    sizes: tuple[int, int], share: float, fits: float
) -> None:
    images = with_labels(np.repeat([0, 1], sizes))
    least = min(sizes)
    with pytest.raises(
        ConfigError,
        match=f"valid_share is {share}, which leaves none of the {least} images of class "
        f"'{sizes.index(least)}' to train on; {fits} leaves some",
    ):
        split(images, 0, share)
    assert set(images.y_train[split(images, 0, fits).train]) == {0, 1}


def test_splits_that_cannot_be_made() -> None:
    with pytest.raises(
        DataError,
        match=r"class '1' has 1 image to train on and to judge by, but 2 are the least",
    ):
        split(with_labels([0, 0, 0, 1]), 0)
    with pytest.raises(DataError, match="class '1' has no validation image"):
        split(with_labels([0, 1, 0, 1, 0], own_valid=1), 0)
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(ConfigError, match="valid_share must be above 0 and below 1"):
            split(with_labels(labels(20)), 0, share)
    with pytest.raises(
        ConfigError, match="train_images must be 2, one for each class, or more, but is 1"
    ):
        split(with_labels(labels(20)), 0, train_images=1)
