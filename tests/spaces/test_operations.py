"""The names by which people ban operations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanonas.spaces.base import Bans, Space
from nanonas.spaces.layers.genes import CONV, DENSE
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.spaces.stages.space import StagesSpace

SPACES: list[Space] = [StagesSpace(), LayersSpace(), NanoSpace(), NASBench201Space(cells=1)]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_genome_uses_known_operations_and_each_is_used(space: Space) -> None:
    rng = np.random.default_rng(0)
    used = [space.operations(space.sample(rng)) for _ in range(300)]
    assert set().union(*used) == set(space.operation_names)
    assert len(set(space.operation_names)) == len(space.operation_names)


def test_nano_counts_the_list_and_not_the_stem() -> None:
    assert NanoSpace().operations((2, 2, 7, 7)) == {"sep_conv3x3", "zero"}


def test_nasbench201_counts_what_is_alive() -> None:
    space = NASBench201Space()
    genome = space.parse("|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|")
    assert space.operations(genome) == {"none", "skip_connect"}  # the convolution leads nowhere


def test_layers_count_what_has_an_effect() -> None:
    space = LayersSpace((3, 32, 32), 10)
    conv = (CONV, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0)  # 5×5
    separable = (CONV, 0, 2, 0, 1, 1, 0, 0, 0, 1, 1)  # with a skip that is concatenated
    dense = (DENSE, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    assert space.operations((*conv, *separable, *dense, *conv)) == {
        "conv5x5",
        "sep_conv5x5",
        "skip_concat",
        "dense",
    }
    assert space.operations((*dense, *conv, *separable)) == {
        "dense"
    }  # no convolution behind a dense layer


def test_bans() -> None:
    bans = Bans(NanoSpace())
    assert not bans((0, 1, 2, 3))
    bans.operations = frozenset({"conv1x1", "zero"})
    assert bans((0, 1, 2, 3))
    assert not bans((0, 0, 2, 3))


def test_the_readme_names_operations_that_there_are() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "ban conv5x5" in readme
    assert "conv5x5" in LayersSpace().operation_names
