"""Graphs of ONNX that may come from a stranger: looked at before anything runs them.

onnxruntime computes what a graph says, also while it loads: a hundred bytes can ask for a terabyte,
for a loop that never ends, or for numbers out of another file. So a graph is read as data first.
Its own shapes are taken from nothing that it says of them: they are inferred from the images that
go in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanonas.data.preprocessing import Preprocessing
from nanonas.errors import ConfigError, RunError, reason_for
from nanonas.files import contents

IMAGE, LOGITS = "image", "logits"  # what goes in, and what comes out
_BYTES = 2**29  # of a graph's file
_NODES = 20_000
_STANDARD = ("", "ai.onnx")  # whose operations are those of ONNX
_MEMORY = 2**32  # bytes of all that a graph computes for a batch, as if nothing were freed
_WIDEST = 8  # bytes of a number
_NUMBER = 2**31  # no attribute of ours is larger: as a size, it would be beyond any memory
_BATCHES = (64, 16, 4, 1)


@dataclass(frozen=True)
class Admitted:
    """A graph that may run.

    Attributes:
        content: of its file, as it was looked at.
        images: that it may be given at a time.
    """

    content: bytes
    images: int


def admitted(path: Path, rule: Preprocessing) -> Admitted:
    """A graph that takes the images of a rule, uint8 (B, H, W, C), and computes their logits.

    Raises:
        ConfigError: onnx is not installed.
        RunError: the file is none, is too large, or the graph does what no graph of ours does: it
            reads other files, loops, calls operations that are not of ONNX, or computes more than
            4 GiB for one image, or something of a size that cannot be known before.
    """
    try:
        import onnx
    except ImportError:
        raise ConfigError(
            f"looking at the graph {str(path)!r} needs onnx: pip install 'nanonas[onnx]'"
        ) from None
    try:
        content = contents(path, _BYTES)
        model = onnx.load_model_from_string(content)
        if wrong := _wrong(model, rule):
            raise ValueError(wrong)
        onnx.checker.check_model(model)
        for images in _BATCHES:
            if (needed := _needed(model, images)) <= _MEMORY:
                return Admitted(content, images)
    except Exception as error:  # noqa: BLE001  protobuf, onnx and its checker each raise their own
        reason = str(error) if type(error) is ValueError else reason_for(error)
        raise RunError(
            f"{str(path)!r} is no graph that onnxruntime can run: {reason:.300}; export it again"
        ) from None
    raise RunError(
        f"{str(path)!r} computes {needed / 2**30:,.1f} GiB for one image, but {_MEMORY / 2**30:g} "
        "GiB are the most; export a smaller network"
    )


def _wrong(model: Any, rule: Preprocessing) -> str:
    """What a graph has that no graph of ours has; empty where there is nothing."""
    graph = model.graph
    if model.functions or model.training_info:
        return "it has functions or a training of its own"
    if graph.sparse_initializer:
        return "it has sparse tensors"
    if len(graph.node) > _NODES:
        return f"it has {len(graph.node):,} nodes, but {_NODES:,} are the most"
    constants = {tensor.name for tensor in graph.initializer}
    given = [value for value in graph.input if value.name not in constants]
    if [value.name for value in given] != [IMAGE]:
        return f"it must take one input, {IMAGE!r}, but takes {_names(given)}"
    if LOGITS not in [value.name for value in graph.output]:
        return f"it must give {LOGITS!r}, but gives {_names(graph.output)}"
    channels, height, width = rule.input_shape
    sides = [one.dim_value for one in given[0].type.tensor_type.shape.dim]
    if sides[1:] != [height, width, channels]:
        asked = f"but its images are {height}×{width}×{channels}"
        return f"it takes {'×'.join(map(str, sides[1:])) or 'something else'}, {asked}"
    if any(_elsewhere(tensor) for tensor in graph.initializer):
        return "its numbers lie in other files, which are not read"
    for node in graph.node:
        if wrong := _wrong_node(node):
            return f"its node {node.name or node.op_type!r:.80} {wrong}"
    return ""


def _names(values: Any) -> str:
    return f"{[value.name[:40] for value in values][:3]}"


def _elsewhere(tensor: Any) -> bool:
    return bool(tensor.data_location or tensor.external_data)


def _wrong_node(node: Any) -> str:
    if node.domain not in _STANDARD:
        return f"is of {node.domain!r:.80}, not of ONNX"
    for attribute in node.attribute:
        if attribute.HasField("g") or attribute.graphs:
            return "runs a graph of its own, as loops and branches do"
        if attribute.sparse_tensor.ByteSize() or attribute.sparse_tensors:
            return "has sparse tensors"
        if any(map(_elsewhere, (attribute.t, *attribute.tensors))):
            return "has numbers in other files, which are not read"
        if any(abs(number) >= _NUMBER for number in (attribute.i, *attribute.ints)):
            return f"has a number of {_NUMBER:,} or more in {attribute.name!r:.80}"
    return ""


def _needed(model: Any, images: int) -> int:
    """Bytes of all that a graph computes for a batch. Raises where that cannot be known, or does
    not fit together.
    """
    import onnx

    known = onnx.ModelProto()
    known.CopyFrom(model)
    del known.graph.value_info[:]  # what it says of itself
    for value in known.graph.output:
        value.type.tensor_type.ClearField("shape")
    for value in known.graph.input:
        batch = value.type.tensor_type.shape.dim[0] if value.name == IMAGE else None
        if batch is not None and not batch.dim_value:
            batch.dim_value = images
    shaped = onnx.shape_inference.infer_shapes(
        known, check_type=True, strict_mode=True, data_prop=True
    ).graph
    sizes = {value.name: _size(value) for value in (*shaped.value_info, *shaped.output)}
    computed = [name for node in shaped.node for name in node.output if name]
    unknown = [name for name in computed if sizes.get(name) is None]
    if unknown:
        raise ValueError(f"the size of {unknown[0]!r:.80} cannot be known before it runs")
    return sum(_WIDEST * (sizes[name] or 0) for name in computed)


def _size(value: Any) -> int | None:
    """How many numbers a value holds; None where that is not known."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    size = 1
    for side in value.type.tensor_type.shape.dim:
        if not side.HasField("dim_value") or side.dim_value < 0:
            return None
        size *= side.dim_value
    return size
