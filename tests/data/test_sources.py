"""Each source, with tiny files made here; what bad data is told."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from toys.images import Pixels, encoded, image_folder, labels, npz, pixels, png

from nanonas.config.schema import DataOptions
from nanonas.config.trainings import load_images
from nanonas.data import found
from nanonas.data.images import load
from nanonas.data.sources import SOURCES, cifar, find_reader, shadowed, stored, tables
from nanonas.data.sources.parquet import Parquet
from nanonas.data.split import split
from nanonas.errors import DataError
from nanonas.session.setup import located

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10"

pytestmark = pytest.mark.usefixtures("cache")


# --- digits ---------------------------------------------------------------------------------------


def test_digits_come_with_the_package() -> None:
    images = load("digits")
    assert images.input_shape == (1, 8, 8)
    assert images.classes == 10
    said = 'digits: 10 classes ("1": 146 … "8": 139), 1,438 + 359 images of 8×8'
    assert images.in_words() == said
    assert (len(images.x_train), len(images.x_test)) == (1438, 359)
    assert not images.flip
    assert images.x_train.max() == 255
    x = np.asarray(images.x_train) / 255
    np.testing.assert_allclose((images.mean[0], images.std[0]), (x.mean(), x.std()))
    both = {bytes(image) for image in np.concatenate([images.x_train, images.x_test])}
    assert len(both) == 1797  # none twice, so none in both


def test_flip_can_be_said_and_images_can_be_scaled() -> None:
    images = load("digits", 16, flip=True)
    assert images.flip
    assert images.input_shape == (1, 16, 16)
    expected = Image.fromarray(load("digits").x_train[5, :, :, 0]).resize(
        (16, 16), Image.Resampling.BILINEAR
    )
    np.testing.assert_array_equal(images.x_train[5, :, :, 0], np.asarray(expected))


# --- npz ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["NHW", "NHWC", "NCHW", "NHW1"])
def test_npz_in_every_layout(tmp_path: Path, layout: str) -> None:
    x = pixels(20, 10, 12) if layout in ("NHW", "NHW1") else pixels(20, 10, 12, 3)
    stored = {
        "NHW": x,
        "NHWC": x,
        "NCHW": np.moveaxis(x, 3, 1) if x.ndim == 4 else x,
        "NHW1": x[..., None],
    }[layout]
    images = load(npz(tmp_path / "a.npz", x_train=stored, x_test=stored[:4], y_test=labels(4)))
    np.testing.assert_array_equal(images.x_train, x.reshape(20, 10, 12, -1))
    np.testing.assert_array_equal(images.x_test, x[:4].reshape(4, 10, 12, -1))
    assert images.y_train.tolist() == labels(20).tolist()
    assert images.class_names == ("0", "1")
    assert images.y_train.dtype == np.int64
    assert images.flip == (x.ndim == 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_npz_of_other_numbers(tmp_path: Path, dtype: type[Any]) -> None:
    x = pixels(20, 10, 10)
    x = x // 128 * 255 if dtype is bool else x
    stored = (x / 255).astype(dtype) if np.dtype(dtype).kind == "f" else x.astype(dtype)
    path = npz(tmp_path / "a.npz", x_train=stored, x_test=stored, y_test=labels(20)[:, None])
    np.testing.assert_array_equal(load(path).x_train[..., 0], x)


def test_npz_with_its_own_validation_images_and_names(tmp_path: Path) -> None:
    valid = pixels(6, 10, 10, seed=1)
    path = npz(
        tmp_path / "a.npz", x_valid=valid, y_valid=labels(6), class_names=np.array(["cat", "dog"])
    )
    images = load(path)
    assert images.class_names == ("cat", "dog")
    assert images.own_valid == 6
    assert len(images.x_train) == 16 + 6  # 20 % went to the test set
    np.testing.assert_array_equal(images.x_train[16:, :, :, 0], valid)
    parts = split(images, seed=3)
    assert parts.valid.tolist() == list(range(16, 22))
    assert parts.train.tolist() == list(range(16))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev"])
def test_npz_parts_have_their_usual_names(tmp_path: Path, name: str) -> None:
    valid, test = pixels(6, 10, 10, seed=1), pixels(4, 10, 10, seed=2)
    stored: dict[str, NDArray[Any]] = {
        f"x_{name}": valid,
        f"y_{name}": labels(6),
        "x_testing": test,
        "y_testing": labels(4),
    }
    images = load(npz(tmp_path / "a.npz", **stored))
    assert images.own_valid == 6
    np.testing.assert_array_equal(images.x_train[20:, :, :, 0], valid)
    np.testing.assert_array_equal(images.x_test[..., 0], test)


def test_npz_says_which_arrays_are_passed_over(tmp_path: Path) -> None:
    path = npz(tmp_path / "a.npz", weights=np.ones(20), author=np.array("me"))
    for _ in range(2):  # decoded, and from the cache
        images = load(path)
        assert len(images.x_train) == 16
        assert images.in_words().endswith(" images of 10×10; passed over: author, weights")


X = pixels(20, 10, 10)
BAD_NPZ: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "no images": ({"x_train": X[:0], "y_train": labels(0)}, "training images of 0 class"),
    "no test labels": ({"x_test": X}, "holds x_test but no y_test; add the labels"),
    "no test images": ({"y_test": labels(4)}, "holds y_test but no x_test; add the images"),
    "no validation labels": ({"x_val": X}, "holds x_val but no y_val; add the labels"),
    "a part twice": (
        {"x_val": X, "y_val": labels(20), "x_dev": X, "y_dev": labels(20)},
        "x_val and x_dev, which both are names of its valid images; keep one of them",
    ),
    "a part of no name": (
        {"x_eval": X, "y_eval": labels(20)},
        "holds x_eval, which is the name of no part; rename it .*x_val, .* or leave it out",
    ),
    "a part in capitals": ({"Y_val": labels(20)}, "holds Y_val, which is the name of no part"),
    "too few labels": ({"y_train": labels(19)}, "has 20 images, but y_train has 19 labels"),
    "other shapes": ({"x_test": pixels(4, 9, 9), "y_test": labels(4)}, "they must match"),
    "two channels": (
        {"x_train": pixels(20, 10, 10, 2)},
        r"1 or 3 channels, but is \(20, 10, 10, 2\)",
    ),
    "flat": ({"x_train": pixels(20, 100)}, r"but is \(20, 100\)"),
    "floats to 255": (
        {"x_train": X.astype(float)},
        r"values in \[0, 1\] as float64, but holds .* divide them by 255",
    ),
    "large integers": ({"x_train": X.astype(int) * 2}, r"values in \[0, 255\] as int64"),
    "NaN": (
        {"x_train": np.where(np.arange(2000).reshape(X.shape) // 3 == 451, np.nan, X / 255)},
        "3 of its 2,000 values are NaN or infinite, the first, nan, in image 13; leave out",
    ),
    "infinite": (
        {"x_test": np.where(X == X, -np.inf, 0)[:2], "y_test": labels(2)},
        "x_test in .* 200 of its 200 values are NaN or infinite, the first, -inf, in image 0",
    ),
    "in [-1, 1]": (
        {"x_train": X / 127.5 - 1},
        r"as float64, but holds -1.0 to 1.0; if they are scaled to \[-1, 1\], save \(x \+ 1\) / 2",
    ),
    "standardised": ({"x_train": X / 64.0 - 2}, r"save x \* deviation \+ mean"),
    "floats of 16 bits": ({"x_train": X * 257.0}, "divide them by 65535"),
    "signed": ({"x_train": X.astype(int) - 128}, "holds -128 to 127; add 128 to them, as uint8"),
    "too few names": (
        {"y_train": labels(20, 6), "class_names": np.array(["a", "b", "c"])},
        "has 3 names, but the labels in y_train go up to 5; name all 6 classes",
    ),
    "too few names for the test": (
        {"x_test": X, "y_test": labels(20, 5), "class_names": np.array(["a", "b"])},
        "has 2 names, but the labels in y_test go up to 4; name all 5 classes",
    ),
    "complex": ({"x_train": X.astype(complex)}, "but is complex128"),
    "objects": (
        {"y_train": np.array([None] * 20)},
        "holds object arrays, which are never unpickled",
    ),
    "half labels": (
        {"y_train": labels(20) / 2},
        "must be .N,. whole numbers from 0, but is float64",
    ),
    "text labels": ({"y_train": np.array(["a", "b"] * 10)}, "whole numbers from 0, but is <U1"),
    "one-hot labels": ({"y_train": np.eye(2)[labels(20)]}, r"but is float64 of shape \(20, 2\)"),
    "negative labels": ({"y_train": labels(20) - 1}, "has the label -1 among its training images"),
    "a gap": (
        {"y_train": labels(20) * 2},
        "no training image of class '1'; number the classes from 0 without gaps",
    ),
    "a huge label": ({"y_train": labels(20) * 10**9}, "one is 1000000000; renumber them"),
    "one class": ({"y_train": labels(20) * 0}, "training images of 1 class"),
    "unknown test label": (
        {"x_test": X, "y_test": labels(20, 3)},
        "the label 2 among its test images",
    ),
    "tiny": ({"x_train": pixels(20, 7, 9)}, "are 7x9 pixels, but 8x8 is the least"),
    "few of each": ({"y_train": labels(20, 10)}, "too few images to split off a test set"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_npz_that_cannot_be_used_is_told_why(tmp_path: Path, cache: Path, case: str) -> None:
    arrays, message = BAD_NPZ[case]
    with pytest.raises(DataError, match=message):
        load(npz(tmp_path / "a.npz", **arrays))
    assert not list(cache.glob("decoded/*"))  # nothing half done stays


@pytest.mark.parametrize("layout", ["stored", "packed", "fortran", "first", "float", "grey"])
def test_npz_read_in_pieces_is_what_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    x = pixels(20, 9, 11, 3)
    made: dict[str, NDArray[Any]] = {
        "first": x.transpose(0, 3, 1, 2),
        "fortran": np.asfortranarray(x),
        "float": x / 255,
        "grey": x[..., 0],
    }
    save = np.savez_compressed if layout == "packed" else np.savez
    save(tmp_path / "a.npz", x_train=made.get(layout, x), y_train=labels(20))
    monkeypatch.setattr(stored, "_BYTES", 5000)
    images = load(str(tmp_path / "a.npz"))
    expected = x[..., :1] if layout == "grey" else x
    found = np.concatenate([images.x_train, images.x_test])
    assert sorted(image.tobytes() for image in found) == sorted(
        image.tobytes() for image in expected
    )


def test_npz_that_says_more_than_it_holds(tmp_path: Path) -> None:
    """A header of a few bytes must not cost memory, nor time."""
    for shape, message in (
        ((10**9, 9, 9), "values of uint8 has 162 bytes"),
        ((10**12, 9, 0), "values of uint8 has 162 bytes"),
        ((20, 9, 9), "values of uint8 has 162 bytes"),
    ):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for name, array, said in (
                ("x_train", pixels(2, 9, 9), shape),
                ("y_train", labels(20), (20,)),
            ):
                with archive.open(f"{name}.npy", "w") as file:
                    header = {"descr": array.dtype.str, "fortran_order": False, "shape": said}
                    np.lib.format.write_array_header_1_0(file, header)
                    file.write(array.tobytes())
        with pytest.raises(DataError, match=message):
            load(str(tmp_path / "a.npz"))


def test_npz_without_its_keys_or_that_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=X)
    with pytest.raises(DataError, match=r"must hold x_train and y_train, but holds \['images'\]"):
        load(str(tmp_path / "a.npz"))
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:500])
    with pytest.raises(DataError, match=r"b.npz' cannot be read as .npz"):
        load(str(tmp_path / "b.npz"))


# --- folders --------------------------------------------------------------------------------------


def test_folder_of_one_size_keeps_it_and_splits_off_a_test_set(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets", shape=(12, 14, 3))
    (root / "cat" / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    images = load(str(root))
    assert (images.name, images.class_names, images.input_shape) == (
        "pets",
        ("cat", "dog"),
        (3, 12, 14),
    )
    assert np.bincount(images.y_train).tolist() == [8, 8]
    assert np.bincount(images.y_test).tolist() == [2, 2]
    stored = {
        bytes(image) for image in np.concatenate([pixels(10, 12, 14, 3, seed=s) for s in (0, 1)])
    }
    assert {bytes(image) for image in np.concatenate([images.x_train, images.x_test])} == stored


def test_folder_with_parts_and_deeper_folders(tmp_path: Path) -> None:
    image_folder(tmp_path / "a" / "train", number=3)
    png(tmp_path / "a" / "train" / "cat" / "more" / "x.PNG", pixels(1, 12, 12, 3)[0])
    image_folder(tmp_path / "a" / "val", number=2)
    image_folder(tmp_path / "a" / "test", number=1)
    images = load(str(tmp_path / "a"))
    assert images.y_train.tolist() == [0] * 4 + [1] * 3 + [0, 0, 1, 1]
    assert images.own_valid == 4
    assert images.y_test.tolist() == [0, 1]
    np.testing.assert_array_equal(images.x_train[4], pixels(3, 12, 12, 3, seed=1)[0])


def test_folder_of_many_sizes_and_modes(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "a", number=3, shape=(20, 40, 3))
    png(root / "cat" / "grey.png", pixels(1, 30, 30)[0])
    png(root / "cat" / "alpha.png", pixels(1, 30, 30, 4)[0])
    png(root / "dog" / "16bit.png", pixels(1, 30, 30)[0].astype(np.uint16) * 257)
    palette = Image.fromarray(pixels(1, 30, 30)[0]).convert("P")
    palette.save(root / "dog" / "palette.png", transparency=bytes(range(256)))
    Image.fromarray(pixels(1, 30, 30, 3)[0]).convert("CMYK").save(root / "dog" / "print.jpg")
    Image.fromarray(pixels(1, 30, 30)[0] > 99).save(root / "dog" / "bits.png")
    assert load(str(root)).input_shape == (3, 32, 32)
    assert load(str(root), 8).input_shape == (3, 8, 8)


def test_large_images_become_64_and_keep_their_proportions(tmp_path: Path) -> None:
    wide = np.zeros((100, 200, 3), np.uint8)
    wide[:, 50:150] = 255  # the middle square, which is what stays
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png"):
        png(tmp_path / "r" / name, wide)
    images = load(str(tmp_path / "r"))
    assert images.input_shape == (3, 64, 64)
    assert images.x_train.min() > 200  # antialiasing looks a little beyond the cut


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    lying = np.zeros((32, 16), np.uint8)
    lying[:16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by a quarter: what is at the top comes to the right
    for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg", "b/1.jpg", "b/2.jpg", "b/3.jpg"):
        png(tmp_path / "r" / name, lying, exif=exif)
    images = load(str(tmp_path / "r"))
    assert images.input_shape == (1, 16, 32)
    assert images.x_train[0, :, 20:, 0].min() > 200
    assert images.x_train[0, :, :12, 0].max() < 50


def test_sixteen_bit_images_keep_their_shades(tmp_path: Path) -> None:
    x = pixels(1, 10, 10)[0]
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png"):
        png(tmp_path / "r" / name, x.astype(np.uint16) * 257)
    np.testing.assert_array_equal(load(str(tmp_path / "r")).x_train[0, :, :, 0], x)


def test_bad_folders(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="must have 2 or more classes with images, but has none"):
        load(str(tmp_path / "empty"))
    with pytest.raises(DataError, match="but has cat; make one folder for each class"):
        load(str(image_folder(tmp_path / "one", ("cat",))))
    root = image_folder(tmp_path / "unknown" / "train").parent
    image_folder(root / "test", ("cow",))
    with pytest.raises(
        DataError, match="has a class 'cow' that the training images lack; they have cat, dog"
    ):
        load(str(root))
    for content in (b"", b"no image", encoded(pixels(1, 12, 12, 3)[0])[:-200]):
        root = image_folder(tmp_path / f"broken{len(content)}")
        (root / "dog" / "03.png").write_bytes(content)
        with pytest.raises(
            DataError, match=r"dog/03.png cannot be read: .*; repair it or delete it"
        ):
            load(str(root))


# --- parquet --------------------------------------------------------------------------------------


def parquet(
    path: Path,
    x: Pixels,
    y: NDArray[Any],
    names: list[str] | None = None,
    image: str = "img",
    label: str = "label",
    plain: bool = False,
) -> str:
    """Writes images and labels in row groups of 7; returns the path."""
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cells = [encoded(array) for array in x]
    structs = [{"bytes": cell, "path": None} for cell in cells]
    table = arrow.table({image: cells if plain else structs, label: list(y)})
    if names:
        features = {label: {"names": names, "_type": "ClassLabel"}}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    writer.write_table(table, path, row_group_size=7)
    return str(path)


def test_parquet_folder_in_pieces(tmp_path: Path) -> None:
    x, y = pixels(20, 9, 9, 3), labels(20)
    for piece, rows in enumerate((slice(0, 10), slice(10, 20))):
        path = tmp_path / "a" / "data" / f"train-{piece:05}-of-00002.parquet"
        parquet(path, x[rows], y[rows], ["cat", "dog"], "image", "fine_label")
    parquet(
        tmp_path / "a" / "data" / "validation-00000-of-00001.parquet",
        x[:4],
        y[:4],
        None,
        "image",
        "fine_label",
    )
    parquet(
        tmp_path / "a" / "data" / "test-00000-of-00001.parquet",
        x[:6],
        y[:6],
        None,
        "image",
        "fine_label",
    )
    images = load(str(tmp_path / "a"))
    assert images.class_names == ("cat", "dog")
    np.testing.assert_array_equal(images.x_train, np.concatenate([x, x[:4]]))
    np.testing.assert_array_equal(images.x_test, x[:6])
    assert images.y_train.tolist() == [*y, *y[:4]]
    assert images.own_valid == 4


def pieces(root: Path, *names: str) -> Path:
    """Files of 20 images each; the folder."""
    for seed, name in enumerate(names):
        parquet(root / name, pixels(20, 9, 9, seed=seed), labels(20))
    return root


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("plain_text/train-00000-of-00001.parquet",), (16, 0, 4)),
        (("plain_text/train-0.parquet", "plain_text/test-0.parquet"), (20, 0, 20)),
        (("train/0000.parquet", "train/0001.parquet", "test/0000.parquet"), (40, 0, 20)),
        (("train/0.parquet", "validation/0.parquet", "test/0.parquet"), (20, 20, 20)),
        ((".cache/train.parquet", "data/train-00000-of-00001.parquet"), (16, 0, 4)),
    ],
)
def test_parquet_one_folder_deeper(
    tmp_path: Path, names: tuple[str, ...], parts: tuple[int, int, int]
) -> None:
    root = pieces(tmp_path / "a", *names)
    (root / "README.md").write_text("a data set")
    images = load(str(root))
    train, valid, test = parts
    assert (len(images.x_train), images.own_valid, len(images.x_test)) == (
        train + valid,
        valid,
        test,
    )


def test_parquet_that_can_be_read_in_two_ways_is_refused(tmp_path: Path) -> None:
    for names, message in (
        (("train.parquet", "data/train-0.parquet"), "in the folder itself and in data; name one"),
        (("cats/train.parquet", "dogs/train.parquet"), "in cats and in dogs; name one of them"),
        (("train/0.parquet", "training/0.parquet"), "in train and in training; name one of them"),
        (("train/test-0.parquet", "test/0.parquet"), "test-0.parquet .* train .* test images"),
    ):
        root = pieces(tmp_path / names[0].replace("/", "-"), *names)
        with pytest.raises(DataError, match=message):
            load(str(root))
    root = image_folder(pieces(tmp_path / "both", "data/train-0.parquet"))
    with pytest.raises(DataError, match=r"parquet files in data.*images in cat, dog; move"):
        load(str(root))
    root = image_folder(pieces(tmp_path / "parts", "train/train-0.parquet") / "train").parent
    with pytest.raises(DataError, match=r"parquet files in train.*images in train; move"):
        load(str(root))


def test_parquet_in_a_folder_of_images_is_passed_over(tmp_path: Path) -> None:
    root = pieces(image_folder(tmp_path / "pets"), "cat/features.parquet")
    assert load(str(root)).in_words().endswith("passed over: 1 .parquet")
    root = image_folder(tmp_path / "parts" / "train").parent
    image_folder(root / "test")
    pieces(root, "train/metadata.parquet")
    assert load(str(root)).class_names == ("cat", "dog")


def test_parquet_file_with_plain_bytes(tmp_path: Path) -> None:
    images = load(parquet(tmp_path / "a.parquet", pixels(20, 9, 9), labels(20), plain=True))
    assert (len(images.x_train), len(images.x_test), images.class_names) == (16, 4, ("0", "1"))


def test_bad_parquet(tmp_path: Path) -> None:
    x, y = pixels(4, 9, 9), labels(4)
    with pytest.raises(
        DataError, match=r"must have a column image or img and a column label.*but has pic, label"
    ):
        load(parquet(tmp_path / "a.parquet", x, y, image="pic"))
    with pytest.raises(
        DataError, match=r"needs a file named train….parquet, but has other.parquet"
    ):
        load(str(Path(parquet(tmp_path / "b" / "other.parquet", x, y)).parent))
    with pytest.raises(DataError, match="must hold a whole number in each row, but is double"):
        load(parquet(tmp_path / "c.parquet", x, np.array([0, 1, 0, 0.5])))
    (tmp_path / "d.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        load(str(tmp_path / "d.parquet"))


def test_parquet_with_a_broken_image_names_the_row(tmp_path: Path) -> None:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name, cell, message in (
        (
            "a",
            b"no image",
            r"row 1 of .*a.parquet cannot be read: it is no image that Pillow knows",
        ),
        ("b", None, r"row 1 of img in '.*b.parquet' holds no image's bytes, but None"),
    ):
        cells = [encoded(pixels(1, 9, 9)[0]), cell]
        writer.write_table(
            arrow.table({"img": cells, "label": [0, 1]}), tmp_path / f"{name}.parquet"
        )
        with pytest.raises(DataError, match=message):
            load(str(tmp_path / f"{name}.parquet"))


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.parquet").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install 'nanonas\[parquet\]'"):
        load(str(tmp_path / "a.parquet"))


@pytest.mark.skipif(not SHARED.is_dir(), reason="no CIFAR-10 in parquet beside the repository")
def test_real_parquet_agrees_with_pillow() -> None:
    pytest.importorskip("pyarrow")
    reader = find_reader(str(SHARED / "test.parquet"))[1]
    assert isinstance(reader, Parquet)
    cells = next(tables._encoded([reader.path], "img"))
    images = load(str(SHARED / "test.parquet"))
    assert (images.classes, images.class_names[3], images.input_shape) == (10, "cat", (3, 32, 32))
    assert np.bincount(images.y_test).tolist() == [200] * 10
    decoded = set()
    for cell in cells:
        assert isinstance(cell.content, bytes)
        decoded.add(np.asarray(Image.open(io.BytesIO(cell.content))).tobytes())
    assert decoded <= {image.tobytes() for image in np.concatenate([images.x_train, images.x_test])}


# --- CIFAR ----------------------------------------------------------------------------------------


def cifar_archive(
    label_bytes: int, members: tuple[str, ...], names_file: str
) -> tuple[bytes, dict[str, Pixels]]:
    """A small archive in the official layout: its bytes, and the images of each member."""
    out = io.BytesIO()
    contents: dict[str, Pixels] = {}
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for number, name in enumerate(members):
            x, y = pixels(10, 32, 32, 3, seed=number), labels(10)
            heads = np.stack([y, y][-label_bytes:], 1).astype(np.uint8)
            if label_bytes == 2:
                heads[:, 0] = 7  # the coarse label, which is not read
            content = np.concatenate(
                [heads, x.transpose(0, 3, 1, 2).reshape(10, 3072)], 1
            ).tobytes()
            contents[name] = x
            _add(archive, f"folder/{name}", content)
        _add(archive, f"folder/{names_file}", b"cat\ndog\n\n")
    return out.getvalue(), contents


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """The folder that is served on loopback, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_downloaded_checked_and_read(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, cache: Path, name: str
) -> None:
    folder, address = server
    real = cifar.CIFAR[name]
    content, parts = cifar_archive(real.label_bytes, (*real.train, *real.test), real.names)
    (folder / "small.tar.gz").write_bytes(content)
    url = f"{address}/small.tar.gz"
    monkeypatch.setitem(
        cifar.CIFAR, name, replace(real, url=url, sha256=hashlib.sha256(content).hexdigest())
    )
    images = load(name)
    np.testing.assert_array_equal(
        images.x_train, np.concatenate([parts[member] for member in real.train])
    )
    np.testing.assert_array_equal(images.x_test, parts[real.test[0]])
    assert images.y_test.tolist() == labels(10).tolist()
    assert (images.class_names, images.flip, images.name) == (("cat", "dog"), True, name)
    assert (cache / "downloads" / "small.tar.gz").read_bytes() == content
    (folder / "small.tar.gz").unlink()
    assert load(name, 16).input_shape == (3, 16, 16)  # from the archive that is there


