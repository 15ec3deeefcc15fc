"""`nanonas train --init-from`, on a run that was kept, of digits of 8×8."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from toys.images import labels, npz, pixels

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.config.schema import BODY_LR
from nanonas.deploy import card
from nanonas.deploy.subject import subject_at
from nanonas.engine.storage.store import RunStore
from nanonas.report.words.verdict import headline
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import read_genome
from nanonas.runs.reading import read_record
from nanonas.training.weights import read_weights, save_tensors

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")

FIXTURE = Path(__file__).parent.parent / "fixtures" / "halving_run"
ONE = ["--epochs", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nobody may change it."""
    place = tmp_path_factory.mktemp("runs") / "digits"
    shutil.copytree(FIXTURE, place)
    return place


@pytest.fixture(scope="module")
def owls(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Colour images of two classes, larger than the digits."""
    x, y = pixels(24, 12, 12, 3), labels(24)
    path, names = tmp_path_factory.mktemp("images") / "owls.npz", ["barn owl", "tawny owl"]
    return npz(path, x_train=x, y_train=y, x_test=x, y_test=y, class_names=np.array(names))


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, run: Path, owls: str) -> Path:
    """The run's best, trained on owls, with a frozen body. Nobody may change it."""
    place = tmp_path_factory.mktemp("trained") / "owls"
    words = ["--init-from", str(run), "--data", owls, "--out", str(place), "--freeze-body"]
    assert cli.main(["train", *words, *ONE]) == 0
    return place


def test_a_training_begins_with_a_run_of_other_images(begun: Path, run: Path, owls: str) -> None:
    old, new = subject_at(run), read_genome(begun / "genome.json")
    assert new.genome == old.source.genome.genome
    assert (new.input_shape, new.class_names) == ((3, 8, 8), ("barn owl", "tawny owl"))
    assert new.preprocessing is not None
    with np.load(owls) as arrays:  # of its own images
        mean = arrays["x_train"].mean(axis=(0, 1, 2)) / 255
    assert new.preprocessing.mean == pytest.approx(tuple(mean), abs=0.01)
    before, after = old.module.state_dict(), read_weights(begun / "model.safetensors")[0]
    same = [name for name in before if before[name].equal(after[name])]
    # all but what reads the image and what names the class
    changed = {name.split(".")[0] for name in before if name not in same}
    first, last = old.module.network.nodes[0].name, old.module.network.nodes[-1].name
    assert changed == {first, last}
    assert not (run / "final").exists()
    with RunStore.read(run / "study.db") as store:  # whose test images were not looked at
        opened = [str(e.details["for"]) for e in store.events() if e.kind == "test set opened"]
    assert not [purpose for purpose in opened if purpose.startswith("train")]


def test_what_it_began_with_is_said(
    begun: Path, run: Path, owls: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the training, which is only read once it has ended."""
    written = (begun / "model.safetensors").stat().st_mtime_ns
    words = ["--init-from", str(run), "--data", owls, "--out", str(begun), "--freeze-body"]
    assert cli.main(["train", *words, *ONE]) == 0
    expected = r"; began with the weights of digits, \d\d\.\d % of its parameters, which stayed"
    assert re.search(expected, capsys.readouterr().out)
    assert (begun / "model.safetensors").stat().st_mtime_ns == written


def test_the_folder_of_a_training_is_shown(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(begun)]) == 0
    shown = capsys.readouterr().out
    assert "the trained network" in shown
    result = json.loads((begun / "result.json").read_text(encoding="utf-8"))
    assert f"test accuracy {result['test_accuracy']:.2%}" in shown
    assert "began with the weights of digits" in shown


def test_another_network_begins_with_the_folder_of_a_training(
    begun: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is named, on its own images, in another size."""
    shutil.copy(run / "best_genome.json", tmp_path / "mine.json")
    words = [str(tmp_path / "mine.json"), "--init-from", str(begun), "--image-size", "10"]
    heard: list[str] = []
    monkeypatch.setattr("nanonas.data.found.say", heard.append)
    assert cli.main(["train", *words, *ONE]) == 0
    assert len(set(heard)) == 1
    assert heard[0].endswith("images of 10×10")
    back = tmp_path / "mine" / "final"
    assert read_genome(back / "genome.json").input_shape == (1, 10, 10)
    found = json.loads((back / "result.json").read_text(encoding="utf-8"))["began_with"]
    assert (found["name"], found["body_lr"]) == ("owls", BODY_LR)
    assert 0.3 < found["share"] < 1


def test_a_run_whose_winner_began_with_others_weights_says_so(begun: Path, tmp_path: Path) -> None:
    """In its report and in the model card; what is no such note is left out, with all the rest."""
    run = RunFolder(tmp_path / "digits")
    shutil.copytree(FIXTURE, run.path)
    assert cli.main(["train", str(run.path), "--init-from", str(begun), *ONE]) == 0
    said = (
        r"It began with the weights of owls, \d\d\.\d % of its parameters, which learnt 0\.3 times"
    )
    assert re.search(said, " ".join(headline(Findings(read_record(run)))))
    assert re.search(said, card._found(subject_at(run.path)))
    result = json.loads((run.final / "result.json").read_text(encoding="utf-8"))
    result["began_with"]["share"] = 7
    (run.final / "result.json").write_text(json.dumps(result), encoding="utf-8")
    assert read_record(run).final is None


def test_no_training_takes_the_place_of_what_it_begins_with(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (begun / "model.safetensors").read_bytes()
    said = complaint(capsys, "--init-from", begun, "--out", begun)
    assert "where its result would go; name another folder with --out" in said
    assert (begun / "model.safetensors").read_bytes() == before


def complaint(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one sentence of a training that cannot begin."""
    assert cli.main(["train", *map(str, words)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    return said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--body-lr", "0.1"],
            "--body-lr is of a training that begins with the weights of another",
        ),
        (
            ["--init-from", "RUN"],
            "--init-from without a network of its own to train needs a folder",
        ),
        (
            ["--init-from", "RUN", "--out", "x", "--body-lr", "0"],
            "--body-lr must be above 0 and at most 1, but is 0.0; --freeze-body keeps",
        ),
        (
            ["--init-from", "RUN", "--out", "x", "--body-lr", "1", "--freeze-body"],
            "--body-lr says how fast the body learns, but --freeze-body that it does not",
        ),
        (
            ["--init-from", "RUN", "--out", "x", "--image-size", "4"],
            "--image-size must be from 8 to 224, but is 4",
        ),
        (["--init-from", "nowhere", "--out", "x"], "'nowhere' does not exist; "),
    ],
)
def test_a_beginning_that_cannot_be(
    capsys: pytest.CaptureFixture[str], run: Path, arguments: list[str], said: str
) -> None:
    assert said in complaint(capsys, *[str(run) if word == "RUN" else word for word in arguments])


def test_weights_of_another_network_are_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], begun: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path / "owls")
    weights = tmp_path / "owls" / "model.safetensors"
    tensors, about = read_weights(weights)
    del tensors[next(iter(tensors))]
    save_tensors(tensors, weights, about)
    out = tmp_path / "x"
    said = complaint(capsys, "--init-from", tmp_path / "owls", "--out", out, *ONE)
    assert f"the weights of '{tmp_path / 'owls'}' have nothing for 'conv1.weight'" in said
    assert not (out / "checkpoint.safetensors").exists()
