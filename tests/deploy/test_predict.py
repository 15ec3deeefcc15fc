"""Image files, classified: by a run, by a bundle, and by the program that lies in a bundle."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from toys.images import image_folder, pixels, png

from nanonas import cli
from nanonas.data.preprocessing import Preprocessing
from nanonas.data.sources import Depth
from nanonas.deploy import timing
from nanonas.deploy.classifying import GRAPHS, Classifier, classifier
from nanonas.deploy.timing import timings
from nanonas.errors import DataError, RunError
from nanonas.runs.genome import read_genome
from nanonas.training import graphs
from nanonas.training.measuring.agent import Agent, Device, Measured
from nanonas.training.modules import build_module

onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'nanonas[onnx]'")
onnx = pytest.importorskip("onnx")

NAMES = tuple("0123456789")
RULE = Preprocessing((1, 8, 8), (0.3,), (0.35,), NAMES, Depth(4095, 1))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, copied: Callable[[Path], Path]) -> Path:
    """A run that knows how its images are prepared."""
    folder = copied(tmp_path_factory.mktemp("predict"))
    genome = json.loads((folder / "best_genome.json").read_text(encoding="utf-8"))
    genome["preprocessing"] = RULE.to_json()
    (folder / "best_genome.json").write_text(json.dumps(genome), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of three images of another size."""
    return image_folder(tmp_path_factory.mktemp("photos"), number=3, shape=(20, 30, 3))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """As much of a bundle as `nanonas predict` needs: a linear map of the mean pixel, by hand."""
    folder = tmp_path_factory.mktemp("bundle")
    mean_of = onnx.helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0)
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["x"], to=onnx.TensorProto.FLOAT),
        mean_of,
        onnx.helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
    ]
    weight = onnx.numpy_helper.from_array(np.linspace(0, 0.1, 10, dtype=np.float32)[None], "weight")
    graph = onnx.helper.make_graph(
        nodes,
        "mean",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 8, 8, 1])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 10])],
        [weight],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "preprocessing.json").write_text(json.dumps(RULE.to_json()), encoding="utf-8")
    (folder / "labels.json").write_text(json.dumps(NAMES), encoding="utf-8")
    return folder


def test_a_run_classifies_with_its_own_module(
    run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted(photos.rglob("*.png"))
    genome = read_genome(run / "best_genome.json")
    module = build_module(genome.network(), seed=0)
    from nanonas.training.weights import load_weights

    load_weights(module, run / "finalists" / "22.safetensors")
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(RULE.batch(files))).softmax(dim=1).numpy()
    assert cli.main(["predict", str(run), str(photos), "--json", "--top", "3"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["file"] for row in said] == [str(path) for path in files]
    for row, probabilities in zip(said, expected, strict=True):
        best = probabilities.argsort()[::-1][:3]
        assert [one["class"] for one in row["classes"]] == [NAMES[place] for place in best]
        found = [one["probability"] for one in row["classes"]]
        np.testing.assert_allclose(found, probabilities[best], rtol=1e-4)


def test_a_bundle_classifies_by_its_graph_and_its_python_is_never_run(
    bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.py", "predict.py"):
        (bundle / name).write_text("raise SystemExit('run')", encoding="utf-8")
    files = sorted((photos / "cat").glob("*.png"))
    means = np.array([RULE.pixels(path).mean() for path in files])
    powers = np.exp(means[:, None] * np.linspace(0, 0.1, 10))
    expected = (powers / powers.sum(axis=1, keepdims=True))[:, 9]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{path}\n" for path in files)))
    assert cli.main(["predict", str(bundle), "-", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["file"], row["class"]) for row in rows] == [(str(path), "9") for path in files]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], expected, rtol=1e-4)


