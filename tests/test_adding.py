"""What is added is known everywhere: an operation by one entry and its module, a space by four
methods.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from toys.engine import BUDGET, CONFIG, score

from nanonas.analysis.remembered import of_networks
from nanonas.core import Genome
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.requests import Request
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import ConfigError, GenomeError
from nanonas.networks import (
    OPS,
    Draft,
    Network,
    Node,
    Op,
    classifier,
    conv_norm,
    relu,
    same_shape,
    window_shape,
)
from nanonas.networks import Tensor as TensorOf
from nanonas.networks.align import align
from nanonas.networks.decisions import decisions
from nanonas.networks.edits import difference, edits, in_words
from nanonas.networks.features import GROUPS, KINDS, features
from nanonas.networks.layout import drawing
from nanonas.report.charts.architecture import svg
from nanonas.spaces import Bans, Space, one_point_crossover, point_mutation
from nanonas.strategies.aging import AgingEvolution
from nanonas.terminal.tables import architecture
from nanonas.training.inheritance.inherit import Inherited, inherit
from nanonas.training.inheritance.parents import Parent
from nanonas.training.modules import MODULES, NetworkModule, build_module

SHAPE, CLASSES = (3, 8, 8), 4

# --- an operation ---------------------------------------------------------------------------------


class Blur(nn.Module):
    """The binomial filter of 3×3, on each channel by itself."""

    kernel: Tensor

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        kernel = torch.outer(row, row).expand(channels, 1, 3, 3).clone()
        self.register_buffer("kernel", kernel, persistent=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, stride=self.stride, padding=1, groups=x.shape[1])


class Scale(nn.Module):
    """A factor for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


