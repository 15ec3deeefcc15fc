"""What the command line writes to, when that is not a UTF-8 terminal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanonas import cli
from nanonas.commands.arguments import Verb
from nanonas.runs.folder import RunFolder
from nanonas.session.session import _resumable
from nanonas.text import command as suggested


def nanonas(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "nanonas", *arguments]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment})


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("asked", [["spaces"], ["show", "no such → folder"]])
def test_what_a_stream_cannot_say_is_replaced(
    encoding: str, asked: list[str], tmp_path: Path
) -> None:
    done = nanonas(*asked, PYTHONIOENCODING=encoding)
    assert done.returncode == (0 if asked == ["spaces"] else 2), done.stderr
    assert b"Traceback" not in done.stderr
    arrow = "→" if encoding == "utf-8" else "?"
    if asked != ["spaces"]:
        assert f"no such {arrow} folder" in done.stderr.decode(encoding)
    done = nanonas("train", "--help", PYTHONIOENCODING=encoding)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("asked", ["--help", "train --help", "spaces"])
def test_a_reader_may_leave(asked: str) -> None:
    command = [sys.executable, "-m", "nanonas", *asked.split()]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode in (0, 1)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_session_that_is_stopped_names_resume(stop: type[BaseException], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a run")
    with pytest.raises(KeyboardInterrupt) as stopped, _resumable(folder):
        raise stop(1)
    assert f"`{suggested('nanonas resume', folder.path)}`" in str(stopped.value)


def test_sigterm_stops_as_ctrl_c_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(arguments: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("it goes on with resume") from None

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli, "_verb", lambda name: Verb(object, stopped))
    assert cli.main(["search"]) == 143
    assert "it goes on with resume" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_before_a_verb_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminated = SimpleNamespace(remove=lambda: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(cli, "logger", terminated)
    assert cli.main(["search"]) == 143
    assert "the same command" in capsys.readouterr().err
