"""`nanonas doctor` and the look that a search takes: what is printed, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toys.images import npz
from toys.photos import arrows, film_folder

from nanonas import cli
from nanonas.commands.arguments import configured, parse
from nanonas.commands.doctor import Doctor
from nanonas.commands.search import Search
from nanonas.data import found

pytestmark = pytest.mark.usefixtures("cache")

SEARCH = "--epochs 1 --evaluations 2 --workers 1 --device cpu --precision float32"


@pytest.fixture(autouse=True)
def _said_anew() -> None:
    found.say.cache_clear()


def arrows_file(path: Path) -> str:
    x, y = arrows(240, 16)
    return npz(path, x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])


def test_nothing_to_mend_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "digits"]) == 0
    said = capsys.readouterr().out
    assert "mend before" not in said
    assert said.splitlines()[0].split() == ["class", "train", "valid", "test"]
    assert "look at it: 143 validation images judge the candidates" in said


def test_what_must_be_mended_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = arrows_file(tmp_path / "arrows.npz")
    assert cli.main(["doctor", path, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    (mirroring,) = [one for one in told["findings"] if one["kind"] == "mirroring"]
    assert (mirroring["severity"], mirroring["flag"]) == ("mend before you search", "--no-flip")
    assert cli.main(["doctor", path, "--no-flip"]) == 0
    assert "; images are not mirrored while training" in capsys.readouterr().out


def test_groups_are_written_and_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, path = str(film_folder(tmp_path / "films")), str(tmp_path / "groups.csv")
    assert cli.main(["doctor", root, "--write-groups", path]) == 1
    said = capsys.readouterr().out
    assert f"{path}: 16 groups; search with --groups {path}" in said
    assert "class0/film00_0001.png" in said
    assert cli.main(["doctor", root, "--groups", path]) == 0


def test_what_cannot_be_read_is_said_and_ends_with_1_or_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = film_folder(tmp_path / "films", films=3)
    (root / "class1" / "film09_0001.png").write_bytes(b"no image")
    assert cli.main(["doctor", str(root)]) == 1
    assert "1 image cannot be read (film09_0001.png)" in capsys.readouterr().out
    assert cli.main(["doctor", str(tmp_path / "nowhere")]) == 2
    assert cli.main(["doctor", "digits", "--write-groups", str(tmp_path / "g.csv")]) == 2
    assert "have no names to group them by" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "warned"),
    [("", 1), ("--no-doctor", 0), ("--no-flip", 0)],
)
def test_a_search_warns_before_it_begins(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: str,
    warned: int,
) -> None:
    monkeypatch.setattr("nanonas.session.session.Session.run", _stopped)
    path = arrows_file(tmp_path / "arrows.npz")
    assert cli.main(f"search --data {path} {SEARCH} --out {tmp_path} {flags}".split()) == 130
    said = capsys.readouterr().err
    assert said.count("don't mirror images while training (--no-flip)") == warned


@pytest.mark.parametrize(
    ("flags", "flip"),
    [("", None), ("--no-flip", False), ("--flip", True), ("--flip False", False)],
)
def test_a_flag_of_three_values_can_be_typed_as_others(flags: str, flip: bool | None) -> None:
    assert configured(Search, "search", flags.split()).search.training.flip is flip
    assert parse(Doctor, "doctor", ["photos", *flags.split()]).flip is flip


def test_a_search_says_nothing_where_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanonas.session.session.Session.run", _stopped)
    assert cli.main(f"search --data digits {SEARCH} --out {tmp_path}".split()) == 130
    assert len(capsys.readouterr().err.splitlines()) == 3  # the images, and that it was stopped


def test_what_goes_wrong_in_the_look_is_no_reason_not_to_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("nanonas.data.doctor.likeness.near_copies", failing)
    monkeypatch.setattr("nanonas.session.session.Session.run", _stopped)
    assert cli.main(f"search --data digits {SEARCH} --out {tmp_path}".split()) == 130


def _stopped(session: object) -> None:
    raise KeyboardInterrupt
