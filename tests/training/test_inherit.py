"""What a child has from its parents. The oracle is the parent: a child that is `preserved` has its
outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.errors import RunError
from nanonas.networks.align import align
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import Attribute
from nanonas.spaces.base import Space
from nanonas.spaces.layers.genes import DECISIONS
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NAMES, NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.training.inheritance.inherit import Inherited, inherit
from nanonas.training.inheritance.parents import Parent
from nanonas.training.modules import NetworkModule, build_module

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE, CLASSES = (3, 8, 8), 4
LAYERS = LayersSpace(SHAPE, CLASSES)
NANO = NanoSpace(SHAPE, CLASSES, channels=4)
CELLS = NASBench201Space(SHAPE, CLASSES, channels=4, cells=1)

Layer = dict[str, Any]


def trained(network: Network, seed: int = 0) -> NetworkModule:
    """As after a training: nothing is 0 or 1 any more, and some norms negate their channels."""
    module, generator = build_module(network, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.dim() == 0:
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 2, generator=generator)
            elif tensor.dim() == 1:
                tensor.normal_(0.5 if name.endswith("weight") else 0.0, 0.7, generator=generator)
    return module.eval()


def born(
    parent: NetworkModule, network: Network, images: Tensor | None = None
) -> tuple[NetworkModule, Inherited]:
    child = build_module(network, seed=99)
    return child, inherit(child, [Parent(parent.network, parent.state_dict())], images)


def difference(a: NetworkModule, b: NetworkModule, shape: tuple[int, ...] = SHAPE) -> float:
    """Between the outputs in eval mode, relative to their size."""
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        one, other = a.eval()(x), b.eval()(x)
    return float((one - other).abs().max() / one.abs().max())


# --- any edit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "edits", "least"),
    [(LAYERS, 450, 0.25), (NANO, 450, 0.25), (CELLS, 100, 0.05)],
    ids=lambda s: str(s)[:6],
)
def test_what_is_said_to_be_preserved_is(space: Space, edits: int, least: float) -> None:
    rng = np.random.default_rng(0)
    preserved = done = 0
    while done < edits:
        genome = space.sample(rng)
        parent, network = space.decode(genome), space.decode(space.mutate(genome, rng))
        if max(parent.params, network.params) > 100_000:
            continue
        old = trained(parent, done)
        child, found = born(old, network)
        assert 0 <= found.share <= 1
        assert 0 <= found.tensors <= found.of == len(child.state_dict())
        if found.preserved:
            assert difference(old, child) < 1e-4
        preserved += found.preserved
        done += 1
    assert preserved > least * edits  # measured: 0.33, 0.31, 0.09


@pytest.mark.parametrize("space", [LAYERS, NANO, CELLS], ids=lambda s: s.name)
def test_the_same_network_is_its_parent(space: Space) -> None:
    network = space.decode(space.sample(np.random.default_rng(4)))
    parent = trained(network)
    child, found = born(parent, network)
    whole = frozenset(node.name for node in network.nodes if node.tensors)
    assert found == Inherited(len(parent.state_dict()), len(parent.state_dict()), 1.0, True, whole)
    assert all(
        torch.equal(child.state_dict()[name], tensor)
        for name, tensor in parent.state_dict().items()
    )


# --- edits by name --------------------------------------------------------------------------------


def layer(kind: str, **decisions: Attribute) -> Layer:
    return {"kind": kind, **decisions}


def unit(
    filters: int, *, skip: int = 0, join: str = "add", normed: bool = True, **decisions: Attribute
) -> list[Layer]:
    """A convolution of 3×3 with its norm; the skip comes from `skip` layers before its end, 2: over
    itself.
    """
    conv = {"kind": "Conv2D", "filters": filters, "kernel": 3, "activation": "relu", **decisions}
    end: Layer = {"skip": skip, "join": join}
    return [conv, layer("BatchNorm", **end)] if normed else [{**conv, **end}]


def decoded(*parts: list[Layer] | Layer) -> Network:
    chain = [layer for part in parts for layer in (part if isinstance(part, list) else [part])]
    genes = [
        options.index(layer.get(name, options[0]))
        for layer in chain
        for name, options in DECISIONS.items()
    ]
    return LAYERS.decode(genes)


DROPOUT = layer("Dropout")
POOL = layer("MaxPool")
A, B, C = unit(16), unit(24), unit(32)

PRESERVED: dict[str, tuple[Network, Network]] = {
    "wider": (decoded(A, A, A), decoded(A, B, A)),
    "wider, to a width that is no multiple, before the end": (
        decoded(A, A, B),
        decoded(A, A, unit(64)),
    ),
    "wider before a pool and a dropout": (
        decoded(A, POOL, DROPOUT, A),
        decoded(B, POOL, DROPOUT, A),
    ),
    "wider without a norm": (
        decoded(A, unit(16, normed=False, activation="silu"), A),
        decoded(A, unit(24, normed=False, activation="silu"), A),
    ),
    "both sides of an add wider": (
        decoded(A, unit(16, skip=2), A),
        decoded(B, unit(24, skip=2), A),
    ),
    "wider, so that its skip needs a projection": (
        decoded(A, unit(16, skip=2), A),
        decoded(A, unit(24, skip=2), A),
    ),
    "wider, so that the skip that it gives needs one": (
        decoded(A, unit(16, skip=2), A),
        decoded(B, unit(16, skip=2), A),
    ),
    "wider with a projection": (decoded(A, unit(32, skip=2), A), decoded(A, unit(48, skip=2), A)),
    "wider into depthwise": (
        decoded(A, unit(24, separable=True), A),
        decoded(B, unit(24, separable=True), A),
    ),
    "wider in a concat": (
        decoded(A, unit(16, skip=2, join="concat"), A, A),
        decoded(A, unit(24, skip=2, join="concat"), A, A),
    ),
    "wider dense": (
        decoded(A, A, layer("Dense", units=32, activation="gelu")),
        decoded(A, A, layer("Dense", units=64, activation="gelu")),
    ),
    "deeper": (decoded(A, A, B), decoded(A, A, A, B)),
    "deeper and wider": (decoded(A, A, B), decoded(A, A, B, B)),
    "deeper, leaky": (decoded(A, A), decoded(A, A, unit(16, activation="leaky_relu"))),
    "deeper, separable, without a norm": (
        decoded(A, A),
        decoded(A, A, unit(16, separable=True, normed=False)),
    ),
    "deeper, a dense": (decoded(A, A), decoded(A, A, layer("Dense", units=32, activation="relu"))),
    "deeper, with a skip over itself": (decoded(A, A, B), decoded(A, unit(16, skip=2), A, B)),
    "the same, silu": (
        decoded(unit(16, activation="silu"), unit(24, activation="silu")),
        decoded(
            unit(16, activation="silu"),
            unit(16, activation="silu", skip=2),
            unit(24, activation="silu"),
        ),
    ),
    "the same, without a norm": (decoded(A, A), decoded(A, unit(16, skip=1, normed=False), A)),
    "wider kernel": (decoded(A, A, A), decoded(A, unit(16, kernel=7), A)),
    "wider kernel, strided": (
        decoded(A, unit(16, stride=2), A),
        decoded(A, unit(16, stride=2, kernel=5), A),
    ),
    "wider kernel, depthwise": (
        decoded(A, unit(16, separable=True), A),
        decoded(A, unit(16, separable=True, kernel=5), A),
    ),
    "no longer separable": (decoded(A, unit(24, separable=True), A), decoded(A, unit(24), A)),
    "a dropout more": (decoded(A, A), decoded(A, DROPOUT, A)),
    "a dropout less": (decoded(A, DROPOUT, A), decoded(A, A)),
    "a norm more": (decoded(A, POOL, A), decoded(A, POOL, layer("BatchNorm"), A)),
    "a norm less": (decoded(A, A, B), decoded(A, unit(16, normed=False), B)),
    "a concat more": (decoded(A, B, A), decoded(A, unit(24, skip=2, join="concat"), A)),
    "a concat more, of another size": (
        decoded(A, unit(24, stride=2), A),
        decoded(A, unit(24, stride=2, skip=2, join="concat"), A),
    ),
    "a concat more, into depthwise and a dropout": (
        decoded(A, B, DROPOUT, unit(16, separable=True), A),
        decoded(A, unit(24, skip=2, join="concat"), DROPOUT, unit(16, separable=True), A),
    ),
    "a skip with a projection more": (decoded(A, B, A), decoded(A, unit(24, skip=2), A)),
    "a skip into a vector more": (
        decoded(A, B, layer("Dense", units=32)),
        decoded(A, B, layer("Dense", units=32, skip=3)),
    ),
}


def nano(operation: str) -> Network:
    """Among others, of which some are the same."""
    return NANO.decode(
        [NAMES.index(name) for name in ("conv3x3", "maxpool", operation, "conv3x3", "skip")]
    )


PRESERVED |= {
    f"zero to {name}": (nano("zero"), nano(name)) for name in NAMES if name not in ("zero", "skip")
}
PRESERVED |= {
    f"{one} to {other}": (nano(one), nano(other))
    for one, others in {
        "skip": ("conv1x1", "conv3x3", "sep_conv3x3", "sep_conv5x5"),
        "conv1x1": ("conv3x3", "sep_conv3x3", "sep_conv5x5"),
        "sep_conv3x3": ("sep_conv5x5", "conv3x3"),
    }.items()
    for other in others
}


@pytest.mark.parametrize("edit", PRESERVED)
@pytest.mark.parametrize("calibrated", [False, True])
def test_an_edit_that_can_be_preserved_is(edit: str, calibrated: bool) -> None:
    parent, network = PRESERVED[edit]
    assert parent.key != network.key
    old = trained(parent)
    child, found = born(old, network, torch.randn(4, *SHAPE) if calibrated else None)
    assert found.preserved
    assert difference(old, child) < 1e-4


@pytest.mark.parametrize(
    ("parent", "network"),
    [
        (decoded(A, A, B), decoded(A, B)),
        (decoded(A, A, A), decoded(A, unit(16, skip=2), A)),
        (decoded(A, B, A), decoded(A, A, A)),
        (decoded(A, A), decoded(A, unit(16, activation="silu"))),
        (decoded(A, A), decoded(A, unit(16, stride=2))),
        (decoded(A, unit(16, kernel=5)), decoded(A, A)),
    ],
    ids=[
        "removed",
        "add without projection",
        "narrower",
        "activation",
        "stride",
        "narrower kernel",
    ],
)
def test_what_cannot_be_preserved_is_not_said_to_be_but_inherits(
    parent: Network, network: Network
) -> None:
    old = trained(parent)
    child, found = born(old, network)
    assert not found.preserved
    assert difference(old, child) > 1e-3
    assert found.share > 0.9


# --- what exactly is inherited --------------------------------------------------------------------


def test_shares_count_what_is_a_parents() -> None:
    parent, network = decoded(A, A, A), decoded(A, unit(16, kernel=5), A)
    _, found = born(trained(parent), network)
    assert found.tensors == found.of
    assert found.share == pytest.approx(1 - 16 * 16 * (25 - 9) / network.params)
    _, found = born(trained(decoded(A, A)), decoded(A, A, DROPOUT, C))
    new = 16 * 32 * 9 + 2 * 32  # and a dense of 32 channels, all of them replicas
    assert found.share == pytest.approx(1 - new / decoded(A, A, DROPOUT, C).params)
    assert found.of - found.tensors == 6


def test_without_parents_nothing_changes() -> None:
    child, fresh = build_module(decoded(A, B), seed=1), build_module(decoded(A, B), seed=1)
    assert inherit(child, []) == Inherited(0, len(child.state_dict()), 0.0, False)
    assert all(
        torch.equal(tensor, fresh.state_dict()[name]) for name, tensor in child.state_dict().items()
    )


def test_a_child_of_two_has_from_each_what_the_other_lacks() -> None:
    first, second = decoded(A, A, POOL), decoded(A, POOL, unit(48), unit(64))
    both = [
        Parent(network, trained(network, seed).state_dict())
        for seed, network in enumerate((first, second))
    ]
    network = decoded(A, A, POOL, unit(48), unit(64))
    child = build_module(network, seed=99)
    found = inherit(child, both)
    convs = [node.name for node in network.nodes if node.op == "conv"]
    assert torch.equal(
        child.state_dict()[f"{convs[1]}.weight"], both[0].tensors[f"{convs[1]}.weight"]
    )
    assert torch.equal(
        child.state_dict()[f"{convs[3]}.weight"], both[1].tensors[f"{convs[2]}.weight"]
    )
    assert found.share > 0.99


def test_weights_from_smaller_images_are_all_taken() -> None:
    space = LayersSpace((3, 16, 16), CLASSES)
    for seed in range(10):
        genome = LAYERS.sample(np.random.default_rng(seed))
        parent, network = LAYERS.decode(genome), space.decode(genome)
        _, found = born(trained(parent), network)
        assert not found.preserved
        if [node.op for node in parent.nodes] == [node.op for node in network.nodes]:
            assert found.share == 1.0


def test_inheriting_repeats_itself_and_leaves_the_global_generator_alone() -> None:
    parent, network = PRESERVED["wider"]
    state = torch.get_rng_state()
    one, other = (born(trained(parent), network)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("broken", ["missing", "shape"])
def test_tensors_that_do_not_fit_are_named(broken: str) -> None:
    network = decoded(A, B)
    tensors = dict(trained(network).state_dict())
    weight = tensors.pop("norm2.running_var")
    if broken == "shape":
        tensors["norm2.running_var"] = weight[1:]
    with pytest.raises(
        RunError, match=r"parent 1 of 1 have .* for 'norm2.running_var'.* the shape \(24,\)"
    ):
        inherit(build_module(network), [Parent(network, tensors)])


# --- and trained ----------------------------------------------------------------------------------


def steps(module: NetworkModule, number: int) -> dict[str, Tensor]:
    """A few steps of training; returns the last gradients."""
    generator = torch.Generator().manual_seed(5)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    module.train()
    for _ in range(number):
        x = torch.randn(8, *SHAPE, generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(module(x), torch.arange(8) % CLASSES).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("edit", PRESERVED)
def test_everything_gets_gradients(edit: str) -> None:
    parent, network = PRESERVED[edit]
    child, _ = born(trained(parent), network, torch.randn(8, *SHAPE))
    gradients = steps(child, 3)
    assert set(gradients) == {name for name, _ in child.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    weights = [name for name in gradients if gradients[name].dim() > 1]
    assert all(gradients[name].abs().max() > 0 for name in weights)


def test_replicas_part() -> None:
    parent, network = PRESERVED["wider"]
    child, _ = born(trained(parent), network)
    weight = child.state_dict()["conv2.weight"]
    assert torch.equal(weight[:8], weight[16:])
    steps(child, 3)
    assert (weight[:8] - weight[16:]).abs().amax(dim=(1, 2, 3)).min() > 1e-6


def test_a_calibrated_norm_is_nearly_the_identity_in_training_too() -> None:
    parent, network = PRESERVED["deeper"]
    old = trained(parent)
    images = torch.randn(32, *SHAPE, generator=torch.Generator().manual_seed(1))
    (new,) = (name for name in align(parent, network).new if name.startswith("norm"))
    outputs = []
    for given in (None, images):
        child, _ = born(old, network, given)
        assert child.training  # as it came
        for name, module in child.named_modules():  # of the child only the new norm trains
            if isinstance(module, nn.BatchNorm2d) and name != new:
                module.eval()
        with torch.no_grad():
            outputs.append(
                float((child(images) - old(images)).abs().max() / old(images).abs().max())
            )
    assert outputs[1] < 1e-3 < outputs[0]


def test_a_grouped_convolution_is_taken_whole() -> None:
    def network(filters: int) -> Network:
        draft = Draft(SHAPE, CLASSES)
        x = draft.add("conv", "input", filters=8, kernel=3, stride=1, groups=1, bias=False)
        x = draft.add("conv", x, filters=16, kernel=3, stride=1, groups=4, bias=True)
        x = draft.add("conv", x, filters=filters, kernel=3, stride=1, groups=1, bias=True)
        return draft.finish(draft.add("dense", draft.add("globalpool", x), units=CLASSES))

    parent = trained(network(8))
    child, found = born(parent, network(12))
    assert found.preserved
    assert found.share == 1.0
    assert difference(parent, child) < 1e-4
