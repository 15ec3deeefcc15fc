"""An export, end to end, of a run that was kept; what takes processes of its own happens once."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from nanonas import cli
from nanonas.config.files import read_yaml
from nanonas.deploy import card
from nanonas.deploy.alone import check
from nanonas.deploy.bundle import Bundle, Export
from nanonas.deploy.checking import Checker
from nanonas.deploy.folding import folded
from nanonas.deploy.formats import FORMATS
from nanonas.deploy.subject import subject_at
from nanonas.deploy.verdicts import Verdict
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, DataError, RunError
from nanonas.runs.folder import RunFolder, read_config
from nanonas.runs.origin import origin_at
from nanonas.runs.source import open_source
from nanonas.training import graphs
from nanonas.training.augment import normalise, to_device
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures
from nanonas.training.quantised import QuantisedModule, calibrated

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(run: Path) -> Bundle:
    """The run's best, but as .pt2, which takes seconds more. Nobody may change its folder."""
    pytest.importorskip("onnx", reason="ONNX needs onnx: pip install 'nanonas[onnx]'")
    how = Export(["pytorch", "onnx", "int8"], seconds=0)
    subject = replace(subject_at(run), temperature=1.7)  # as its final training would have found
    return how.run(subject, run.parent / "bundle")


def test_every_format_passes_its_check(made: Bundle, run: Path) -> None:
    assert made.left_out == {}
    assert [one.format for one in made.verdicts] == ["pytorch", "onnx", "predict.py", "int8"]
    assert [one.reason for one in made.verdicts] == [""] * 4
    expected = {name for one in made.verdicts for name in one.files}
    others = {"labels.json", "preprocessing.json", "calibration.json", "card.md"}
    others |= {"verification.json", "search.yaml", "genome.json"}
    assert {path.name for path in made.folder.iterdir()} == expected | others
    assert list(made.folder.parent.glob(".*")) == []  # nothing is left beside it


