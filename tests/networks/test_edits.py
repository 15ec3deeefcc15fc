"""Differences: each mutation of `layers` is named as the edit that it is, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from nanonas.analysis.remembered import of_networks
from nanonas.core import Genome
from nanonas.networks.edits import REWIRED, difference, in_words
from nanonas.networks.network import Draft, Network
from nanonas.spaces.layers.genes import DECISIONS
from nanonas.spaces.layers.space import LayersSpace
from nanonas.spaces.nano import NAMES, NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space

SPACE = LayersSpace((3, 16, 16), 4)
NANO = NanoSpace((3, 16, 16), 4, channels=8, length=4)


def layer(kind: str, **decisions: object) -> Genome:
    chosen = {
        "kind": kind,
        "filters": 16,
        "kernel": 3,
        "stride": 1,
        "activation": "relu",
        "skip": 0,
        **decisions,
    }
    return tuple(
        options.index(chosen[name]) if name in chosen else 0 for name, options in DECISIONS.items()
    )


def chain(*layers: Genome) -> Genome:
    return tuple(gene for genes in layers for gene in genes)


CONV, NORM = layer("Conv2D"), layer("BatchNorm")
PARENT = chain(
    CONV, NORM, layer("Conv2D", filters=24), NORM, layer("MaxPool"), layer("Conv2D", filters=32)
)


@pytest.mark.parametrize(
    ("child", "kind"),
    [
        (chain(CONV, NORM, PARENT), "convolution added"),
        (chain(PARENT[2 * len(CONV) :]), "convolution removed"),
        (chain(layer("Conv2D", kernel=5), PARENT[len(CONV) :]), "larger kernel"),
        (chain(layer("Conv2D", kernel=1), PARENT[len(CONV) :]), "smaller kernel"),
        (
            chain(layer("Conv2D", filters=48), PARENT[len(CONV) :]),
            "more filters",
        ),  # what reads it is as it was
        (chain(layer("Conv2D", filters=8), PARENT[len(CONV) :]), "fewer filters"),
        (chain(layer("Conv2D", activation="gelu"), PARENT[len(CONV) :]), "other activation"),
        (chain(layer("Conv2D", separable=True), PARENT[len(CONV) :]), "made separable"),
        (chain(CONV, PARENT[2 * len(CONV) :]), "norm removed"),
        (chain(PARENT[: 4 * len(CONV)], layer("AvgPool"), PARENT[5 * len(CONV) :]), "other pool"),
        (
            chain(PARENT[: 5 * len(CONV)], layer("Conv2D", filters=32, skip=1)),
            "skip added",
        ),  # with its projection
        (chain(PARENT, layer("Dropout")), "dropout added"),
        (chain(PARENT, layer("Dense", units=64)), "dense layer added"),
    ],
)
def test_one_edit_is_said_as_that_one(child: Genome, kind: str) -> None:
    found = of_networks(difference, SPACE, PARENT, child)
    assert found.kind == kind, found.edits
    assert found.marks or found.gone


@pytest.mark.parametrize(
    "space", [SPACE, NANO, NASBench201Space((3, 16, 16), 4)], ids=lambda space: space.name
)
def test_every_child_differs_from_its_parent_and_no_genome_from_itself(space: LayersSpace) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        parent = space.sample(rng)
        child = space.mutate(parent, rng)
        found = of_networks(difference, space, parent, child)
        assert found.edits or found.kind == REWIRED
        assert all(edit.words for edit in found.edits)
        names = {node.name for node in space.decode(child).nodes}
        assert set(found.marks) <= names
        same = of_networks(difference, space, parent, parent)
        assert (same.edits, dict(same.marks), same.gone) == ((), {}, ())


def test_a_layer_in_another_ones_place() -> None:
    conv, pool = NAMES.index("conv3x3"), NAMES.index("maxpool")
    found = of_networks(difference, NANO, (conv, conv, conv, conv), (conv, pool, conv, conv))
    assert found.kind == "convolution → pool"
    assert in_words(found.edits) == ["convolution 3×3, 8 channels → maxpool"]


def test_what_was_done_in_every_cell_is_said_once() -> None:
    space = NASBench201Space((3, 16, 16), 4)
    rng = np.random.default_rng(1)
    for _ in range(30):
        parent = space.sample(rng)
        found = of_networks(difference, space, parent, space.mutate(parent, rng))
        assert len(in_words(found.edits)) <= 8


def test_a_space_that_cannot_be_hashed() -> None:
    class Own:
        __hash__ = None  # type: ignore[assignment]

        def decode(self, genome: Genome) -> Network:
            draft = Draft((3, 8, 8), 4)
            x = draft.add(
                "conv", "input", filters=genome[0], kernel=3, stride=1, groups=1, bias=False
            )
            return draft.finish(draft.add("dense", draft.add("globalpool", x), units=4))

    assert of_networks(difference, Own(), (8,), (16,)).kind == "more filters"  # type: ignore[arg-type]
