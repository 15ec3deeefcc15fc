"""The first generation begins with hand-made networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nanonas.config.files import configure
from nanonas.config.parts import make_ancestors, make_search_space, make_strategy
from nanonas.core import Budget, Candidate, Evaluation, Proposal, State, Told
from nanonas.engine.storage.store import RunStore
from nanonas.spaces.nano import NanoSpace
from nanonas.strategies.around.ancestral import Ancestral
from nanonas.strategies.evolution import Evolution

MADE = {"first": (0, 0, 0, 0), "second": (1, 1, 1, 1), "third": (2, 2, 2, 2)}
BEGIN = [Proposal(genome, ancestor=name) for name, genome in MADE.items()]
SPACE = NanoSpace(channels=8, length=4)


def told(candidate: Candidate, accuracy: float) -> Told:
    return Told(candidate, Evaluation(candidate.number, State.COMPLETE, {"accuracy": accuracy}))


def asked(strategy: Ancestral, number: int, pending: list[Candidate]) -> Candidate:
    proposal = strategy.ask(number, np.random.default_rng([7, number]), pending)
    return Candidate(number, proposal, SPACE.key(proposal.genome))


def test_they_come_first_each_once_then_what_the_strategy_proposes() -> None:
    strategy = Ancestral(Evolution(SPACE, population_size=5), BEGIN)
    plain = Evolution(SPACE, population_size=5)
    pending: list[Candidate] = []
    for number in range(5):
        pending.append(asked(strategy, number, pending))
    assert [c.proposal.ancestor for c in pending] == ["first", "second", "third", "", ""]
    assert [c.proposal.genome for c in pending[:3]] == list(MADE.values())
    for number in (3, 4):
        rng = np.random.default_rng([7, number])
        assert pending[number].proposal == plain.ask(number, rng, [])


def test_the_strategy_breeds_from_them() -> None:
    strategy = Ancestral(Evolution(SPACE, population_size=4), BEGIN)
    members: list[Candidate] = []
    for number in range(4):
        members.append(asked(strategy, number, members))
    for member in members:
        strategy.tell(told(member, 0.9 if member.proposal.ancestor == "second" else 0.1))
    children = [asked(strategy, number, []) for number in range(4, 7)]
    assert all(not child.proposal.ancestor for child in children)
    assert any(1 in child.proposal.parents for child in children)


def test_none_comes_after_the_first_generation() -> None:
    strategy = Ancestral(Evolution(SPACE, population_size=2), BEGIN)
    members: list[Candidate] = []
    for number in range(2):
        members.append(asked(strategy, number, members))
        strategy.tell(told(members[-1], 0.5))
    assert not asked(strategy, 2, []).proposal.ancestor


def test_what_is_banned_is_passed_over() -> None:
    strategy = Ancestral(
        Evolution(SPACE, population_size=4), BEGIN, banned=lambda genome: genome[0] == 1
    )
    members: list[Candidate] = []
    for number in range(3):
        members.append(asked(strategy, number, members))
    assert [c.proposal.ancestor for c in members] == ["first", "third", ""]


def test_told_again_it_proposes_what_it_would_have_proposed() -> None:
    strategy = Ancestral(Evolution(SPACE, population_size=4), BEGIN)
    members: list[Candidate] = []
    for number in range(2):
        members.append(asked(strategy, number, members))
        strategy.tell(told(members[-1], 0.5))
    resumed = Ancestral(Evolution(SPACE, population_size=4), BEGIN)
    for member in members:
        resumed.tell(told(member, 0.5))
    assert asked(resumed, 2, []) == asked(strategy, 2, [])


def test_the_name_is_kept_with_the_candidate(tmp_path: Path) -> None:
    proposal = Proposal((0, 1), budget=Budget(1), ancestor="residual")
    with RunStore.begin(tmp_path / "store.db", {}) as store:
        store.asked(Candidate(0, proposal, "k"))
        assert store.candidates()[0].proposal == proposal


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({}, 9),
        ({"population": 4}, 3),  # one is random at least
        ({"ancestors": False}, 0),
        ({"strategy": "random"}, 0),
        ({"space": "layers"}, 0),
        ({"max_params": 10}, 0),  # none meets that
        ({"strategy": "screened"}, 9),
        ({"halving": 2, "epochs": 8}, 9),
    ],
    ids=str,
)
def test_which_searches_begin_with_ancestors(options: dict[str, object], number: int) -> None:
    search = configure(**{"space": "stages", "max_params": 50_000, **options}).search
    space = make_search_space(search, (3, 16, 16), 10)
    assert len(make_ancestors(search, space)) == number
    strategy = make_strategy(search, space)
    pending: list[Candidate] = []
    for n in range(min(12, search.strategy.population)):
        proposal = strategy.ask(n, np.random.default_rng(n), pending)
        pending.append(Candidate(n, proposal, space.key(proposal.genome)))
    assert sum(bool(c.proposal.ancestor) for c in pending) == number
