"""What a network may cost: limits on counts, and what microcontrollers can run."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nanonas.config.files import configure
from nanonas.config.parts import make_counts, make_limits, make_search_space
from nanonas.core import Genome
from nanonas.errors import ConfigError
from nanonas.networks.arena import flash, plan, ram
from nanonas.networks.integer import undeployable
from nanonas.networks.limits import Limits
from nanonas.networks.network import Draft, Network, classifier, conv_norm
from nanonas.spaces.base import Space
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.stages.space import StagesSpace

SMALL = Limits(max_ram_kb=64, max_flash_kb=128)


def family(space: Space, number: int, seed: int) -> list[Genome]:
    """Random genomes, mutants of them and children of two."""
    rng = np.random.default_rng(seed)
    sampled = [space.sample(rng) for _ in range(number)]
    mutants = [space.mutate(genome, rng) for genome in sampled[: number // 3]]
    pairs = zip(sampled[: number // 3], mutants, strict=True)
    return sampled + mutants + [space.crossover(a, b, rng) for a, b in pairs]


@pytest.mark.parametrize(
    "space", [StagesSpace(limits=SMALL), LayersSpace(limits=SMALL)], ids=lambda space: space.name
)
def test_what_is_drawn_fits_a_microcontroller_and_fills_it(space: Space) -> None:
    filling = []
    for genome in family(space, 30, seed=1):
        network = space.decode(genome)
        planned = plan(network)  # there is a form in integers
        assert planned.ram == ram(network) <= 64 * 1024
        assert planned.flash == flash(network) <= 128 * 1024
        filling.append(SMALL.excess(network))
    assert max(filling) <= 1
    assert np.mean(filling) > 0.85


def test_hand_made_networks_fit_too() -> None:
    space = StagesSpace(limits=SMALL)
    found = [space.decode(genome) for genome in space.ancestors().values()]
    assert len(found) == 9
    assert all(0.8 < SMALL.excess(network) <= 1 for network in found)


def test_a_target_leaves_out_what_it_cannot_run_and_nothing_else() -> None:
    free, bound = StagesSpace(), StagesSpace(limits=Limits(target="mcu"))
    drawn = [space.decode(genome) for space in (bound,) for genome in family(space, 30, seed=2)]
    drawn += [bound.decode(genome) for genome in bound.ancestors().values()]
    assert not any(undeployable(network) for network in drawn)
    kinds = {str(node["kind"]) for network in drawn for node in network.nodes if node.op == "act"}
    assert kinds == {"relu", "silu", "gelu", "hardswish"}
    others = [free.decode(genome) for genome in family(free, 30, seed=2)]
    assert any(undeployable(network) for network in others)
    sizes = [network.params for network in drawn]
    assert max(sizes) > 3 * min(sizes)  # as without a target: sizes spread


def gated() -> Network:
    draft = Draft((3, 8, 8), 5)
    x = draft.add("squeeze_excite", conv_norm(draft, "input", 4, 3), hidden=2)
    return classifier(draft, x)


def test_limits_in_numbers_and_in_words() -> None:
    draft = Draft((3, 8, 8), 5)
    network = classifier(draft, conv_norm(draft, "input", 4, 3))
    limits = Limits(max_params=1000, max_ram_kb=0.5, max_flash_kb=4)
    assert limits.excess(network) == ram(network) / 512 > network.params / 1000
    words = "at most 1,000 parameters and at most 4 KB of flash and at most 0.5 KB of RAM"
    assert str(limits) == words
    assert limits.costs(network) == (
        f"{network.params} parameters, {network.macs:,} MACs, "
        f"{flash(network) / 1024:.4g} KB of flash and {ram(network) / 1024:.4g} KB of RAM"
    )
    assert Limits().costs(network) == f"{network.params} parameters and {network.macs:,} MACs"
    half = limits.times(0.5)
    assert half == Limits(max_params=500, max_ram_kb=0.25, max_flash_kb=2)
    assert half.excess(network) == 2 * limits.excess(network)
    assert Limits(max_params=1).times(0.1) == Limits(max_params=1)


def test_what_microcontrollers_cannot_run_is_beyond_limits_on_them_alone() -> None:
    network = gated()
    assert Limits(max_params=10_000).excess(network) < 1
    for limits in (Limits(target="mcu"), Limits(max_ram_kb=1e9), Limits(max_flash_kb=1e9)):
        assert limits.deployable
        assert limits.excess(network) == math.inf
        beyond = "MACs and squeeze_excite, which microcontrollers cannot run"
        assert limits.costs(network).endswith(beyond)
    assert str(Limits(target="mcu")) == "only what --target mcu allows"
    assert not Limits(max_params=1).deployable
    with pytest.raises(ConfigError, match="target must be mcu, but is 'fpga'"):
        Limits(target="fpga")
    with pytest.raises(ConfigError, match="max_ram_kb must be above 0, but is 0"):
        Limits(max_ram_kb=0)


def test_objectives_of_a_microcontroller_ask_for_what_it_can_run() -> None:
    search = configure(strategy="nsga2", objectives=("accuracy", "ram")).search
    assert make_limits(search) == Limits(target="mcu")
    counts = make_counts(search)
    draft = Draft((3, 8, 8), 5)
    network = classifier(draft, conv_norm(draft, "input", 4, 3))
    assert {name: count(network) for name, count in counts.items()} == {
        "ram": ram(network),
        "flash": flash(network),
    }
    space = make_search_space(search, (3, 16, 16), 4)
    assert not any(undeployable(space.decode(genome)) for genome in family(space, 9, seed=3))
    assert make_counts(configure(max_params=1000).search) == {}
    assert set(make_counts(configure(max_ram_kb=64).search)) == {"flash", "ram"}
