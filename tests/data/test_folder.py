"""What ordinary folders hold: parts under any name, odd suffixes, transparency, deep images."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from toys.images import image_folder, pixels, png

from nanonas.data.images import load
from nanonas.errors import DataError

pytestmark = pytest.mark.usefixtures("cache")


# --- parts and classes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "valid", "test"),
    [
        ("training_set", "validation_set", "test_set"),
        ("Train", "Val", "Test"),
        ("trainset", "valset", "testset"),
        ("train_images", "dev_images", "test_images"),
        ("seg_train", "seg_val", "seg_test"),
        ("birds-train", "birds-valid", "birds-test"),
    ],
)
def test_parts_have_many_names(tmp_path: Path, train: str, valid: str, test: str) -> None:
    for part, number in ((train, 4), (valid, 2), (test, 3)):
        image_folder(tmp_path / part, number=number)
    images = load(str(tmp_path))
    assert images.class_names == ("cat", "dog")
    assert (len(images.x_train), images.own_valid, len(images.x_test)) == (12, 4, 6)


def test_a_part_may_be_wrapped_once_more(tmp_path: Path) -> None:
    for part in ("seg_train", "seg_test"):
        image_folder(tmp_path / part / part, number=3)
    assert load(str(tmp_path)).class_names == ("cat", "dog")


def test_photographs_of_trains_are_a_class(tmp_path: Path) -> None:
    images = load(str(image_folder(tmp_path, ("car", "plane", "train"))))
    assert images.class_names == ("car", "plane", "train")


AMBIGUOUS: dict[str, tuple[tuple[str, ...], str]] = {
    "a class called train": (("car", "plane", "train/diesel", "train/steam"), "train beside car"),
    "parts without classes": (("train", "test"), "not sorted into classes"),
    "no training part": (("val/cat", "val/dog", "test/cat", "test/dog"), "parts of a data set"),
    "two names for one": (("train/a", "train/b", "val/a", "validation/a"), "two folders of valid"),
    "two prefixes": (("old_train/a", "old_train/b", "new_test/a"), "parts of a data set"),
}


@pytest.mark.parametrize("case", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused(tmp_path: Path, case: str) -> None:
    folders, message = AMBIGUOUS[case]
    with pytest.raises(DataError, match=message):
        load(str(image_folder(tmp_path, folders, number=3)))


def test_classes_one_folder_deeper_are_found_by_the_message(tmp_path: Path) -> None:
    image_folder(tmp_path / "archive")
    with pytest.raises(DataError, match=r"perhaps you meant '.*archive'"):
        load(str(tmp_path))


# --- which files are images -----------------------------------------------------------------------


def test_an_image_is_what_pillow_reads_and_the_rest_is_said(tmp_path: Path) -> None:
    image_folder(tmp_path, ("ant", "bee"), number=5)
    for number, name in enumerate(("a.jfif", "b.photo", "c")):
        Image.fromarray(pixels(1, 12, 12, 3, seed=9 + number)[0]).save(
            tmp_path / "ant" / name, "PNG"
        )
    for name in ("x.heic", "y.heic", "labels.csv"):
        (tmp_path / "bee" / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    (tmp_path / "readme.txt").write_text("photographs")
    images = load(str(tmp_path))
    assert np.bincount([*images.y_train, *images.y_test]).tolist() == [8, 5]
    said = images.in_words()
    assert said.startswith(
        f'{tmp_path.name}: 2 classes ("ant": 6 … "bee": 4), 10 + 3 images of 12×12;'
    )
    assert said.endswith("passed over: 2 .heic, 1 .txt, 1 .csv")


def test_a_class_without_an_image_is_an_error(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / "owl").mkdir()
    with pytest.raises(DataError, match=r"class 'owl' .* has no image that can be read; convert"):
        load(str(tmp_path))
    (tmp_path / "owl" / "1.heic").write_bytes(bytes(90))
    with pytest.raises(DataError, match=r"that can be read: 1 \.heic; convert"):
        load(str(tmp_path))


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    image_folder(tmp_path / "a")
    image_folder(tmp_path / "elsewhere", ("more",), number=4)
    (tmp_path / "a" / "cat" / "more").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "a" / "cat" / "back").symlink_to(tmp_path / "a" / "cat")
    images = load(str(tmp_path / "a"))
    assert np.bincount([*images.y_train, *images.y_test]).tolist() == [14, 10]


# --- what an image shows --------------------------------------------------------------------------

Save = Callable[[Path, NDArray[Any]], None]


def folder_of(root: Path, save: Save, suffix: str = "png") -> Path:
    """Two classes of six images; each shows `shape(class, number)`."""
    for kind, name in enumerate("ab"):
        (root / name).mkdir(parents=True)
        for number in range(6):
            save(root / name / f"{number}.{suffix}", shape(kind, number))
    return root


def shape(kind: int, number: int) -> NDArray[np.uint8]:
    """A grey image, (12, 16), whose left or upper part is bright."""
    grey = np.random.default_rng([kind, number]).integers(10, 60, (12, 16)).astype(np.uint8)
    part = grey[:, :5] if kind == 0 else grey[:4]
    part += 180
    return grey


def shown(root: Path) -> NDArray[np.uint8]:
    """The first training image of the first class: its first channel."""
    return np.asarray(load(str(root)).x_train[0, :, :, 0])


@pytest.fixture
def first(tmp_path: Path) -> NDArray[np.uint8]:
    """What `shown` must be: 20 % of a class went to the test set."""
    return shown(folder_of(tmp_path / "plain", lambda path, x: Image.fromarray(x).save(path)))


def masked(x: NDArray[np.uint8], mode: str) -> Image.Image:
    """Black where `x` is bright, transparent elsewhere."""
    alpha = np.where(x > 100, 255, 0).astype(np.uint8)
    image = Image.merge("LA", [Image.fromarray(0 * x), Image.fromarray(alpha)])
    return image.convert(mode)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_drawn_on_white(
    tmp_path: Path, first: NDArray[np.uint8], mode: str
) -> None:
    root = folder_of(tmp_path / mode, lambda path, x: masked(x, mode).save(path))
    np.testing.assert_array_equal(shown(root), np.where(first > 100, 0, 255))
    assert "12 with transparency, drawn on white" in load(str(root)).in_words()


def test_a_transparent_colour_of_a_palette_is_drawn_on_white(tmp_path: Path) -> None:
    def save(path: Path, x: NDArray[Any]) -> None:
        image = Image.fromarray((x > 100).astype(np.uint8), "P")
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.save(path, transparency=0)

    assert set(np.unique(shown(folder_of(tmp_path / "r", save)))) == {0, 255}


def test_images_of_one_colour_are_refused(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "r", lambda path, x: Image.fromarray(0 * x).save(path))
    with pytest.raises(DataError, match=r"all training images of .* are of one colour, 0 of 255"):
        load(str(root))


def as_uint16(factor: int) -> Save:
    return lambda path, x: Image.fromarray(x.astype(np.uint16) * factor).save(path)


@pytest.mark.parametrize(
    ("save", "suffix"),
    [
        (as_uint16(1), "png"),
        (as_uint16(16), "png"),
        (as_uint16(257), "png"),
        (as_uint16(16), "tif"),
        (lambda path, x: Image.fromarray(x.astype(np.int32) * 2**12).save(path), "tif"),
        (lambda path, x: Image.fromarray((x / 255).astype(np.float32)).save(path), "tif"),
        (lambda path, x: Image.fromarray(x.astype(np.float32)).save(path), "tif"),
    ],
    ids=["8 of 16", "12 of 16", "16 of 16", "tif", "20 of 32", "floats to 1", "floats to 255"],
)
def test_deep_images_keep_what_they_hold(
    tmp_path: Path, first: NDArray[np.uint8], save: Save, suffix: str
) -> None:
    np.testing.assert_array_equal(shown(folder_of(tmp_path / "deep", save, suffix)), first)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float32(np.nan), r"6\.tif in .* holds values from nan"),
        (np.float32(-0.5), r"values from -0\.5 to -0\.5, but 0 is the least"),
        (np.float32(3e5), r"floats up to 300000, but they must lie in \[0, 1\] or in"),
        (np.int32(-3), "values from -3 to -3, but 0 is the least"),
    ],
)
def test_numbers_that_are_no_pixels_are_refused(
    tmp_path: Path, value: np.generic, message: str
) -> None:
    root = folder_of(tmp_path / "r", as_uint16(16), "tif")
    png(root / "a" / "6.tif", np.full((12, 16), value))
    with pytest.raises(DataError, match=message):
        load(str(root))


# --- orientation ----------------------------------------------------------------------------------


def lying(x: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(x).transpose(Image.Transpose.ROTATE_90)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "tif"])
def test_every_format_is_turned_upright(
    tmp_path: Path, first: NDArray[np.uint8], suffix: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    every: dict[str, dict[str, Any]] = {"webp": {"lossless": True}, "jpg": {"quality": 100}}
    more = every.get(suffix, {})
    root = folder_of(tmp_path / "r", lambda path, x: lying(x).save(path, exif=exif, **more), suffix)
    np.testing.assert_allclose(shown(root).astype(int), first, atol=3)


def jpeg_with(x: NDArray[np.uint8], block: bytes) -> bytes:
    """A JPEG with an EXIF block, which is written as it is."""
    buffer = io.BytesIO()
    lying(x).save(buffer, "JPEG", quality=100)
    plain, exif = buffer.getvalue(), b"Exif\0\0" + block
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]


def exif_block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Entries (tag, type, count, value of 4 bytes) as little-endian TIFF."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


TURN = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


@pytest.mark.parametrize(
    "entries",
    [
        (TURN, (0x0128, 1, 1, b"\2\0\0\0")),  # a resolution's unit as a byte
        (TURN, (0x011A, 5, 1, b"\xff\xff\xff\xff")),  # a value behind the end
        ((0x8769, 4, 1, b"\1\0\0\0"), TURN),  # a directory in the header
        ((0x0112, 4, 1, b"\6\0\0\0"),),  # as a long number
    ],
)
def test_odd_tags_beside_the_orientation_are_passed_over(
    tmp_path: Path, first: NDArray[np.uint8], entries: tuple[Any, ...]
) -> None:
    block = exif_block(*entries)
    root = folder_of(tmp_path / "r", lambda path, x: path.write_bytes(jpeg_with(x, block)), "jpg")  # type: ignore[arg-type]
    np.testing.assert_allclose(shown(root).astype(int), first, atol=3)


def test_mutated_exif_never_hides_a_sound_image(tmp_path: Path) -> None:
    rng, block = np.random.default_rng(0), exif_block(TURN, (0x0128, 3, 1, b"\2\0\0\0"))
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for number in range(150):
            bad = bytearray(block)
            for place in rng.integers(0, len(bad), 3):
                bad[place] = rng.integers(256)
            (tmp_path / kind / f"{number}.jpg").write_bytes(jpeg_with(shape(0, number), bytes(bad)))
    assert len(load(str(tmp_path)).x_train) == 240


# --- broken images --------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 60])
def test_broken_images_are_named_together(tmp_path: Path, cut: int) -> None:
    root = folder_of(tmp_path / "r", lambda path, x: Image.fromarray(x).save(path))
    for number in (1, 3, 4):
        path = root / "a" / f"{number}.png"
        path.write_bytes(path.read_bytes()[: -120 if cut else 0])
    with pytest.raises(
        DataError, match=r"3 images cannot be read: \S*1\.png \(.*\), \S*3\.png, \S*4\.png; repair"
    ):
        load(str(root))


def test_ten_of_many_broken_images_are_named(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "r", number=20)
    for path in (root / "cat").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"20 images cannot be read: .*09\.png and 10 more; repair"):
        load(str(root))


def test_mutated_files_are_read_or_refused_by_name(tmp_path: Path) -> None:
    rng, x = np.random.default_rng(1), pixels(1, 12, 12, 3)[0]
    refusals: list[tuple[str, str]] = []
    for suffix in ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm", "tga", "ico", "jp2"):
        buffer = io.BytesIO()
        kind = Image.registered_extensions()[f".{suffix}"]
        Image.fromarray(x).save(buffer, kind)
        for number in range(15):
            bad = bytearray(buffer.getvalue())
            for place in rng.integers(0, len(bad), 4):
                bad[place] = rng.integers(256)
            root = image_folder(tmp_path / f"{suffix}{number}", number=3)
            (root / "cat" / f"odd.{suffix}").write_bytes(bad)
            try:
                load(str(root))
            except DataError as error:
                refusals.append((f"odd.{suffix}", str(error)))
    assert len(refusals) > 20
    assert all(name in refusal for name, refusal in refusals)


def test_huge_images_can_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    root = folder_of(tmp_path / "r", lambda path, x: Image.fromarray(x).save(path))
    with pytest.raises(DataError, match="it has more than 120 pixels, which may fill the memory"):
        load(str(root))
    monkeypatch.setenv("NANONAS_MAX_PIXELS", "192")
    assert load(str(root)).input_shape == (1, 12, 16)
    monkeypatch.setenv("NANONAS_MAX_PIXELS", "many")
    with pytest.raises(DataError, match="must be a number of pixels, but is 'many'"):
        load(str(root), 16)


def test_test_images_are_known_by_their_files(tmp_path: Path, cache: Path) -> None:
    """The oracle are the pixels in the files; broken ones are passed over."""
    root = image_folder(tmp_path / "pets", number=12)
    (root / "cat" / "03.png").write_bytes(b"broken")
    images = load(str(root), skip_broken=True)
    assert len(images.test_names) == len(images.y_test) == 4
    for name, image in zip(images.test_names, images.x_test, strict=True):
        with Image.open(root / name) as opened:
            assert np.array_equal(np.asarray(opened), image)
    parts = tmp_path / "parts"
    image_folder(parts / "train", number=5)
    image_folder(parts / "test", number=2)
    assert load(str(parts)).test_names == (
        "test/cat/00.png",
        "test/cat/01.png",
        "test/dog/00.png",
        "test/dog/01.png",
    )
    assert load("digits").test_names == ()
