"""Groups: images that belong together are in one part, whatever says which they are."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.images import encoded, image_folder, labels, npz, pixels
from toys.photos import film_folder

from nanonas.data.cache import read_rows
from nanonas.data.holdout import held_out_groups
from nanonas.data.images import DataSpec, Images, load
from nanonas.data.split import split
from nanonas.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("cache")

FILM = r"(class\d/film\d+)_"


def names_of(images: Images) -> tuple[str, ...]:
    assert images.folder is not None
    return read_rows(images.folder).names


# --- which images are set apart -------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=15), min_size=2, max_size=4),
    share=st.floats(0.05, 0.5),
    seed=st.integers(0, 1000),
    keep=st.integers(1, 2),
)
def test_whole_groups_are_set_apart_and_each_class_has_some(
    sizes: list[list[int]], share: float, seed: int, keep: int
) -> None:
    y = np.repeat(np.arange(len(sizes)), [sum(each) for each in sizes])
    groups = np.repeat(np.arange(sum(map(len, sizes))), [n for each in sizes for n in each])
    order = np.random.default_rng(seed).permutation(len(y))
    y, groups = y[order], groups[order]
    names = [str(label) for label in range(len(sizes))]
    apart, again = (
        held_out_groups(y, groups, share, np.random.default_rng(seed), names, keep)
        for _ in range(2)
    )
    assert np.array_equal(apart, again)
    assert not np.intersect1d(groups[apart], groups[~apart]).size
    for label, each in enumerate(sizes):
        own = y == label
        assert apart[own].any()
        assert len(np.unique(groups[own & ~apart])) >= keep
        # as near to the share as one more or one less of the largest group
        assert abs(apart[own].sum() - share * own.sum()) <= max(each)


def test_groups_of_several_classes_come_as_near_to_all_shares_as_the_best_choice() -> None:
    """Against every choice of groups there is."""
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 8, 120)
    y = rng.integers(0, 3, 120)
    target = np.maximum(1, 0.25 * np.bincount(y))

    def away(apart: np.ndarray) -> float:
        return float((((np.bincount(y[apart], minlength=3) - target) / target) ** 2).sum())

    choices = [np.isin(groups, [g for g in range(8) if bits >> g & 1]) for bits in range(1, 255)]
    best = min(away(choice) for choice in choices if np.bincount(y[choice], minlength=3).all())
    found = held_out_groups(y, groups, 0.25, np.random.default_rng(1), ["a", "b", "c"])
    assert away(found) <= best + 0.02


# --- a folder -------------------------------------------------------------------------------------


def test_a_film_lies_in_one_part_of_a_folder(tmp_path: Path) -> None:
    root = film_folder(tmp_path / "films", films=10, frames=4)
    images = load(str(root), groups=FILM)
    names = names_of(images)
    film = np.array([name.split("_")[0] for name in names])
    train, test = film[: len(images.y_train)], film[len(images.y_train) :]
    assert not set(train) & set(test)
    assert np.bincount(images.y_test).tolist() == [8, 8]  # two films of ten of each class
    assert images.groups_train is not None
    for seed in range(3):
        parts = split(images, seed, 0.2)
        assert not set(train[parts.train]) & set(train[parts.valid])
        assert np.bincount(images.y_train[parts.valid]).tolist() == [8, 8]
        assert len(parts.train) + len(parts.valid) == len(train)
        few = split(images, seed, 0.2, train_images=10)
        assert np.array_equal(few.valid, parts.valid)
        assert np.isin(few.train, parts.train).all()
    assert not np.array_equal(split(images, 0, 0.2).valid, split(images, 1, 0.2).valid)
    assert pickle.loads(pickle.dumps(images)).groups_train.tolist() == images.groups_train.tolist()


def test_names_are_those_of_the_rows(tmp_path: Path) -> None:
    """Each name's image is at its place: with a test set split off, and with parts."""
    for place, prefix in enumerate((("",), ("train/", "val/", "test/"))):
        root = tmp_path / str(place)
        for part in prefix:
            image_folder(root / part, number=7)
        images = load(str(root), 12)
        x = np.concatenate([images.x_train, images.x_test])
        y = np.concatenate([images.y_train, images.y_test])
        names = names_of(images)
        assert len(set(names)) == len(x) == 14 * len(prefix)
        for name, image, label in zip(names, x, y, strict=True):
            kind, number = name.removesuffix(".png").split("/")[-2:]
            assert images.class_names[label] == kind
            expected = pixels(7, 12, 12, 3, seed=("cat", "dog").index(kind))[int(number)]
            np.testing.assert_array_equal(image, expected)


