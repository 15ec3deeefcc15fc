"""Images in memory on their way to a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nanonas.data import load
from nanonas.data.in_memory import Scaling, are_paths, held_out, link_files, write_images
from nanonas.errors import DataError


@given(top=st.sampled_from([1.0, 16.0, 255.0, 4095.0]), seed=st.integers(0, 99))
def test_the_highest_number_becomes_white_and_the_order_stays(top: float, seed: int) -> None:
    x = np.random.default_rng(seed).random((4, 5, 6)) * top
    x[0, 0, 0] = top
    pixels = Scaling.of(x).pixels(x)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.rint(x / top * 255))


def test_pixels_stay_as_they_are_and_later_images_are_scaled_as_the_first() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(Scaling.of(x).pixels(x), x)
    scaling = Scaling.of(np.full((1, 2, 2), 16.0))
    np.testing.assert_array_equal(
        scaling.pixels([[[0.0, 8.0], [16.0, 99.0]]])[0].ravel()[::3], [0, 255]
    )
    assert Scaling.of(np.array([[[0.0, 0.5]]])).top == 1  # not .5: in [0, 1] already


def test_flat_rows_become_images() -> None:
    x = np.arange(24, dtype=np.uint8).reshape(2, 12)
    np.testing.assert_array_equal(Scaling.of(x, (3, 4)).pixels(x), x.reshape(2, 3, 4))


@pytest.mark.parametrize(
    ("x", "shape", "message"),
    [
        (np.zeros((2, 12)), None, "flat rows need image_shape"),
        (np.ones((2, 12)), (3, 5), r"must have the shape \(N, 15\)"),
        (np.ones((2, 3, 4, 2)), None, "1 or 3 channels"),
        (np.array([["a", "b"]]), None, "array of numbers"),
        (-np.ones((2, 3, 4)), None, "0 or more, but holds -1"),
        (np.full((2, 3, 4), np.nan), None, "NaN or infinite"),
        (np.zeros((2, 3, 4)), None, "no number above 0"),
    ],
)
def test_what_is_no_image_is_refused(
    x: np.ndarray, shape: tuple[int, ...] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Scaling.of(x, shape)


@given(
    counts=st.lists(st.integers(2, 30), min_size=2, max_size=5),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_a_share_of_each_class_is_held_out(counts: list[int], share: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    apart = held_out(labels, share, seed)
    for label, count in enumerate(counts):
        number = apart[labels == label].sum()
        assert 1 <= number <= count - 1
        assert abs(number - share * count) <= 1
    np.testing.assert_array_equal(apart, held_out(labels, share, seed))


def test_a_class_of_one_image_cannot_be_tested() -> None:
    with pytest.raises(DataError, match="class 1 has 1 image"):
        held_out(np.array([0, 0, 1]), 0.1, 0)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (20, 8, 8), np.uint8), np.arange(20) % 2
    test = held_out(labels, 0.2, 0)
    write_images(tmp_path / "images.npz", pixels, labels, ["no", "yes"], test)
    images = load(str(tmp_path / "images.npz"), cache=tmp_path / "cache")
    assert images.class_names == ("no", "yes")
    np.testing.assert_array_equal(images.x_train[..., 0], pixels[~test])
    np.testing.assert_array_equal(images.y_test, labels[test])


def test_linked_files_keep_their_classes_and_parts(tmp_path: Path) -> None:
    paths, labels = [], np.arange(24) % 12
    for number in range(24):
        paths.append(tmp_path / f"{number}.png")
        Image.new("L", (8, 8), 10 * number).save(paths[-1])
    test = held_out(labels, 0.5, 0)
    link_files(tmp_path / "links", paths, labels, 12, test)
    images = load(str(tmp_path / "links"), cache=tmp_path / "cache")
    assert images.class_names == tuple(f"{number:02d}" for number in range(12))
    shades = {
        int(image.max()) // 10: int(label)
        for image, label in zip(images.x_test, images.y_test, strict=True)
    }
    assert shades == {number: number % 12 for number in np.flatnonzero(test)}
    with pytest.raises(DataError, match=r"gone.png' is no file"):
        link_files(
            tmp_path / "others", [tmp_path / "gone.png"], np.array([0]), 1, np.array([False])
        )


def test_paths_are_told_from_arrays() -> None:
    assert are_paths(["a.png", Path("b.png")])
    assert are_paths(np.array(["a.png"]))
    assert not are_paths(np.zeros((2, 3, 4)))
    assert not are_paths([[1, 2], [3, 4]])
    assert not are_paths([])
