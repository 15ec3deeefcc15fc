"""What predictors read of a network: a hand-made one by hand, and what must make no difference."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nanonas.core import Floats
from nanonas.networks.features import GROUPS, KINDS, LEVELS, PLACES, features
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import ACTIVATIONS
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space

SPACES: list[Space] = [
    LayersSpace((3, 16, 16), 10),
    NanoSpace((3, 16, 16), 10),
    NASBench201Space(cells=1),
]


def networks(space: Space, number: int = 40) -> list[Network]:
    rng = np.random.default_rng(0)
    return [space.decode(space.sample(rng)) for _ in range(number)]


def grouped(network: Network) -> dict[str, Floats]:
    ends = np.cumsum([0, *GROUPS.values()])
    values = features(network)
    return {
        name: values[start:end] for name, start, end in zip(GROUPS, ends, ends[1:], strict=False)
    }


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_they_are_finite_and_as_many_as_the_groups_say(space: Space) -> None:
    for network in networks(space):
        found = features(network)
        assert found.shape == (sum(GROUPS.values()),)
        assert found.dtype == np.float64
        assert np.isfinite(found).all()


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_names_and_the_order_of_nodes_and_summands_make_no_difference(space: Space) -> None:
    rng = np.random.default_rng(1)
    for network in networks(space):
        other = rewritten(network, rng)
        assert other.key == network.key
        np.testing.assert_allclose(features(other), features(network), rtol=1e-12)


def rewritten(network: Network, rng: np.random.Generator) -> Network:
    """The same network with other names, in another topological order, its summands shuffled."""
    names = {"input": "input"} | {
        node.name: f"n{place}" for place, node in enumerate(network.nodes)
    }
    waiting, done, nodes = list(network.nodes), {"input"}, []
    while waiting:
        ready = [node for node in waiting if set(node.inputs) <= done]
        node = ready[int(rng.integers(len(ready)))]
        waiting.remove(node)
        done.add(node.name)
        inputs = [names[name] for name in node.inputs]
        if node.op == "add":
            rng.shuffle(inputs)
        nodes.append(replace(node, name=names[node.name], inputs=tuple(inputs)))
    return replace(network, nodes=tuple(nodes))


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_different_networks_read_differently_mostly(space: Space) -> None:
    some = {network.key: features(network).tobytes() for network in networks(space, 100)}
    assert len(set(some.values())) >= 0.9 * len(some)


def by_hand() -> Network:
    """conv3 (8 channels), norm, relu; beside it a depthwise conv5 of stride 2 and a max pool, added
    up; dense.
    """
    draft = Draft((3, 8, 8), 4)
    x = draft.add("conv", "input", filters=8, kernel=3, stride=1, groups=1, bias=False)
    x = draft.add("act", draft.add("norm", x), kind="relu")
    deep = draft.add("conv", x, filters=8, kernel=5, stride=2, groups=8, bias=False)
    pool = draft.add("maxpool", x, kernel=3, stride=2)
    y = draft.add("act", draft.add("add", deep, pool), kind="gelu")
    return draft.finish(draft.add("dense", draft.add("globalpool", y), units=4))


def test_a_network_by_hand() -> None:
    found = grouped(by_hand())
    params = 3 * 8 * 9 + 2 * 8 + 8 * 25 + 8 * 4 + 4
    macs = 3 * 8 * 9 * 64 + 8 * 25 * 16 + 8 * 4
    values = (
        3 * 8 * 64 + 4 * 8 * 16 + 8 + 4
    )  # conv, norm, act; conv, pool, add, act; globalpool; dense
    np.testing.assert_allclose(found["size"], np.log1p([params, macs, values]))
    # the longest way: conv, depthwise, dense; the shortest: conv, pool, dense; 3 weighted layers, 1
    # join, 2 ways
    np.testing.assert_allclose(found["depth"], [*np.log1p([3, 2, 3, 1]), math.log1p(2) / 2])

    once = math.log(2)
    kinds = {"conv3", "depthwise", "maxpool", "dense", "add"}
    shares = [0.5 if kind in ("relu", "gelu") else 0.0 for kind in ACTIVATIONS]
    expected = [
        *(once if kind in kinds else 0.0 for kind in KINDS),
        *shares,
        0.5,
    ]  # one norm, two convolutions
    np.testing.assert_allclose(found["operations"], expected)

    on_maps = [kind for kind in KINDS if kind not in ("dense", "dropout", "concat")]
    levels = {("conv3", 0), ("depthwise", 1), ("maxpool", 1), ("add", 1)}
    counted = [
        once if (kind, level) in levels else 0.0 for level in range(LEVELS) for kind in on_maps
    ]
    np.testing.assert_allclose(
        found["levels"], [*counted, 3 / 4, 3 / 4, 0, 0, 0, 0]
    )  # 8 channels on both levels

    links = {
        ("input", "conv"),
        ("conv", "depthwise"),
        ("conv", "pool"),
        ("depthwise", "join"),
        ("pool", "join"),
    }
    links |= {("end", "end")}  # global average pooling to the dense layer
    pairs = [(a, b) for a in ("input", *PLACES) for b in PLACES]
    np.testing.assert_allclose(found["links"], [once if pair in links else 0.0 for pair in pairs])
