"""The space `nasbench201`: which cells are one network, what is drawn, and the published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nanonas.core import Genome
from nanonas.errors import ConfigError, GenomeError
from nanonas.networks.network import Network
from nanonas.spaces import nasbench201
from nanonas.spaces.nasbench201 import NAMES, NASBench201Space
from nanonas.training.modules import build_module

TABLE = Path(__file__).parents[2].parent / "shared" / "data" / "nasbench201" / "cifar10.parquet"
NONE, SKIP, CONV1, CONV3, POOL = range(5)
CONVS = (CONV1, CONV3)
SPACE = NASBench201Space()
CELLS = list(SPACE.genomes())


def published(*columns: str) -> list[list[Any]]:
    """Columns of the published table, all 15,625 cells."""
    if not TABLE.exists():
        pytest.skip(f"the published table is not at {TABLE}")
    parquet = pytest.importorskip("pyarrow.parquet")
    return list(parquet.read_table(TABLE, columns=list(columns)).to_pydict().values())


def written(genome: Genome, x: str = "x", labels: Sequence[int] = (0,) * 6) -> str:
    """What a cell computes, as a formula by the paper's definition: zeros left out, sums flat and
    sorted.

    A convolution bears the label of its edge. With one label for all, convolutions that are shared
    look doubled.
    """
    nodes: list[list[str]] = [[x], [], [], []]
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    for (source, target), number, label in zip(edges, genome, labels, strict=True):
        if number == NONE or not nodes[source]:
            continue
        read = summed(nodes[source])
        if number == SKIP:
            nodes[target] += nodes[source]
        elif number == POOL:
            nodes[target].append(f"avgpool3/1({read})")
        else:
            nodes[target].append(
                f"norm(conv{1 if number == CONV1 else 3}/1{label or ''}(act({read})))"
            )
    return summed(nodes[3]) or f"zero({x})"


def summed(terms: Sequence[str]) -> str:
    return terms[0] if len(terms) == 1 else f"[{'+'.join(sorted(terms))}]" if terms else ""


def drawn(network: Network) -> str:
    """The formula of a network's logits."""
    words = {"input": "image"}
    for node in network.nodes:
        inputs = [words[name] for name in node.inputs]
        size = f"{node['kernel']}/{node['stride']}" if node.op in ("conv", "avgpool") else ""
        words[node.name] = summed(inputs) if node.op == "add" else f"{node.op}{size}({inputs[0]})"
    return words[network.nodes[-1].name]


# --- which cells are one network ------------------------------------------------------------------


def test_keys_tell_apart_just_what_differs_by_more_than_the_names_of_its_convolutions() -> None:
    formulas = []
    for genome in CELLS:
        convs = [edge for edge, number in enumerate(genome) if number in (CONV1, CONV3)]
        renamed = []
        for order in permutations(range(1, len(convs) + 1)):
            labels = np.zeros(6, dtype=int)
            labels[convs] = order
            renamed.append(written(genome, labels=labels.tolist()))
        formulas.append(min(renamed))
    keys = [SPACE.key(genome) for genome in CELLS]
    assert (
        len(set(keys)) == len(set(formulas)) == len(set(zip(keys, formulas, strict=True))) == 5260
    )


def test_networks_as_drawn_are_told_apart_as_keys_are() -> None:
    space = NASBench201Space((1, 8, 8), 10, cells=1)
    rng = np.random.default_rng(0)
    few = [space.live(CELLS[index]) for index in rng.choice(len(CELLS), 400, replace=False)]
    # not `decode`, which draws the canonical cell of a key: each is drawn as it is written
    drawings = [nasbench201._network.__wrapped__(space, genome).key for genome in few]
    keys = [space.key(genome) for genome in few]
    assert 200 < len(set(keys)) < 390
    assert len(set(keys)) == len(set(drawings)) == len(set(zip(keys, drawings, strict=True)))


