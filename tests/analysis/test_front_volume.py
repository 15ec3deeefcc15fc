"""What a front is worth, and which of its networks are trained: integrals and brute force are the
oracles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest

from nanonas.analysis.hypervolume import BEYOND, chosen, corner, growth, in_logs
from nanonas.core import Candidate, Evaluation, Objective, Proposal, State, Told
from nanonas.engine.ranking import front_of
from nanonas.maths.pareto import hypervolume

BOTH = (Objective(), Objective("params", maximize=False))
IMAGES, CLASSES = 500, 10


def told(
    number: int, accuracy: float, params: float, key: str = "", state: State = State.COMPLETE
) -> Told:
    metrics = {"accuracy": accuracy, "params": params}
    candidate = Candidate(number, Proposal((number,)), key or f"key {number}")
    return Told(candidate, Evaluation(number, state, metrics))


def random_told(seed: int, number: int = 12) -> list[Told]:
    """Larger networks are better, more or less."""
    rng = np.random.default_rng(seed)
    params = np.exp(rng.uniform(5, 12, number))
    accuracy = np.clip(0.06 * np.log(params) + rng.normal(0.2, 0.05, number), 0, 0.99)
    return [
        told(n, float(a), float(p)) for n, (a, p) in enumerate(zip(accuracy, params, strict=True))
    ]


def numbers(some: Sequence[Told]) -> list[int]:
    return [one.number for one in some]


def volume(some: Sequence[Told], front: Sequence[Told], errors: float | None = None) -> float:
    """From a guess, or from so many errors, in logs."""
    reference = corner(in_logs(front, BOTH, IMAGES), BOTH, CLASSES)
    reference[0] = reference[0] if errors is None else errors
    return hypervolume(in_logs(some, BOTH, IMAGES), reference)


def test_a_volume_is_what_the_best_network_within_a_limit_gains_over_guessing() -> None:
    """The mean over limits that lie evenly in logs, up to twice the largest network."""
    some = random_told(0)
    front = front_of(some, BOTH)
    sizes = [one.evaluation.metrics["params"] for one in front]
    limits = np.exp(np.linspace(math.log(min(sizes)), math.log(BEYOND * max(sizes)), 20_001))
    gains = []
    for limit in limits:
        within = [e.evaluation for e in front if e.evaluation.metrics["params"] <= limit]
        least = min(1 - (e.accuracy or 0) + 0.5 / IMAGES for e in within)
        gains.append(max(0.0, math.log((1 - 1 / CLASSES) / least)))
    span = math.log(limits[-1] / limits[0])
    assert volume(some, front) == pytest.approx(np.mean(gains) * span, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_those_are_chosen_that_dominate_the_most_together_with_the_winner(seed: int) -> None:
    some = random_told(seed)
    front = front_of(some, BOTH)
    winner = max(some, key=lambda one: one.evaluation.accuracy or 0)
    found = chosen(some, BOTH, winner.number, 3, IMAGES, CLASSES)
    assert found[0] == winner
    assert numbers(found) == numbers(sorted(found, key=lambda e: -(e.evaluation.accuracy or 0)))
    least = 1 - (winner.evaluation.accuracy or 0) + 0.5 / IMAGES
    halfway = math.log(math.sqrt((1 - 1 / CLASSES) * least))
    best = max(volume([winner, *pair], front, halfway) for pair in combinations(front, 2))
    assert volume(found, front, halfway) == pytest.approx(best)
    assert numbers(chosen(some[::-1], BOTH, winner.number, 3, IMAGES, CLASSES)) == numbers(found)


@pytest.mark.parametrize("tiny", [0.11, 0.6])
def test_networks_that_are_not_halfway_to_the_best_are_left_out(tiny: float) -> None:
    some = [told(0, tiny, 10), told(1, 0.9, 1_000), told(2, 0.95, 20_000), told(3, 0.97, 100_000)]
    assert numbers(chosen(some, BOTH, 3, 3, IMAGES, CLASSES)) == [3, 2, 1]
    assert numbers(chosen(some, BOTH, 3, 4, IMAGES, CLASSES)) == [3, 2, 1, 0]  # there is no other


def test_the_winner_is_among_them_wherever_it_lies_and_no_network_twice() -> None:
    some = [told(0, 0.7, 300), told(1, 0.8, 500), told(2, 0.75, 900), told(3, 0.8, 500, "key 1")]
    assert numbers(chosen(some, BOTH, 2, 2, IMAGES, CLASSES)) == [2, 1]
    assert sorted(numbers(chosen(some, BOTH, 2, 9, IMAGES, CLASSES))) == [0, 1, 2]
    assert numbers(chosen(some, BOTH, 3, 1, IMAGES, CLASSES)) == [3]


def test_a_network_without_errors_has_a_volume() -> None:
    some = [told(0, 1.0, 300), told(1, 1.0, 200)]
    assert np.isfinite(in_logs(some, BOTH, IMAGES)).all()
    assert numbers(chosen(some, BOTH, 0, 2, IMAGES, CLASSES)) == [0, 1]


def test_what_was_not_measured_dominates_nothing() -> None:
    measured = (Objective(), Objective("latency", maximize=False))
    assert np.isinf(in_logs([told(0, 0.9, 300)], measured, IMAGES)[0, 1])


def test_the_volume_only_grows_and_what_was_pruned_adds_nothing() -> None:
    some = random_told(1)
    pruned = [told(50, 0.9, 1, state=State.PRUNED), *some]
    shares = growth(pruned, BOTH, IMAGES, CLASSES, range(len(pruned)))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    front = front_of(some, BOTH)
    expected = [volume(some[:number], front) / volume(some, front) for number in range(13)]
    assert shares == pytest.approx(expected)
    assert growth([], BOTH, IMAGES, CLASSES, []) == []
