"""Loading into the cache and from it: shared by processes, whole or not at all."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys.images import image_folder, pixels, png

from nanonas.data import cache as cache_module
from nanonas.data.images import DataSpec, Images, load, open_cached
from nanonas.data.kept import cache_folder
from nanonas.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("cache")


def folder_of(images: Images) -> Path:
    """The folder of the cache that the images lie in."""
    assert images.folder is not None
    return images.folder


def test_too_small_an_image_size() -> None:
    with pytest.raises(ConfigError, match="image_size must be 8 pixels or more, but is 7"):
        load("digits", 7)


def test_cache_is_used_until_a_file_or_an_option_changes(tmp_path: Path, cache: Path) -> None:
    root = image_folder(tmp_path / "pets")
    first = load(str(root))
    stamp = (folder_of(first) / "about.json").stat().st_mtime_ns
    assert load(str(root)).folder == first.folder
    assert (folder_of(first) / "about.json").stat().st_mtime_ns == stamp
    assert isinstance(first.x_train, np.memmap)
    assert load(str(root), 8).folder != first.folder
    os.utime(root / "cat" / "00.png", (1, 1))
    touched = load(str(root))
    assert touched.folder != first.folder
    assert touched.fingerprint == first.fingerprint  # the same images
    png(root / "cat" / "00.png", pixels(1, 12, 12, 3, seed=9)[0])
    assert load(str(root)).fingerprint != first.fingerprint
    assert all(folder.name.startswith("pets-") for folder in cache.glob("decoded/*"))


def test_fingerprint_is_that_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    a, b = (load(str(image_folder(tmp_path / name / "pets"))) for name in "ab")
    assert a.folder != b.folder
    assert a.fingerprint == b.fingerprint


def test_damaged_cache_is_made_anew() -> None:
    images = load("digits")
    folder, expected = folder_of(images), images.fingerprint
    for name in ("about.json", "x_test.npy", "y_train.npy"):
        (folder / name).write_bytes(b"")
        assert load("digits").fingerprint == expected
        assert (folder / name).stat().st_size > 0


def test_leftovers_of_killed_writers_are_swept(cache: Path) -> None:
    old, new = cache / "decoded" / ".1.part", cache / "decoded" / ".2.part"
    for part in (old, new):
        part.mkdir(parents=True)
    os.utime(old, (1, 1))
    load("digits")
    assert (old.exists(), new.exists()) == (False, True)


DAY = 86_400


def used(images: Images, days: float) -> Path:
    """The images' folder, as if it had been used last so many days ago."""
    then = time.time() - days * DAY
    os.utime(folder_of(images) / "about.json", (then, then))
    return folder_of(images)


def test_copies_that_nobody_uses_are_swept_when_another_is_made(tmp_path: Path) -> None:
    roots = [image_folder(tmp_path / name) for name in "abc"]
    copies = [load(str(root)) for root in roots]
    spec = DataSpec(str(roots[0])).pinned_to(copies[0])
    old, recent, new = (used(i, d) for i, d in zip(copies, (31, 29, 0), strict=True))
    load(str(roots[1]))  # none is made
    assert old.exists()
    load("digits")
    assert [path.exists() for path in (old, recent, new)] == [False, True, True]
    assert spec.load().fingerprint == copies[0].fingerprint  # decoded again
    shutil.rmtree(old)
    (roots[0] / "cat" / "00.png").unlink()
    with pytest.raises(DataError, match="have changed since the run was begun"):
        spec.load()


def test_the_cache_has_a_bound_and_the_oldest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = ((12, 12, 3), (40, 40, 3), (24, 24, 3), (16, 16, 3))
    roots = [image_folder(tmp_path / f"r{n}", shape=shape) for n, shape in enumerate(shapes)]
    copies = [load(str(root)) for root in roots]
    folders = [used(i, d) for i, d in zip(copies, (3, 5, 2, 0.9), strict=True)]
    sizes = [sum(f.stat().st_size for f in folder.iterdir()) for folder in folders]
    digits = load("digits")
    size = sum(f.stat().st_size for f in folder_of(digits).iterdir())
    shutil.rmtree(folder_of(digits))
    bound = (sizes[2] + sizes[3] + size + 100) / 1e9  # the two oldest are too many
    monkeypatch.setenv("NANONAS_CACHE_GB", f"{bound:.9f}")
    load("digits")
    assert [path.exists() for path in folders] == [False, False, True, True]
    monkeypatch.setenv("NANONAS_CACHE_GB", "0")
    load("digits", 16)
    assert [path.exists() for path in folders] == [False, False, False, True]  # used today
    assert folder_of(digits).exists()
    for wrong in ("much", "-1", "nan"):
        monkeypatch.setenv("NANONAS_CACHE_GB", wrong)
        with pytest.raises(DataError, match=f"NANONAS_CACHE_GB must be .*, but is '{wrong}'"):
            load("digits", 20)


def test_a_copy_that_is_used_stays_young(cache: Path) -> None:
    images = load("digits")
    about = used(images, 1.5) / "about.json"
    load("digits")
    assert time.time() - about.stat().st_mtime < 60
    used(images, 0.5)
    load("digits")
    assert time.time() - about.stat().st_mtime > 0.4 * DAY


def test_concurrent_writers_do_no_harm() -> None:
    loaded: list[Images] = []
    writers = [threading.Thread(target=lambda: loaded.append(load("digits"))) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({images.fingerprint for images in loaded}) == 1
    assert len(loaded) == 4
    assert [path.name[0] for path in folder_of(loaded[0]).parent.iterdir()] == ["d"]


def test_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NANONAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DataError, match=r"file' cannot be written: .*set NANONAS_CACHE to another folder"
    ):
        load("digits")
    monkeypatch.setenv("NANONAS_CACHE", str(cache))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module._Sink, "write", full)
    with pytest.raises(DataError, match="cannot be written: No space left on device; free space"):
        load("digits")
    assert not list(cache.glob("decoded/*"))
    assert not list(cache.glob("decoded/.*"))


def test_default_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANONAS_CACHE")
    assert cache_folder().name == "nanonas"


def test_images_pickle_as_a_place() -> None:
    images = load("digits", flip=True)
    content = pickle.dumps(images)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert isinstance(again.x_train, np.memmap)
    assert again.flip
    np.testing.assert_array_equal(again.x_train, images.x_train)
    loose = pickle.loads(pickle.dumps(replace(images, folder=None)))
    np.testing.assert_array_equal(loose.y_test, images.y_test)


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no decoded images"):
        open_cached(tmp_path)


def test_loading_does_not_import_torch() -> None:
    program = "from nanonas.data.images import load; load('digits')"
    program = f"import sys; {program}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