def test_the_published_classes_hold_one_network_for_each_number_of_parameters() -> None:
    """The classes are those of the official string, which differs from what is computed in two
    ways.

    It forgets whether a convolution is shared or doubled, so 430 classes hold networks of different
    sizes; and it keeps zeros as summands and the order of nested sums, so that 688 networks are in
    several classes.
    """
    archs, classes = published("arch", "isomorphism_class")
    genomes = [SPACE.parse(arch) for arch in archs]
    networks = [SPACE.key(genome) for genome in genomes]
    sizes = [SPACE.params(genome) for genome in genomes]
    formulas = [written(genome) for genome in genomes]
    assert (
        len(set(zip(classes, networks, strict=True)))
        == len(set(zip(classes, sizes, strict=True)))
        == 6900
    )
    assert len(set(zip(classes, networks, sizes, strict=True))) == 6900
    for partition in (classes, networks):  # both only ever divide what has one formula
        assert len(set(zip(partition, formulas, strict=True))) == len(set(partition))
    pairs = set(zip(classes, networks, strict=True))
    for half, number in ((0, 430), (1, 688)):
        assert sum(count > 1 for count in Counter(pair[half] for pair in pairs).values()) == number


def test_live_drops_what_is_not_on_a_way_from_the_input_to_the_output() -> None:
    for genome in CELLS:
        assert set(SPACE.live(genome)) <= {NONE, *genome}
        assert written(SPACE.live(genome)) == written(genome)
        for edge, number in enumerate(SPACE.live(genome)):
            if number != NONE:
                without = (*genome[:edge], NONE, *genome[edge + 1 :])
                assert written(without) != written(genome)


def test_the_canonical_genome_is_the_first_live_one_of_its_key() -> None:
    first: dict[str, Genome] = {}
    for genome in CELLS:
        first.setdefault(SPACE.key(genome), genome)
        assert SPACE.canonical(genome) == first[SPACE.key(genome)]
    assert all(SPACE.live(genome) == genome for genome in first.values())


# --- what is drawn --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "genome",
    [
        (NONE,) * 6,
        (SKIP,) * 6,
        (CONV3, NONE, SKIP, NONE, SKIP, POOL),
        (POOL, CONV1, POOL, CONV3, SKIP, SKIP),
    ],
)
def test_the_network_is_the_published_one_around_what_the_cell_says(genome: Genome) -> None:
    x = "norm(conv3/1(image))"
    for stage in range(3):
        if stage:
            around = f"conv1/1(avgpool2/2({x}))"
            x = summed([around, f"norm(conv3/1(act(norm(conv3/2(act({x}))))))"])
        for _ in range(2):
            x = written(genome, x)
    network = NASBench201Space(cells=2).decode(genome)
    assert drawn(network) == f"dense(globalpool(act(norm({x}))))"


def test_every_cell_is_drawn_as_it_is_written() -> None:
    space = NASBench201Space((1, 1, 1), 2, channels=1, cells=1)
    for genome in CELLS[::25]:
        x = "norm(conv3/1(image))"
        for stage in range(3):
            if stage:
                x = summed([f"conv1/1({x})", f"norm(conv3/1(act(norm(conv3/1(act({x}))))))"])
            x = written(genome, x)
        assert drawn(space.decode(genome)) == f"dense(globalpool(act(norm({x}))))"


def test_parameters_and_macs_are_the_published_ones_where_no_edge_is_dead() -> None:
    archs, params, macs = published("arch", "params", "macs")
    rng = np.random.default_rng(0)
    to_draw = set(rng.choice(len(archs), 60, replace=False).tolist())
    for index, (arch, size) in enumerate(zip(archs, params, strict=True)):
        genome = SPACE.parse(arch)
        alive = SPACE.live(genome) == genome
        assert SPACE.params(genome) == size if alive else SPACE.params(genome) <= size
        if index in to_draw and alive:
            # theirs count the biases of the dense layer too, and were kept as millions in float32
            assert np.float32((SPACE.decode(genome).macs + 10) / 1e6) == np.float32(
                macs[index] / 1e6
            ), genome


