"""Images, weights, graphs and posts of strangers: refused in a sentence, without a trace."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys.hostile.formats import RULE
from toys.hostile.mutations import Trace
from toys.images import encoded, pixels

from nanonas.errors import DataError, RunError

# --- images ---------------------------------------------------------------------------------------


def test_postscript_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace"
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.parent.mkdir()
    ghostscript.write_text(f"#!/bin/sh\ntouch {trace}\n", encoding="utf-8")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ghostscript.parent}{os.pathsep}{os.environ['PATH']}")
    buffer = io.BytesIO()
    Image.fromarray(pixels(1, 9, 9, 3)[0]).save(buffer, "EPS")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    from nanonas.deploy.alone import predict

    with pytest.raises(DataError, match="it is no image that Pillow knows"):
        RULE.pixels(tmp_path / "a.png")
    with pytest.raises(ValueError, match="it is EPS, which is no image of pixels"):
        predict.prepared(buffer.getvalue(), RULE.to_json())
    assert not trace.exists()


def test_an_image_of_any_size_in_its_header_takes_no_memory(tmp_path: Path) -> None:
    content = bytearray(encoded(pixels(1, 9, 9)[0]))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match="pixels, which may fill the memory"):
        RULE.pixels(tmp_path / "a.png")


# --- networks -------------------------------------------------------------------------------------


def test_weights_are_looked_at_before_they_are_read(tmp_path: Path) -> None:
    import torch

    from nanonas.spaces.nano import NanoSpace
    from nanonas.training.modules import build_module
    from nanonas.training.weights import load_weights, save_tensors

    module = build_module(NanoSpace((1, 8, 8), 10, channels=4, length=2).decode((0, 1)))
    tensors = module.state_dict()
    name = next(iter(tensors))
    path = tmp_path / "a.safetensors"
    save_tensors({**tensors, "extra": torch.zeros(3)}, path)
    with pytest.raises(RunError, match=r"'extra' is \(3,\), but nothing is expected"):
        load_weights(module, path)
    save_tensors({**tensors, name: torch.zeros(2, 2)}, path)
    with pytest.raises(RunError, match=r"is \(2, 2\), but \(.*\) is expected"):
        load_weights(module, path)
    save_tensors({**tensors, name: tensors[name].to(torch.complex64)}, path)
    with pytest.raises(RunError, match=r"must be real numbers, but .* is torch.complex64"):
        load_weights(module, path)


def test_a_checkpoint_is_no_pickle(tmp_path: Path) -> None:
    import torch

    from nanonas.training.checkpoint import (
        CHECKPOINT,
        EARLIER,
        fitting_checkpoint,
        read_checkpoint,
        save_checkpoint,
    )

    trace, cpu = tmp_path / "trace", torch.device("cpu")
    for name in (CHECKPOINT, EARLIER):
        (tmp_path / name).write_bytes(pickle.dumps(Trace(trace)))
        assert read_checkpoint(tmp_path, {}, cpu) is None
    assert not trace.exists()
    training = {
        "epoch": 1,
        "epochs": 2,
        "module": {"a": torch.eye(2)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
    }
    kept = {"identity": {"key": "a"}, "training": training, "spent": 1.5, "asked": None}
    kept |= {"threads": 1, "processes": 1, "on": ["cpu", 2]}
    save_checkpoint(tmp_path, kept)
    again = read_checkpoint(tmp_path, {"key": "a"}, cpu)
    assert again is not None
    assert again["training"]["module"]["a"].tolist() == [[1, 0], [0, 1]]
    assert again["training"]["optimizer"]["state"][0]["step"] == 3
    assert {key: again[key] for key in ("spent", "asked", "on")} == {
        key: kept[key] for key in ("spent", "asked", "on")
    }
    assert read_checkpoint(tmp_path, {"key": "b"}, cpu) is None
    save_checkpoint(tmp_path, {**kept, "threads": -1})
    assert read_checkpoint(tmp_path, {"key": "a"}, cpu) is None
    with (
        pytest.raises(RunError, match=r"cannot be continued .*delete it"),
        fitting_checkpoint(tmp_path),
    ):
        torch.nn.Linear(2, 3).load_state_dict(again["training"]["module"])


# --- graphs ---------------------------------------------------------------------------------------


def graphs() -> dict[str, tuple[Callable[[Any], None], str]]:
    """What is done to a graph, and what is said of it then."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper

    def sized(kind: str, sizes: list[int]) -> Callable[[Any], None]:
        def add(model: Any) -> None:
            shape = helper.make_tensor("s", onnx.TensorProto.INT64, [len(sizes)], sizes)
            model.graph.initializer.append(shape)
            inputs = ["s"] if kind == "ConstantOfShape" else ["x", "s"]
            model.graph.node.append(helper.make_node(kind, inputs, ["new"]))

        return add

    def looped(model: Any) -> None:
        body = helper.make_graph([], "body", [], [])
        model.graph.node.append(helper.make_node("Loop", ["", ""], ["new"], body=body))

    def external(model: Any) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../secret.bin")

    def renamed(model: Any) -> None:
        model.graph.input[0].name = "pixels"

    def foreign(model: Any) -> None:
        model.graph.node[0].domain = "evil"

    def wide(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2**40

    def padded(model: Any) -> None:
        pads = helper.make_attribute("pads", [0, 2**40, 0, 0])
        model.graph.node.append(helper.make_node("Pad", ["x"], ["new"]))
        model.graph.node[-1].attribute.append(pads)

    return {
        "memory": (sized("ConstantOfShape", [2**20, 2**20]), r"computes .* GiB for one image"),
        "expanded": (sized("Expand", [1, 8, 8, 2**30]), r"computes .* GiB for one image"),
        "negative": (sized("Tile", [1, -5, 1, 1]), "is no graph that onnxruntime can run"),
        "loop": (looped, "runs a graph of its own"),
        "external": (external, "lie in other files, which are not read"),
        "input": (renamed, "must take one input, 'image', but takes .'pixels'"),
        "domain": (foreign, "is of 'evil', not of ONNX"),
        "wide": (wide, r"but its images are 8×8×1"),
        "pads": (padded, "has a number of 2,147,483,648 or more in 'pads'"),
    }


@pytest.mark.parametrize(
    "name",
    ["memory", "expanded", "negative", "loop", "external", "input", "domain", "wide", "pads"],
)
def test_a_graph_does_nothing_but_what_ours_do(name: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from toys.hostile.pictures import graph_seeds

    from nanonas.deploy.admitting import admitted

    change, said = graphs()[name]
    for seed in graph_seeds():
        path = tmp_path / "model.onnx"
        path.write_bytes(seed)
        assert admitted(path, RULE).images == 64
        model = onnx.ModelProto.FromString(seed)
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(RunError, match=said):
            admitted(path, RULE)


def test_large_images_are_classified_a_few_at_a_time() -> None:
    from nanonas.deploy.classifying import Classifier

    shapes: list[tuple[int, ...]] = []

    def logits(images: np.ndarray[Any, Any]) -> Any:
        shapes.append(images.shape)
        return np.zeros((len(images), 10), np.float32)

    large = Classifier(replace(RULE, input_shape=(1, 2048, 4096)), logits)
    large.probabilities([pixels(1, 8, 8)[0]] * 3)
    assert shapes == [(2, 2048, 4096, 1), (1, 2048, 4096, 1)]


# --- the page -------------------------------------------------------------------------------------


def test_what_is_posted_has_a_length(tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    from toys.hostile.formats import posted

    form = posted(tmp_path)
    assert form.read(json.dumps({"what": "pause"}).encode()) == 200
    assert form.read(b'{"what": "' + b"x" * 200_000 + b'"}') == 400
    assert form.read(b"[" * 90_000) == 400
    assert form.read(b'{"what": "\\ud800"}') == 200  # half a letter, which it says again
