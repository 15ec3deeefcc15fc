"""A network as source, folded, and as a graph: each computes what its module does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys.operations import CASES, CLASSES, SHAPE, lived, with_operation

from nanonas.core import Shape
from nanonas.data.preprocessing import Preprocessing
from nanonas.deploy.folding import folded
from nanonas.deploy.operations import ACTIVATIONS, SOURCES
from nanonas.deploy.source import model_source, named_tensors
from nanonas.errors import GenomeError
from nanonas.networks.network import Draft, Network, classifier, conv_norm, relu
from nanonas.networks.ops import ACTIVATIONS as KNOWN
from nanonas.networks.ops import OPS
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.modules import NetworkModule, build_module, steps

pytestmark = pytest.mark.usefixtures("one_thread")

FACTORIES: dict[str, Callable[[Shape, int], Space]] = {
    "stages": StagesSpace,
    "layers": LayersSpace,
    "nano": partial(NanoSpace, channels=8),
    "nasbench201": partial(NASBench201Space, channels=8, cells=1),
}


def rule(shape: Shape = SHAPE, classes: int = CLASSES) -> Preprocessing:
    names = tuple(f"class {number}" for number in range(classes))
    return Preprocessing(shape, (0.45,) * shape[0], (0.22,) * shape[0], names)


def written(module: NetworkModule, folder: Path) -> ModuleType:
    """model.py, imported."""
    source = model_source(module.network, rule(module.network.input_shape, module.network.classes))
    (folder / "model.py").write_text(source, encoding="utf-8")
    made = ModuleType("model")
    exec(compile(source, "model.py", "exec"), vars(made))
    return made


def alone(module: NetworkModule, folder: Path) -> nn.Module:
    """The model of model.py, with the module's weights."""
    model: nn.Module = written(module, folder).Model()
    model.load_state_dict(named_tensors(module.network, module.state_dict()))
    return model.eval()


def images(network: Network, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, *network.input_shape, generator=generator)


def apart(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """The largest difference of two logits, as a share of the largest."""
    with torch.inference_mode():
        a, b = one(x.clone()), other(x.clone())
    assert torch.isfinite(b).all()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-3))


def drawn(factory: Callable[[Shape, int], Space], number: int) -> list[Network]:
    """Random networks of a space and their mutants, for images of two forms."""
    networks = []
    for place in range(number):
        space = factory(*[((3, 24, 18), 5), ((1, 8, 8), 10)][place % 2])
        rng = np.random.default_rng(place)
        networks.append(space.decode(space.mutate(space.sample(rng), rng)))
    return networks


def test_every_operation_has_a_source() -> None:
    assert set(SOURCES) == set(OPS)
    assert set(ACTIVATIONS) == set(KNOWN)