def test_parameters_are_those_of_the_drawing() -> None:
    rng = np.random.default_rng(1)
    for space in (SPACE, NASBench201Space((1, 7, 1), 3, channels=5, cells=2)):
        for index in rng.choice(len(CELLS), 40, replace=False):
            assert space.params(CELLS[index]) == space.decode(CELLS[index]).params
    assert SPACE.params((NONE,) * 6) == 73_306


def test_a_dead_cell_forgets_the_image_and_trains_all_the_same() -> None:
    network = NASBench201Space((1, 8, 8), 3, cells=1).decode((CONV3, CONV3, NONE, NONE, NONE, NONE))
    assert network == NASBench201Space((1, 8, 8), 3, cells=1).decode((NONE,) * 6)
    module = build_module(network, seed=0)
    logits = module(torch.randn(4, 1, 8, 8))
    torch.testing.assert_close(logits, logits[:1].expand(4, -1))
    logits.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((3, 32, 32), [(32, 32), (16, 16), (8, 8)]),
        ((3, 9, 14), [(9, 14), (5, 7), (3, 4)]),
        ((1, 1, 5), [(1, 5)] * 3),
        ((1, 2, 8), [(2, 8), (1, 4), (1, 4)]),
    ],
)
def test_stages_halve_the_map_rounding_up_until_a_side_is_1(
    shape: tuple[int, int, int], sides: list[tuple[int, int]]
) -> None:
    network = NASBench201Space(shape, cells=1).decode((NONE, NONE, NONE, CONV3, NONE, NONE))
    convs = [node.shape for node in network.nodes if node.op == "conv"]
    assert [convs[n] for n in (1, 5, 9)] == [(16 * 2**n, *side) for n, side in enumerate(sides)]


def test_cells_that_compute_the_same_share_a_drawing() -> None:
    assert SPACE.decode((SKIP, NONE, CONV3, NONE, NONE, SKIP)) is SPACE.decode(
        (POOL, NONE, NONE, CONV3, NONE, POOL)
    )


# --- what is read of a genome ---------------------------------------------------------------------


def test_encodings_are_equal_where_networks_are() -> None:
    encodings = [SPACE.encode(genome) for genome in CELLS[::5]]
    assert {encoding.shape for encoding in encodings} == {(sum(SPACE.groups),)}
    keys = [SPACE.key(genome) for genome in CELLS[::5]]
    read = [encoding.tobytes() for encoding in encodings]
    assert len(set(keys)) == len(set(read)) == len(set(zip(keys, read, strict=True)))


def ways(genome: Genome, node: int = 0) -> list[tuple[int, ...]]:
    """Every way from a node to the output, as the operations on it, by walking the edges; skips are
    no operation.
    """
    if node == 3:
        return [()]
    edges = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    return [
        rest if number == SKIP else (number, *rest)
        for (source, target), number in zip(edges, genome, strict=True)
        if source == node and number != NONE
        for rest in ways(genome, target)
    ]


def test_encodings_count_ways_operations_and_what_is_alive() -> None:
    sequences = [way for length in range(4) for way in product((CONV1, CONV3, POOL), repeat=length)]
    for number in np.random.default_rng(0).choice(len(CELLS), 200, replace=False):
        cell = SPACE.canonical(CELLS[number])
        found = ways(cell)
        counted, size, operations, depth = np.split(
            SPACE.encode(CELLS[number]), np.cumsum(SPACE.groups)[:-1]
        )
        assert counted.tolist() == [found.count(way) for way in sequences]
        assert size.tolist() == [pytest.approx(np.log(SPACE.decode(cell).params))]
        assert operations.tolist() == [cell.count(number) for number in (SKIP, CONV1, CONV3, POOL)]
        longest = [
            max((sum(step in kinds for step in way) for way in found), default=-1)
            for kinds in (CONVS, CONVS[1:])
        ]
        alive = sum(any(cell[edge] != NONE for edge in into) for into in ((0,), (1, 2), (3, 4, 5)))
        assert depth.tolist() == [*longest, alive, len(found)]


