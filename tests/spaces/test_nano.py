"""The space `nano`: the table of operations, the wiring, its sentences."""

from __future__ import annotations

import numpy as np
import pytest

from nanonas.errors import ConfigError, GenomeError
from nanonas.spaces.nano import OPERATIONS, NanoSpace

CONV, CONV1, SEP3, SEP5, MAXPOOL, AVGPOOL, SKIP, ZERO = range(8)


def ops(genome: list[int], shape: tuple[int, int, int] = (3, 32, 32)) -> list[str]:
    return [node.op for node in NanoSpace(shape).decode(genome).nodes]


def test_the_order_of_the_table_is_that_of_the_numbers() -> None:
    assert list(OPERATIONS) == [
        "conv3x3",
        "conv1x1",
        "sep_conv3x3",
        "sep_conv5x5",
        "maxpool",
        "avgpool",
        "skip",
        "zero",
    ]


def test_stem_reduction_and_classifier_are_always_there() -> None:
    frame = ["conv", "norm", "act", "conv", "norm", "act", "globalpool", "dense"]
    assert ops([ZERO, ZERO]) == frame
    network = NanoSpace((3, 32, 32), 10, channels=16).decode([ZERO, ZERO])
    assert [node.shape for node in network.nodes if node.op == "conv"] == [
        (16, 32, 32),
        (32, 16, 16),
    ]
    assert network.params == 27 * 16 + 2 * 16 + 9 * 16 * 32 + 2 * 32 + 33 * 10


@pytest.mark.parametrize(
    ("operation", "added"),
    [
        (CONV, ["conv", "norm", "add", "act"]),
        (CONV1, ["conv", "norm", "add", "act"]),
        (SEP3, ["conv", "conv", "norm", "add", "act"]),
        (SEP5, ["conv", "conv", "norm", "add", "act"]),
        (MAXPOOL, ["maxpool", "norm", "add", "act"]),
        (AVGPOOL, ["avgpool", "norm", "add", "act"]),
        (SKIP, ["add", "act"]),
        (ZERO, []),
    ],
)
def test_each_operation_runs_once_with_a_residual_around_it(
    operation: int, added: list[str]
) -> None:
    network = NanoSpace().decode([operation, ZERO])
    assert [node.op for node in network.nodes][3:-5] == added
    if added:
        residual = next(node for node in network.nodes if node.op == "add")
        assert "act1" in residual.inputs


def test_skip_is_the_identity_with_a_residual_and_zero_is_nothing() -> None:
    space = NanoSpace()
    double = next(node for node in space.decode([SKIP, ZERO]).nodes if node.op == "add")
    assert double.inputs == ("act1", "act1")
    assert space.decode([SKIP, ZERO]).key != space.decode([ZERO, ZERO]).key
    assert space.decode([CONV, ZERO, ZERO, CONV]).key == space.decode([ZERO, CONV, CONV, ZERO]).key


def test_the_halves_of_a_list_are_the_layers() -> None:
    network = NanoSpace(channels=8).decode([SKIP, CONV, SKIP, SKIP, SKIP])
    assert [node.shape[0] for node in network.nodes if node.op == "add"] == [8, 8, 16, 16, 16]


def test_the_reduction_stops_at_size_1() -> None:
    network = NanoSpace((1, 1, 5), 2, channels=8).decode([CONV, CONV])
    assert {node.shape[1:] for node in network.nodes if node.op == "conv"} == {(1, 5)}


def test_two_hundred_thousand_parameters_are_in_reach() -> None:
    space = NanoSpace()
    assert space.decode([CONV] * space.length).params > 200_000
    assert NanoSpace(channels=128).decode([0, 1, 2, 3]).params > 200_000


def test_variation_keeps_the_length_and_changes_one_operation() -> None:
    space, rng = NanoSpace(length=4), np.random.default_rng(0)
    for _ in range(100):
        a, b = space.sample(rng), space.sample(rng)
        assert len(a) == 4
        assert sum(x != y for x, y in zip(a, space.mutate(a, rng), strict=True)) == 1
        child = space.crossover(a, b, rng)
        assert child in {a[:n] + b[n:] for n in (1, 2, 3)}
    assert len(space.mutate((0, 1, 2, 3, 4, 5, 6), rng)) == 7


def test_describe_names_the_operations() -> None:
    assert NanoSpace(channels=16).describe([0, 3, 7]) == [
        "layer 1, 16 channels: conv3x3",
        "layer 2, 32 channels: sep_conv5x5",
        "layer 2, 32 channels: zero",
    ]
    assert NanoSpace().options() == {"operation": tuple(OPERATIONS)}


@pytest.mark.parametrize(
    ("genome", "message"),
    [
        (
            [0, 8],
            "position 1 of a genome of the space 'nano' must be 0 to 7 (0 conv3x3, 1 conv1x1, 2 "
            "sep_conv3x3, "
            "3 sep_conv5x5, 4 maxpool, 5 avgpool, 6 skip, 7 zero), but is 8.",
        ),
        (
            [3],
            "a genome of the space 'nano' must have 2 operations or more, one a layer, but has 1.",
        ),
    ],
)
def test_bad_genomes_get_one_sentence(genome: list[int], message: str) -> None:
    with pytest.raises(GenomeError) as error:
        NanoSpace().decode(genome)
    assert str(error.value) == message


def test_bad_settings_get_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^channels must be 1 or more, but is 0\.$"):
        NanoSpace(channels=0)
    with pytest.raises(
        ConfigError, match=r"^length must be 2 or more, one operation a layer, but is 1\.$"
    ):
        NanoSpace(length=1)
