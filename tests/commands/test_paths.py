"""Paths with odd characters, in what is printed, suggested and configured."""

from __future__ import annotations

import io
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from nanonas import cli
from nanonas.config.files import checked
from nanonas.config.schema import Config, RunConfig
from nanonas.core import Evaluation, State
from nanonas.engine.study import End, Why
from nanonas.errors import ConfigError, RunError
from nanonas.files import write_text
from nanonas.runs.folder import RunFolder, find
from nanonas.session.session import Session
from nanonas.terminal.results import say_front
from nanonas.text import command

ODD = ["plain", "with space", "it's", "[bold]", "[/x]", "$HOME", "a;b"]


@pytest.mark.parametrize("name", ODD)
def test_a_suggested_command_reads_as_its_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    assert shlex.split(command("nanonas resume", path, "--time 1h")) == [
        *("nanonas", "resume", str(path), "--time", "1h")
    ]
    with pytest.raises(RunError) as refused:
        find(path)
    assert f"`{command('nanonas search --out', path)}`" in str(refused.value)


@pytest.mark.parametrize("name", ODD)
def test_a_printed_path_is_no_markup(name: str) -> None:
    console = Console(file=io.StringIO(), width=200)
    record = SimpleNamespace(
        objectives=[SimpleNamespace(name="accuracy"), SimpleNamespace(name="params")],
        weighed=["accuracy", "params"],
        trained_front=["some"],
        final={},
    )
    folder = RunFolder(Path(name))
    with pytest.MonkeyPatch.context() as patch:
        for table in ("front_table", "trained_front_table"):
            patch.setattr(f"nanonas.terminal.tables.{table}", lambda _: "")
        say_front(console, folder, cast(Any, record))
    said = cast(io.StringIO, console.file).getvalue()
    assert command("nanonas train", Path(name, "front", "NUMBER.json")) in said
    assert command("nanonas export", Path(name, "front", "NUMBER")) in said


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked(Config(run=RunConfig(out=Path("~/runs")))).run.out == tmp_path / "runs"
    with pytest.raises(ConfigError, match="home folder"):
        checked(Config(run=RunConfig(out=Path("~nobody-of-this-name/runs"))))


@pytest.mark.parametrize("verb", ["search", "train", "plan"])
@pytest.mark.parametrize("data", ["", "  "])
def test_empty_data_are_refused(verb: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--data", data]) == 2
    assert "is empty" in capsys.readouterr().err


def test_a_path_that_is_not_utf8_can_stand_in_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "page", "of caf\udce9")
    assert (tmp_path / "page").read_text(encoding="utf-8") == "of caf?"


@pytest.mark.parametrize("reason", ["the worker died: signal 11", "ValueError: no"])
def test_a_search_of_failures_says_the_last_reason(reason: str, tmp_path: Path) -> None:
    latest = {
        0: Evaluation(0, State.FAILED, reason="another"),
        1: Evaluation(1, State.FAILED, reason=reason),
    }
    session = SimpleNamespace(
        store=SimpleNamespace(latest=lambda: latest), folder=RunFolder(tmp_path)
    )
    end = End(Why.DEADLINE, "the time is up")
    said = Session._nothing_found(cast(Any, session), end)
    assert reason in said
    assert "more time" not in said