def test_tokens_are_the_live_operations() -> None:
    assert SPACE.tokens((CONV3, CONV1, NONE, SKIP, NONE, POOL)).tolist() == [
        [0],
        [2],
        [0],
        [1],
        [0],
        [4],
    ]


def test_describe_names_the_operations_and_what_is_dead() -> None:
    assert SPACE.describe((CONV3, CONV1, NONE, SKIP, NONE, POOL)) == [
        "node 0 to 1: nor_conv_3x3 (dead)",
        "node 0 to 2: nor_conv_1x1",
        "node 1 to 2: none",
        "node 0 to 3: skip_connect",
        "node 1 to 3: none",
        "node 2 to 3: avg_pool_3x3",
    ]
    assert SPACE.options() == {"operation": NAMES}


def test_official_strings_are_read_and_written() -> None:
    arch = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|nor_conv_3x3~1|skip_connect~2|"
    assert SPACE.parse(arch) == (POOL, CONV1, SKIP, NONE, CONV3, SKIP)
    assert all(SPACE.parse(SPACE.arch_string(genome)) == genome for genome in CELLS)
    assert len(set(CELLS)) == 5**6


@pytest.mark.parametrize(
    "arch",
    [
        "",
        "|none~0|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|max_pool_3x3~2|",
        "|none~0|+|none~0|none~0|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|\n",
        "|none~0|none~0|+|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_other_strings_get_one_sentence(arch: str) -> None:
    with pytest.raises(GenomeError) as error:
        SPACE.parse(arch)
    assert str(error.value) == (
        "a cell must read |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, each op one of none, skip_connect, "
        "nor_conv_1x1, "
        f"nor_conv_3x3, avg_pool_3x3, but is {arch!r}."
    )


# --- variation ------------------------------------------------------------------------------------


def test_a_mutant_differs_at_one_edge_and_a_child_has_each_edge_from_a_parent() -> None:
    rng = np.random.default_rng(0)
    for index in rng.choice(len(CELLS), 200):
        a, b = CELLS[index], SPACE.sample(rng)
        assert sum(x != y for x, y in zip(a, SPACE.mutate(a, rng), strict=True)) == 1
        assert all(
            gene in genes for gene, *genes in zip(SPACE.crossover(a, b, rng), a, b, strict=True)
        )
    children = {SPACE.crossover((NONE,) * 6, (POOL,) * 6, rng) for _ in range(1000)}
    assert len(children) == 2**6


def test_samples_are_canonical_and_reach_networks_that_few_cells_have() -> None:
    rng = np.random.default_rng(0)
    samples = [SPACE.sample(rng) for _ in range(500)]
    assert all(SPACE.canonical(genome) == genome for genome in samples)
    assert len(set(samples)) > 450


@pytest.mark.parametrize(
    ("genome", "message"),
    [
        (
            [1, 2, 3],
            "a genome of the space 'nasbench201' must have 6 operations, one an edge, but has 3.",
        ),
        (
            [0, 0, 0, 0, 5, 0],
            "position 4 of a genome of the space 'nasbench201' must be 0 to 4 (0 none, 1 "
            "skip_connect, 2 nor_conv_1x1, "
            "3 nor_conv_3x3, 4 avg_pool_3x3), but is 5.",
        ),
    ],
)
def test_bad_genomes_get_one_sentence(genome: list[int], message: str) -> None:
    with pytest.raises(GenomeError) as error:
        SPACE.decode(genome)
    assert str(error.value) == message


def test_bad_settings_get_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^channels must be 1 or more, but is 0\.$"):
        NASBench201Space(channels=0)
    with pytest.raises(ConfigError, match=r"^cells must be 1 or more, but is 0\.$"):
        NASBench201Space(cells=0)
