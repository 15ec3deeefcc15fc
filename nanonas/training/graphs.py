"""A network as a graph that other programs run: ONNX in float32 and int8, and torch.export's .pt2.

Each takes `image`, pixels as every program holds them: uint8, (batch, height, width, channels), red
before green before blue; the batch is of any size. Normalisation is inside, so that nobody can do
it wrong. Each gives `logits`, float32, (batch, classes).
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanonas.data.preprocessing import Preprocessing
from nanonas.errors import ConfigError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from nanonas.training.backbone import Frozen
    from nanonas.training.modules import NetworkModule
    from nanonas.training.quantised import Held

OPSET = 18  # of ONNX: old enough for what is in use, new enough for PyTorch's exporter
IMAGE, LOGITS, BATCH = "image", "logits", "batch"  # the names of the ends, and of a size
EXTRA = ("onnx", "onnxscript", "onnxruntime")  # what the extra "onnx" brings
_AT_A_TIME = 32  # images in a batch of the calibration
_BEFORE = ("Cast", "Transpose", "Mul", "Sub", "Add")  # what normalisation is made of in ONNX


class FromPixels(nn.Module):
    """A network behind its normalisation, and behind its backbone where it has one: uint8 (B, H, W,
    C) to logits (B, classes).
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, network: NetworkModule | Held, rule: Preprocessing, backbone: Frozen | None = None
    ) -> None:
        super().__init__()
        self.network, self.backbone = network, backbone
        mean, std = np.array(rule.mean), np.array(rule.std)  # float64
        for name, values in (("scale", 1 / (255 * std)), ("shift", mean / std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.permute(0, 3, 1, 2).float()
        if self.backbone is not None:
            pixels = self.backbone(pixels)
        logits: Tensor = self.network(pixels * self.scale - self.shift)
        return logits


def missing_extra() -> str | None:
    """What to install for ONNX, as a sentence; None where it is there."""
    for name in EXTRA:
        if importlib.util.find_spec(name) is None:
            return f"ONNX needs {name}: pip install 'nanonas[onnx]'"
    return None


def program(
    network: NetworkModule | Held, rule: Preprocessing, backbone: Frozen | None = None
) -> ExportedProgram:
    """The network behind its normalisation, traced for batches of any size.

    Args:
        backbone: that of the rule, if it has one.
    """
    channels, height, width = rule.seen.input_shape
    example = torch.zeros(2, height, width, channels, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        return torch.export.export(
            FromPixels(network, rule, backbone).eval(), (example,), dynamic_shapes=({0: batch},)
        )


def save_program(traced: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Writes a .pt2, with metadata as files in it."""
    with _quiet():
        torch.export.save(traced, path, extra_files=dict(about))


def save_onnx(traced: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Writes one file of ONNX, with metadata in it. Raises `ConfigError` without the extra."""
    path.write_bytes(onnx_of(traced, about))


def onnx_of(traced: ExportedProgram, about: Mapping[str, str]) -> bytes:
    """What a file of ONNX holds, with metadata. Raises `ConfigError` without the extra."""
    require_extra()
    import onnx

    with _quiet():
        made: Any = torch.onnx.export(
            traced,
            input_names=[IMAGE],
            output_names=[LOGITS],
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        model = made.model_proto
    _tidy(model)
    onnx.helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def onnx_to_measure(module: NetworkModule) -> bytes:
    """ONNX of a network to measure: it need not be trained, and its images are anybody's."""
    channels = module.network.input_shape[0]
    classes = tuple(str(number) for number in range(module.network.classes))
    rule = Preprocessing(module.network.input_shape, (0.5,) * channels, (0.25,) * channels, classes)
    return onnx_of(program(module, rule), {})


def save_int8(graph: Path, path: Path, images: NDArray[np.uint8]) -> None:
    """Writes a graph of ONNX with weights and maps in int8: each layer between QuantizeLinear and
    DequantizeLinear, with a scale for each channel of weights. Nagel et al. 2021,
    https://arxiv.org/abs/2106.08295. The normalisation stays in float32.

    Args:
        graph: in float32, as `save_onnx` writes it.
        images: (n, H, W, C), by which the ranges of the maps are chosen.

    Raises:
        ConfigError: the extra is not installed.
    """
    require_extra()
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet(), tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(graph, prepared, skip_symbolic_shape=True)
        quantization.quantize_static(
            prepared,
            path,
            _Batches(images),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=_normalising(onnx.load(prepared)),
        )
        model = onnx.load(path)
        _tidy(model)
        about = {one.key: one.value for one in onnx.load(graph).metadata_props}
        onnx.helper.set_model_props(model, about)
        path.write_bytes(model.SerializeToString())


def require_extra() -> None:
    """Raises `ConfigError` where the extra "onnx" is not installed."""
    sentence = missing_extra()
    if sentence is not None:
        raise ConfigError(sentence)


def _tidy(model: Any) -> None:
    """Takes out of a graph what the exporters say of themselves: traces, and operators that are not
    used; calls the size of a batch by its name.
    """
    graph = model.graph
    size = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        del value.metadata_props[:]
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param == size:
                side.dim_param = BATCH
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    used = {node.domain for node in graph.node} | {""}
    imports = [one for one in model.opset_import if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)


class _Batches:
    """Images, batch by batch, as onnxruntime's calibration asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        starts = range(0, len(images), _AT_A_TIME)
        self._left = iter([images[start : start + _AT_A_TIME] for start in starts])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        batch = next(self._left, None)
        return None if batch is None else {IMAGE: batch}


def _normalising(model: Any) -> list[str]:
    """The names of the nodes from the image to the first layer."""
    names, reached = [], {IMAGE}
    for node in model.graph.node:  # in topological order
        if node.op_type in _BEFORE and reached.intersection(node.input):
            names.append(node.name)
            reached.update(node.output)
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters print, log and warn of: nothing of it is for users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
