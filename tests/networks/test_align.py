"""Two networks side by side: what is the same, by brute force and by properties."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from nanonas.networks.align import align
from nanonas.networks.network import Draft, Network
from nanonas.networks.ops import Node
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space

SHAPE, CLASSES = (3, 8, 8), 4
SPACES: dict[str, Space] = {
    "layers": LayersSpace(SHAPE, CLASSES),
    "nano": NanoSpace(SHAPE, CLASSES, channels=4),
    "nasbench201": NASBench201Space(SHAPE, CLASSES, channels=4, cells=1),
}


def pairs(space: Space, number: int = 30) -> list[tuple[Network, Network]]:
    """Half of them parent and child, half strangers."""
    rng = np.random.default_rng(1)
    found = []
    for n in range(number):
        genome = space.sample(rng)
        other = space.mutate(genome, rng) if n % 2 else space.sample(rng)
        found.append((space.decode(genome), space.decode(other)))
    return found


def kind(node: Node) -> tuple[object, ...]:
    return node.op, node.attributes, node.shape, node.input_shapes


def between(
    young: list[str], old: list[str], pairs: Mapping[str, str]
) -> list[tuple[list[str], list[str]]]:
    """What lies between neighbouring pairs in both networks."""
    a = [-1, *(n for n, name in enumerate(young) if name in pairs), len(young)]
    b = [-1, *(old.index(pairs[name]) for name in young if name in pairs), len(old)]
    return [(young[a[n] + 1 : a[n + 1]], old[b[n] + 1 : b[n + 1]]) for n in range(len(a) - 1)]


@pytest.mark.parametrize("name", SPACES)
def test_pairs_are_alike_and_in_order_and_nothing_is_left_that_could_be_paired(name: str) -> None:
    for parent, child in pairs(SPACES[name]):
        found = align(parent, child)
        old, young = ({node.name: node for node in network.nodes} for network in (parent, child))
        assert all(kind(young[a]) == kind(old[b]) for a, b in found.same.items())
        assert all(
            young[a].op == old[b].op and kind(young[a]) != kind(old[b])
            for a, b in found.changed.items()
        )
        paired = {**found.same, **found.changed}
        in_order = [list(old).index(paired[name]) for name in young if name in paired]
        assert in_order == sorted(set(in_order))
        for ours, theirs in between(list(young), list(old), found.same):
            assert not {kind(young[name]) for name in ours} & {kind(old[name]) for name in theirs}
        for ours, theirs in between(list(young), list(old), paired):
            assert not {young[name].op for name in ours} & {old[name].op for name in theirs}
        assert found.new == tuple(name for name in young if name not in paired)
        assert found.gone == tuple(name for name in old if name not in paired.values())


@pytest.mark.parametrize("name", SPACES)
def test_a_network_is_the_same_as_itself(name: str) -> None:
    for network, _ in pairs(SPACES[name], 6):
        found = align(network, network)
        assert found.same == {node.name: node.name for node in network.nodes}
        assert (found.changed, found.new, found.gone) == ({}, (), ())


def test_a_child_of_one_edit_is_mostly_the_same() -> None:
    shares = [
        len(align(parent, child).same) / max(len(parent.nodes), len(child.nodes))
        for parent, child in pairs(SPACES["nano"])[1::2]
    ]
    assert np.mean(shares) > 0.75


def chain(
    filters: list[int], skip_over: int | None = None, kernels: dict[int, int] | None = None
) -> Network:
    """Units of convolution, norm and ReLU; with a skip over one of them."""
    draft, x = Draft(SHAPE, CLASSES), "input"
    for n, width in enumerate(filters):
        before, kernel = x, (kernels or {}).get(n, 3)
        x = draft.add(
            "conv", x, name=f"c{n}", filters=width, kernel=kernel, stride=1, groups=1, bias=False
        )
        x = draft.add("act", draft.add("norm", x, name=f"n{n}"), name=f"a{n}", kind="relu")
        x = draft.add("add", x, before) if n == skip_over else x
    return draft.finish(draft.add("dense", draft.add("globalpool", x), units=CLASSES))


@pytest.mark.parametrize("place", [1, 2, 3])
def test_a_unit_with_a_skip_is_found_among_units_like_it(place: int) -> None:
    """As many would be the same with any other of the four; what comes before and behind says which
    is new.
    """
    found = align(chain([4, 4, 4]), chain([4, 4, 4, 4], skip_over=place))
    assert found.new == (f"c{place}", f"n{place}", f"a{place}", "add1")
    assert not found.changed
    assert not found.gone


def test_what_changed_is_paired_with_what_it_was() -> None:
    found = align(chain([4, 6, 4]), chain([4, 8, 4]))
    assert found.changed == {name: name for name in ("c1", "n1", "a1", "c2")}
    found = align(chain([4, 4, 4, 6]), chain([4, 4, 4, 6], kernels={2: 5}))
    assert found.changed == {"c2": "c2"}
    assert (found.new, found.gone) == ((), ())


def test_images_of_another_size_change_no_node() -> None:
    genome = LayersSpace(SHAPE, CLASSES).sample(np.random.default_rng(0))
    small, large = (LayersSpace((3, side, side), CLASSES).decode(genome) for side in (16, 32))
    assert align(small, large).same == {node.name: node.name for node in large.nodes}
