"""Whether a search was worth its time, from accuracies that nobody trained for."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import ttest_rel

from nanonas.analysis.equal_time import EqualTime, Trained, from_values


def trained(**accuracies: list[float]) -> tuple[Trained, ...]:
    """Contenders with the accuracies of seeds 0, 1, …; names with _ for -."""
    return tuple(
        Trained(name.replace("_", "-"), seed, accuracy, 100, 1000, 10.0, 60.0)
        for name, each in accuracies.items()
        for seed, accuracy in enumerate(each)
    )


def said(hand_made: tuple[str, ...] = ("plain", "resnet"), **accuracies: list[float]) -> EqualTime:
    return EqualTime(60.0, "at most 100 parameters", hand_made, trained(**accuracies))


def test_differences_are_paired_by_seed() -> None:
    search, plain = [0.90, 0.80, 0.86], [0.89, 0.78, 0.83]  # the seeds differ by more than the two
    one = said(search=search, plain=plain)
    expected = ttest_rel(search, plain).confidence_interval(0.95)
    assert one.earned is not None
    assert one.earned.half is not None
    low, high = one.earned.mean - one.earned.half, one.earned.mean + one.earned.half
    assert (low, high) == pytest.approx((expected.low, expected.high))
    (row,) = (row for row in one.rows if row.contender == "plain")
    assert (row.ahead, row.half) == (one.earned.mean, one.earned.half)


def test_seeds_that_only_one_of_them_has_count_in_no_difference() -> None:
    one = said(search=[0.9, 0.8], plain=[0.8, 0.7, 0.1])
    assert one.earned is not None
    assert one.earned.seeds == 2
    assert one.earned.mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("search", "sign", "words"),
    [
        (
            [0.90, 0.91, 0.92],
            "for",
            "the search earned 10.00 ± 0.00 points at equal size (at mo",
        ),
        ([0.70, 0.71, 0.72], "against", "the search did not pay: the best hand-made network (plai"),
        ([0.70, 0.95, 0.80], "open", "3 seeds are too few to tell whether the search was worth it"),
        ([0.90], "open", "one seed cannot tell whether the search was worth its time: +10.00 poin"),
    ],
)
def test_the_sentence_says_what_the_seeds_can_tell(
    search: list[float], sign: str, words: str
) -> None:
    one = said(search=search, plain=[0.80, 0.81, 0.82])
    assert one.earned is not None
    assert one.earned.sign == sign
    assert one.sentence.startswith(words)
    for part in ("(plain)", "at most 100 parameters", "equal total time (1m 00s)"):
        assert part in one.sentence


def test_the_best_hand_made_network_is_the_yardstick_and_that_is_said() -> None:
    one = said(search=[0.9, 0.9], plain=[0.7, 0.8], resnet=[0.85, 0.6], random_network=[0.99, 0.99])
    assert one.earned is not None
    assert one.earned.against == "plain"
    assert any("favours the hand-made ones" in words for words in one.remarks)


def test_a_network_with_fewer_seeds_is_no_yardstick() -> None:
    one = said(search=[0.9, 0.9], plain=[0.7, 0.8], resnet=[0.99])
    assert one.earned is not None
    assert (one.earned.against, one.earned.among) == ("plain", 1)
    assert one.remarks == [
        "1 of the 2 hand-made networks has trained with each of these seeds so far"
    ]


def test_where_there_are_no_hand_made_networks_it_is_random_ones() -> None:
    one = said((), search=[0.9, 0.91], random_network=[0.8, 0.81])
    assert one.sentence.startswith("the search earned 10.00 ± 0.00 points")
    assert (
        "against a random network, as there is no hand-made one within the limits, by"
        in one.sentence
    )
    assert one.remarks == []


@pytest.mark.parametrize("some", [{"search": [0.9]}, {"plain": [0.9]}, {}])
def test_half_of_it_says_nothing(some: dict[str, list[float]]) -> None:
    one = replace(said(), trained=trained(**some))
    assert one.earned is None
    assert "is not known yet" in one.sentence
    assert [row.ahead for row in one.rows] == [None] * len(some)


def test_rows_are_means_over_seeds_the_search_first() -> None:
    one = said(random_search=[0.5], resnet=[0.6, 0.7], search=[0.9])
    assert [row.contender for row in one.rows] == ["search", "resnet", "random-search"]
    row = one.rows[1]
    assert row.test_accuracy == pytest.approx(0.65)
    assert row.spread == pytest.approx(statistics.stdev([0.6, 0.7]))
    assert one.rows[0].spread is None


def test_a_file_reads_back_and_holds_what_it_says() -> None:
    one = said(search=[0.9, 0.8], plain=[0.8, 0.7])
    values = json.loads(json.dumps(one.to_values()))
    assert values["sentence"] == one.sentence
    read = from_values(values)
    assert read is not None
    assert read.to_values() == one.to_values()


@pytest.mark.parametrize(
    "values", [None, [], {}, {"seconds": 1.0}, {"seconds": 1.0, "trained": [{"seed": 0}]}]
)
def test_what_is_no_such_file_is_none(values: Any) -> None:
    assert from_values(values) is None
