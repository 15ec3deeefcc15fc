"""The tree: kinds of steps, gains, families, and places without two nodes in one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.report import SPACE, entries, entry, record

from nanonas.analysis.findings import Findings
from nanonas.analysis.lineage import CROSSED, RANDOM, RESUMED, TWIN, ancestors
from nanonas.analysis.record import Entry
from nanonas.core import Budget

RNG = np.random.default_rng(0)
A, B = SPACE.sample(RNG), SPACE.sample(RNG)
CHILD = SPACE.mutate(A, RNG)


def test_how_each_came_about() -> None:
    run = record(
        [
            entry(0, A, 0.5),
            entry(1, CHILD, 0.6, parents=(0,), inherits=(0,)),
            entry(2, CHILD, 0.55, parents=(1,)),
            entry(3, A, 0.7, parents=(0,), resumes=0, budget=Budget(9, begin=4)),
            entry(4, B, 0.4, parents=(0, 1)),
            entry(5, B, None, parents=(0,)),
        ]
    )
    found = Findings(run).steps
    kinds = [step.kind for step in found]
    assert kinds[0] == RANDOM
    assert kinds[2:5] == [TWIN, RESUMED, CROSSED]
    assert [step.bred for step in found] == [False, True, False, False, False, True]
    assert found[1].gain == pytest.approx(0.1)
    assert found[5].gain is None
    assert found[1].edits


def test_families_and_ancestors() -> None:
    run = record(
        [
            entry(0, A, 0.5),
            entry(1, B, 0.5),
            entry(2, CHILD, 0.5, parents=(0, 1)),
            entry(3, A, 0.5, parents=(2,)),
        ]
    )
    assert Findings(run).tree.families == [0, 1, 0, 0]
    assert ancestors(run, 3) == [3, 2, 0]


def tree(parents: list[int]) -> list[Entry]:
    return [
        entry(n, A, 0.5 + n / 1000, parents=() if p >= n else (p,)) for n, p in enumerate(parents)
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_no_two_nodes_are_in_one_place(parents: list[int]) -> None:
    run = record(tree(parents))
    places = Findings(run).tree.places
    leaves = {
        n
        for n in range(len(parents))
        if not any(p == n and n < child for child, p in enumerate(parents))
    }
    assert sorted(places[leaf] for leaf in leaves) == list(range(len(leaves)))
    assert set(places) <= set(range(len(leaves)))


def test_the_way_to_the_winner_is_straight() -> None:
    run = record(entries(60))
    assert run.winner is not None
    way = ancestors(run, run.winner.number)
    assert len({Findings(run).tree.places[number] for number in way}) == 1


def test_no_candidates_no_tree() -> None:
    assert Findings(record([])).tree.places == []
    assert Findings(record([])).steps == []
