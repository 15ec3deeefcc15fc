"""From a network to a module.

That every network of every space builds and counts is tested with the spaces.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys.operations import CASES, CLASSES, EXAMPLES, SHAPE, with_operation

from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import ACTIVATIONS, OPS
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.training import modules as build
from nanonas.training.modules import MODULES, NetworkModule, build_module

pytestmark = pytest.mark.usefixtures("one_thread")

SPACES: dict[str, Space] = {
    "layers": LayersSpace(SHAPE, CLASSES),
    "nano": NanoSpace(SHAPE, CLASSES, channels=4),
    "nasbench201": NASBench201Space(SHAPE, CLASSES, channels=4, cells=1),
}


def random_networks(space: Space, number: int, seed: int = 0) -> list[Network]:
    rng = np.random.default_rng(seed)
    networks: list[Network] = []
    while len(networks) < number:
        network = space.decode(space.mutate(space.sample(rng), rng))
        if network.params <= 60_000:
            networks.append(network)
    return networks


def test_every_operation_has_its_module_and_its_example() -> None:
    assert set(MODULES) == set(OPS) == set(EXAMPLES)
    assert set(build.ACTIVATION_MODULES) == set(ACTIVATIONS)


@pytest.mark.parametrize(("op", "attributes"), CASES)
def test_an_operation_gives_the_shape_that_the_network_says(
    op: str, attributes: dict[str, Any]
) -> None:
    node = with_operation(op, attributes).named["subject"]
    images = [torch.randn(2, *shape) for shape in node.input_shapes]
    module = MODULES[op](node)
    assert module(*images).shape == (2, *node.shape)
    assert sum(p.numel() for p in module.parameters()) == node.params
    held = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    assert held == {name: tensor.shape for name, tensor in node.tensors.items()}
    learnt = {name for name, tensor in node.tensors.items() if tensor.learnt}
    assert learnt == {name for name, _ in module.named_parameters()}
    assert all(len(tensor.axes) == len(tensor.shape) for tensor in node.tensors.values())


@pytest.mark.parametrize(("op", "attributes"), CASES)
def test_what_inheritance_may_rely_on_is_true(op: str, attributes: dict[str, Any]) -> None:
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("globalpool", "input") if op == "dense" else "input"
    inputs = (x, x) if op in ("add", "concat") else (x,)
    node = draft._nodes[draft.add(op, *inputs, **attributes)]
    module = MODULES[op](node).eval()
    images = [torch.randn(2, *shape) for shape in node.input_shapes]
    output = module(*images)
    if node.traits.keeps_zero:
        assert not module(*map(torch.zeros_like, images)).any()
    if node.traits.keeps_sign:
        assert module(*(image.abs() for image in images)).min() >= 0
    if node.traits.identity == {}:
        assert torch.equal(output, images[0])
    if node.channelwise:
        others = [torch.cat([image[:, :1], image[:, 1:] + 1], dim=1) for image in images]
        torch.testing.assert_close(module(*others)[:, 0], output[:, 0])
        assert not torch.equal(module(*others), output) or op == "zero"


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_what_is_known_of_activations_is_true(kind: str) -> None:
    known = ACTIVATIONS[kind]
    x = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    y = build.ACTIVATION_MODULES[kind]()(x.clone())
    assert build.ACTIVATION_MODULES[kind]()(torch.zeros(1)) == 0
    assert known.increasing == bool((y.diff() >= 0).all())
    assert known.identity_above_0 == torch.equal(y[x > 0], x[x > 0])
    assert known.nonnegative == bool((y >= 0).all())


def test_operations_on_vectors_build_too() -> None:
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("norm", draft.add("dense", draft.add("globalpool", "input"), units=6))
    x = draft.add("concat", x, draft.add("dropout", draft.add("act", x, kind="gelu"), rate=0.1))
    network = draft.finish(draft.add("dense", x, units=CLASSES))
    assert build_module(network, seed=0)(torch.randn(3, *SHAPE)).shape == (3, CLASSES)


@pytest.mark.parametrize(
    ("kind", "oracle"),
    [
        ("relu", F.relu),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.1)),
        ("silu", F.silu),
        ("gelu", F.gelu),
        ("hardswish", F.hardswish),
    ],
)
def test_activations_are_what_they_are_called(
    kind: str, oracle: Callable[[Tensor], Tensor]
) -> None:
    x = torch.linspace(-5, 5, 101)
    assert torch.equal(build.ACTIVATION_MODULES[kind]()(x.clone()), oracle(x))


def test_an_average_pool_does_not_count_its_padding() -> None:
    draft = Draft(SHAPE, CLASSES)
    name = draft.add("avgpool", "input", kernel=3, stride=1)
    network = draft.finish(draft.add("dense", draft.add("globalpool", name), units=CLASSES))
    ones = torch.ones(1, *SHAPE)
    assert torch.equal(MODULES["avgpool"](network.nodes[0])(ones), ones)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_nodes_are_modules_of_the_same_names_and_hold_as_many_parameters(
    space: Space,
) -> None:
    for network in random_networks(space, 20):
        module = build_module(network, seed=0)
        assert [name for name, _ in module.named_children()] == [
            node.name for node in network.nodes
        ]
        assert module.network is network
        assert sum(p.numel() for p in module.parameters()) == network.params
        for node in network.nodes:
            assert sum(p.numel() for p in getattr(module, node.name).parameters()) == node.params


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone(
    space: Space,
) -> None:
    network = random_networks(space, 1)[0]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build_module(network, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_without_a_seed_the_weights_come_from_the_global_generator() -> None:
    network = random_networks(SPACES["nano"], 1)[0]
    torch.manual_seed(5)
    drawn, next_drawn = build_module(network).state_dict(), build_module(network).state_dict()
    assert any(not torch.equal(drawn[name], next_drawn[name]) for name in drawn)
    assert all(
        torch.equal(tensor, build_module(network, seed=5).state_dict()[n])
        for n, tensor in drawn.items()
    )


def everything(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, the gradient with respect to the images, and those of the weights."""
    x = x.clone().requires_grad_()
    torch.manual_seed(0)  # dropout
    logits = module.train()(x)
    logits.square().sum().backward()
    assert x.grad is not None
    return (
        logits.detach(),
        x.grad,
        {name: p.grad for name, p in module.named_parameters() if p.grad is not None},
    )


