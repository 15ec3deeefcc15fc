"""The command line in surroundings that few have: without HOME, in folders whose names are not
UTF-8.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TINY = ["--data", "digits", "--train-images", "100", "--space", "nano", "--channels", "2"]
TINY += ["--length", "3", "--population", "2", "--evaluations", "2", "--epochs", "1"]
TINY += ["--workers", "1", "--device", "cpu", "--final-epochs", "0"]
NOT_UTF8 = os.fsdecode(b"caf\xe9")


def nanonas(*words: str, environment: dict[str, str] | None = None) -> tuple[int, bytes]:
    """The exit code of a command in a process of its own, and all that it has said."""
    done = subprocess.run(
        [sys.executable, "-m", "nanonas", *words],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1"} if environment is None else environment,
    )
    return done.returncode, done.stdout


def test_without_a_home_folder_everything_works(tmp_path: Path) -> None:
    homeless = {name: value for name, value in os.environ.items() if name != "HOME"}
    run = str(tmp_path / "run")
    for words in (
        ["spaces"],
        ["search", *TINY, "--out", str(tmp_path), "--name", "run"],
        ["show", run],
    ):
        code, said = nanonas(*words, environment=homeless)
        assert code == 0, said
        assert b"Traceback" not in said


def test_where_nobody_knows_the_home_folder_a_sentence_says_what_to_name(tmp_path: Path) -> None:
    """As in a container whose user has no entry: there is nothing to make of "~"."""
    code = (
        "import pwd, sys\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "from nanonas.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    left_out = ("HOME", "NANONAS_CACHE", "XDG_CACHE_HOME")
    homeless = {name: value for name, value in os.environ.items() if name not in left_out}
    search = ["search", *TINY, "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *search],
        check=False,
        capture_output=True,
        text=True,
        env=homeless,
    )
    assert done.returncode == 2, done
    (said,) = done.stderr.splitlines()
    assert said.startswith("nanonas: ")
    assert "home folder" in said
    assert said.endswith("or set HOME")


@pytest.fixture
def not_utf8(tmp_path: Path) -> Path:
    folder = tmp_path / NOT_UTF8
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    return folder


def test_a_run_lives_in_a_folder_whose_name_is_not_utf8(not_utf8: Path) -> None:
    run = str(not_utf8 / "run")
    for words in (
        ["search", *TINY, "--out", str(not_utf8), "--name", "run"],
        ["report", run],
        ["resume", run, "--evaluations", "3", "--final-epochs", "1"],
    ):
        code, said = nanonas(*words)
        assert code == 0, said
        assert b"Traceback" not in said
    for name in ("config.yaml", "report.html", "log.txt", "final/genome.json"):
        (not_utf8 / "run" / name).read_text(encoding="utf-8")