def test_a_file_of_groups(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", number=12)
    path = tmp_path / "groups.csv"
    lines = [f"{kind}/{n:02}.png,{kind}{n // 3}" for kind in ("cat", "dog") for n in range(12)]
    path.write_text("\n".join(["path,group", *lines]), encoding="utf-8-sig")
    images = load(str(root), groups=str(path))
    assert images.groups_train is not None
    assert images.groups_test is not None
    assert not np.intersect1d(images.groups_train, images.groups_test).size
    assert len(np.unique(np.concatenate([images.groups_train, images.groups_test]))) == 8
    alone = load(str(root))
    assert alone.groups_train is None
    assert alone.fingerprint != images.fingerprint
    spec = DataSpec(str(root), groups=str(path)).pinned_to(images)
    assert spec.load().folder == images.folder
    path.write_text("\n".join(["path,group", *lines[:-1], "dog/11.png,cat0"]), encoding="utf-8")
    os.utime(path, (1, 1))
    assert load(str(root), groups=str(path)).fingerprint != images.fingerprint


WRONG_FILES = {
    "image,group\na,b": "must name the columns path and group, but is 'image, group'",
    "path,group\ncat/00.png,": "line 2 of .* must hold a path and a group, but holds 'cat/00.png'",
    "path,group\ncat/00.png,a\ncat/00.png,b": "into two groups, 'a' and 'b'; keep one",
    "path,group\ncat/00.png,a": "has no group for the image 'cat/01.png'; add a line for it",
    "path,group\n\0": "cannot be read|must hold a path",
    "": "must name the columns",
}


@pytest.mark.parametrize("content", WRONG_FILES)
def test_a_wrong_file_of_groups(tmp_path: Path, content: str) -> None:
    root, path = image_folder(tmp_path / "pets"), tmp_path / "groups.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=WRONG_FILES[content]):
        load(str(root), groups=str(path))


def test_an_expression_that_would_take_forever_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path / "pets")
    (root / "cat" / "00.png").rename(root / "cat" / f"{'a' * 60}.png")
    monkeypatch.setattr("nanonas.data.sources.groups._PATIENCE", 1.0)
    with pytest.raises(ConfigError, match=r"takes more than 1 s to search .* a repetition within"):
        load(str(root), groups="(?:a+)+(b)")


def test_wrong_groups(tmp_path: Path) -> None:
    root = str(image_folder(tmp_path / "pets"))
    with pytest.raises(ConfigError, match="neither a file nor a regular expression: missing"):
        load(root, groups="(cat")
    with pytest.raises(ConfigError, match="unterminated subpattern"):
        load(root, groups="x" * 300 + "(")
    with pytest.raises(ConfigError, match=r"needs one part in parentheses, .* and this has 2"):
        load(root, groups="(.)(.)")
    with pytest.raises(DataError, match=r"'\(x\)', which does not match the image 'cat/00.png'"):
        load(root, groups="(x)")
    with pytest.raises(DataError, match=r"there is no file of groups '.*none.csv'"):
        load(root, groups=str(tmp_path / "none.csv"))
    with pytest.raises(
        DataError, match=r"class 'cat' has images of 1 group, but 3 are the least, to train on, "
    ):
        load(root, groups="^(cat|dog)")


def test_validation_needs_a_group_of_its_own(tmp_path: Path) -> None:
    for part in ("train", "test"):
        image_folder(tmp_path / part)
    images = load(str(tmp_path), groups=r"(\w+)/\d+")
    with pytest.raises(DataError, match=r"class 'cat' has images of 1 group, but 2 are the least"):
        split(images, 0)


# --- other sources --------------------------------------------------------------------------------


def test_an_array_of_groups(tmp_path: Path) -> None:
    who = np.repeat(np.array(["ann", "bob", "cy", "di", "ed"]), 4)
    path = npz(tmp_path / "a.npz", patient=who, y_train=labels(20))
    images = load(path, groups="patient")
    assert images.groups_train is not None
    assert len(images.y_test) == 4
    assert images.groups_test is not None
    assert not np.intersect1d(images.groups_train, images.groups_test).size
    assert "patient" not in " ".join(images.remarks)
    assert "patient" in " ".join(load(path).remarks)
    own = npz(
        tmp_path / "b.npz",
        groups_train=np.arange(20) // 2,
        x_test=pixels(6, 10, 10),
        y_test=labels(6),
        groups_test=np.arange(6) + 9,
    )
    parts = load(own, groups="groups")
    assert parts.groups_train is not None
    assert parts.groups_test is not None
    assert np.intersect1d(parts.groups_train, parts.groups_test).size == 1  # 9
    with pytest.raises(
        DataError, match=r"groups is 'hospital' .*has no such array; it has patient"
    ):
        load(path, groups="hospital")
    short = npz(tmp_path / "c.npz", patient=who[:-1])
    with pytest.raises(DataError, match=r"patient in .* a word for each of the 20 images, but is"):
        load(short, groups="patient")


def test_sources_without_names_have_no_groups(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the images of '.*cifar-10.* have no names to group them"):
        load("cifar10", groups="(.)")


def test_groups_of_parquet_are_those_of_its_rows(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    images = [encoded(image) for image in pixels(24, 10, 10, 3)]
    table = pyarrow.table({"image": images, "label": list(labels(24))})
    pyarrow.parquet.write_table(table, tmp_path / "all.parquet")
    lines = [f"row {row} of all.parquet,{row // 4}" for row in range(24)]
    path = tmp_path / "groups.csv"
    path.write_text("\n".join(["path,group", *lines]), encoding="utf-8")
    found = load(str(tmp_path / "all.parquet"), groups=str(path))
    assert found.groups_train is not None
    assert found.groups_test is not None
    assert not np.intersect1d(found.groups_train, found.groups_test).size
    assert len(found.groups_test) == 4
