"""`--help` shows the flags that matter, `--help-all` all of them, and all are accepted."""

from __future__ import annotations

import re

import pytest

from nanonas import cli
from nanonas.commands.arguments import configured, parse
from nanonas.commands.resume import Resume
from nanonas.commands.search import Search
from nanonas.config.files import RUN_KEYS, SEARCH_KEYS

MATTERING = {
    "config",
    "data",
    "time",
    "max_params",
    "max_macs",
    "max_latency_ms",
    "max_memory_mb",
    "strategy",
    "objectives",
    "workers",
    "device",
    "seed",
    "out",
    "name",
}


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> list[str]:
    """What a verb says of itself on a terminal of 80 columns, line by line."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        cli.main(list(words))
    assert end.value.code in (0, None)
    return capsys.readouterr().out.splitlines()


def flags(lines: list[str]) -> set[str]:
    """The flags that have an entry, as keys. Where the output is no terminal in UTF-8 its boxes
    have no sides.
    """
    found = [re.match(r"[│ ] (?:-h, )?(--[a-z][a-z0-9-]*)", line) for line in lines]
    return {match[1][2:].replace("-", "_") for match in found if match is not None}


@pytest.mark.parametrize("verb", ["search", "plan"])
def test_help_is_a_screen_of_what_matters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    lines = said(capsys, monkeypatch, verb, "--help")
    assert flags(lines) == MATTERING | {"help"}
    assert sum(-(-len(line) // 80) or 1 for line in lines) <= 45  # as a terminal breaks them
    number = len({"config", *SEARCH_KEYS, *RUN_KEYS})
    owners = "data, space, limits, strategy, fidelity, training, run"
    assert lines[-1] == f"--help-all shows all {number}: {owners}."
    assert said(capsys, monkeypatch, verb, "-h") == lines


@pytest.mark.parametrize("verb", cli.verbs())
def test_no_help_is_longer_than_a_screen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    assert len(said(capsys, monkeypatch, verb, "--help")) <= 45


@pytest.mark.parametrize("verb", ["search", "plan"])
def test_all_of_it_is_there_by_its_owner(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    lines = said(capsys, monkeypatch, verb, "--help-all")
    assert flags(lines) == {"help", "config", *SEARCH_KEYS, *RUN_KEYS}
    for owner in ("data", "space", "limits", "strategy", "fidelity", "training"):
        assert any(f"search.{owner} options" in line for line in lines)
    assert any("run options" in line for line in lines)


@pytest.mark.parametrize("verb", cli.verbs())
def test_every_verb_has_both(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    some, every = (flags(said(capsys, monkeypatch, verb, f)) for f in ("--help", "--help-all"))
    assert some <= every


def test_a_flag_that_help_leaves_out_is_accepted() -> None:
    config = configured(Search, "search", ["--muon-lr", "0.02", "--no-ancestors", "--lag", "3"])
    assert config.search.training.muon_lr == 0.02
    assert not config.search.space.ancestors
    assert config.search.strategy.lag == 3
    given = parse(Resume, "resume", ["outputs", "--hang-seconds", "7"])
    assert given.run.hang_seconds == 7


def test_help_shows_what_a_file_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    path = f"{tmp_path}/some.yaml"
    with open(path, "w", encoding="utf-8") as file:
        file.write("search:\n  data: digits\nrun:\n  time: 7m\n")
    words = " ".join(said(capsys, monkeypatch, "search", "--config", path, "--help"))
    assert "(default: digits)" in words
    assert "(default: 7m)" in words


def test_all_verbs_are_listed_with_the_way_to_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["--help-all"]) == 0
    every = capsys.readouterr().out
    assert cli.main(["--help"]) == 0
    assert capsys.readouterr().out == every
    assert "--help-all" in every
