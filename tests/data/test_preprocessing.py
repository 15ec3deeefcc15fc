"""How a network's images are prepared, kept so that it can be followed when the images are gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from toys.images import image_folder, npz, pixels, png

from nanonas.data.images import load
from nanonas.data.preprocessing import Preprocessing
from nanonas.errors import DataError

pytestmark = pytest.mark.usefixtures("cache")


def kept(rule: Preprocessing) -> Preprocessing:
    """As it comes back from a file."""
    return Preprocessing.from_json(json.loads(json.dumps(rule.to_json())))


def grey16(path: Path, x: NDArray[np.uint8]) -> None:
    png(path, x[..., 0].astype(np.uint16) * 13)


def floats(path: Path, x: NDArray[np.uint8]) -> None:
    png(path, (x[..., 0] / 255).astype(np.float32))


def see_through(path: Path, x: NDArray[np.uint8]) -> None:
    alpha = Image.fromarray(x[..., 0])
    image = Image.fromarray(x)
    image.putalpha(alpha)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def lying(path: Path, x: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    png(path, x, exif=exif, quality=90)


def palette(path: Path, x: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(x).quantize(16).save(path)


@pytest.mark.parametrize(
    ("save", "suffix", "shape"),
    [
        (png, "png", (12, 12, 3)),  # their own size
        (png, "png", (70, 130, 3)),  # cropped and scaled
        (png, "jpg", (300, 500, 3)),  # a JPEG is decoded at a part of its size
        (grey16, "png", (12, 16, 3)),
        (floats, "tif", (80, 66, 3)),
        (see_through, "png", (40, 41, 3)),
        (lying, "jpg", (90, 66, 3)),
        (palette, "gif", (33, 65, 3)),
    ],
)
def test_a_file_read_by_the_kept_rule_is_what_was_trained_on(
    tmp_path: Path, save: Any, suffix: str, shape: tuple[int, ...]
) -> None:
    for place, name in enumerate("ab"):
        for number, x in enumerate(pixels(5, *shape, seed=place)):
            save(tmp_path / "r" / name / f"{number}.{suffix}", x)
    images = load(str(tmp_path / "r"))
    rule = kept(images.preprocessing)
    files = sorted((tmp_path / "r").glob("*/*"))
    read = {rule.pixels(path).tobytes() for path in files}
    assert read == {x.tobytes() for x in np.concatenate([images.x_train, images.x_test])}
    assert {rule.pixels(path.read_bytes()).tobytes() for path in files} == read
    batch = rule.batch([files[0], str(files[1])])
    x = np.stack([rule.pixels(path) for path in files[:2]]) / 255
    expected = ((x - np.array(images.mean)) / np.array(images.std)).transpose(0, 3, 1, 2)
    assert batch.dtype == np.float32
    assert batch.shape == (2, *images.input_shape)
    np.testing.assert_allclose(batch, expected, rtol=1e-4, atol=1e-5)


def test_the_rule_says_what_it_does_in_json(tmp_path: Path) -> None:
    for name in "ab":
        for number in range(5):
            grey16(tmp_path / "r" / name / f"{number}.png", pixels(1, 12, 12, 3, seed=number)[0])
    images = load(str(tmp_path / "r"))
    highest = max(int(np.asarray(Image.open(path)).max()) for path in tmp_path.glob("r/*/*"))
    assert images.preprocessing.to_json() == {
        "input_shape": [1, 12, 12],
        "orientation": "exif",
        "integers_up_to": highest,
        "floats_up_to": None,
        "background": "white",
        "mode": "L",
        "crop": "center",
        "resize": "bilinear, antialiased",
        "scale": "1/255",
        "mean": list(images.mean),
        "std": list(images.std),
        "class_names": ["a", "b"],
    }


def test_arrays_and_opened_images_are_prepared_as_well(tmp_path: Path) -> None:
    image_folder(tmp_path / "r", shape=(20, 40, 3))
    rule = load(str(tmp_path / "r")).preprocessing
    path = tmp_path / "r" / "cat" / "00.png"
    expected = rule.pixels(path)
    array = np.asarray(Image.open(path))
    np.testing.assert_array_equal(rule.pixels(Image.open(path)), expected)
    np.testing.assert_array_equal(rule.pixels(array), expected)
    grey = array[..., 0]
    np.testing.assert_array_equal(
        rule.pixels(grey[..., None]), rule.pixels(np.stack([grey] * 3, 2))
    )


def test_floats_of_an_archive_are_read_in_its_range(tmp_path: Path) -> None:
    x = pixels(20, 10, 10)
    rule = load(npz(tmp_path / "a.npz", x_train=x / 255)).preprocessing
    np.testing.assert_array_equal(
        rule.pixels(Image.fromarray((x[3] / 255).astype(np.float32)))[..., 0], x[3]
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((12, 12), 3000, np.uint16), "values up to 3000, but .* 8 bits"),
        (np.full((12, 12), 0.5, np.float32), "holds floats, but .* 8 bits"),
        (
            np.zeros((12, 12, 5), np.uint8),
            r"must be uint8 of shape .* but is uint8 of \(12, 12, 5\)",
        ),
        (np.zeros((12, 12, 3)), r"but is float64 of \(12, 12, 3\)"),
        (b"no image", "it is no image that Pillow knows"),
        (Path("nowhere.png"), "nowhere.png cannot be read: .*No such file"),
    ],
)
def test_images_of_another_kind_are_refused(tmp_path: Path, image: Any, message: str) -> None:
    rule = load(str(image_folder(tmp_path / "r"))).preprocessing
    if isinstance(image, np.ndarray) and image.ndim == 2:
        image = Image.fromarray(image)
    with pytest.raises(DataError, match=message):
        rule.pixels(image)


FREE = ("integers_up_to", "floats_up_to")  # what may be null


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "lacks 'mean'"),
        ({"mean": [0.5, 0.5]}, "mean must have 1 number"),
        ({"std": [0.0]}, "std must have 1 number.* above 0"),
        ({"resize": "nearest"}, "resize is 'nearest', but 'bilinear, antialiased' is all"),
        ({"input_shape": [2, 8, 8]}, "input_shape must be"),
        ({"class_names": [1, 2]}, "class_names must be"),
        ({"integers_up_to": "many"}, "integers_up_to must be"),
        ({"floats_up_to": 3}, "floats_up_to must be 1, 255 or null"),
        ({"blur": 3}, "unknown field 'blur'"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(change: dict[str, Any], message: str) -> None:
    values = {**load("digits").preprocessing.to_json(), **change}
    values = {name: value for name, value in values.items() if value is not None or name in FREE}
    with pytest.raises(DataError, match=message):
        Preprocessing.from_json(values)
