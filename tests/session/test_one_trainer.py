"""A folder is trained in by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toys.session import InProcess

from nanonas import cli
from nanonas.config.files import configure
from nanonas.config.schema import Config
from nanonas.session import session as session_module
from nanonas.session.listener import Listener
from nanonas.session.start import begin
from nanonas.terminal.progress import TrainingProgress

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")
TRAIN = ["--epochs", "1", "--device", "cpu"]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)


def config(out: Path, final_epochs: int) -> Config:
    size = {"train_images": 40, "space": "nano", "channels": 2, "length": 2, "population": 2}
    run = {"epochs": 1, "evaluations": 2, "workers": 1, "device": "cpu", "out": out, "name": "run"}
    return configure(**{"data": "digits", **size, **run, "final_epochs": final_epochs})


class Second(Listener):
    """Does something once, while a network is trained; keeps what came of it."""

    def __init__(self, do: Callable[[], int]) -> None:
        self.do, self.codes = do, list[int]()

    def epoch(self, done: int, of: int, loss: float) -> None:
        if not self.codes:
            self.codes.append(-1)
            self.codes = [self.do()]


def meanwhile(patch: pytest.MonkeyPatch, command: list[str]) -> Second:
    """What runs a command while another trains."""
    second = Second(lambda: cli.main(command))
    patch.setattr(TrainingProgress, "epoch", lambda self, *words: second.epoch(*words))
    return second


def refused(said: str) -> bool:
    last = said.splitlines()[-1]
    words = "is being written by another process"
    return last.startswith("nanonas: ") and words in last and "Traceback" not in said


def test_who_trains_in_a_folder_that_is_trained_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(config(tmp_path, final_epochs=0)).folder.path
    command = ["train", str(run), *TRAIN]
    second = meanwhile(monkeypatch, [*command, "--seed", "1"])
    assert cli.main(command) == 0
    assert second.codes == [2]
    assert refused(capsys.readouterr().err)
    assert not (run / "final" / "earlier-1").exists()
    assert cli.main([*command, "--seed", "1"]) == 0  # now nobody does
    assert (run / "final" / "earlier-1").exists()


def test_who_trains_a_winner_that_its_search_trains_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nanonas", "train", str(tmp_path / "run"), *TRAIN]
    said: list[str] = []

    def train() -> int:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        said.append(done.stderr)
        return done.returncode

    second = Second(train)
    outcome = begin(config(tmp_path, final_epochs=2), second)
    assert outcome.final is not None
    assert second.codes == [2]
    assert refused(said[0])
    assert not (tmp_path / "run" / "final" / "earlier-1").exists()


def test_another_folder_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["train", str(begin(config(tmp_path, final_epochs=0)).folder.path), *TRAIN]
    second = meanwhile(monkeypatch, [*command, "--out", str(tmp_path / "mine")])
    assert cli.main(command) == 0
    assert second.codes == [0]
    assert (tmp_path / "mine" / "model.safetensors").exists()


def test_of_two_comparisons_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(config(tmp_path, final_epochs=0)).folder.path
    command = ["compare", str(run), "--seeds", "1", "--random", "0", *TRAIN]
    second = meanwhile(monkeypatch, command)
    assert cli.main(command) == 0
    assert second.codes == [2]
    assert refused(capsys.readouterr().err)


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begin(config(tmp_path, final_epochs=0)).folder.path
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "mine"
    assert cli.main(["train", str(run), *TRAIN, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert f"nanonas: {out} cannot be made: " in said
    assert "choose another folder" in said