class Excite(nn.Module):
    """Channels weighted by what all of them hold on average."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.up(F.relu(self.down(x.mean(dim=(2, 3))))).sigmoid()
        return x * weights[:, :, None, None]


def _excite_tensors(node: Node) -> dict[str, TensorOf]:
    channels, hidden = node.shape[0], int(node["hidden"])
    return {
        "down.weight": TensorOf((hidden, channels), "*i"),
        "down.bias": TensorOf((hidden,), "*"),
        "up.weight": TensorOf((channels, hidden), "o*"),
        "up.bias": TensorOf((channels,), "o"),
    }


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    blur = Op(
        window_shape,
        macs=lambda node: 9 * math.prod(node.shape),
        family="pool",
        channelwise=True,
        keeps_zero=True,
        keeps_sign=True,
    )
    scale = Op(
        same_shape,
        lambda node: {"weight": TensorOf(node.shape[:1], "o")},
        channelwise=True,
        identity={"weight": 1.0},
    )
    monkeypatch.setitem(OPS, "blur", blur)
    monkeypatch.setitem(OPS, "scale", scale)
    monkeypatch.setitem(OPS, "excite", Op(same_shape, _excite_tensors))
    for name, module in {
        "blur": lambda node: Blur(node.shape[0], node.stride),
        "scale": lambda node: Scale(node.shape[0]),
        "excite": lambda node: Excite(node.shape[0], int(node["hidden"])),
    }.items():
        monkeypatch.setitem(MODULES, name, module)


def attributes_of(op: str, stride: int = 1) -> dict[str, Any]:
    return {"blur": {"kernel": 3, "stride": stride}, "excite": {"hidden": 2}}.get(op, {})


def network(width: int = 8, *middle: str, stride: int = 1) -> Network:
    """Convolution, norm, ReLU; what is in the middle; the same again."""
    draft = Draft(SHAPE, CLASSES)
    x = relu(draft, conv_norm(draft, "input", width, 3))
    for op in middle:
        x = draft.add(op, x, **attributes_of(op, stride))
    return classifier(draft, relu(draft, conv_norm(draft, x, 8, 3)))


def trained(network: Network) -> NetworkModule:
    """As after a training: no tensor is as it was initialised."""
    module, generator = build_module(network, seed=0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.dim() == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
    return module.eval()


def born(parent: NetworkModule, network: Network) -> tuple[NetworkModule, Inherited]:
    child = build_module(network, seed=99)
    found = inherit(child, [Parent(parent.network, parent.state_dict())])
    return child.eval(), found


def apart(a: NetworkModule, b: NetworkModule) -> float:
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return float((a(x) - b(x)).abs().max())


@pytest.mark.parametrize("op", ["blur", "scale", "excite"])
def test_an_operation_is_built_and_trains(op: str) -> None:
    module = build_module(network(8, op), seed=0)
    logits = module(torch.randn(2, *SHAPE))
    assert logits.shape == (2, CLASSES)
    F.cross_entropy(logits, torch.arange(2)).backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert sum(p.numel() for p in module.parameters()) == module.network.params


@pytest.mark.parametrize("stride", [1, 2])
def test_an_operation_is_counted_as_pytorch_does(stride: int) -> None:
    blurred = network(8, "blur", stride=stride)
    module = build_module(blurred).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.randn(1, *SHAPE))
    assert blurred.macs == counter.get_total_flops() / 2
    assert blurred.params == network(8).params if stride == 1 else True
    assert blurred.depth == network(8).depth  # no layer of weights


def test_weights_around_a_new_operation_are_inherited() -> None:
    parent = trained(network(8))
    child, found = born(parent, network(8, "blur"))
    assert (found.share, found.tensors) == (1.0, found.of)
    assert not found.preserved  # another function
    for name, tensor in parent.state_dict().items():
        assert torch.equal(child.state_dict()[name], tensor)


def test_a_channelwise_operation_passes_on_what_is_known() -> None:
    """The replicas of a wider layer are told apart and added up behind it."""
    for middle in (("blur",), ("blur", "blur"), ("scale",), ("scale", "blur")):
        parent = trained(network(8, *middle))
        child, found = born(parent, network(12, *middle))
        assert found.preserved, middle
        assert apart(parent, child) < 1e-5


def test_an_operation_that_can_be_the_identity_begins_as_it() -> None:
    parent = trained(network(8))
    child, found = born(parent, network(8, "scale"))
    assert found.preserved
    assert apart(parent, child) < 1e-5


def test_tensors_with_axes_of_their_own_are_taken_whole() -> None:
    parent = trained(network(8, "excite"))
    child, found = born(parent, network(8, "excite", "scale"))
    assert found.preserved
    assert found.share == pytest.approx(1 - 8 / child.network.params)  # all but the scales
    assert apart(parent, child) < 1e-6
    wider, found = born(parent, network(12, "excite"))
    assert not found.preserved
    assert found.share < 1.0
    assert torch.isfinite(wider(torch.randn(2, *SHAPE))).all()


@pytest.mark.parametrize("op", ["blur", "scale", "excite"])
def test_a_new_branch_adds_nothing_if_it_is_said_to_preserve(op: str) -> None:
    def branched(*, new: bool) -> Network:
        draft = Draft(SHAPE, CLASSES)
        x = relu(draft, conv_norm(draft, "input", 8, 3))
        if new:
            branch = draft.add(op, conv_norm(draft, x, 8, 3), **attributes_of(op))
            x = relu(draft, draft.add("add", x, branch))
        return classifier(draft, x)

    parent = trained(branched(new=False))
    child, found = born(parent, branched(new=True))
    assert found.preserved == (op != "excite")  # which is not 0 where its tensors are
    assert not found.preserved or apart(parent, child) < 1e-5


def test_an_operation_is_read_by_predictors_as_its_family() -> None:
    plain, blurred = features(network(8)), features(network(8, "blur"))
    assert plain.shape == blurred.shape == (sum(GROUPS.values()),)
    pooled = sum(GROUPS[name] for name in ("size", "depth")) + [*KINDS].index("avgpool")
    assert (plain[pooled], blurred[pooled]) == (0.0, math.log(2))
    assert np.isfinite(features(network(8, "scale", "excite"))).all()
    assert decisions(network(8, "blur", stride=2))["halved by"] == "blur"


def test_an_operation_is_drawn() -> None:
    blurred = network(8, "blur", stride=2)
    assert ">3×3 blur /2<" in svg(blurred)
    (row,) = (row for row in drawing(blurred).rows if "blur" in row.words)
    assert row.family == "pool"
    assert ">scale<" in svg(network(8, "scale"))


def test_an_operation_is_told_of_in_edits() -> None:
    def told(parent: Network, child: Network) -> list[str]:
        return in_words(edits(parent, child, align(parent, child)))

    assert told(network(8), network(8, "blur")) == ["blur added"]
    assert told(network(8, "blur"), network(8)) == ["blur removed"]
    assert told(network(8, "scale"), network(8, "blur")) == ["scale → blur"]
    assert told(network(8, "blur"), network(8, "blur", stride=2)) == ["blur1: stride 1 → 2"]


def test_a_family_that_nothing_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"family must be one of conv, .* but is 'filter'"):
        Op(same_shape, family="filter")


# --- a space --------------------------------------------------------------------------------------


class BlurSpace(Space):
    """Convolutions of 8, 16, … filters, or a blur (0)."""

    def sample(self, rng: np.random.Generator) -> Genome:
        return tuple(int(gene) for gene in rng.integers(0, 4, size=3))

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        return point_mutation(genome, 4, rng)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        return one_point_crossover(a, b, rng)

    def decode(self, genome: Genome) -> Network:
        draft, x = Draft(self.input_shape, self.classes), "input"
        for gene in genome:
            blur = gene == 0
            x = (
                draft.add("blur", x, kernel=3, stride=1)
                if blur
                else conv_norm(draft, x, 8 * gene, 3)
            )
        return classifier(draft, x)


SPACE = BlurSpace(SHAPE, CLASSES)


def test_a_space_of_four_methods_has_everything_else() -> None:
    genome = (1, 0, 2)
    assert SPACE.name == "blur"
    assert SPACE.key(genome) == SPACE.decode(genome).key
    assert SPACE.encode(genome).shape == (sum(SPACE.groups),)
    assert SPACE.tokens(genome).tolist() == [[1], [0], [2]]
    assert SPACE.describe(genome)[2] == "blur(kernel=3, stride=1)"
    assert SPACE.operation_names == ("blur", "conv3x3", "globalpool", "norm")
    assert SPACE.operations((0, 0, 0)) == {"blur", "globalpool"}
    assert SPACE.genomes() is None
    assert SPACE.options() == {}
    assert SPACE.at(16) == BlurSpace((3, 16, 16), CLASSES)
    assert SPACE.at(None) is SPACE
    assert BlurSpace(SHAPE, CLASSES + 1) != SPACE
    assert of_networks(difference, SPACE, genome, (1, 1, 2)).kind == "pool → convolution"


def test_a_space_is_shown() -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(architecture(SPACE, (1, 0, 2)))
    shown = captured.get()
    assert "blur(kernel=3, stride=1)" in shown
    assert f"{SPACE.decode((1, 0, 2)).params:,} parameters" in shown


class Ban:
    """An inbox with one request."""

    def __init__(self, operation: str) -> None:
        self.request, self.answered = Request("ban", operation=operation), False

    def waiting(self) -> list[tuple[str, Request]]:
        return [] if self.answered else [("one", self.request)]

    def remove(self, name: str) -> None:
        self.answered = True


def test_a_space_goes_through_a_study_that_bans(tmp_path: Path) -> None:
    bans = Bans(SPACE, frozenset({"blur"}))
    assert bans((1, 0, 2))
    assert not bans((1, 1, 2))
    with RunStore.begin(tmp_path / "run.db", CONFIG) as store:
        strategy = AgingEvolution(SPACE, population_size=5)
        inbox = Ban("blur")
        study = Study(SPACE, strategy, SerialEvaluator(score), store, BUDGET, seed=7, inbox=inbox)
        study.run(evaluations=20)
        assert inbox.answered
        assert [c.key for c in store.candidates()] == [
            SPACE.decode(c.proposal.genome).key for c in store.candidates()
        ]
        assert not any(0 in c.proposal.genome for c in store.candidates())


def test_what_a_space_lacks_is_said() -> None:
    class Lacking(Space):
        pass

    class Fixed(BlurSpace):
        name = "fixed"

        def __init__(self) -> None:
            super().__init__(SHAPE, CLASSES)

    with pytest.raises(TypeError, match="crossover"):
        Lacking()  # type: ignore[abstract]
    with pytest.raises(ConfigError, match="the space 'fixed' cannot be seen at 8 pixels"):
        Fixed().at(8)
    with pytest.raises(GenomeError, match="must be a list of integers"):
        SPACE.tokens("012")  # type: ignore[arg-type]