def test_cifar_that_cannot_be_downloaded_says_where_to_put_the_file(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    folder, address = server
    real = cifar.CIFAR["cifar10"]

    def fails(url: str, reason: str) -> None:
        monkeypatch.setitem(cifar.CIFAR, "cifar10", replace(real, url=url))
        with pytest.raises(DataError) as caught:
            load("cifar10")
        message = str(caught.value)
        assert message.startswith(f"{url} could not be downloaded: {reason}")
        assert repr(str(cache / "downloads" / url.rsplit("/", 1)[-1])) in message
        assert real.sha256 in message
        assert not list(cache.glob("downloads/*"))

    fails("http://127.0.0.1:9/a.tar.gz", "Connection refused; try again")
    fails(f"{address}/b.tar.gz", "404 ")
    (folder / "c.tar.gz").write_bytes(b"something else")
    fails(f"{address}/c.tar.gz", "its checksum is wrong")


def test_cifar_archive_without_its_members(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    real = cifar.CIFAR["cifar10"]
    for name, content, message in (
        (
            "a.tar.gz",
            cifar_archive(1, ("test_batch.bin",), real.names)[0],
            "lacks data_batch_1.bin, data_batch_2.bin",
        ),
        ("b.tar.gz", b"no archive", "cannot be read: .*delete it, and it is downloaded again"),
    ):
        (folder / name).write_bytes(content)
        changed = replace(real, url=f"{address}/{name}", sha256=hashlib.sha256(content).hexdigest())
        monkeypatch.setitem(cifar.CIFAR, "cifar10", changed)
        with pytest.raises(DataError, match=message):
            load("cifar10")


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "cifar1O",
            (
                "data 'cifar1O' is unknown; perhaps you meant 'cifar10'; expected digits, cifar10, "
                "cifar100, a folder"
            ),
        ),
        ("zzz", "neither a name nor a path that exists"),
        ("pets/train", "'pets/train' does not exist .looked in "),
        ("images.npz", "'images.npz' does not exist"),
    ],
)
def test_unknown_sources(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(source)


@pytest.mark.parametrize("name", ["digits", "cifar10", "folder", "npz", "parquet"])
def test_a_folder_of_a_sources_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    image_folder(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert find_reader(f"./{name}")[0] == "folder"
    assert located(f"./{name}") == str(tmp_path / name)
    if SOURCES[name].built_in:
        assert find_reader(name)[0] == located(name) == name
        assert shadowed(name) == (
            f"{name} is the built-in data set; for what lies in {str(tmp_path / name)!r}, write "
            f"./{name}"
        )
    else:
        assert located(name) == str(tmp_path / name)
        assert shadowed(name) is None
    assert shadowed(f"./{name}") is None
    monkeypatch.chdir(tmp_path / name)
    assert shadowed(name) is None


def test_commands_say_that_a_folder_is_hidden_by_a_built_in_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(found, "say", heard.append)
    image_folder(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert load_images(DataOptions("digits")).input_shape == (1, 8, 8)
    assert [line.split(";")[0] for line in heard][:1] == ["digits is the built-in data set"]
    assert load_images(DataOptions("./digits")).class_names == ("cat", "dog")
    assert len(heard) == 3


def test_a_file_of_no_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match="is no data that can be read"):
        load(str(tmp_path / "a.csv"))


def test_every_source_is_described() -> None:
    assert all(source.what for source in SOURCES.values())
