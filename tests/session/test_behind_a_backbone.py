"""A search behind a frozen backbone, from its images to the files that are taken away."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys.images import image_folder, png
from toys.session import InProcess
from toys.timm import NAME, Timm, weights

import nanonas
from nanonas import cli
from nanonas.data.answers import PREDICTIONS, read_answers
from nanonas.data.images import load
from nanonas.data.thumbnails import PICTURES, read_thumbnails
from nanonas.deploy.bundle import Export
from nanonas.deploy.classifying import classifier
from nanonas.deploy.subject import subject_at
from nanonas.engine.storage.events import IMAGES
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError
from nanonas.maths.calibration import softmax
from nanonas.runs.genome import read_genome
from nanonas.runs.models import trained
from nanonas.session import session as session_module
from nanonas.terminal.progress import TrainingProgress
from nanonas.training.augment import normalise
from nanonas.training.backbone import behind, opened
from nanonas.training.weights import digest_of, metadata, read_weights

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")
TINY = ["--space", "stages", "--population", "2", "--lag", "1", "--max-params", "3k", "--flip"]
TINY += ["--device", "cpu", "--workers", "1", "--evaluations", "2", "--epochs", "1"]
TINY += ["--final-epochs", "1", "--precision", "float32"]
TUNE = ["train", "--tune-backbone", "--epochs", "3", "--device", "cpu", "--init-from"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with images, a cache of its own, and a toy in the place of timm."""
    folder = tmp_path_factory.mktemp("behind")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANONAS_CACHE", str(folder / "cache"))
        patch.setitem(sys.modules, "timm", Timm(weights()))
        patch.setattr(session_module, "WorkerPool", InProcess)
        image_folder(folder / "pets", number=20, shape=(32, 32, 3))
        yield folder


@pytest.fixture(scope="module")
def run(home: Path) -> Path:
    """A search that has ended."""
    words = ["search", "--data", str(home / "pets"), "--backbone", NAME, *TINY]
    assert cli.main([*words, "--out", str(home / "outputs"), "--name", "run"]) == 0
    return home / "outputs" / "run"


def test_networks_see_maps_and_people_see_images(home: Path, run: Path) -> None:
    genome = read_genome(run / "best_genome.json")
    assert genome.input_shape == (8, 8, 8)
    with RunStore.read(run / "study.db") as store:
        assert store.config["search"]["image_size"] == 32  # as the toy was trained
        noted = next(event.details for event in store.events() if event.kind == IMAGES)
    assert noted["backbone"]["name"] == NAME
    images = load(str(home / "pets"), 32)
    pictures = read_thumbnails(run / "final" / PICTURES)
    assert pictures.full_size == (32, 32)
    assert len(pictures.plain)
    known = {image.tobytes() for image in images.x_train}
    assert all(image.tobytes() in known for image in pictures.plain)
    assert pictures.augmentation.startswith("moved by up to 4 pixels, mirrored")
    result = nanonas.Result(run)
    assert "feature maps of 8×8×8" in str(result)
    assert f"the frozen backbone {NAME}" in str(result)


