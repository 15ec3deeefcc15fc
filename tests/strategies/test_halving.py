"""Successive halving: who is promoted, by brute force; and that a run is the same however it is cut
and spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.halving import BOTH, RUNGS, SPACE, driven, measured, wrapped

from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Proposal,
    State,
    Told,
    losses_of,
)
from nanonas.errors import ConfigError
from nanonas.maths.pareto import crowding, ranks
from nanonas.strategies.around.halving import Halving, _Rung, ladder
from nanonas.strategies.evolution import Evolution
from nanonas.strategies.random import RandomSearch


def promotable(
    asked: Sequence[Candidate], evaluations: Sequence[Evaluation], told: int
) -> list[tuple[int, int]]:
    """(rung, number) of all that deserve to be promoted after `told` evaluations, by the
    definition; one objective.
    """
    found = []
    for rung in range(len(RUNGS) - 1):
        here = [c for c in asked[:told] if c.proposal.budget == RUNGS[rung]]
        above = {c.key for c in asked if c.proposal.budget == RUNGS[rung + 1]}
        complete = [c for c in here if evaluations[c.number].state is State.COMPLETE]
        best = sorted(complete, key=lambda c: -(evaluations[c.number].accuracy or 0.0))[
            : len(here) // 3
        ]
        found += [(rung, c.number) for c in best if c.key not in above]
    return found


@pytest.mark.parametrize("name", ["random", "aging", "evolution"])
def test_the_best_third_of_each_rung_is_promoted_as_soon_as_it_is_told(name: str) -> None:
    asked, evaluations, told = driven(Halving(wrapped()[name], RUNGS, lag=4), 120)
    for candidate, count in zip(asked, told, strict=True):
        deserving = promotable(asked[: candidate.number], evaluations, count)
        if candidate.proposal.resumes is None:
            assert not deserving
            assert candidate.proposal.budget == RUNGS[0]
        else:
            rung = max(rung for rung, _ in deserving)  # the highest first
            assert (rung, candidate.proposal.resumes) in deserving
            assert candidate.proposal.budget == RUNGS[rung + 1]
            assert candidate.proposal.parents == (candidate.proposal.resumes,)
            assert candidate.proposal.predicted is None
            assert candidate.proposal.genome == asked[candidate.proposal.resumes].proposal.genome
    assert {c.proposal.budget for c in asked} == set(RUNGS)


def test_with_several_objectives_the_front_of_a_rung_is_promoted() -> None:
    strategy = Halving(wrapped()["nsga2"], RUNGS[:2], objectives=BOTH)
    asked, evaluations, _ = driven(strategy, 90)
    promoted = {c.proposal.resumes for c in asked if c.proposal.resumes is not None}
    complete = [c for c in asked[:60] if evaluations[c.number].state is State.COMPLETE]
    small = min(complete, key=lambda c: evaluations[c.number].metrics["params"])
    assert any(
        asked[number].key == small.key for number in promoted
    )  # the least accurate of sizes is on the front
    accurate = max(
        (c for c in asked[:60] if c.proposal.budget == RUNGS[0] and evaluations[c.number].accuracy),
        key=lambda c: evaluations[c.number].accuracy or 0.0,
    )
    assert any(asked[number].key == accurate.key for number in promoted)


@given(
    st.lists(st.tuples(st.sampled_from(State), st.integers(0, 4), st.integers(0, 4)), max_size=20),
    st.booleans(),
)
@settings(deadline=None)
def test_the_order_on_a_rung_is_that_of_all_who_may_be_promoted(
    evaluated: list[tuple[State, int, int]], several: bool
) -> None:
    objectives, rung = BOTH if several else BOTH[:1], _Rung()
    told: list[Told] = []
    for number, (state, accuracy, params) in enumerate(evaluated):
        metrics = {"accuracy": accuracy / 4, "params": float(params)}
        curve = (Epoch(1.0, accuracy / 4),)
        evaluation = Evaluation(number, state, metrics, curve)
        told.append(Told(Candidate(number, Proposal((number,)), str(number)), evaluation))
        rung.take(told[-1], objectives)
        complete = [one for one in told if one.evaluation.state is State.COMPLETE]
        losses = losses_of([one.evaluation for one in complete], objectives)
        numbers, rank = np.arange(len(complete)), ranks(losses)
        order = np.lexsort((numbers, losses[:, 0]))
        if several:
            order = np.lexsort((numbers, -crowding(losses, rank), rank))
        expected = [complete[place].number for place in order]
        assert [one.number for one in rung.best(len(told), objectives)] == expected
        assert rung.size == len(told)


def test_what_failed_or_was_pruned_takes_a_place_and_is_not_promoted() -> None:
    def pruned(candidate: Candidate) -> Evaluation:
        evaluation = measured(candidate)
        return Evaluation(
            candidate.number,
            State.PRUNED,
            {"accuracy": 0.99},
            evaluation.curve,
            reason="by its rule",
        )

    asked, _, _ = driven(Halving(wrapped()["random"], RUNGS), 30, pruned)
    assert all(candidate.proposal.resumes is None for candidate in asked)


def test_the_wrapped_strategy_hears_exactly_what_it_needs_and_is_told_what_is_pending() -> None:
    class Listening(Evolution):
        heard = 0

        def ask(
            self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]
        ) -> Proposal:
            assert self.heard == self.needs(number)
            assert [candidate.number for candidate in pending] == list(range(self.heard, number))
            return super().ask(number, rng, pending)

        def tell(self, told: Told) -> None:
            assert told.number == self.heard
            self.heard += 1
            super().tell(told)

    for lag in (1, 3, 20):
        asked, _, told = driven(Halving(Listening(SPACE, population_size=9), RUNGS, lag=lag), 100)
        assert max(number - count for number, count in enumerate(told)) == min(lag - 1, 8)
        assert any(candidate.proposal.resumes is not None for candidate in asked)


def test_a_ladder_climbs_to_the_whole_budget() -> None:
    rungs = ladder(
        Budget(9, stop_epoch=2, stop_below=0.3),
        3,
        3,
        first_share=0.25,
        first_image_size=16,
        side=32,
    )
    assert [(rung.begin, rung.epochs) for rung in rungs] == [(0, 1), (1, 3), (3, 9)]
    assert [rung.share for rung in rungs] == [0.25, 0.5, 1.0]
    assert [rung.image_size for rung in rungs] == [16, 23, None]
    assert all(
        rung.stop_epoch == 0 for rung in rungs
    )  # one epoch is over before the rule is looked at
    assert ladder(Budget(27, 2, 0.3), 3, 2)[0] == Budget(9, 2, 0.3)
    assert [rung.epochs for rung in ladder(Budget(4), 2, 9)] == [1, 2, 4]
    assert [(rung.begin, rung.epochs) for rung in ladder(Budget(8), 4, 2, first_epochs=4)] == [
        (0, 4),
        (4, 8),
    ]
    assert [rung.epochs for rung in ladder(Budget(16), 4, 3, first_epochs=4)] == [4, 8, 16]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ladder(Budget(1), 3, 3), "make one; raise --epochs"),
        (lambda: ladder(Budget(9), 3, 3, first_image_size=64, side=32), "32 pixels a side at most"),
        (
            lambda: ladder(Budget(9), 3, 3, first_epochs=9),
            "shorter than epochs = 9, but rung_epochs is 9",
        ),
        (lambda: Halving(RandomSearch(SPACE, 3), RUNGS[:1]), "two rungs"),
        (
            lambda: Halving(RandomSearch(SPACE, 3), (RUNGS[0], RUNGS[2])),
            "begins where the one below ends",
        ),
        (lambda: Halving(RandomSearch(SPACE, 3), RUNGS, eta=1), "2 or more"),
    ],
)
def test_what_makes_no_ladder_is_refused(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