def test_a_broken_image_is_named_and_the_others_go_on(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    words = [str(tmp_path / "broken.png"), str(photos / "cat" / "00.png"), "nowhere.png"]
    assert cli.main(["predict", str(bundle), *words, "--json"]) == 1
    said = capsys.readouterr()
    errors = [row.get("error", "") for row in json.loads(said.out)]
    assert "broken.png cannot be read: it is no image that Pillow knows" in errors[0]
    assert errors[1] == ""
    assert "nowhere.png cannot be read" in errors[2]
    assert len(said.err.splitlines()) == 2
    assert cli.main(["predict", str(bundle), words[1]]) == 0
    assert " 9 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--json --csv", "--json and --csv exclude each other"),
        ("--top 0", "--top must be 1 or more, but is 0"),
    ],
)
def test_wrong_flags(
    bundle: Path, words: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", str(bundle), "a.png", *words.split()]) == 2
    assert sentence in capsys.readouterr().err


def test_a_bundle_without_a_graph_is_exported_again(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle", ignore=shutil.ignore_patterns("*.onnx"))
    again = r"has no model.onnx or model.int8.onnx, .*; export it again with `nanonas export RUN"
    with pytest.raises(RunError, match=again):
        classifier(tmp_path / "bundle")


def test_what_a_stranger_sends_is_refused_in_a_sentence(bundle: Path, tmp_path: Path) -> None:
    def sent(file: str, content: bytes) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(bundle, folder)
        (folder / file).write_bytes(content)
        return folder

    def asking(**values: Any) -> bytes:
        return json.dumps({**RULE.to_json(), **values}).encode()

    with pytest.raises(RunError, match="is no graph that onnxruntime can run"):
        classifier(sent("model.onnx", b"\x08\x09garbage"))
    with pytest.raises(DataError, match="as JSON: more than 64 lists and objects lie in each"):
        classifier(sent("preprocessing.json", b"[" * 100_000))
    with pytest.raises(DataError, match="holds no JSON object"):
        classifier(sent("preprocessing.json", b"[]"))
    with pytest.raises(DataError, match=r"asks for images of \(1, 8, 900000000\)"):
        classifier(sent("preprocessing.json", asking(input_shape=[1, 8, 900_000_000])))
    with pytest.raises(DataError, match="it has more than 8,388,608 bytes"):
        classifier(sent("preprocessing.json", b" " * (2**24 + 1)))
    image = tmp_path / "a.png"
    png(image, pixels(1, 8, 8)[0])
    few = classifier(sent("preprocessing.json", asking(class_names=["one"])))
    with pytest.raises(RunError, match=r"logits of \(1, 10\), but .* ask for \(1, 1\)"):
        list(few.answers([image]))
    with pytest.raises(RunError, match="it takes 8×8×1, but its images are 8×9×1"):
        classifier(sent("preprocessing.json", asking(input_shape=[1, 8, 9])))


# --- calibrated probabilities ---------------------------------------------------------------------


def answered(network: Classifier, files: Sequence[Path]) -> NDArray[np.float64]:
    """The probabilities of each file, (files, classes)."""
    rows = [answer.probabilities for answer in network.answers(files)]
    return np.stack([row for row in rows if row is not None])


def divided(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """What probabilities become where their logits are divided by a temperature."""
    powers = probabilities ** (1 / temperature)
    found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return found


def test_logits_of_a_bundle_are_divided_by_its_temperature(
    bundle: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from nanonas.deploy.alone import predict

    files = sorted(photos.rglob("*.png"))
    shutil.copytree(bundle, tmp_path / "b")
    (tmp_path / "b" / "calibration.json").write_text('{"temperature": 2.5}', encoding="utf-8")
    expected = divided(answered(classifier(bundle), files), 2.5)
    np.testing.assert_allclose(answered(classifier(tmp_path / "b"), files), expected, rtol=1e-6)
    monkeypatch.setattr(predict, "FOLDER", tmp_path / "b")
    monkeypatch.setattr("sys.argv", ["predict.py", *map(str, files), "--json"])
    assert predict.main() == 0
    said = [row["classes"][0]["probability"] for row in json.loads(capsys.readouterr().out)]
    np.testing.assert_allclose(said, expected.max(axis=1), rtol=1e-6)


def test_logits_of_a_run_are_divided_by_the_temperature_of_its_final_training(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    final = tmp_path / "run" / "final"
    final.mkdir()
    shutil.copyfile(run / "finalists" / "22.safetensors", final / "model.safetensors")
    shutil.copyfile(run / "best_genome.json", final / "genome.json")
    files = sorted(photos.rglob("*.png"))
    before = answered(classifier(run), files)
    for temperature, expected in ((None, before), (0.5, divided(before, 0.5))):
        result = json.dumps({"temperature": temperature})
        (final / "result.json").write_text(result, encoding="utf-8")
        found = answered(classifier(tmp_path / "run"), files)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    (final / "result.json").write_text('{"temperature": "hot"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"must be a number from 0\.05 to 20, but is 'hot'"):
        classifier(tmp_path / "run")


@pytest.mark.parametrize("value", ["0", "-1.5", "NaN", "1e300", f"1{'0' * 400}", "true", "[1]"])
def test_what_is_no_temperature_is_refused_in_a_sentence(
    value: str, bundle: Path, tmp_path: Path
) -> None:
    from nanonas.deploy.alone import predict

    for path in bundle.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / "calibration.json").write_text(f'{{"temperature": {value}}}', encoding="utf-8")
    sentence = r"calibration\.json.*: temperature must be a number from 0\.05 to 20, but is "
    with pytest.raises(DataError, match=sentence):
        classifier(tmp_path)
    with pytest.raises(SystemExit, match=sentence):
        predict.temperature_in(tmp_path / "calibration.json")


# --- the program in a bundle ----------------------------------------------------------------------


def turned(path: Path, x: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    png(path, x, exif=exif)


def see_through(path: Path, x: NDArray[np.uint8]) -> None:
    image = Image.fromarray(x)
    image.putalpha(Image.fromarray(x[..., 0]))
    image.save(path)


def palette(path: Path, x: NDArray[np.uint8]) -> None:
    Image.fromarray(x).quantize(16).save(path, transparency=3)


SAVED: dict[str, Any] = {
    "plain.png": png,
    "photo.jpg": png,
    "turned.jpg": turned,
    "turned.png": turned,
    "turned.tif": turned,
    "see_through.png": see_through,
    "palette.gif": palette,
    "deep.png": lambda path, x: png(path, x[..., 0].astype(np.uint16) * 13),
    "floats.tif": lambda path, x: png(path, (x[..., 0] / 255).astype(np.float32)),
    "grey.png": lambda path, x: png(path, x[..., 0]),
}


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 8, 12)])
def test_the_program_prepares_an_image_as_the_rule_does(
    name: str, shape: tuple[int, int, int], tmp_path: Path
) -> None:
    from nanonas.deploy.alone import predict

    channels = shape[0]
    rule = Preprocessing(shape, (0.4,) * channels, (0.2,) * channels, NAMES, Depth(4095, 1))
    path = tmp_path / name
    SAVED[name](path, pixels(1, 90, 66, 3, seed=len(name))[0])
    found = predict.prepared(path.read_bytes(), rule.to_json())
    np.testing.assert_array_equal(found, rule.pixels(path))


def test_the_program_says_what_nanonas_does(
    bundle: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from nanonas.deploy.alone import predict

    monkeypatch.setattr(predict, "FOLDER", bundle)
    files = [str(path) for path in sorted((photos / "cat").glob("*.png"))]
    monkeypatch.setattr("sys.argv", ["predict.py", *files, "--json", "--top", "2"])
    assert predict.main() == 0
    said = json.loads(capsys.readouterr().out)
    assert cli.main(["predict", str(bundle), *files, "--json", "--top", "2"]) == 0
    for row, expected in zip(said, json.loads(capsys.readouterr().out), strict=True):
        assert row["file"] == expected["file"]
        for one, other in zip(row["classes"], expected["classes"], strict=True):
            assert one["class"] == other["class"]
            assert one["probability"] == pytest.approx(other["probability"])
    (bundle / "broken.png").write_bytes(b"no image")
    monkeypatch.setattr("sys.argv", ["predict.py", str(bundle / "broken.png"), files[0]])
    assert predict.main() == 1
    said_now = capsys.readouterr()
    assert "broken.png cannot be read" in said_now.err
    assert said_now.out.startswith(f"{files[0]}: 9 ")


def test_the_program_refuses_what_no_image_of_the_training_was(tmp_path: Path) -> None:
    from nanonas.deploy.alone import predict

    rule = Preprocessing((1, 8, 8), (0.4,), (0.2,), NAMES).to_json()
    for name in ("deep.png", "floats.tif"):
        SAVED[name](tmp_path / name, pixels(1, 12, 12, 3)[0])
        with pytest.raises(ValueError, match=r"scale it to \[0, 255\]"):
            predict.prepared((tmp_path / name).read_bytes(), rule)


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert graphs.missing_extra() is None
    monkeypatch.setattr(graphs, "EXTRA", ("onnx", "nobody_has_this"))
    assert graphs.missing_extra() == "ONNX needs nobody_has_this: pip install 'nanonas[onnx]'"


def test_how_long_each_graph_and_the_own_module_take(
    run: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--seconds", "0", "--batch", "3", "--threads", "2"]
    assert cli.main(["latency", str(bundle), *words]) == 0
    said = capsys.readouterr().out
    assert "model.onnx" in said
    assert "for 3 images, with 2 threads, on " in said
    measured = timings(bundle, threads=1, batch=2, seconds=0)
    assert list(measured) == [name for name in GRAPHS if (bundle / name).exists()]
    before = torch.get_num_threads()
    [own] = timings(run, threads=2, batch=2, seconds=0).values()
    assert torch.get_num_threads() == before
    assert (own.threads, own.batch) == (2, 2)
    assert 0 < own.low <= own.median <= own.high
    assert own.n >= 30


def test_how_long_they_take_on_another_device(
    run: Path,
    bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    board = Agent("http://127.0.0.1:9", Device("a board", 4, "1.23.2"))
    asked: list[tuple[bytes, int, float]] = []

    def measure(self: Agent, graph: bytes, batch: int, seconds: float) -> Measured:
        asked.append((graph, batch, seconds))
        assert board.device is not None
        return Measured(2.5, 2.0, 3.0, 4.0, 60, False, 2**21, 1.0, board.device)

    monkeypatch.setattr(Agent, "met", lambda self: board)
    monkeypatch.setattr(Agent, "measure", measure)
    words = ["--from", board.url, "--batch", "3", "--seconds", "0.5"]
    assert cli.main(["latency", str(bundle), *words]) == 0
    said = capsys.readouterr().out
    names = [name for name in GRAPHS if (bundle / name).exists()]
    assert asked == [((bundle / name).read_bytes(), 3, 2.5) for name in names]
    assert re.search(r"model\.onnx +2\.50 ms +2 to 3 +4\.00 ms +60 +2\.00 MiB", said)
    assert "for 3 images, on a board (4 threads, onnxruntime 1.23.2)" in said
    assert "model.onnx: the machine does other things" in said  # wide, as the agent says
    asked.clear()
    monkeypatch.setattr(graphs, "onnx_to_measure", lambda module: module.network.key.encode())
    assert cli.main(["latency", str(run), *words]) == 0
    key = read_genome(run / "best_genome.json").network().key
    assert asked == [(key.encode(), 3, 2.5)]


def test_passes_are_repeated_until_the_median_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    unsteady, steady = np.linspace(1, 100, 30), np.full(300, 2.0)
    rounds = [unsteady, steady, steady]
    monkeypatch.setattr(timing, "milliseconds_of", lambda *_: rounds.pop(0))
    network = Classifier(RULE, lambda images: np.zeros((len(images), 10), np.float32))
    measured = timing._timed(network, 1, 1, 0.0)
    assert measured.n == 330
    assert measured.median == 2
    assert timing.narrow(measured)
    assert len(rounds) == 1
    monkeypatch.setattr(timing, "milliseconds_of", lambda *_: unsteady)
    assert timing._timed(network, 1, 1, 0.0).n == timing.ROUNDS * len(unsteady)
    assert not timing.narrow(timing._timed(network, 1, 1, 0.0))


def test_an_image_that_is_too_deep_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(path)
    rule = Preprocessing((1, 8, 8), (0.3,), (0.35,), NAMES)
    network = Classifier(rule, lambda images: np.zeros((len(images), 10), np.float32))
    [answer] = network.answers([path])
    assert answer.error.startswith(f"{path}: an image holds values up to 40000")
