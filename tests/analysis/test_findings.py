"""Effects and credit: simulations are the oracle of the intervals; what the data do not say is not
said.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, ttest_1samp
from toys.report import SPACE, entry, record

from nanonas.analysis.findings import Effect, Findings
from nanonas.analysis.record import Entry
from nanonas.core import Floats
from nanonas.maths.intervals import association, winsorised
from nanonas.maths.ranks import rank_sum


def test_without_columns_and_with_clusters_of_one_it_is_the_t_test() -> None:
    y = np.random.default_rng(0).normal(0.3, 1, 25)
    found = association(y, np.empty((25, 0)), np.arange(25), 0.05)
    expected = ttest_1samp(y, 0).confidence_interval(0.95)
    assert found is not None
    assert found == pytest.approx((y.mean(), expected.low, expected.high))


def coverage(clusters: int, size: int, alike: float) -> float:
    """How often a 95 % interval of a slope of 0.5 holds it, where relatives are alike in both x and
    noise.
    """
    rng, held = np.random.default_rng(0), 0
    for _ in range(300):
        family = np.repeat(np.arange(clusters), size)
        x = alike * rng.normal(size=clusters)[family] + rng.normal(size=clusters * size)
        y: Floats = (
            0.5 * x + alike * rng.normal(size=clusters)[family] + rng.normal(size=clusters * size)
        )
        found = association(y, x[:, None], family, 0.05)
        assert found is not None
        held += found[1] <= 0.5 <= found[2]
    return held / 300


@pytest.mark.parametrize("alike", [0.0, 1.0, 3.0])
def test_intervals_hold_what_they_promise_for_relatives(alike: float) -> None:
    assert 0.90 <= coverage(20, 10, alike) <= 0.99


def test_circumstances_that_follow_from_each_other_do_not_hide_an_effect() -> None:
    rng = np.random.default_rng(0)
    x, one = rng.normal(size=80), rng.normal(size=80)
    y = 2 * x + one + rng.normal(size=80) / 10
    alone = association(y, np.column_stack([x, one]), np.arange(80), 0.05)
    assert association(
        y, np.column_stack([x, one, 3 - 2 * one, np.ones(80)]), np.arange(80), 0.05
    ) == pytest.approx(alone)


def test_what_cannot_be_told_is_none() -> None:
    y = np.arange(6.0)
    assert association(y, np.ones((6, 1)), np.arange(6), 0.05) is None  # always so
    assert (
        association(y, np.column_stack([y, 2 * y]), np.arange(6), 0.05) is None
    )  # as much the other's effect
    assert (
        association(y, np.arange(6.0)[:, None], np.zeros(6, dtype=np.int64), 0.05) is None
    )  # one family


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_rank_sum_is_scipys(shift: float) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=20).round(1), (rng.normal(size=15) + shift).round(1)
    expected = mannwhitneyu(b, a, alternative="greater", method="asymptotic").pvalue
    assert rank_sum(list(a), list(b)) == pytest.approx(expected)


def test_one_that_diverged_does_not_decide() -> None:
    values = np.array([0.1, *np.linspace(0.8, 0.9, 99)])
    assert winsorised(values).min() > 0.79


def run(number: int, effect: float, seed: int = 0) -> list[Entry]:
    """Random networks whose accuracy depends on the kernel of the first convolutions alone, and on
    luck.
    """
    rng, made = np.random.default_rng(seed), []
    for n in range(number):
        genome = SPACE.sample(rng)
        first = next(node for node in SPACE.decode(genome).nodes if node.op == "conv")
        made.append(
            entry(n, genome, 0.7 + effect * (first["kernel"] == 3) + float(rng.normal(0, 0.02)))
        )
    return made


def effects(entries: list[Entry]) -> list[Effect]:
    return Findings(record(entries)).effects


def credit(entries: list[Entry]) -> list[Effect]:
    return Findings(record(entries)).credit


def test_what_matters_is_found() -> None:
    clear = [effect.words for effect in effects(run(400, 0.06)) if effect.clear]
    assert clear[0] == "early convolutions mostly 3×3"


def test_what_does_not_matter_is_rarely_found() -> None:
    wrong = sum(any(effect.clear for effect in effects(run(80, 0.0, seed))) for seed in range(12))
    assert wrong <= 2  # 5 % each


def test_few_networks_say_nothing() -> None:
    assert effects(run(10, 0.5)) == []
    assert credit(run(10, 0.5)) == []


def test_relatives_are_not_many() -> None:
    """Two hundred of one family, all with one kernel, against one other family: that is two, and
    not two hundred.
    """
    rng = np.random.default_rng(0)
    made = [entry(0, SPACE.sample(rng), 0.9), entry(1, SPACE.sample(rng), 0.6)]
    for n in range(2, 60):
        made.append(
            entry(n, SPACE.mutate(made[n % 2].genome, rng), made[n % 2].accuracy, parents=(n % 2,))
        )
    assert effects(made) == []


def test_credit_is_counted_from_the_average_child() -> None:
    rng = np.random.default_rng(0)
    made = [entry(n, SPACE.sample(rng), 0.8) for n in range(20)]
    found = []
    for n in range(20, 320):
        parent = int(rng.integers(20))
        child = SPACE.mutate(made[parent].genome, rng)
        made.append(entry(n, child, 0.7, parents=(parent,)))
    kinds = {step.number: step.kind for step in Findings(record(made)).steps}
    for one in made[20:]:
        good = kinds[one.number] == "skip added"
        accuracy = 0.75 + 0.05 * good + float(rng.normal(0, 0.005))
        found.append(
            entry(one.number, one.genome, accuracy, parents=one.candidate.proposal.parents)
        )
    earned = credit([*made[:20], *found])
    assert earned[0].words == "skip added"
    assert earned[0].clear
    assert earned[0].mean > 0 > earned[-1].mean
    assert all(effect.n >= 8 for effect in earned)
