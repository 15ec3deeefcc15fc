"""The Network picture: counts by hand, and when two networks are the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonas.networks.network import Draft, Network


def conv(draft: Draft, x: str, filters: int = 4, name: str | None = None, **attributes: int) -> str:
    attributes = {"kernel": 3, "stride": 1, "groups": 1, **attributes}
    return draft.add("conv", x, name=name, filters=filters, bias=False, **attributes)


def classified(draft: Draft, x: str) -> Network:
    return draft.finish(draft.add("dense", draft.add("globalpool", x), units=draft.classes))


def two_branches(
    first: str, second: str, order: tuple[int, int], kernels: tuple[int, int] = (3, 1)
) -> Network:
    draft = Draft((3, 8, 8), 10)
    branches = [
        conv(draft, "input", name=n, kernel=k)
        for n, k in zip((first, second), kernels, strict=True)
    ]
    return classified(draft, draft.add("add", branches[order[0]], branches[order[1]]))


def test_counts_by_hand() -> None:
    draft = Draft((3, 32, 32), 10)
    x = draft.add("conv", "input", filters=16, kernel=3, stride=2, groups=1, bias=True)
    assert draft.shape(x) == (16, 16, 16)
    x = conv(draft, draft.add("norm", x), filters=16, kernel=5, groups=16)
    network = classified(draft, x)
    assert network.params == (3 * 9 * 16 + 16) + 2 * 16 + 16 * 25 + (16 * 10 + 10)
    assert network.macs == 3 * 9 * 16 * 256 + 16 * 25 * 256 + 160
    assert network.depth == 3


@pytest.mark.parametrize("op", ["maxpool", "avgpool"])
@pytest.mark.parametrize(
    ("kernel", "side", "halved"), [(2, 8, 4), (2, 7, 3), (3, 8, 4), (3, 7, 4), (3, 1, 1)]
)
def test_pooled_sizes(op: str, kernel: int, side: int, halved: int) -> None:
    draft = Draft((3, side, side), 10)
    assert draft.shape(draft.add(op, "input", kernel=kernel, stride=2)) == (3, halved, halved)


def test_the_key_ignores_names_and_the_order_of_summands() -> None:
    network = two_branches("a", "b", (0, 1))
    assert network.key == two_branches("b", "a", (0, 1)).key
    assert network.key == two_branches("a", "b", (1, 0)).key
    assert network.key == two_branches("a", "b", (0, 1), kernels=(1, 3)).key
    assert network.key != two_branches("a", "b", (0, 1), kernels=(1, 5)).key
    assert len(network.key) == 32


def test_the_key_heeds_the_order_of_a_concat() -> None:
    def network(order: tuple[int, int]) -> Network:
        draft = Draft((3, 8, 8), 10)
        ends = conv(draft, "input"), conv(draft, "input", kernel=1)
        return classified(draft, draft.add("concat", ends[order[0]], ends[order[1]]))

    assert network((0, 1)).key != network((1, 0)).key


def test_the_key_heeds_the_input_and_the_classes() -> None:
    keys = set()
    for shape, classes in [((3, 8, 8), 10), ((3, 16, 16), 10), ((3, 8, 8), 2)]:
        draft = Draft(shape, classes)
        keys.add(classified(draft, conv(draft, "input")).key)
    assert len(keys) == 3


def test_shared_and_doubled_operations_are_told_apart() -> None:
    shared = Draft((3, 8, 8), 10)
    x = conv(shared, "input")
    doubled = Draft((3, 8, 8), 10)
    a, b = conv(doubled, "input"), conv(doubled, "input")
    one = classified(shared, shared.add("add", x, x))
    two = classified(doubled, doubled.add("add", a, b))
    assert one.key != two.key
    assert two.params - one.params == 3 * 9 * 4


def test_dead_nodes_are_dropped() -> None:
    alive, with_dead = Draft((3, 8, 8), 10), Draft((3, 8, 8), 10)
    conv(with_dead, conv(with_dead, "input", filters=64, name="dead"))
    one, other = (classified(draft, conv(draft, "input")) for draft in (alive, with_dead))
    assert one.key == other.key
    assert one.params == other.params
    assert "dead" not in [node.name for node in other.nodes]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        (
            "conv",
            ["input"],
            {"filters": 4, "kernel": 2, "stride": 1, "groups": 1},
            "kernel must be odd, but is 2",
        ),
        (
            "conv",
            ["input"],
            {"filters": 4, "kernel": 3, "stride": 1, "groups": 2},
            "groups must divide 3 input",
        ),
        ("add", ["input", "half"], {}, "shapes must be equal"),
        ("concat", ["input", "half"], {}, "shapes must be equal beyond the channels"),
        ("maxpool", ["one"], {"kernel": 2, "stride": 2}, "does not fit into 1x1"),
    ],
)
def test_what_does_not_fit_is_refused(
    op: str, inputs: list[str], attributes: dict[str, Any], message: str
) -> None:
    draft = Draft((3, 8, 8), 10)
    conv(draft, "input", stride=2, name="half")
    conv(draft, "input", stride=8, name="one")
    with pytest.raises(ValueError, match=message):
        draft.add(op, *inputs, **attributes)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["act", "norm", "add"]), st.sampled_from([None, "act2", "norm1", "x"])
        )
    )
)
def test_a_default_name_is_the_operation_and_how_many_there_are_of_it(
    steps: list[tuple[str, str | None]],
) -> None:
    """Weights are stored under these names. Nodes with names of their own count too; what was
    refused does not.
    """
    draft = Draft((3, 8, 8), 10)
    added: dict[str, str] = {}  # the operation of each node
    for op, given_name in steps:
        name = given_name or f"{op}{list(added.values()).count(op) + 1}"
        if name in added:
            with pytest.raises(ValueError, match=f"there is a node '{name}' already"):
                draft.add(op, "input", name=given_name)
        else:
            assert draft.add(op, "input", name=given_name) == name
            added[name] = op


def test_names_are_unique_and_the_output_is_checked() -> None:
    draft = Draft((3, 8, 8), 10)
    conv(draft, "input", name="stem")
    with pytest.raises(ValueError, match="there is a node 'stem' already"):
        conv(draft, "input", name="stem")
    with pytest.raises(
        ValueError, match=r"the output must have the shape \(10,\), but has \(4, 8, 8\)"
    ):
        draft.finish("stem")


def test_nodes_are_found_by_name_and_know_who_reads_them() -> None:
    draft = Draft((3, 8, 8), 4)
    conv = draft.add("conv", "input", filters=3, kernel=3, stride=1, groups=1, bias=False)
    twice = draft.add("add", conv, conv)
    joined = draft.add("concat", twice, conv, "input")
    network = draft.finish(draft.add("dense", draft.add("globalpool", joined), units=4))
    assert [network.named[node.name] for node in network.nodes] == list(network.nodes)
    read = {name: [node.name for node in readers] for name, readers in network.readers.items()}
    assert read == {
        "input": [conv, joined],
        conv: [twice, twice, joined],
        twice: [joined],
        joined: ["globalpool1"],
        "globalpool1": ["dense1"],
        "dense1": [],
    }
