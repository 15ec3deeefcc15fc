"""Which network is best among figures that are noisy: the truth, which a test knows, is the
oracle.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from nanonas.core import Budget, Candidate, Evaluation, Floats, Genome, Proposal, State, Told
from nanonas.engine import choosing
from nanonas.engine.choosing import LEAST, expected
from nanonas.engine.ranking import ranking
from nanonas.predictors.gaussian import GaussianProcess

SIDE = 32  # of the grid that genomes are points of
WHOLE = Budget(4)


def read(genome: Genome) -> Floats:
    return np.array(genome, dtype=np.float64) / SIDE


def told(
    number: int,
    accuracy: float | None,
    genome: Genome | None = None,
    state: State = State.COMPLETE,
    budget: Budget = WHOLE,
    inherits: tuple[int, ...] = (),
) -> Told:
    proposal = Proposal(genome or divmod(number, SIDE), budget=budget, inherits=inherits)
    metrics = {} if accuracy is None else {"accuracy": accuracy}
    candidate = Candidate(number, proposal, str(proposal.genome))
    return Told(candidate, Evaluation(number, state, metrics))


def expected_of(search: list[Told]) -> dict[int, float]:
    """By number, the best first."""
    found = expected(search, partial(GaussianProcess, (1, 1)), read)
    return {one.number: one.accuracy for one in found}


def order(search: list[Told]) -> list[int]:
    return list(expected_of(search))


def best(search: list[Told]) -> int:
    """As a search chooses."""
    return [*order(search), ranking(search)[0].number][0]


def worth(points: Floats) -> Floats:
    """A hill in the middle of the grid."""
    accuracies: Floats = 0.6 - 1.2 * ((points / SIDE - 0.5) ** 2).sum(axis=1)
    return accuracies


def searched(seed: int) -> tuple[Floats, list[Told]]:
    """A search that soon finds the summit, of 25 networks, then has to go down from it; what they
    are worth, and what it hears, now and then with much luck.
    """
    rng = np.random.default_rng(seed)
    points = np.stack(np.divmod(rng.choice(SIDE**2, 300, replace=False), SIDE), axis=1)
    points = points[np.argsort(-worth(points))]
    points = np.concatenate([rng.permutation(points[:25]), rng.permutation(points[25:100])])
    truth = worth(points)
    heard = np.clip(truth + 0.03 * rng.standard_t(3, len(truth)), 0, 1)
    genomes = [(int(x), int(y)) for x, y in points]
    return truth, [told(n, float(heard[n]), genome) for n, genome in enumerate(genomes)]


def test_more_queries_make_the_highest_figure_worse_and_the_expected_best_no_worse() -> None:
    by_figure, by_expectation = [], []
    for seed in range(24):
        truth, search = searched(seed)
        by_figure.append([truth[ranking(search[:n])[0].number] for n in (25, 100)])
        by_expectation.append([truth[best(search[:n])] for n in (25, 100)])
    few, many = np.mean(by_figure, axis=0)
    assert many < few - 0.005  # it falls, as on tables of trained networks
    few, many = np.mean(by_expectation, axis=0)
    assert many >= few
    assert many > np.mean(by_figure, axis=0).max()


def test_nothing_is_expected_where_nothing_can_be_told_from_the_others() -> None:
    rng = np.random.default_rng(0)
    told_apart = 0
    for _ in range(24):
        places = rng.choice(SIDE**2, 60, replace=False)
        search = [
            told(n, float(rng.uniform(0.4, 0.6)), divmod(int(place), SIDE))
            for n, place in enumerate(places)
        ]
        told_apart += bool(order(search))
    assert told_apart <= 4  # by chance, one or two


def alike(number: int = LEAST) -> list[Told]:
    return [told(n, 0.3 + n / 100, (n, 2 * n % SIDE)) for n in range(number)]


def test_of_few_networks_nothing_is_expected() -> None:
    assert order([]) == []
    assert order(alike(LEAST - 1)) == []
    twice = [
        *alike(LEAST - 1),
        replace(alike()[0], candidate=replace(alike()[0].candidate, number=50)),
    ]
    assert order(twice) == []
    assert sorted(order(alike())) == list(range(LEAST))


@pytest.mark.parametrize(
    "other",
    [
        told(90, 0.9, (9, 9), State.CUT),
        told(90, 0.9, (9, 9), State.FAILED),
        told(90, None, (9, 9)),
        told(90, float("nan"), (9, 9)),
        told(90, 0.2, (9, 9), budget=Budget(2)),
        told(90, 0.2, (9, 9), budget=Budget(4, share=0.5)),
        told(90, 0.2, (9, 9), inherits=(0,)),
        told(90, 0.9, (9, 9), budget=Budget(4, image_size=8)),  # compared with none as they are
    ],
    ids=str,
)
def test_what_was_trained_otherwise_is_neither_chosen_nor_learnt_from(other: Told) -> None:
    assert expected_of([*alike(), other]) == expected_of(alike())


def test_what_was_pruned_is_learnt_from_and_not_chosen() -> None:
    stopped = Budget(4, stop_epoch=1, stop_below=0.2)
    near = [told(90 + n, 0.01, (n, 2 * n % SIDE + 1), State.PRUNED, stopped) for n in range(4)]
    with_them = expected_of([*alike(), *near])
    assert with_them != expected_of(alike())
    assert sorted(with_them) == list(range(LEAST))


def test_what_goes_on_from_a_rung_is_compared_with_what_was_trained_at_once() -> None:
    search = alike()
    proposal = replace(search[3].candidate.proposal, budget=Budget(4, begin=2), resumes=1)
    search[3] = replace(search[3], candidate=replace(search[3].candidate, proposal=proposal))
    assert expected_of(search) == expected_of(alike())


def test_the_order_does_not_depend_on_the_order_of_arrival() -> None:
    _, search = searched(0)
    search = search[:40]
    assert expected_of(search[::-1]) == expected_of(search)


def test_of_very_many_networks_the_best_and_some_of_the_others_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choosing, "_BEST", 20)
    monkeypatch.setattr(choosing, "_REST", 10)
    search = alike(60)
    ranks = [one.number for one in ranking(search)]
    assert set(order(search)) == {*ranks[:20], *ranks[20::4]}
