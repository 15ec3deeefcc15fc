"""What a surrogate learns from where there is more than it can read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Floats,
    Genome,
    Objective,
    Proposal,
    State,
    Told,
)
from nanonas.predictors import surrogate
from nanonas.predictors.curves import CurveModel
from nanonas.predictors.surrogate import Surrogate, _chosen


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=200), st.integers(4, 40))
def test_the_best_half_and_every_so_many_th_of_all(losses: list[float], most: int) -> None:
    chosen = _chosen(np.array(losses), most)
    n = len(losses)
    assert list(chosen) == sorted(set(chosen))
    if n <= most:
        assert list(chosen) == list(range(n))
        return
    assert most // 2 <= len(chosen) <= most
    best = sorted(range(n), key=lambda place: (losses[place], place))[: most // 2]
    assert set(best) <= set(chosen)
    strides = [2**power for power in range(9)]
    assert any(set(chosen) == {*best, *range(0, n, stride)} for stride in strides)


TOLD = st.tuples(
    st.sampled_from(State), st.integers(0, 9), st.integers(1, 3), st.none() | st.integers(0, 29)
)


def losses_by_definition(told: list[Told]) -> list[float]:
    """Those of a surrogate, from the beginning."""
    losses = [np.inf if one.lost else -(one.evaluation.accuracy or 0.0) for one in told]
    for number in reversed(range(len(told))):
        resumes = told[number].candidate.proposal.resumes
        if resumes is not None and np.isfinite(losses[number]):
            losses[resumes] = losses[number]
    model = CurveModel()
    model.fit([t.evaluation.curve for t in told if t.evaluation.state is State.COMPLETE][-5:])
    for number, one in enumerate(told):
        if one.evaluation.state is State.PRUNED:
            losses[number] = -model.predict(one.evaluation.curve, 3)[0]
    return losses


@given(st.lists(TOLD, max_size=30), st.sets(st.integers(0, 30)))
def test_losses_are_those_of_all_that_was_told_however_often_they_were_asked_for(
    evaluated: list[tuple[State, int, int, int | None]], asked: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(surrogate, "MOST", 5)
        one = Surrogate(Counting, lambda genome: np.array(genome), Objective())
        for number, (state, accuracy, epochs, before) in enumerate(evaluated):
            resumes = None if before is None or before >= number else before
            curve = tuple(Epoch(1.0, accuracy / 10) for _ in range(epochs))
            proposal = Proposal((number,), budget=Budget(3), resumes=resumes)
            evaluation = Evaluation(number, state, {"accuracy": accuracy / 10}, curve)
            one.told.append(Told(Candidate(number, proposal, str(number)), evaluation))
            if number in asked:
                assert list(one.losses) == losses_by_definition(one.told)
        assert list(one.losses) == losses_by_definition(one.told)


class Counting:
    """A predictor that remembers from how many it learnt."""

    name = "counting"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def fit(self, features: Floats, losses: Floats) -> None:
        self.sizes.append(len(features))

    update = fit

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        return np.zeros(len(features)), np.ones(len(features))


def test_it_reads_no_more_than_it_learns_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogate, "MOST", 16)
    read: list[Genome] = []

    def reads(genome: Genome) -> Floats:
        read.append(genome)
        return np.array(genome, dtype=float)

    one = Surrogate(Counting, reads, Objective())
    for number in range(100):
        accuracy = float(np.sin(number))
        evaluation = Evaluation(number, State.COMPLETE, {"accuracy": accuracy})
        one.told.append(Told(Candidate(number, Proposal((number,)), str(number)), evaluation))
    model = one.fitted([])
    assert len(set(read)) == len(read) <= 16
    assert isinstance(model.predictor, Counting)
    assert max(model.predictor.sizes) <= 16