def assert_overwriting_changes_nothing(network: Network) -> int:
    """Returns how many modules overwrite their input."""
    module = build_module(network, seed=0)
    plain = copy.deepcopy(module)
    for part in plain.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # type: ignore[assignment]
    x = torch.randn(4, *SHAPE)
    ours, theirs = everything(module, x), everything(plain, x)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert ours[2].keys() == theirs[2].keys()
    assert all(torch.equal(ours[2][name], theirs[2][name]) for name in ours[2])
    return sum(getattr(part, "inplace", False) for part in module.modules())


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_activations_that_overwrite_their_input_change_no_result(space: Space) -> None:
    networks = random_networks(space, 30, seed=1)
    assert sum(map(assert_overwriting_changes_nothing, networks)) > 30


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize(("op", "attributes"), [case for case in CASES if case[0] != "globalpool"])
@pytest.mark.parametrize("shared", ["before", "after", None])
def test_an_input_that_another_operation_reads_is_not_overwritten(
    op: str, attributes: dict[str, Any], kind: str, shared: str | None
) -> None:
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("conv", "input", filters=6, kernel=3, stride=1, groups=1, bias=False)
    x = draft.add("globalpool", x) if op == "dense" else x
    y = draft.add(op, *((x, x) if op in ("add", "concat") else (x,)), **attributes)
    if shared == "before":
        other = draft.add("norm", y)
    z = draft.add("act", y, kind=kind)
    if shared == "after":
        other = draft.add("dropout", y, rate=0.0)
    z = draft.add("add", z, other) if shared else z
    pooled = z if len(draft.shape(z)) == 1 else draft.add("globalpool", z)
    assert_overwriting_changes_nothing(draft.finish(draft.add("dense", pooled, units=CLASSES)))


def test_the_images_are_never_overwritten() -> None:
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("act", "input", kind="relu")
    module = build_module(
        draft.finish(draft.add("dense", draft.add("globalpool", x), units=CLASSES)), seed=0
    )
    images = torch.randn(2, *SHAPE)
    kept = images.clone()
    module(images)
    assert torch.equal(images, kept)


def test_each_operation_runs_once_a_forward_pass() -> None:
    for network in random_networks(SPACES["layers"], 10, seed=2):
        module = build_module(network, seed=0)
        names = {part: name for name, part in module.named_children()}
        calls: list[str] = []

        def note(
            part: nn.Module, names: dict[nn.Module, str] = names, calls: list[str] = calls
        ) -> None:
            calls.append(names[part])

        for part in names:
            part.register_forward_hook(lambda part, inputs, output, note=note: note(part))
        module(torch.randn(2, *SHAPE))
        assert calls == [step.module for step in module.steps]
        assert sorted(calls) == sorted(node.name for node in network.nodes)


class InOrder(nn.Module):
    """A network's nodes in their own order, with the modules of a `NetworkModule`."""

    def __init__(self, module: NetworkModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        features = {"input": x}
        for node in self.module.network.nodes:
            features[node.name] = self.module.get_submodule(node.name)(
                *(features[name] for name in node.inputs)
            )
        return features[node.name]


@pytest.mark.parametrize("kind", ACTIVATIONS)
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("shared", [False, True])
def test_a_pool_that_comes_before_its_activation_changes_no_result(
    kind: str, kernel: int, stride: int, shared: bool
) -> None:
    draft = Draft(SHAPE, CLASSES)
    x = draft.add("conv", "input", filters=6, kernel=3, stride=1, groups=1, bias=False)
    active = draft.add("act", draft.add("norm", x), kind=kind, name="active")
    y = draft.add("maxpool", active, kernel=kernel, stride=stride, name="pool")
    if shared:
        y = draft.add("concat", draft.add("globalpool", y), draft.add("globalpool", active))
    else:
        y = draft.add(
            "globalpool", draft.add("conv", y, filters=5, kernel=3, stride=1, groups=1, bias=False)
        )
    network = draft.finish(draft.add("dense", y, units=CLASSES))
    module = build_module(network, seed=0)
    plain = copy.deepcopy(module)
    for part in plain.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # type: ignore[assignment]
    order = [step.module for step in module.steps]
    turned = stride > 1 and kind in ("relu", "leaky_relu") and not shared
    assert (order.index("pool") < order.index("active")) == turned
    images = torch.randn(4, *SHAPE)
    ours, theirs = everything(module, images), everything(InOrder(plain), images)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])
    assert all(torch.equal(ours[2][name], theirs[2][f"module.{name}"]) for name in ours[2])


def test_weights_are_drawn_after_he_and_laid_out_channels_last() -> None:
    draft = Draft((3, 8, 8), CLASSES)
    x = draft.add(
        "conv", "input", filters=256, kernel=3, stride=1, groups=1, bias=True, name="subject"
    )
    module = build_module(
        draft.finish(draft.add("dense", draft.add("globalpool", x), units=CLASSES)), seed=0
    )
    conv = module.subject
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.05)
    assert not conv.bias.any()
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
