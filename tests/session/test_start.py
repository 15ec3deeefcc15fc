"""Where a run begins: a folder of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from nanonas.config.files import configure
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.session import start


class OneSecond(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: object = None) -> OneSecond:
        return cls(2026, 1, 2, 3, 4, 5)


@pytest.mark.parametrize("threads", [1, 8])
def test_searches_of_one_second_get_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr(start, "datetime", OneSecond)
    out = tmp_path / "outputs"
    with ThreadPoolExecutor(threads) as pool:
        made = list(pool.map(lambda _: start._new(out, "digits"), range(16)))
    first = "2026-01-02_030405_digits"
    assert {path.name for path in made} == {first, *(f"{first}_{n}" for n in range(2, 17))}
    assert all(path.is_dir() for path in made)


def test_what_cannot_be_made_is_left_to_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert start._new(tmp_path / "file", "digits").parent == tmp_path / "file"


@pytest.mark.usefixtures("cache")
def test_a_name_that_is_taken_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(_: object) -> None:
        raise AssertionError("there is nothing to plan")

    monkeypatch.setattr(start, "scheduled", measured)
    RunStore.begin(tmp_path / "mine" / "study.db", {"search": {}}).close()
    with pytest.raises(RunError, match=r"there is a run in .*mine.* already: resume it"):
        start.begin(configure(data="digits", name="mine", out=tmp_path, device="cpu"))
    with pytest.raises(AssertionError, match="nothing to plan"):
        start.begin(configure(data="digits", name="another", out=tmp_path, device="cpu"))
