"""What a surrogate learns from where there is more than it can read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanonas.core import Candidate, Evaluation, Floats, Genome, Objective, Proposal, State, Told
from nanonas.predictors import surrogate
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