def test_a_photo_goes_through_the_backbone_and_then_the_network(
    home: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = next((home / "pets").rglob("*.png"))
    assert cli.main(["predict", str(run), str(photo), "--json", "--top", "2"]) == 0
    said = {
        one["class"]: one["probability"]
        for one in json.loads(capsys.readouterr().out)[0]["classes"]
    }
    module = nanonas.load(run)
    rule = module.preprocessing
    assert rule is not None
    assert rule.backbone is not None
    frozen = opened(rule.backbone, run / "backbone.safetensors")
    pixels = torch.from_numpy(rule.pixels(photo)[None]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = module(normalise(frozen(pixels), rule.mean, rule.std)).numpy()
    found = softmax(logits, classifier(run).temperature)[0]
    assert [said[name] for name in rule.class_names] == pytest.approx(found.tolist(), abs=1e-6)
    # weights that timm has changed do not matter: the run's own are there
    png(tmp_path / "large.png", np.zeros((64, 96, 3), np.uint8))
    assert cli.main(["predict", str(run), str(tmp_path / "large.png")]) == 0


def test_what_is_exported_has_the_backbone_in_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="needs pip install 'nanonas[onnx]'")
    subject = subject_at(run)
    bundle = Export(seconds=0.02).run(subject, tmp_path / "bundle")
    assert {one.format: one.reason for one in bundle.verdicts} == {
        "onnx": "",
        "predict.py": "",
        "pt2": "",
    }
    assert set(bundle.left_out) == {"pytorch", "int8"}
    assert "is in floating point; take onnx or pt2" in bundle.left_out["int8"]
    assert bundle.images == "the 8 test images of pets"
    rule = json.loads((tmp_path / "bundle" / "preprocessing.json").read_text())
    assert rule["input_shape"] == [3, 32, 32]
    assert "backbone" not in rule
    photos = sorted((run.parents[1] / "pets").rglob("*.png"))[:5]
    own = classifier(run).probabilities(photos)
    assert classifier(tmp_path / "bundle").probabilities(photos) == pytest.approx(own, abs=1e-4)
    card = (tmp_path / "bundle" / "card.md").read_text(encoding="utf-8")
    assert f"behind the frozen backbone {NAME} (774 parameters" in card
    assert "colour images of 32×32" in card
    with pytest.raises(ConfigError, match="--formats c: the backbone"):
        Export(("c",)).run(subject, tmp_path / "c")


def test_a_run_goes_on_with_its_own_weights(
    home: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Whatever timm has by then, and though the cache has lost the maps."""
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    monkeypatch.setenv("NANONAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "timm", Timm(weights(seed=1)))
    assert cli.main(["resume", str(copy), "--evaluations", "3", "--final-epochs", "0"]) == 0
    with RunStore.read(copy / "study.db") as store:
        assert len(store.evaluations()) == 3
        first = store.candidates()
    with RunStore.read(run / "study.db") as store:
        assert [one.key for one in store.candidates()] == [one.key for one in first[:2]]
    (copy / "backbone.safetensors").unlink()
    shutil.rmtree(tmp_path / "cache")
    capfd.readouterr()
    assert cli.main(["resume", str(copy), "--evaluations", "4"]) == 2
    error = capfd.readouterr().err
    assert f"the backbone {NAME} has other weights (digest " in error
    assert "bring back its backbone.safetensors, or begin a new run" in error


def test_a_linear_classifier_is_a_yardstick(home: Path, run: Path) -> None:
    words = ["compare", str(run), "--epochs", "1", "--random", "0", "--seeds", "1"]
    assert cli.main([*words, "--time-per-network", "1s", "--device", "cpu"]) == 0
    rows = {row["network"]: row for row in json.loads((run / "compare/table.json").read_text())}
    assert set(rows) == {"found", "resnet18", "baseline", "linear classifier"}
    assert rows["linear classifier"]["params"] == 8 * 2 + 2  # as all of these, without the backbone


def test_a_run_without_a_backbone_meets_one(
    home: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--data", str(home / "pets"), *TINY, "--out", str(home / "plain")]
    assert cli.main([*words, "--name", "run"]) == 0
    plain = home / "plain" / "run"
    words = ["compare", str(plain), "--epochs", "1", "--random", "0", "--seeds", "1"]
    words += ["--time-per-network", "1s", "--device", "cpu"]
    assert cli.main([*words, "--backbone", NAME]) == 0
    rows = {row["network"]: row for row in json.loads((plain / "compare/table.json").read_text())}
    assert rows["linear classifier"]["params"] == 774 + 8 * 2 + 2
    assert rows["linear classifier"]["macs"] > rows["linear classifier"]["params"]
    assert cli.main([*words[:1], str(run), *words[2:], "--backbone", NAME]) == 2
    assert "leave --backbone out" in capsys.readouterr().err


def test_a_microcontroller_has_no_backbone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["search", "--data", str(home / "pets"), "--backbone", NAME, *TINY, "--target", "mcu"]
    assert cli.main([*words, "--out", str(home / "none")]) == 2
    assert "leave out --backbone, or --target mcu" in capsys.readouterr().err


@pytest.fixture(scope="module")
def tuned(run: Path) -> Path:
    """The run's network and its backbone, trained together."""
    words = [
        "train",
        "--init-from",
        str(run),
        "--tune-backbone",
        "--out",
        str(run.parent / "tuned"),
    ]
    assert cli.main([*words, "--epochs", "3", "--device", "cpu"]) == 0
    return run.parent / "tuned"


def test_a_backbone_learns_with_the_network(home: Path, run: Path, tuned: Path) -> None:
    before, after = (read_genome(one / "genome.json") for one in (run / "final", tuned))
    assert before.genome == after.genome
    assert before.preprocessing is not None
    assert after.preprocessing is not None
    frozen, learnt = before.preprocessing.backbone, after.preprocessing.backbone
    assert frozen is not None
    assert learnt is not None
    assert (frozen.tuned, learnt.tuned) == (False, True)
    assert replace(learnt, digest=frozen.digest, tuned=False) == frozen
    old, new = (read_weights(one / "backbone.safetensors")[0] for one in (run, tuned))
    assert all(not old[name].equal(new[name]) for name in old)
    assert digest_of(new) == learnt.digest
    # what predicts is what was trained, and was tested
    images = load(str(home / "pets"), 32)
    answers = read_answers(tuned / PREDICTIONS)
    found = classifier(tuned).probabilities(list(np.asarray(images.x_test)))
    assert softmax(answers.logits, trained(tuned).temperature) == pytest.approx(found, abs=1e-4)
    began = json.loads((tuned / "result.json").read_text())["began_with"]
    assert (began["name"], began["share"]) == ("run", 1.0)


def test_show_says_what_comes_on_top_of_a_networks_figures(
    run: Path, tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, words in (
        (run, f"behind the frozen backbone {NAME}"),
        (tuned, "trained on with it;"),
    ):
        assert cli.main(["show", str(place)]) == 0
        said = capsys.readouterr().out
        assert words in said
        assert "it comes on top of all figures here" in said


def test_what_has_learnt_is_taken_away(
    run: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights of its own: none are downloaded."""
    pytest.importorskip("onnxruntime", reason="needs pip install 'nanonas[onnx]'")
    monkeypatch.setitem(sys.modules, "timm", Timm(None))
    monkeypatch.setenv("NANONAS_CACHE", str(tmp_path / "cache"))
    bundle = Export(("onnx",), seconds=0.02).run(subject_at(tuned), tmp_path / "bundle")
    assert not any(one.reason for one in bundle.verdicts)
    assert bundle.images == "the 8 test images of pets"
    photos = sorted((run.parents[1] / "pets").rglob("*.png"))[:5]
    own = classifier(tuned).probabilities(photos)
    assert classifier(tmp_path / "bundle").probabilities(photos) == pytest.approx(own, abs=1e-4)
    assert classifier(run).probabilities(photos) != pytest.approx(own, abs=1e-3)
    card = (tmp_path / "bundle" / "card.md").read_text(encoding="utf-8")
    assert f"behind the backbone {NAME} (774 parameters" in card
    assert "which was trained on with it" in card


def test_maps_of_what_has_learnt_are_its_own(
    home: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next search behind the backbone would find them in the cache, under its name."""
    monkeypatch.setenv("NANONAS_CACHE", str(tmp_path / "cache"))
    images = load(str(home / "pets"), 32)
    learnt = behind(images, NAME, kept=tuned / "backbone.safetensors").backbone
    frozen = behind(images, NAME).backbone
    again = behind(images, NAME, kept=tuned / "backbone.safetensors").backbone
    assert learnt is not None
    assert frozen is not None
    assert learnt == again
    assert learnt.digest == metadata(tuned / "backbone.safetensors")["digest"] != frozen.digest
    words = [*TUNE, str(tuned), "--epochs", "1", "--out", str(tmp_path / "further")]
    assert cli.main(words) == 0


def test_tuning_goes_on_where_it_was(
    run: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*TUNE, str(run), "--out", str(tmp_path / "tuned")]

    def stop(self: object, done: int, of: int, loss: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "epoch", stop)
        assert cli.main(words) == 130
    assert not (tmp_path / "tuned" / "result.json").exists()
    assert cli.main(words) == 0
    for name in ("backbone.safetensors", "model.safetensors"):
        whole, parts = (read_weights(place / name)[0] for place in (tuned, tmp_path / "tuned"))
        assert all(whole[one].equal(parts[one]) for one in whole)


def test_what_cannot_be_tuned(
    home: Path, run: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: object) -> str:
        assert cli.main(["train", *map(str, words), "--out", str(tmp_path / "no")]) == 2
        return capsys.readouterr().err

    assert "learnt with it" in refused("--init-from", tuned)
    both = ("--tune-backbone", "--freeze-body")
    assert "take one of them" in refused("--init-from", run, *both)
    assert "name it with --init-from" in refused(run, "--tune-backbone")
    words = [
        "search",
        "--data",
        str(home / "pets"),
        *TINY,
        "--out",
        str(tmp_path),
        "--name",
        "bare",
    ]
    assert cli.main(words) == 0
    said = refused("--init-from", tmp_path / "bare", "--tune-backbone")
    assert "was not found behind a backbone" in said
