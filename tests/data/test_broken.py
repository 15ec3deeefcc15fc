"""Images that cannot be read: named and refused, or passed over where that is asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toys.images import encoded, image_folder, pixels

from nanonas.data.images import DataSpec, load
from nanonas.errors import DataError

pytestmark = pytest.mark.usefixtures("cache")


def damaged(root: Path) -> list[str]:
    """Three files of a folder that are broken now: no image, cut off in its pixels, empty."""
    contents = {
        root / "cat" / "00.png": b"no image",
        root / "cat" / "03.png": (root / "cat" / "03.png").read_bytes()[:-200],
        root / "dog" / "05.png": b"",
    }
    for path, content in contents.items():
        path.write_bytes(content)
    return [str(path) for path in contents]


def test_broken_images_are_passed_over_where_that_is_asked_for(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets")
    names = damaged(root)
    (root / "dog" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"images cannot be read.*--skip-broken passes over them"):
        load(str(root))
    images = load(str(root), skip_broken=True)
    expected = np.concatenate(
        [
            np.delete(pixels(10, 12, 12, 3, seed=seed), gone, 0)
            for seed, gone in ((0, (0, 3)), (1, 5))
        ]
    )
    stored = np.concatenate([images.x_train, images.x_test])
    assert {x.tobytes() for x in stored} == {x.tobytes() for x in expected}
    assert len(stored) == len(expected) == 17
    labels = {x.tobytes(): place >= 8 for place, x in enumerate(expected)}
    both = zip(stored, [*images.y_train, *images.y_test], strict=True)
    assert all(labels[x.tobytes()] == y for x, y in both)
    assert images.in_words().endswith(
        "passed over: 1 .txt, 3 broken (cat/00.png, cat/03.png, dog/05.png)"
    )
    assert [line.split(": ")[0] for line in images.broken] == names
    assert images.broken[0] == f"{names[0]}: it is no image that Pillow knows"
    with pytest.raises(DataError, match="images cannot be read"):  # the copy is another one
        load(str(root))


def test_few_of_many_broken_images_are_said_and_all_are_kept(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "r", number=20)
    for path in sorted((root / "cat").iterdir())[:12]:
        path.write_bytes(b"")
    images = load(str(root), skip_broken=True)
    assert images.in_words().endswith(
        "passed over: 12 broken (cat/00.png, cat/01.png, cat/02.png, …)"
    )
    assert len(images.broken) == 12


def test_a_broken_image_has_no_say_in_the_form(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "r", shape=(12, 12))
    content = encoded(pixels(1, 90, 90, 3)[0])
    (root / "cat" / "colour.png").write_bytes(content[:-2000])
    images = load(str(root), skip_broken=True)
    assert images.input_shape == (1, 12, 12)
    assert images.sizes == "12×12"


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_a_class_without_a_sound_image_is_an_error(tmp_path: Path, part: str) -> None:
    for name in ("train", "val", "test"):
        image_folder(tmp_path / name, number=4)
    for path in (tmp_path / part / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"class 'cat' in .* has no .* image that can be read, .* 4"
    ):
        load(str(tmp_path), skip_broken=True)


def test_parts_are_passed_over_each_by_itself(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "val", "test")):
        image_folder(tmp_path / name, number=4)
        (tmp_path / name / "dog" / f"0{seed}.png").write_bytes(b"")
    images = load(str(tmp_path), skip_broken=True)
    assert (images.y_train.tolist(), images.own_valid) == ([0] * 4 + [1] * 3 + [0] * 4 + [1] * 3, 7)
    assert images.y_test.tolist() == [0] * 4 + [1] * 3
    dogs = pixels(4, 12, 12, 3, seed=1)
    np.testing.assert_array_equal(images.x_train[4:7], dogs[1:])
    np.testing.assert_array_equal(images.x_train[11:], dogs[[0, 2, 3]])
    np.testing.assert_array_equal(images.x_test[4:], dogs[[0, 1, 3]])


def test_rows_of_parquet_are_passed_over(tmp_path: Path) -> None:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    x = pixels(20, 9, 9)
    cells = [encoded(array) for array in x]
    cells[3:6] = [b"no image", None, cells[5][:-60]]  # type: ignore[list-item]
    table = arrow.table({"img": cells, "label": [n % 2 for n in range(20)]})
    writer.write_table(table, tmp_path / "a.parquet")
    images = load(str(tmp_path / "a.parquet"), skip_broken=True)
    assert len(images.broken) == 3
    assert images.broken[1].startswith(f"row 4 of {tmp_path / 'a.parquet'}: ")
    sound = np.delete(x, (3, 4, 5), 0)
    stored = np.concatenate([images.x_train, images.x_test])[..., 0]
    assert {one.tobytes() for one in stored} == {one.tobytes() for one in sound}
    assert len(stored) == 17


def test_what_is_passed_over_once_never_stops_a_later_pass(tmp_path: Path) -> None:
    rng, x = np.random.default_rng(1), pixels(1, 90, 140, 3)[0]
    root, number = image_folder(tmp_path / "r", shape=(30, 30, 3)), 0
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm", "tga", "ico", "jp2"):
        buffer = io.BytesIO()
        Image.fromarray(x).save(buffer, Image.registered_extensions()[f".{suffix}"])
        for number in range(10):
            bad = bytearray(buffer.getvalue())
            for place in rng.integers(0, len(bad), 4 + 3 * number):
                bad[place] = rng.integers(256)
            path = root / ("cat", "dog")[number % 2] / f"odd{number}.{suffix}"
            path.write_bytes(bad[: len(bad) - 40 * (number % 3)])
    images = load(str(root), skip_broken=True)
    assert len(images.broken) > 20
    assert len(images.x_train) + len(images.x_test) == 120 - len(images.broken)


def test_workers_load_what_was_found(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "pets")
    damaged(root)
    spec = DataSpec(str(root), skip_broken=True)
    assert spec.load().fingerprint == load(str(root), skip_broken=True).fingerprint
