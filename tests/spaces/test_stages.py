"""Stages: what they draw, how they fill limits, and their hand-made ancestors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import nn

from nanonas.core import Genome
from nanonas.errors import GenomeError
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network, classifier, conv_norm, relu
from nanonas.spaces.stages.ancestors import ANCESTORS, STARVED, halved_sooner, suited
from nanonas.spaces.stages.filling import filled, scaled
from nanonas.spaces.stages.genes import (
    BLOCKS,
    STAGE,
    WHOLE,
    WIDTHS,
    Genes,
    nearest_width,
    read,
    split,
    stage_genes,
    whole_genes,
)
from nanonas.spaces.stages.prior import halvings
from nanonas.spaces.stages.space import StagesSpace
from nanonas.training.modules import build_module

PLAIN = {"stem": "conv", "stem_width": 8, "activation": "relu", "norm": "batch", "head": "mean"}
SHAPES = [(1, 8, 8), (3, 28, 28), (3, 32, 32), (3, 48, 64), (1, 224, 224), (2, 1, 5)]


def genome(*stages: Mapping[str, object], **whole: object) -> Genome:
    made = whole_genes(**{**PLAIN, **whole})  # type: ignore[arg-type]
    return Genes(made, tuple(stage_genes(**{"width": 8, **s}) for s in stages)).joined  # type: ignore[arg-type]


def drawn_one_by_one(space: StagesSpace, number: int, seed: int) -> list[Genome]:
    """Samples, mutants of mutants, and children of two, in turn."""
    rng = np.random.default_rng(seed)
    made = [space.sample(rng), space.sample(rng)]
    while len(made) < number:
        made.append(space.sample(rng))
        made.append(space.mutate(made[-2], rng))
        made.append(space.crossover(made[-1], made[-3], rng))
    return made


# --- the rules ------------------------------------------------------------------------------------


def test_the_residual_ancestor_at_250k_is_the_network_that_a_person_writes_down() -> None:
    draft = Draft((3, 32, 32), 10)

    def entered(x: str, width: int, pooled: bool) -> str:
        x = draft.add("conv", x, filters=width, kernel=3, stride=1, groups=1, bias=False)
        if pooled:
            x = draft.add("maxpool", x, kernel=2, stride=2)
        return relu(draft, draft.add("norm", x))

    x = entered("input", 16, pooled=True)
    for width, pooled, blocks in ((32, False, 1), (64, True, 2), (96, True, 1)):
        x = entered(x, width, pooled)
        for _ in range(blocks):
            x = draft.add("add", x, relu(draft, conv_norm(draft, x, width, 3)))
    by_hand = classifier(draft, x)
    space = StagesSpace(limits=Limits(max_params=250_000))
    found = space.decode(space.ancestors()["residual"])
    assert found.key == by_hand.key
    assert (found.params, round(found.macs / 1e6, 1)) == (246_554, 18.3)


@pytest.mark.parametrize(("channels", "kernel", "times"), [(1, 3, 1), (16, 3, 1), (320, 1, 4)])
def test_what_others_have_made_of_images_is_read_by_a_wide_stem(
    channels: int, kernel: int, times: int
) -> None:
    space = StagesSpace((channels, 8, 8), 10, limits=Limits(max_params=50_000))
    for genome in space.ancestors().values():
        whole = read(genome)[0]
        network = space.decode(genome)
        first = next(node for node in network.nodes if node.op == "conv")
        assert dict(first.attributes)["kernel"] == kernel
        assert first.shape[0] == times * whole.stem_width
        width = f"{'1×1 ' if kernel == 1 else ''}stem of {first.shape[0]}"
        assert width in space.describe(genome)[0]


@pytest.mark.parametrize("side", [1, 2, 5, 7, 8])
@pytest.mark.parametrize("halve", STAGE["halve"])
def test_all_halvings_round_up_and_stop_at_one_pixel(halve: str, side: int) -> None:
    space = StagesSpace((3, side, 2 * side), 4)
    network = space.decode(genome({"halve": halve}, {"halve": halve}))
    sides = [node.shape[1:] for node in network.nodes if len(node.shape) == 3]
    expected = side
    for _ in range(2):
        expected = -(-expected // 2) if halve != "none" else expected
    assert sides[-1][0] == expected
    assert build_module(network).eval()(torch.randn(2, 3, side, 2 * side)).shape == (2, 4)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_keeps_the_shape_and_adds_to_what_it_reads(block: str) -> None:
    """With the weights of its last layer at 0, a block passes on what it reads: all but plain."""
    space = StagesSpace((3, 8, 8), 4)
    stage = {"depth": 1, "block": block, "expansion": 2, "kernel": 5, "width": 10}
    network = space.decode(genome(stage, {}))
    joins = [node for node in network.nodes if node.op == "add"]
    assert len(joins) == (block != "plain")
    for join in joins:
        assert join.shape == join.input_shapes[0] == (10, 8, 8)
    deeper = space.decode(genome({**stage, "depth": 2}, {}))
    assert (
        deeper.params - network.params
        == network.params - space.decode(genome({"width": 10}, {})).params
    )


def test_the_first_quarter_of_a_split_is_as_it_was_and_the_others_see_more_and_more() -> None:
    space = StagesSpace((3, 8, 8), 4)
    network = space.decode(genome({"depth": 1, "block": "split", "kernel": 7, "width": 10}, {}))
    concat = next(node for node in network.nodes if node.op == "concat")
    assert [network.named[name].op for name in concat.inputs] == ["slice", *["conv"] * 3]
    seen = [network.named[name] for name in concat.inputs[1:]]
    assert [node.kernel for node in seen] == [3, 5, 7]
    assert all(node.channelwise for node in seen)
    assert sum(shape[0] for shape in concat.input_shapes) == 10


@pytest.mark.parametrize(
    ("norm", "module"),
    [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("layer", nn.LayerNorm)],
)
def test_the_norm_is_that_of_the_whole_network(norm: str, module: type[nn.Module]) -> None:
    network = StagesSpace((3, 8, 8), 4).decode(genome({"depth": 1}, {}, norm=norm))
    norms = [m for m in build_module(network).modules() if "Norm" in type(m).__name__]
    assert len(norms) == 4
    assert all(isinstance(m, module) for m in norms)


def test_what_has_no_effect_leaves_no_trace() -> None:
    space = StagesSpace((3, 8, 8), 4)
    without_blocks = [genome({"block": block, "kernel": 7}, {}) for block in BLOCKS]
    assert len({space.key(g) for g in without_blocks}) == 1
    unexpanded = [genome({"depth": 1, "expansion": e}, {}) for e in STAGE["expansion"]]
    assert len({space.key(g) for g in unexpanded}) == 1


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((0, 1), "a genome of the space 'stages' has 5 integers for the whole and 8 for each of 2 "
         "to 5 stages, 21 to 45 integers in steps of 8, but has 2."),
        (genome({}, {})[:-1], "but has 20."),
        ((9, *genome({}, {})[1:]), "position 0 of a genome of the space 'stages' (the whole, stem) "
         "must be 0 to 3, but is 9; `nanonas spaces` lists the options."),
        ((*genome({}, {})[:-1], -1), "position 20 of a genome of the space 'stages' (stage 2, "
         "attention) must be 0 to 3, but is -1"),
    ],
)  # fmt: skip
def test_what_is_no_genome_is_refused(bad: Genome, message: str) -> None:
    with pytest.raises(GenomeError) as error:
        StagesSpace().decode(bad)
    assert message in str(error.value)


def test_a_genome_is_described_a_line_a_stage() -> None:
    stages = ({"width": 16}, {"width": 32, "halve": "pool", "depth": 2, "block": "mbconv",
                             "kernel": 5, "expansion": 4, "enter": 3,
                             "attention": "squeeze_excite"})  # fmt: skip
    assert StagesSpace().describe(genome(*stages)) == [
        "conv stem of 8, relu, batch norm, mean head",
        "1×1 to 16",
        "3×3 to 32, pooled, 2 mbconv 5×5 ×4 with squeeze-excite",
    ]


def test_what_can_be_banned_is_of_the_blocks_that_there_are() -> None:
    space = StagesSpace()
    blocks = {"depth": 1, "block": "convnext", "kernel": 7, "attention": "channel"}
    assert space.operations(genome(blocks, {"block": "split", "kernel": 5}, activation="gelu")) == {
        "gelu",
        "convnext",
        "conv7x7",
        "channel_attention",
    }


# --- filling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_params=250_000),
        Limits(max_params=30_000, max_macs=2_000_000),
        Limits(max_macs=1_000_000),
        Limits(max_params=2_000_000),
    ],
    ids=str,
)
def test_what_is_drawn_fills_the_limits_and_never_exceeds_them(limits: Limits) -> None:
    space = StagesSpace(limits=limits)
    filling = [limits.excess(space.decode(g)) for g in drawn_one_by_one(space, 120, seed=1)]
    assert max(filling) <= 1
    assert np.mean(filling) >= 0.9
    assert min(filling) >= 0.4


def test_a_filling_is_the_largest_of_its_proportions() -> None:
    space, limits = StagesSpace(), Limits(max_params=100_000)
    rng = np.random.default_rng(2)
    for _ in range(30):
        genes = split(space.sample(rng))
        full = filled(genes, limits, lambda g: space.decode(g.joined))
        costs = [limits.excess(space.decode(scaled(genes, f / 50).joined)) for f in range(1, 500)]
        assert (
            limits.excess(space.decode(full.joined)) >= 0.97 * max(c for c in costs if c <= 1) - 0.1
        )


def test_what_cannot_be_narrowed_enough_loses_blocks() -> None:
    space, limits = StagesSpace(), Limits(max_params=2_000)
    deep = {"depth": 8, "block": "double"}
    small = filled(split(genome(deep, deep)), limits, lambda g: space.decode(g.joined))
    assert limits.excess(space.decode(small.joined)) <= 1
    assert 0 < sum(stage.depth for stage in small.stages) < 16
    hopeless = filled(
        split(genome(deep, deep)), Limits(max_params=10), lambda g: space.decode(g.joined)
    )
    assert all(stage.depth == stage.width == 0 for stage in hopeless.stages)


def test_without_limits_sizes_spread_and_mutants_keep_theirs() -> None:
    space = StagesSpace()
    rng = np.random.default_rng(3)
    sizes = [space.decode(space.sample(rng)).params for _ in range(100)]
    assert min(sizes) < 60_000
    assert max(sizes) > 400_000
    drifts = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        member = space.sample(rng)
        begun = space.decode(member).macs
        for _ in range(12):
            member = space.mutate(member, rng)
        drifts.append(np.log(space.decode(member).macs / begun))
    assert abs(np.mean(drifts)) < 1.5  # no ratchet, neither up nor down


def test_a_search_for_trade_offs_draws_smaller_ones_too() -> None:
    limits = Limits(max_params=250_000)
    space = StagesSpace(limits=limits, fill=False)
    filling = [limits.excess(space.decode(g)) for g in drawn_one_by_one(space, 100, seed=4)]
    assert max(filling) <= 1
    assert np.quantile(filling, 0.2) < 0.3


def test_widths_are_found_from_below() -> None:
    assert [WIDTHS[nearest_width(w)] for w in (0, 4, 5.9, 6, 63, 64, 10_000)] == [
        4, 4, 4, 6, 60, 64, WIDTHS[-1],
    ]  # fmt: skip


# --- ancestors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ancestors_fit_the_images_and_fill_the_limits(shape: tuple[int, ...]) -> None:
    limits = Limits(max_params=60_000)
    space = StagesSpace(shape, 7, limits=limits)
    found = space.ancestors()
    assert list(found) == list(ANCESTORS)
    for name, made in found.items():
        network = space.decode(made)
        assert 0.85 <= limits.excess(network) <= 1, name
        own = _halvings(ANCESTORS[name])
        assert _halvings(split(made)) == max(0, own + halvings(shape) - halvings((3, 32, 32)))
    assert len({space.key(made) for made in found.values()}) == len(found)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("share", [0.02, 0.9])
def test_where_macs_are_scarce_maps_are_halved_sooner_and_networks_are_larger(
    shape: tuple[int, ...], share: float
) -> None:
    """With a part of the MACs that the network as written has."""
    for name, genes in ANCESTORS.items():
        written = suited(genes, shape)
        sooner = halved_sooner(written, shape)
        assert _halvings(written) <= _halvings(sooner)
        assert _halvings(sooner) <= max(_halvings(written), halvings(shape) + 1)
        full = StagesSpace(shape, 7).decode(written.joined)
        limits = Limits(max_macs=max(1, int(share * full.macs)))
        space = StagesSpace(shape, 7, limits=limits)

        def drawn(genes: Genes, space: StagesSpace = space) -> Network:
            return space.decode(genes.joined)

        found = space.decode(space.ancestors()[name])
        late, soon = (drawn(filled(one, limits, drawn)) for one in (written, sooner))
        starved = late.params < STARVED * full.params
        assert starved == (share < 0.5)
        wanted = soon if starved and soon.params > 1.25 * late.params else late
        assert found.key == wanted.key


def test_limits_that_only_sooner_halvings_meet_are_met() -> None:
    limits = Limits(max_macs=2000)
    space = StagesSpace((1, 8, 8), 10, limits=limits)
    for name, found in space.ancestors().items():
        written = suited(ANCESTORS[name], space.input_shape)
        smallest = space.decode(scaled(written, 0).joined)
        assert limits.excess(smallest) > 1 >= limits.excess(space.decode(found))


def test_where_parameters_are_scarce_maps_are_halved_as_they_are_written() -> None:
    space = StagesSpace(limits=Limits(max_params=20_000))
    for name, found in space.ancestors().items():
        assert _halvings(split(found)) == _halvings(ANCESTORS[name])
        assert split(found).whole.stem == ANCESTORS[name].whole.stem


def test_ancestors_halve_nothing_that_the_images_do_not_bear() -> None:
    for genes in ANCESTORS.values():
        assert _halvings(genes) <= halvings((3, 32, 32)) == 3
        assert suited(genes, (3, 32, 32)) == genes
        widths = [stage.width for stage in suited(genes, (3, 8, 8)).stages]
        assert widths == [stage.width for stage in genes.stages]


def _halvings(genes: Genes) -> int:
    return (genes.whole.stem > 0) + sum(stage.halve > 0 for stage in genes.stages)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ANCESTORS)
def test_an_ancestor_learns(name: str) -> None:
    """Thirty steps on four images, each of a class of its own: no style begins dead."""
    torch.manual_seed(0)
    space = StagesSpace((3, 16, 16), 4, limits=Limits(max_params=20_000))
    module = build_module(space.decode(space.ancestors()[name]), seed=0)
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_decisions_of_the_whole_and_of_stages_have_names_of_their_own() -> None:
    assert not set(WHOLE) & set(STAGE)
    assert isinstance(StagesSpace().decode(genome({}, {})), Network)
