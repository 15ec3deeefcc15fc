"""The files of a final training: what is written is read again, and what strangers wrote is one
sentence at worst.
"""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys.report import answers, thumbnails

from nanonas.data.answers import Answers, read_answers
from nanonas.data.arrays import read_arrays, write_arrays
from nanonas.data.thumbnails import Thumbnails, read_thumbnails
from nanonas.errors import DataError

MADE = answers(20, names=tuple(f"cat/ü {n}.png" for n in range(20)))


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    for made in (MADE, answers(20)):
        made.write(path)
        found = read_answers(path)
        assert np.array_equal(found.logits, made.logits)
        assert np.array_equal(found.labels, made.labels)
        assert found.names == made.names
    assert (MADE.name(3), answers(20).name(3)) == ("cat/ü 3.png", "test image 3")
    assert np.load(path)["logits"].dtype == np.float32  # numpy alone reads it


def test_pictures_are_read_as_they_were_written(tmp_path: Path) -> None:
    made = thumbnails(answers(), side=12, channels=3)
    made.write(tmp_path / "pictures.npz")
    found = read_thumbnails(tmp_path / "pictures.npz")
    for name in ("errors", "error_rows", "plain", "augmented", "labels"):
        assert np.array_equal(getattr(found, name), getattr(made, name))
    assert (found.full_size, found.augmentation) == ((32, 32), "moved by up to 1 pixel")
    assert found.shrunk


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"logits": MADE.logits[0]}, "logits must be float32"),
        ({"logits": MADE.logits.astype(np.float64)}, "logits must be float32"),
        ({"logits": MADE.logits * np.float32(np.inf)}, "logits must be finite"),
        ({"labels": MADE.labels[:3]}, "labels must be int64"),
        ({"labels": MADE.labels + 1}, "labels must be from 0 to 3, but are from 1 to 4"),
        ({"labels": MADE.labels - 1}, "labels must be from 0 to 3, but are from -1 to 2"),
        ({"names": np.array(["a", "b"])}, "there must be 20 names"),
        ({"format": np.array("another")}, "holds no predictions of this version"),
    ],
)
def test_answers_that_do_not_fit_are_one_sentence(
    wrong: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.npz"
    MADE.write(path)
    write_arrays(path, **{**read_arrays(path), **wrong})
    with pytest.raises(DataError, match=said) as error:
        read_answers(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": np.zeros((2, 400, 8, 1), np.uint8)},
        {"plain": np.zeros((6, 8, 8, 4), np.uint8)},
        {"augmented": np.zeros((5, 8, 8, 1), np.uint8)},
        {"error_rows": np.zeros(3, np.int64)},
        {"labels": np.full(6, -1)},
        {"full_size": np.array([1, 2, 3])},
        {"another": np.zeros(1)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_pictures_that_do_not_fit_are_one_sentence(wrong: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "pictures.npz"
    thumbnails(answers()).write(path)
    write_arrays(path, **{**read_arrays(path), **wrong})
    with pytest.raises(DataError, match="holds no pictures of this version of nanonas"):
        read_thumbnails(path)


# --- strangers' files -----------------------------------------------------------------------------


def npy(shape: tuple[int, ...], dtype: str, content: bytes) -> bytes:
    """A file .npy that says of itself whatever it likes."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return out.getvalue() + content


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy((10**15,), "<f4", b"1234"), r"an array of \(10{15},\) values of float32 has 4 bytes"),
        (npy((10**15,), "<U0", b""), "an array holds <U0"),
        (npy((2**40, 2**40), "<f8", b""), "has 0 bytes"),
        (npy((1,), "<U400000000", b"1234"), "values of <U400000000 has 4 bytes"),
        (npy((-1,), "<f4", b""), "an array of"),
        (npy((1,), "|O", b"\x80\x04."), "an array holds object, but numbers or texts are expected"),
        (npy((1,), "|V8", b"12345678"), "an array holds"),
        (b"\x93NUMPY\x09\x00" + struct.pack("<H", 4) + b"{}  ", r"in the format \(9, 0\)"),
        (b"nothing of the kind", "cannot be read"),
        (b"", "cannot be read"),
    ],
    ids=[
        "long",
        "nothing",
        "overflow",
        "wide",
        "negative",
        "object",
        "void",
        "version",
        "text",
        "empty",
    ],
)
def test_nothing_is_unpickled_and_nothing_allocated_that_is_not_there(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / "a.npz", logits=content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=said):
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_what_would_not_fit_is_not_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", a=npy((2**20,), "|u1", bytes(2**20)))
    assert path.stat().st_size < 5000
    with pytest.raises(DataError, match="bytes, but 1,000 are the most"):
        read_arrays(path, most=1000)
    assert read_arrays(path)["a"].shape == (2**20,)


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_a_damaged_file_is_one_sentence(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    MADE.write(path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"cannot be read: .*; train the network again"):
        read_answers(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(tmp_path / "missing.npz")


def test_arrays_of_any_form_come_back(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "empty": np.zeros((0, 3), np.float32),
        "texts": np.array(["a", "ünï"]),
        "no_texts": np.array((), dtype=np.str_),
        "one": np.array(7),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }
    write_arrays(tmp_path / "a.npz", **arrays)
    found = read_arrays(tmp_path / "a.npz")
    for name, array in arrays.items():
        assert np.array_equal(found[name], array)
        assert found[name].dtype.kind == array.dtype.kind


def test_the_types_are_values() -> None:
    assert len(MADE) == 20
    assert MADE.classes == 4
    with pytest.raises(DataError, match="plain must be uint8"):
        Thumbnails(
            *(np.zeros((0, 8, 8, 1), np.uint8), np.zeros(0, np.int64)),
            *(np.zeros((2, 99, 8, 1), np.uint8),) * 2,
            np.zeros(2, np.int64),
            (99, 8),
        )
    with pytest.raises(DataError, match="logits must be float32"):
        Answers(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
