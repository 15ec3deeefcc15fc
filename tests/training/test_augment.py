"""Batched augmentation against loops over single images in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nanonas.errors import ConfigError
from nanonas.training.augment import Augment, normalise, to_device

Pixels = NDArray[np.uint8]


def images(
    number: int = 6, height: int = 9, width: int = 11, channels: int = 3, seed: int = 0
) -> Pixels:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (number, height, width, channels), dtype=np.uint8)


def on_device(x: Pixels) -> torch.Tensor:
    return to_device(x, np.zeros(len(x), np.int64))[0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_by_one(
    x: Pixels, indices: Sequence[int], augment: Augment, draws: Sequence[Sequence[int]]
) -> Pixels:
    """The augmented images, by a plain loop over single images."""
    out: list[Pixels] = []
    for index, (top, left, flipped, centre_y, centre_x) in zip(indices, draws, strict=True):
        height, width = x.shape[1:3]
        pad = augment.crop
        image = np.pad(x[index], ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
        image = image[pad + top : pad + top + height, pad + left : pad + left + width]
        if flipped:
            image = image[:, ::-1]
        if augment.cutout:
            image = image.copy()
            y, x0 = centre_y - augment.cutout // 2, centre_x - augment.cutout // 2
            image[
                max(y, 0) : max(y + augment.cutout, 0), max(x0, 0) : max(x0 + augment.cutout, 0)
            ] = augment.fill
        out.append(image)
    return np.stack(out)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(8, 13),
    width=st.integers(8, 13),
    channels=st.sampled_from([1, 3]),
    crop=st.integers(0, 7),
    flip=st.booleans(),
    cutout=st.integers(0, 20),
    seed=st.integers(0, 1000),
)
def test_equals_the_loop_over_images(
    height: int, width: int, channels: int, crop: int, flip: bool, cutout: int, seed: int
) -> None:
    x = images(5, height, width, channels, seed)
    augment = Augment(crop, flip, cutout, fill=tuple(range(10, 10 + channels)))
    indices = torch.tensor([4, 0, 0, 3, 2, 1, 4])
    batch = augment(on_device(x), indices, generator(seed))
    draws = augment._drawn(7, height, width, generator(seed), torch.device("cpu"))  # (5, 7, 1)
    expected = one_by_one(x, indices.tolist(), augment, draws[:, :, 0].T.tolist())
    np.testing.assert_array_equal(batch.permute(0, 2, 3, 1).numpy(), expected)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.dtype == torch.uint8


def test_draws_cover_their_ranges_and_differ_between_images() -> None:
    augment = Augment(crop=2, flip=True, cutout=3)
    top, left, flipped, centre_y, centre_x = augment._drawn(
        2000, 9, 11, generator(), torch.device("cpu")
    )
    for drawn, low, high in (
        (top, -2, 2),
        (left, -2, 2),
        (flipped, 0, 1),
        (centre_y, 0, 8),
        (centre_x, 0, 10),
    ):
        assert drawn.unique().tolist() == list(range(low, high + 1))
    assert 900 < int(flipped.sum()) < 1100
    assert not torch.equal(top, left)


def test_is_a_function_of_the_generator() -> None:
    x, augment = on_device(images(32)), Augment(2, True, 3)
    one = augment(x, None, generator(1))
    assert torch.equal(one, augment(x, None, generator(1)))
    assert not torch.equal(one, augment(x, None, generator(2)))


@pytest.mark.parametrize("part", [slice(0, 3), slice(3, 7), slice(None)])
def test_a_part_of_a_batch_is_that_part_of_the_whole(part: slice) -> None:
    images = torch.randint(256, (9, 3, 8, 10), dtype=torch.uint8)
    augment, indices = Augment(crop=2, flip=True, cutout=3), torch.tensor([8, 1, 1, 0, 5, 2, 7])
    for flipped in (None, torch.tensor([0, 1, 1, 0, 0, 1, 0])):
        whole, some = (
            augment(images, indices, torch.Generator().manual_seed(3), flipped, which)
            for which in (slice(None), part)
        )
        assert torch.equal(some, whole[part])


def test_changes_nothing_when_all_is_off_and_never_writes_into_the_images() -> None:
    array = images(8)
    x = on_device(array)
    before = array.copy()
    assert torch.equal(Augment()(x, None, generator()), x)
    Augment(3, True, 5)(x, None, generator())
    np.testing.assert_array_equal(array, before)


def test_takes_images_in_another_memory_order() -> None:
    x = on_device(images(8))
    augment = Augment(2, True, 3)
    assert torch.equal(augment(x.contiguous(), None, generator()), augment(x, None, generator()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"crop": -1}, "crop and cutout are pixels, 0 or more, but are -1 and 0"),
        ({"cutout": -2}, "0 and -2"),
        ({"fill": (256,)}, "fill must hold values from 0 to 255"),
        ({"fill": ()}, "fill must hold values"),
    ],
)
def test_refuses_numbers_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augment(**arguments)


def test_refuses_what_does_not_fit_the_images() -> None:
    x = on_device(images(2))
    with pytest.raises(ConfigError, match="crop must be smaller than the images, 9x11, but is 9"):
        Augment(crop=9)(x, None, generator())
    with pytest.raises(ConfigError, match="fill must hold 1 or 3 values"):
        Augment(fill=(1, 2))(x, None, generator())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_normalise_is_the_formula_in_the_same_order(dtype: torch.dtype) -> None:
    x = images(4)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    out = normalise(on_device(x), mean, std, dtype)
    expected = (x / 255 - np.array(mean)) / np.array(std)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    np.testing.assert_allclose(out.permute(0, 2, 3, 1).float().numpy(), expected, atol=tolerance)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_to_device_copies_nothing_on_the_cpu_even_of_a_read_only_map(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images())
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    tensor, labels = to_device(x, np.arange(6))
    assert tensor.shape == (6, 3, 9, 11)
    assert tensor.data_ptr() == x.ctypes.data
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == list(range(6))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_every_device_sees_the_same_batch() -> None:
    x, augment = on_device(images(16)), Augment(2, True, 3)
    assert torch.equal(augment(x.cuda(), None, generator()).cpu(), augment(x, None, generator()))