def test_another_training_begins_with_a_bundle(made: Bundle, run: Path, tmp_path: Path) -> None:
    """With weights that compute what the network computed, though its norms were folded."""
    origin = origin_at(made.folder)
    own = subject_at(run).module
    child, images = build_module(own.network, seed=5), torch.randn(8, *own.network.input_shape)
    begun = origin.pretrained(own.network.input_shape[0], origin.genome.class_names)
    assert begun.begin(child, images).share == 1
    torch.testing.assert_close(child.eval()(images), own(images), rtol=1e-3, atol=1e-3)
    source = origin.source(None, skip_broken=False)
    assert (source.run, source.config.data.data) == (None, "digits")
    for name in ("genome.json", "model.safetensors"):
        shutil.copytree(made.folder, tmp_path / name)
        (tmp_path / name / name).unlink()
        with pytest.raises(RunError, match=f"has no {name}, which a training .* export it again"):
            origin_at(tmp_path / name)
    (tmp_path / "genome.json" / "genome.json").write_bytes(
        (made.folder / "genome.json").read_bytes()
    )
    (tmp_path / "genome.json" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(RunError, match=r"cannot be read: .*; export it again with `nanonas export"):
        origin_at(tmp_path / "genome.json")


def test_what_is_said_of_each_file(made: Bundle) -> None:
    said = json.loads((made.folder / "verification.json").read_text(encoding="utf-8"))
    assert said["format"] == "nanonas-bundle-1"
    assert said["compared_on"] == "the 359 test images of digits"
    own = said["own_module"]["accuracy"]
    assert own["n"] == 359
    assert own["low"] < own["share"] < own["high"]
    for name in ("pytorch", "onnx"):
        one = said["formats"][name]
        assert one["difference"] <= 1e-4 * one["scale"]
        assert one["agreement"] == 1
        assert one["accuracy"]["share"] == own["share"]
        assert one["bytes"] == sum((made.folder / file).stat().st_size for file in one["files"])
        timing = one["timing"]
        assert 0 < timing["low"] <= timing["median"] <= timing["high"]
        assert (timing["threads"], timing["batch"]) == (1, 1)
    int8 = said["formats"]["int8"]
    assert 100 * (own["share"] - int8["accuracy"]["share"]) <= 1.0
    assert int8["difference"] > said["formats"]["onnx"]["difference"]


def test_int8_is_what_its_roundings_make_of_the_network(made: Bundle, run: Path) -> None:
    """As a fine-tuning has them."""
    what = subject_at(run)
    images = what.source.images
    assert images is not None
    mean, std = (torch.tensor(values) for values in (what.rule.mean, what.rule.std))
    x, y = to_device(images.x_train, images.y_train)
    rows = torch.from_numpy(what.calibrating())
    module = folded(what.module)
    student = QuantisedModule(module, calibrated(module, Pictures(x, y, mean, std, rows)))
    with torch.no_grad():
        expected = student(normalise(x[:256], mean, std)).numpy()
    got = check.logits_of(check.KINDS["int8"](made.folder, 1), images.x_train[:256])
    low, high = student.ranges()["dense1"]
    steps = np.abs(got - expected) / ((high - low) / 255)
    assert float(steps.mean()) < 1
    assert (got.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.97


def test_the_program_of_torch_export(run: Path, tmp_path: Path) -> None:
    what = subject_at(run)
    traced = graphs.program(what.module, what.rule)
    graphs.save_program(traced, tmp_path / "model.pt2", what.metadata)
    files = {"class_names": ""}
    again = torch.export.load(tmp_path / "model.pt2", extra_files=files).module()
    assert json.loads(files["class_names"]) == list(what.rule.class_names)
    pixels = np.array(what.held_out().pixels[:5])
    expected = what.module(torch.from_numpy(what.rule.batch(list(pixels))))
    torch.testing.assert_close(again(torch.from_numpy(pixels)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("fold", [True, False])
def test_all_formats(run: Path, tmp_path: Path, fold: bool) -> None:
    found = Export(list(FORMATS), fold=fold, seconds=0).run(subject_at(run), tmp_path / "b")
    assert [one.reason for one in found.verdicts] == [""] * 6
    expected = {name for one in FORMATS.values() for name in one.files}
    assert expected < {path.name for path in (tmp_path / "b").iterdir()}


def test_that_the_test_set_was_opened_is_recorded(made: Bundle, run: Path) -> None:
    with RunStore.read(run / "study.db") as store:
        opened = [event.details["for"] for event in store.events() if "opened" in event.kind]
    assert "export" in opened


def test_the_graph_says_what_it_takes(made: Bundle) -> None:
    onnx = pytest.importorskip("onnx")
    for name in ("model.onnx", "model.int8.onnx"):
        model = onnx.load(made.folder / name)
        about = {one.key: one.value for one in model.metadata_props}
        assert json.loads(about["class_names"]) == [str(number) for number in range(10)]
        assert json.loads(about["preprocessing"])["input_shape"] == [1, 8, 8]
        (image,), (logits,) = model.graph.input, model.graph.output
        assert (image.name, logits.name) == ("image", "logits")
        assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
        batch, *rest = image.type.tensor_type.shape.dim
        assert batch.dim_param == "batch"  # of any size
        assert [one.dim_value for one in rest] == [8, 8, 1]
        assert [(one.domain, one.version) for one in model.opset_import] == [("", graphs.OPSET)]
    quantised = {node.op_type for node in onnx.load(made.folder / "model.int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= quantised


def test_the_card_is_read_by_programs_and_people(made: Bundle) -> None:
    _, front, text = (made.folder / "card.md").read_text(encoding="utf-8").split("---\n", 2)
    values = yaml.safe_load(front)
    assert "license" not in values  # the user's to choose
    assert values["pipeline_tag"] == "image-classification"
    (model,) = values["model-index"]
    (result,) = model["results"]
    (metric,) = result["metrics"]
    share = made.own.accuracy.share if made.own.accuracy else None
    assert (metric["type"], metric["value"]) == ("accuracy", pytest.approx(share, abs=1e-6))
    assert "\n\nTo repeat it:\n\n```sh\nnanonas search --config search.yaml\n```\n" in text
    assert " 26 networks were tried." in text
    assert "on which nothing was trained" in text
    assert "logits divided by 1.7 before the softmax give calibrated probabilities" in text
    assert "its probabilities were calibrated on the test images" in text


def test_the_search_is_repeated_by_a_file_that_says_nothing_of_the_machine(
    made: Bundle, run: Path, copied: Callable[[Path], Path], tmp_path: Path
) -> None:
    theirs, ours = read_yaml(made.folder / "search.yaml"), read_config(RunFolder(run))
    assert theirs.search == ours.search
    assert (theirs.run.evaluations, theirs.run.time) == (ours.run.evaluations, ours.run.time)
    assert (theirs.run.out, theirs.run.name) == (Path("outputs"), None)
    other = copied(tmp_path)
    values = yaml.safe_load((other / "config.yaml").read_text(encoding="utf-8"))
    values["search"] |= {"data": "/home/ann/owls", "groups": "/home/ann/nights.csv"}
    values["search"] |= {"experience_from": "/home/ann/run/mine.jsonl"}
    values["search"] |= {"ancestor": "/home/ann/run/ancestor"}
    (other / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    text = card.search_yaml(RunFolder(other))
    assert "/home/ann" not in text
    values = yaml.safe_load(text)["search"]
    assert (values["data"], values["groups"]) == ("owls", "nights.csv")
    assert (values["experience_from"], values["ancestor"]) == ("mine.jsonl", "ancestor")
    subject = replace(subject_at(run), source=replace(open_source(run), run=RunFolder(other)))
    assert (
        "To repeat it, in a folder that `owls` lies in and that has `mine.jsonl` and `ancestor` of "
        "the run's folder:" in card.model_card(subject, made.own, (), "")
    )


def test_a_bundle_is_replaced_and_nothing_else_is(
    made: Bundle, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = tmp_path / "again"
    shutil.copytree(made.folder, again)
    (again / "notes.txt").write_text("mine", encoding="utf-8")
    monkeypatch.setattr(Checker, "verdict", passed)
    Export(["pytorch"], seconds=0).run(subject_at(run), again)
    assert not (again / "model.onnx").exists()
    assert not (again / "predict.py").exists()
    assert (again / "notes.txt").read_text(encoding="utf-8") == "mine"
    with pytest.raises(RunError, match="holds other files, which an export could overwrite"):
        Export(["pytorch"]).run(subject_at(run), run)
    with pytest.raises(RunError, match="is a file; name a new folder"):
        Export(["pytorch"]).run(subject_at(run), again / "notes.txt")


def passed(self: Checker, kind: str, folder: Path, files: tuple[str, ...]) -> Verdict:
    """A check that is none, for tests of something else."""
    assert all((folder / name).stat().st_size for name in files)
    return Verdict(kind, tuple(files), 1)


def test_a_file_that_does_something_else_is_not_called_exported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def off(self: Checker, kind: str, folder: Path) -> Any:
        return self.expected * np.float32(1.001), np.ones(10)

    monkeypatch.setattr(Checker, "_run", off)
    words = ["export", str(run), "--to", str(tmp_path / "b"), "--formats", "pytorch"]
    assert cli.main(words) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "model.py, model.safetensors FAILED: its logits are up to" in said
    names = {path.name for path in (tmp_path / "b").iterdir()}
    assert {"model.py.failed", "model.safetensors.failed", "card.md"} <= names
    assert not {"model.py", "model.safetensors"} & names
    found = json.loads((tmp_path / "b" / "verification.json").read_text(encoding="utf-8"))
    assert not found["formats"]["pytorch"]["passed"]


def test_without_images_random_pixels_are_compared(
    run: Path,
    copied: Callable[[Path], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def gone(source: object) -> object:
        raise DataError("the images are gone")

    what = subject_at(run)
    monkeypatch.setattr("nanonas.deploy.subject.fitting", gone)
    monkeypatch.setattr(Checker, "verdict", passed)
    monkeypatch.setattr(Checker, "program", lambda self, path: Verdict("predict.py", (), 1))
    monkeypatch.setattr(graphs, "save_onnx", lambda traced, path, about: path.write_bytes(b"1"))
    monkeypatch.setattr(graphs, "program", lambda module, rule: None)
    monkeypatch.setattr(graphs, "save_program", lambda traced, path, about: path.write_bytes(b"1"))
    with pytest.raises(RunError, match="kept no such rule, and the images are gone"):
        subject_at(run)  # begun by a version that kept none
    genome = json.loads((run / "best_genome.json").read_text(encoding="utf-8"))
    kept = copied(tmp_path)
    genome["preprocessing"] = what.rule.to_json()
    (kept / "best_genome.json").write_text(json.dumps(genome), encoding="utf-8")
    found = Export(seconds=0).run(subject_at(kept), tmp_path / "b")
    assert found.images == "256 images of random pixels"
    assert list(found.left_out) == ["int8"]
    assert "calibrated on training images, and these are gone" in found.left_out["int8"]
    assert "accuracy is not known" in (tmp_path / "b" / "card.md").read_text(encoding="utf-8")
    with pytest.raises(ConfigError, match="--formats int8: it is calibrated"):
        Export(["int8"]).run(subject_at(kept), tmp_path / "c")


def test_an_agent_takes_the_graphs(run: Path, made: Bundle) -> None:
    """Those of a bundle, and those that a search has measured."""
    from nanonas.serving.agent.child import _inputs
    from nanonas.serving.agent.graph import look_through

    onnxruntime = pytest.importorskip("onnxruntime")
    for content in (
        graphs.onnx_to_measure(subject_at(run).module),
        *((made.folder / name).read_bytes() for name in ("model.onnx", "model.int8.onnx")),
    ):
        look_through(content)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        assert session.run(None, _inputs(session.get_inputs(), 3))[0].shape == (3, 10)


def test_without_the_extra_the_rest_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "EXTRA", ("onnx_that_nobody_has",))
    monkeypatch.setattr(Checker, "verdict", passed)
    monkeypatch.setattr(graphs, "program", lambda module, rule: None)
    monkeypatch.setattr(graphs, "save_program", lambda traced, path, about: path.write_bytes(b"1"))
    found = Export(seconds=0).run(subject_at(run), tmp_path / "b")
    sentence = "ONNX needs onnx_that_nobody_has: pip install 'nanonas[onnx]'"
    assert found.left_out == {"onnx": sentence, "int8": sentence}
    assert {one.format for one in found.verdicts} == {"pytorch", "pt2"}
    with pytest.raises(ConfigError, match="--formats onnx: ONNX needs"):
        Export(["onnx"]).run(subject_at(run), tmp_path / "c")


def test_what_is_exported(run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    best = subject_at(run)
    assert best.weights == run / "finalists" / "22.safetensors"
    other = subject_at(run.parent, candidate=17)
    assert other.weights == run / "weights" / "17.safetensors"
    assert other.module.network.key != best.module.network.key
    with pytest.raises(RunError, match="no evaluated candidate 99"):
        subject_at(run, candidate=99)
    kept = copied(tmp_path)
    (kept / "weights" / "17.safetensors").unlink()
    with pytest.raises(RunError, match=r"weights of candidate 17 are gone, .* of 0, 1, 2"):
        subject_at(kept, candidate=17)
    images = best.calibration()
    assert images is not None
    assert images.shape == (512, 8, 8, 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "--finetune never",
            "--finetune must be a duration above 0 such as 60s or 5m, or off, but is 'never'",
        ),
        ("--int8-loss 101", "--int8-loss must be in [0, 100], but is 101"),
        ("--candidate -1", "--candidate must be 0 or more, but is -1"),
        ("--to hf://nobody", "--to must be a folder or hf://USER/NAME, but is 'hf://nobody'"),
        ("--data nowhere", "nowhere"),
    ],
)
def test_wrong_flags(
    run: Path, words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(run), *words.split()]) == 2
    assert sentence in capsys.readouterr().err


# --- the hub --------------------------------------------------------------------------------------


class Hub:
    """What is used of huggingface_hub."""

    def __init__(self, token: str | None) -> None:
        self.token, self.files, self.name = token, set[str](), ""

    def get_token(self) -> str | None:
        return self.token

    def HfApi(self) -> Hub:  # noqa: N802  its name
        return self

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
        assert private
        assert exist_ok
        self.name = name

    def upload_folder(self, *, repo_id: str, folder_path: str, ignore_patterns: list[str]) -> None:
        assert repo_id == self.name
        assert ignore_patterns == ["*.failed"]
        self.files = {path.name for path in Path(folder_path).iterdir()}


def test_the_hub_gets_the_folder(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Checker, "verdict", passed)
    words = ["export", str(run), "--to", "hf://me/owls", "--formats", "pytorch"]
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert cli.main(words) == 2
    assert "needs huggingface_hub: pip install huggingface_hub" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(None))
    assert cli.main(words) == 2
    assert "run `hf auth login`" in capsys.readouterr().err
    there = Hub("token")
    monkeypatch.setitem(sys.modules, "huggingface_hub", there)
    assert cli.main(words) == 0
    assert there.name == "me/owls"
    assert {"README.md", "model.py", "verification.json"} <= there.files
