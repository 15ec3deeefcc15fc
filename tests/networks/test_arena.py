"""The integer form of networks and its arena: what is folded, what is counted, and that nothing is
written over that is still to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest

from nanonas.networks.arena import (
    TABLE,
    Buffer,
    Plan,
    _peak,
    _place_all,
    _placed,
    flash,
    plan,
    ram,
)
from nanonas.networks.integer import IMAGE, steps, undeployable
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network, classifier, conv_norm, depthwise, relu
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.spaces.stages.space import StagesSpace

SPACES: dict[str, Space] = {
    "stages": StagesSpace((3, 20, 20), 10, limits=Limits(target="mcu")),
    "layers": LayersSpace((3, 19, 13), 10),
    "nano": NanoSpace((1, 8, 8), 10, channels=8),
    "nasbench201": NASBench201Space((3, 16, 16), 10, cells=1),
}


def drawn(space: Space, number: int, seed: int) -> list[Network]:
    """Random networks of a space."""
    rng = np.random.default_rng(seed)
    return [space.decode(space.sample(rng)) for _ in range(number)]


def conv(draft: Draft, x: str, filters: int = 4, kernel: int = 3, stride: int = 1) -> str:
    return draft.add("conv", x, filters=filters, kernel=kernel, stride=stride, groups=1, bias=False)


# --- nothing that lives is written over -----------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_each_step_finds_what_it_reads_where_the_plan_says(name: str) -> None:
    """The steps are run on an arena whose bytes know whose they are."""
    ratios = []
    for network in drawn(SPACES[name], 200, seed=1):
        planned = plan(network)
        run(planned)
        assert planned.ram == max(
            planned.offsets[buffer.tensors[0]] + buffer.size for buffer in planned.buffers
        )
        assert planned.peak == brute_peak(planned.buffers) <= planned.ram
        ratios.append(planned.ram / planned.peak)
    assert max(ratios) < 1.1
    assert np.mean(ratios) < 1.001


def run(planned: Plan) -> None:
    """Raises AssertionError where a step reads what is not there any more."""
    sizes = {tensor: buffer.size for buffer in planned.buffers for tensor in buffer.tensors}
    numbers = {tensor: number for number, tensor in enumerate(sizes)}
    owners = np.full(planned.ram, -1)

    def bytes_of(tensor: str) -> slice:
        return slice(planned.offsets[tensor], planned.offsets[tensor] + sizes[tensor])

    owners[bytes_of(IMAGE)] = numbers[IMAGE]
    written = {IMAGE}
    for step in planned.steps:
        assert written.issuperset(step.inputs)
        assert sizes[step.name] == step.size
        out = bytes_of(step.name)
        for name in step.inputs:
            assert (owners[bytes_of(name)] == numbers[name]).all(), step
            read = bytes_of(name)
            disjoint = read.stop <= out.start or out.stop <= read.start
            assert disjoint or (step.in_place and read == out), step
        owners[out] = numbers[step.name]
        written.add(step.name)
    last = planned.steps[-1].name
    assert (owners[bytes_of(last)] == numbers[last]).all()


def brute_peak(buffers: Sequence[Buffer]) -> int:
    times = range(max(buffer.last for buffer in buffers) + 1)
    return max(sum(b.size for b in buffers if b.first <= time <= b.last) for time in times)


def test_no_order_of_placing_is_much_better() -> None:
    """Against all orders of six tensors: one of them leads to the smallest arena that there is."""
    rng, ratios = np.random.default_rng(5), []
    for _ in range(40):
        buffers = []
        for number in range(6):
            first, last = sorted(map(int, rng.integers(0, 8, size=2)))
            buffers.append(Buffer((str(number),), int(rng.integers(1, 9)), first, last))
        best = min(
            arena(buffers, _place_all(buffers, turns, snug=False))
            for turns in permutations(range(6))
        )
        found = arena(buffers, _placed(buffers))
        assert _peak(buffers) == brute_peak(buffers) <= best <= found
        ratios.append(found / best)
    assert np.mean(ratios) < 1.02


def arena(buffers: Sequence[Buffer], places: Sequence[int]) -> int:
    for n, one in enumerate(buffers):
        for m, other in enumerate(buffers[:n]):
            together = one.first <= other.last and other.first <= one.last
            apart = places[n] + one.size <= places[m] or places[m] + other.size <= places[n]
            assert apart or not together
    return max(place + buffer.size for place, buffer in zip(places, buffers, strict=True))


# --- what is counted ------------------------------------------------------------------------------


def test_a_chain_needs_two_maps_at_a_time() -> None:
    draft = Draft((3, 8, 8), 5)
    x = relu(draft, conv_norm(draft, "input", 16, 3))  # 192 bytes to 1024
    x = relu(draft, conv_norm(draft, x, 8, 3))  # to 512
    network = classifier(draft, x)  # to 8, to 5
    assert ram(network) == 1024 + 512
    weights = 16 * 27 + 8 * 16 * 9 + 5 * 8
    filters = 16 + 8 + 5
    assert flash(network) == 3 * TABLE + weights + 9 * filters + 3 * 72


def test_a_pool_is_computed_with_the_convolution_before_it() -> None:
    draft = Draft((3, 8, 8), 5)
    x = draft.add("maxpool", conv(draft, "input", 16), kernel=2, stride=2)
    x = relu(draft, draft.add("norm", x))
    network = classifier(draft, x)
    (first, _, _) = steps(network)
    assert (first.norm, first.act, first.signs) == ("norm1", "relu", "norm1")
    assert first.shape == (16, 4, 4)
    assert ram(network) == 192 + 256  # the map of 1024 bytes is nowhere


def test_sums_are_written_over_an_input() -> None:
    draft = Draft((4, 8, 8), 5)
    x = relu(draft, conv_norm(draft, "input", 4, 3))
    x = draft.add("add", x, conv_norm(draft, x, 4, 3))
    assert ram(classifier(draft, x)) == 2 * 256


# --- what is folded -------------------------------------------------------------------------------


def folded(network: Network) -> list[tuple[str, str | None, str | None, bool]]:
    """Operation, norm, activation, and whether a pool is in it, of each step."""
    return [(step.op, step.norm, step.act, step.pool is not None) for step in steps(network)]


def test_norms_and_activations_end_the_step_before_them() -> None:
    draft = Draft((3, 8, 8), 5)
    x = draft.add("act", conv_norm(draft, "input", 4, 3), kind="gelu")
    x = draft.add("dropout", x, rate=0.1)
    x = relu(draft, draft.add("add", x, draft.add("norm", depthwise(draft, x, 3))))
    assert folded(classifier(draft, x)) == [
        ("conv", "norm1", "gelu", False),
        ("conv", "norm2", None, False),
        ("add", None, "relu", False),
        ("globalpool", None, None, False),
        ("conv", None, None, False),
    ]


def test_what_others_read_too_is_left_as_it_is() -> None:
    draft = Draft((3, 8, 8), 5)
    x = conv(draft, "input")
    y = draft.add("norm", x)
    x = draft.add("add", x, y, draft.add("act", y, kind="relu"))
    assert folded(classifier(draft, x))[:4] == [
        ("conv", None, None, False),
        ("conv", None, None, False),  # the norm
        ("act", None, "relu", False),
        ("add", None, None, False),
    ]


def test_an_activation_that_is_not_increasing_stays_behind_a_pool() -> None:
    for kind, expected in {
        "silu": [("conv", "norm1", None, True), ("act", None, "silu", False)],
        "leaky_relu": [("conv", "norm1", "leaky_relu", True)],
    }.items():
        draft = Draft((3, 8, 8), 5)
        x = draft.add("maxpool", conv(draft, "input"), kernel=2, stride=2)
        x = draft.add("act", draft.add("norm", x), kind=kind)
        assert folded(classifier(draft, x))[:-2] == expected


def test_pools_that_overlap_and_second_pools_stay_by_themselves() -> None:
    draft = Draft((3, 9, 9), 5)
    x = draft.add("norm", draft.add("maxpool", conv(draft, "input"), kernel=3, stride=2))
    x = draft.add("maxpool", conv(draft, x), kernel=2, stride=2)
    network = classifier(draft, draft.add("maxpool", x, kernel=2, stride=2))
    assert folded(network)[:4] == [
        ("conv", "norm1", None, False),
        ("maxpool", None, None, False),
        ("conv", None, None, True),
        ("maxpool", None, None, False),
    ]
    assert [step.signs for step in steps(network)] == [None, "norm1", *[None] * 4]


def test_what_leads_to_zeros_is_not_computed() -> None:
    draft = Draft((3, 8, 8), 5)
    network = classifier(draft, draft.add("zero", conv(draft, "input")))
    assert [step.op for step in steps(network)] == ["zero", "globalpool", "conv"]
    assert ram(network) == 256 + 4  # the image is gone when the zeros are written


def test_what_has_no_form_in_integers_is_named() -> None:
    draft = Draft((3, 8, 8), 5)
    x = draft.add("squeeze_excite", draft.add("layer_norm", conv(draft, "input")), hidden=2)
    network = classifier(draft, x)
    assert undeployable(network) == ("layer_norm", "squeeze_excite")
    assert ram(network) == flash(network) == np.inf
    with pytest.raises(ValueError, match="there are no 8-bit integers for layer_norm, squeeze"):
        steps(network)
