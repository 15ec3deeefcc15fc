"""Where a run begins: a folder of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from nanonas.config.files import configure, to_values, to_yaml
from nanonas.engine.storage.events import IMAGES, noted
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.runs.folder import RunFolder, read_config
from nanonas.session import start
from nanonas.session.setup import resolved
from nanonas.session.start import begin, resume

TINY: dict[str, Any] = {
    "data": "digits",
    "space": "nano",
    "channels": 3,
    "length": 4,
    "population": 2,
    "lag": 1,
    "device": "cpu",
    "workers": 1,
    "evaluations": 2,
    "epochs": 1,
    "final_epochs": 0,
}


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


@pytest.mark.usefixtures("cache", "quick_measurements")
def test_a_run_that_was_killed_before_it_noted_its_images_notes_them(tmp_path: Path) -> None:
    whole, cut = (tmp_path / name for name in ("whole", "cut"))
    begin(configure(**TINY, out=tmp_path, name="whole"))
    with RunStore.begin(RunFolder(cut).store, to_values(read_config(RunFolder(whole)))):
        pass
    resume(cut)
    notes = []
    for place in (whole, cut):
        with RunStore.read(RunFolder(place).store) as store:
            notes.append((noted(store.events(), IMAGES), [one.evaluation for one in store.told()]))
    assert notes[0][0] == notes[1][0] is not None
    assert [one.accuracy for one in notes[0][1]] == [one.accuracy for one in notes[1][1]]


@pytest.mark.usefixtures("cache", "quick_measurements")
@pytest.mark.parametrize("beginning", [{"experience": True}, {"ancestor": "owls"}], ids=str)
def test_what_a_killed_run_begins_with_may_be_lost(
    tmp_path: Path, beginning: dict[str, Any]
) -> None:
    config = resolved(configure(**{**TINY, **beginning}, out=tmp_path, name="cut"))
    with RunStore.begin(RunFolder(tmp_path / "cut").store, to_values(config)):
        pass
    (tmp_path / "cut" / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    with pytest.raises(RunError, match="was stopped while it began, and holds nothing yet"):
        resume(tmp_path / "cut")
