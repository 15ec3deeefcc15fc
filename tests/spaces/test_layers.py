"""The space `layers`: what its rules make of a chain, how edits treat skips, its sentences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nanonas.errors import ConfigError, GenomeError
from nanonas.networks.limits import Limits
from nanonas.networks.network import Network
from nanonas.networks.ops import Attribute
from nanonas.spaces.layers.edits import insert, remove
from nanonas.spaces.layers.genes import (
    CONV,
    DECISIONS,
    DENSE,
    MAX_LAYERS,
    MIN_LAYERS,
    NAMES,
    NORM,
    WIDTH,
    Chain,
    Genes,
    Layer,
    joined,
)
from nanonas.spaces.layers.prior import PRIOR, random_chain
from nanonas.spaces.layers.space import LayersSpace

DEFAULTS: dict[str, Attribute] = {name: options[0] for name, options in DECISIONS.items()}
SPACE = LayersSpace((3, 32, 32), 10)


def layer(kind: str = "Conv2D", **decisions: Attribute) -> Genes:
    """The integers of a layer, by default of a 3×3 convolution of 16 filters with relu."""
    usual = {**DEFAULTS, "filters": 16, "kernel": 3, "activation": "relu"}
    chosen = {**usual, "kind": kind, **decisions}
    return Genes._make(DECISIONS[name].index(chosen[name]) for name in NAMES)


def chain(*chained: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(itertools.chain(*chained))


def decoded(*chained: tuple[int, ...], space: LayersSpace = SPACE) -> Network:
    return space.decode(chain(*chained))


def ops(network: Network) -> list[str]:
    return [node.op for node in network.nodes]


DROP = layer("Dropout")


def test_the_tables_agree() -> None:
    assert Layer._fields == Genes._fields == NAMES
    assert set(PRIOR) == set(NAMES)
    assert all(len(PRIOR[name]) == len(DECISIONS[name]) for name in NAMES)
    assert all(weight > 0 for name in NAMES for weight in PRIOR[name][(name == "skip") :])
    assert SPACE.options() == DECISIONS
    assert [DECISIONS["kind"][n] for n in (CONV, NORM, DENSE)] == [
        "Conv2D",
        "BatchNorm",
        "Dense",
    ]


def test_a_norm_goes_between_a_convolution_and_its_activation() -> None:
    network = decoded(layer(), layer("BatchNorm"), DROP)
    assert ops(network) == ["conv", "norm", "act", "dropout", "globalpool", "dense"]
    assert network.nodes[0]["bias"] is False
    bare = decoded(layer(), DROP, layer("BatchNorm"))
    assert ops(bare) == ["conv", "act", "dropout", "norm", "globalpool", "dense"]
    assert bare.nodes[0]["bias"] is True


def test_a_norm_behind_a_norm_has_no_effect() -> None:
    once, norm = decoded(layer(), layer("BatchNorm"), DROP), layer("BatchNorm")
    assert decoded(norm, norm, layer()).key == decoded(norm, norm, norm, layer()).key
    assert decoded(layer(activation="none"), norm, norm, DROP).key != once.key
    assert ops(decoded(layer(activation="none"), norm, norm)) == [
        "conv",
        "norm",
        "globalpool",
        "dense",
    ]


def test_a_separable_convolution_is_depthwise_then_1x1() -> None:
    network = decoded(
        DROP, layer(filters=24), layer(separable=True, stride=2, kernel=5, filters=32)
    )
    depthwise, pointwise = [node for node in network.nodes if node.op == "conv"][1:]
    assert [depthwise[name] for name in ("groups", "kernel", "stride", "bias")] == [24, 5, 2, False]
    assert [pointwise[name] for name in ("groups", "kernel", "stride", "bias")] == [1, 1, 1, True]
    assert pointwise.shape == (32, 16, 16)
    plain, separable = (
        decoded(DROP, DROP, layer(kernel=1, separable=value)) for value in (False, True)
    )
    assert plain.key == separable.key


def test_dense_pools_first_and_spatial_layers_behind_it_are_dead() -> None:
    network = decoded(
        layer(), layer("Dense", units=64), layer(), layer("MaxPool"), layer("BatchNorm"), DROP
    )
    assert ops(network) == ["conv", "act", "globalpool", "dense", "act", "norm", "dropout", "dense"]
    assert (
        decoded(layer(), layer("Dense", units=64), layer("BatchNorm"), DROP).nodes[4].op == "norm"
    )


def test_strides_and_pools_stop_at_size_1() -> None:
    space = LayersSpace((1, 2, 4), 10)
    strided = layer(stride=2)
    network = decoded(strided, strided, layer("MaxPool"), layer("AvgPool"), space=space)
    assert [node.shape for node in network.nodes if node.op == "conv"] == [(16, 1, 2), (16, 1, 2)]
    assert not {"maxpool", "avgpool"} & set(ops(network))


def test_halvings_of_odd_sizes_round_up_together() -> None:
    space = LayersSpace((3, 15, 15), 10)
    for halving in (layer("MaxPool", window=2), layer("AvgPool", window=3), layer(stride=2)):
        network = decoded(halving, halving, layer(skip=3), space=space)
        assert max(node.shape[1:] for node in network.nodes if node.op == "add") == (4, 4)
        projection = [node for node in network.nodes if node.op == "conv" and node["kernel"] == 1]
        assert [node["stride"] for node in projection] == [4]


def test_a_skip_is_projected_only_where_shapes_differ() -> None:
    same = decoded(layer(), layer(skip=1), DROP)
    assert ops(same) == ["conv", "act", "conv", "act", "add", "dropout", "globalpool", "dense"]
    wider = decoded(layer(), layer(skip=1, filters=32), DROP)
    assert ops(wider)[2:7] == ["conv", "act", "conv", "norm", "add"]
    joined = decoded(layer(), layer(skip=1, filters=32, join="concat"), DROP)
    assert ops(joined)[2:5] == ["conv", "act", "concat"]
    assert joined.nodes[4].shape == (48, 32, 32)


def test_a_concat_beyond_512_channels_is_an_add() -> None:
    network = decoded(
        *[layer("BatchNorm" if n % 2 else "Dropout", skip=1, join="concat") for n in range(20)]
    )
    assert max(node.shape[0] for node in network.nodes) == 3 * 2**7
    assert {"add", "concat"} <= set(ops(network))


def test_a_skip_around_a_unit() -> None:
    expected = decoded(layer(), layer(), layer("BatchNorm", skip=2), DROP)
    assert ops(expected)[2:6] == ["conv", "norm", "act", "add"]
    assert decoded(layer(), layer(skip=1), layer("BatchNorm"), DROP).key == expected.key
    assert decoded(layer(), layer(), layer("BatchNorm", skip=1), DROP).key == expected.key


def test_a_skip_from_beyond_the_start_is_from_the_image() -> None:
    assert decoded(layer(), layer(skip=2), DROP).key == decoded(layer(), layer(skip=20), DROP).key


def test_skips_into_vectors() -> None:
    network = decoded(layer(), layer("Dense", units=64, skip=1), layer("Dropout", skip=3))
    assert ops(network).count("globalpool") == 3
    assert [node.shape for node in network.nodes if node.op == "add"] == [(64,), (64,)]
    assert ops(decoded(layer(), layer("Dense", skip=1, join="concat"), DROP)).count("dense") == 2


def test_edits_keep_skips_on_their_layers() -> None:
    def skips(chained: Chain) -> list[int]:
        return [genes.skip for genes in chained]

    before = [layer(skip=skip) for skip in (0, 0, 1, 3, 2)]  # from places -, -, 2, 1, 3
    # from places -, -, -, 2, 1, 4
    assert skips(insert(before, 2, DROP)) == [0, 0, 0, 2, 4, 2]
    # place 2 is gone: from its input; then 1 and 2
    assert skips(remove(before, 1)) == [0, 1, 2, 2]
    assert skips(remove(before, 0)) == [0, 1, 3, 2]
    for place in range(len(before) + 1):
        assert remove(insert(before, place, DROP), place) == before


def test_crossover_joins_a_beginning_and_an_end() -> None:
    rng = np.random.default_rng(0)
    lengths = set()
    for _ in range(500):
        a, b = SPACE.sample(rng), SPACE.sample(rng)
        child = SPACE.crossover(a, b, rng)
        number = len(child) // WIDTH
        lengths.add(number)
        assert MIN_LAYERS <= number <= MAX_LAYERS
        kinds = [
            child[n * WIDTH : n * WIDTH + 9] for n in range(number)
        ]  # all decisions but the skip
        sources = [[g[n : n + 9] for n in range(0, len(g), WIDTH)] for g in (a, b)]
        first, second = sources
        cuts = [
            n
            for n in range(number + 1)
            if kinds == first[:n] + second[len(second) - (number - n) :]
        ]
        assert cuts
    assert len(lengths) > 10


def test_mutation_makes_every_kind_of_edit_and_stays_in_bounds() -> None:
    rng = np.random.default_rng(1)
    genome, lengths = SPACE.sample(rng), set()
    for _ in range(2_000):
        genome = SPACE.mutate(genome, rng)
        lengths.add(len(genome) // WIDTH)
        assert MIN_LAYERS <= len(genome) // WIDTH <= MAX_LAYERS
    assert len(lengths) >= 10
    assert {
        genome[n] for genome in [SPACE.mutate(genome, rng)] for n in range(0, len(genome), WIDTH)
    } <= set(range(6))


@pytest.mark.parametrize(
    ("rates", "number"),
    [((1, 0, 0, 0), MAX_LAYERS), ((0, 1, 0, 0), MIN_LAYERS)],
    ids=["no room", "nothing to remove"],
)
def test_mutation_finds_a_way_where_its_rates_leave_none(
    rates: tuple[float, float, float, float], number: int
) -> None:
    space = LayersSpace((3, 32, 32), 10, rates=rates)
    genome = chain(*[layer()] * number)
    assert (
        space.decode(space.mutate(genome, np.random.default_rng(0))).key != space.decode(genome).key
    )


@pytest.mark.parametrize(
    ("rate", "change"),
    [((1, 0, 0, 0), 1), ((0, 1, 0, 0), -1), ((0, 0, 1, 0), 0), ((0, 0, 0, 1), 0)],
)
def test_each_rate_is_that_of_its_edit(
    rate: tuple[float, float, float, float], change: int
) -> None:
    space, rng = LayersSpace((3, 32, 32), 10, rates=rate), np.random.default_rng(0)
    genome = chain(*[layer()] * 10)
    for _ in range(20):
        assert np.sign(len(space.mutate(genome, rng)) - len(genome)) == change


def test_random_chains_are_sensible_cnns() -> None:
    rng = np.random.default_rng(0)
    networks = [SPACE.decode(SPACE.sample(rng)) for _ in range(300)]
    assert np.mean([network.params <= 250_000 for network in networks]) > 0.6
    assert 50_000 < np.median([network.params for network in networks]) < 250_000
    last = [
        next(n for n in network.nodes if n.op == "globalpool").input_shapes[0][1]
        for network in networks
    ]
    assert set(last) <= {1, 2, 4, 8, 16, 32}
    assert np.mean([size in (2, 4, 8) for size in last]) > 0.85


@pytest.mark.parametrize(
    "limits", [Limits(max_params=100_000), Limits(max_macs=6_000_000), Limits(50_000, 3_000_000)]
)
def test_what_is_drawn_fills_the_limits(limits: Limits) -> None:
    space, rng = LayersSpace((3, 32, 32), 10, limits=limits), np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(30)]
    drawn += [space.mutate(genome, rng) for genome in drawn]
    drawn += [space.crossover(a, b, rng) for a, b in itertools.pairwise(drawn[:20])]
    excess = [limits.excess(space.decode(genome)) for genome in drawn]
    assert np.median([one for one in excess if one <= 1]) > 0.9
    assert np.mean([one <= 1 for one in excess]) > 0.9  # MACs of the fewest filters are too many


def test_without_limits_or_for_trade_offs_sizes_are_as_they_are_drawn() -> None:
    limits = Limits(max_params=100_000)
    for space in (SPACE, LayersSpace((3, 32, 32), 10, limits=limits, fill=False)):
        genome = space.sample(np.random.default_rng(5))
        assert genome == joined(random_chain((3, 32, 32), np.random.default_rng(5)))


def test_describe_is_one_line_a_layer() -> None:
    genome = chain(
        layer(filters=64, stride=2, separable=True, skip=20),
        layer("BatchNorm"),
        layer("MaxPool", window=3),
        layer("Dropout", rate=0.3, skip=1, join="concat"),
        layer("Dense", units=128),
        layer(),
    )
    assert SPACE.describe(genome) == [
        "Conv2D 64 3×3 /2 relu separable, + skip from the image",
        "BatchNorm",
        "MaxPool 3×3 /2",
        "Dropout 0.3, concat skip from layer 3",
        "Dense 128 relu",
        "Conv2D 16 3×3 relu (without effect)",
    ]


@pytest.mark.parametrize(
    ("genome", "message"),
    [
        (
            [0] * 34,
            "a genome of the space 'layers' has 11 integers a layer and 3 to 20 layers, 33 to 220 "
            "integers in steps "
            "of 11, but has 34.",
        ),
        (
            [0] * 12 + [10] + [0] * 20,
            "position 12 of a genome of the space 'layers' (layer 2, filters) must be 0 to 9, one "
            "of "
            "(8, 16, 24, 32, 48, 64, 96, 128, 192, 256), but is 10.",
        ),
        (
            [0] * 25 + [-1] + [0] * 7,
            (
                "position 25 of a genome of the space 'layers' (layer 3, stride) must be 0 to 1, "
                "one "
                "of (1, 2), but is -1."
            ),
        ),
    ],
)
def test_bad_genomes_get_one_sentence(genome: list[int], message: str) -> None:
    with pytest.raises(GenomeError) as error:
        SPACE.decode(genome)
    assert str(error.value) == message


@pytest.mark.parametrize("number", [0, 2, 21])
def test_the_number_of_layers_is_bounded(number: int) -> None:
    with pytest.raises(GenomeError, match="3 to 20 layers"):
        SPACE.decode([0] * WIDTH * number)


@pytest.mark.parametrize("rates", [(0, 0, 0, 0), (1, 1, 1), (1, 1, 1, -1), (1, 1, 1, float("inf"))])
def test_bad_rates_get_one_sentence(rates: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="the four mutation rates"):
        LayersSpace(rates=rates)  # type: ignore[arg-type]