@pytest.mark.parametrize(("op", "attributes"), CASES)
def test_an_operation_is_written_as_it_is_built(
    op: str, attributes: dict[str, Any], tmp_path: Path
) -> None:
    module = lived(with_operation(op, attributes))
    assert apart(alone(module, tmp_path), module, images(module.network)) < 1e-5


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_source_and_folded_weights_compute_what_the_network_does(
    factory: Callable[[Shape, int], Space], tmp_path: Path
) -> None:
    for number, network in enumerate(drawn(factory, 2)):
        _same(network, number, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_two_hundred_networks_of_each_space(
    factory: Callable[[Shape, int], Space], tmp_path: Path
) -> None:
    for number, network in enumerate(drawn(factory, 200)):
        _same(network, number, tmp_path)


def _same(network: Network, seed: int, folder: Path) -> None:
    module, x = lived(network, seed), images(network, seed)
    merged = folded(module)
    assert apart(merged, module, x) < 1e-4
    assert apart(alone(merged, folder), module, x) < 1e-4
    assert apart(alone(module, folder), module, x) < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_graphs_of_fifty_networks_of_each_space(
    factory: Callable[[Shape, int], Space], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from nanonas.training import graphs

    for number, network in enumerate(drawn(factory, 50)):
        module = lived(network, number)
        own = rule(network.input_shape, network.classes)
        channels, height, width = network.input_shape
        pixels = np.random.default_rng(number).integers(0, 256, (3, height, width, channels))
        pixels = pixels.astype(np.uint8)
        with torch.inference_mode():
            expected = graphs.FromPixels(module, own)(torch.from_numpy(pixels)).numpy()
        traced = graphs.program(folded(module), own)
        graphs.save_onnx(traced, tmp_path / "model.onnx", {})
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        graphs.save_program(traced, tmp_path / "model.pt2", {})
        again = torch.export.load(tmp_path / "model.pt2").module()
        allowed = 1e-4 * np.abs(expected).max()
        for found in (
            session.run(["logits"], {"image": pixels})[0],
            again(torch.from_numpy(pixels)).detach().numpy(),
        ):
            np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)


# --- folding --------------------------------------------------------------------------------------


def test_norms_are_folded_where_that_is_exact_and_only_there() -> None:
    draft = Draft(SHAPE, CLASSES)
    first = draft.add("norm", "input")  # of no layer
    x = relu(draft, conv_norm(draft, first, 6, 3))
    conv = draft.add("conv", x, filters=6, kernel=3, stride=1, groups=1, bias=True)
    normed = draft.add("norm", conv)  # of a layer that another reads, too
    x = draft.add("add", conv, normed)
    pooled = draft.add("globalpool", x)
    x = draft.add("norm", draft.add("dense", pooled, units=8))
    module = lived(draft.finish(draft.add("dense", x, units=CLASSES)))
    merged = folded(module)
    names = [node.name for node in merged.network.nodes if node.op == "norm"]
    assert names == ["norm1", "norm3"]
    assert apart(merged, module, images(module.network)) < 1e-5
    assert merged.network.named["conv1"]["bias"]


def test_a_norm_that_ends_a_network_is_folded() -> None:
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("norm", draft.add("dense", draft.add("globalpool", "input"), units=CLASSES))
    module = lived(draft.finish(x))
    assert len(folded(module).network.nodes) == 2
    assert apart(folded(module), module, images(module.network)) < 1e-5


# --- how it reads ---------------------------------------------------------------------------------

EXPECTED = '''
class Stage1(nn.Module):
    # maps of 9×8

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv1(x)  # (6, 9, 8)


class Stage2(nn.Module):
    # maps of 4×4

    def __init__(self) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        act1 = F.relu(F.max_pool2d(x, 2, stride=2))  # (6, 4, 4)
        x = F.relu(self.conv2(act1))  # (6, 4, 4)
        return x + act1  # (6, 4, 4)


class Head(nn.Module):
    # vectors

    def __init__(self) -> None:
        super().__init__()
        self.dense1 = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean(dim=(2, 3))  # (6,)
        return self.dense1(x)  # (4,)


class Model(nn.Module):
    """(B, 3, 9, 8), as `prepare` makes them, to (B, 4), logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = Stage1()
        self.stage2 = Stage2()
        self.head = Head()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage1(x)
        x = self.stage2(x)
        return self.head(x)
'''


def residual() -> Network:
    draft = Draft(SHAPE, CLASSES)
    x = relu(draft, conv_norm(draft, "input", 6, 3))
    pooled = draft.add("maxpool", x, kernel=2, stride=2)
    x = relu(draft, conv_norm(draft, pooled, 6, 3))
    return classifier(draft, draft.add("add", x, pooled))


def test_it_reads_like_this() -> None:
    network = folded(lived(residual())).network
    assert [step.module for step in steps(network)][:3] == ["conv1", "maxpool1", "act1"]
    source = model_source(network, rule())
    assert EXPECTED in source


def test_several_maps_may_cross_from_stage_to_stage(tmp_path: Path) -> None:
    draft = Draft(SHAPE, CLASSES)
    first = draft.add("maxpool", "input", kernel=2, stride=2)
    second = draft.add("avgpool", "input", kernel=2, stride=2)
    wide = draft.add("concat", first, second, "input" if SHAPE[1] == 4 else first)
    third = draft.add("maxpool", wide, kernel=2, stride=2)
    fourth = draft.add("maxpool", first, kernel=2, stride=2)
    x = draft.add("concat", third, fourth)
    module = lived(classifier(draft, x))
    assert apart(alone(module, tmp_path), module, images(module.network)) < 1e-5
    source = (tmp_path / "model.py").read_text(encoding="utf-8")
    assert "def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:" in source


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_it_is_formatted(factory: Callable[[Shape, int], Space], tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    for number, network in enumerate(drawn(factory, 4)):
        module = build_module(network, seed=0)
        module = folded(module) if number % 2 else module
        own = rule(network.input_shape, network.classes)
        path = tmp_path / f"model{number}.py"
        path.write_text(model_source(module.network, own), encoding="utf-8")
    style = ["--isolated", "--line-length", "100", str(tmp_path)]
    done = subprocess.run([ruff, "format", "--diff", *style], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    done = subprocess.run([ruff, "check", *style], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_an_operation_without_source_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SOURCES, "dense")
    with pytest.raises(GenomeError, match=r"'dense' has no source .*SOURCES, or leave out"):
        model_source(residual(), rule())


def test_prepare_normalises_as_the_rule_does(tmp_path: Path) -> None:
    code = written(lived(residual()), tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3)).astype(np.uint8)
    np.testing.assert_allclose(
        code.prepare(torch.from_numpy(pixels)).numpy(), rule().batch(list(pixels)), atol=1e-5
    )
