"""The images of a training: drawn from a data set, subsampled and shrunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nanonas.core import Budget, Candidate, Proposal, State
from nanonas.data.images import DataSpec, load
from nanonas.data.split import split
from nanonas.spaces.nano import NanoSpace
from nanonas.training import pictures as module
from nanonas.training import trial as trials
from nanonas.training.augment import Augment
from nanonas.training.pictures import (
    both_shrunk,
    final_pictures,
    fits,
    held_out_pictures,
    part,
    pictures,
    prepare_sizes,
    shrunk,
)
from nanonas.training.recipe import Recipe
from nanonas.training.trial import Trial


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


# --- more images than memory ----------------------------------------------------------------------


@pytest.fixture
def colours(tmp_path: Path, cache: Path) -> DataSpec:
    """Sixty colour images of 20×24, pinned to the cache as a search pins them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 20, 24, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(60) % 3)
    spec = DataSpec(str(tmp_path / "a.npz"), valid_share=0.25, seed=1)
    return spec.pinned_to(spec.load())


def files(spec: DataSpec) -> list[str]:
    assert spec.pinned is not None
    return sorted(path.name for path in spec.pinned.glob("x_train-*"))


def test_images_that_do_not_fit_are_shrunk_into_one_file_with_the_same_pixels(
    colours: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = pictures(colours, "cpu")
    resident = both_shrunk(*both, 12, colours.pinned)
    assert files(colours) == []
    monkeypatch.setattr(module, "RESIDENT", 0.0)
    monkeypatch.setattr(module, "_CHUNK_PIXELS", 1)  # sixteen images at a time
    mapped = both_shrunk(*both, 12, colours.pinned)
    assert files(colours) == ["x_train-12-cpu.npy"]
    assert mapped[0].x.data_ptr() == mapped[1].x.data_ptr()  # one for both, and for all workers
    for small, read in zip(resident, mapped, strict=True):
        assert read.rows is not None
        assert torch.equal(read.pixels(read.rows), small.x)
        assert torch.equal(read.y[read.rows], small.y)
        assert read.x.is_contiguous(memory_format=torch.channels_last)


def test_the_file_is_there_before_workers_need_it(
    colours: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_sizes(colours, {12, 16}, "cpu")
    assert files(colours) == []
    monkeypatch.setattr(module, "RESIDENT", 0.0)
    prepare_sizes(colours, {12, 16}, "cpu")
    assert files(colours) == ["x_train-12-cpu.npy", "x_train-16-cpu.npy"]
    monkeypatch.setattr(module, "_shrunk_chunks", None)  # they are not made again
    both_shrunk(*pictures(colours, "cpu"), 16, colours.pinned)
    assert load(colours.source).fingerprint == colours.fingerprint


def test_a_candidate_comes_out_the_same_whether_images_fit_or_not(
    colours: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = NanoSpace((3, 20, 24), 3, channels=2, length=3)
    recipe = Recipe(batch_size=10, augment=Augment(crop=2, flip=True), whiten=True)
    trial = Trial(space, colours, recipe, seed=5)
    budget = Budget(2, share=0.8, image_size=12)
    candidate = Candidate(3, Proposal((0, 3, 4), budget=budget), "key")
    trials._on_device.cache_clear()
    resident = trial(candidate, lambda: True)
    monkeypatch.setattr(module, "RESIDENT", 0.0)
    trials._on_device.cache_clear()
    mapped = trial(candidate, lambda: True)
    assert files(colours) == ["x_train-12-cpu.npy"]
    assert resident.state is State.COMPLETE
    assert mapped.curve == resident.curve


def test_how_much_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "memory_of", lambda device: 1000)
    assert fits(500, "cpu")
    assert not fits(501, "cpu")
    assert not fits(300, "cpu", copies=2)
    monkeypatch.setattr(module, "memory_of", lambda device: None)
    assert fits(10**15, "cpu")
