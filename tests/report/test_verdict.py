"""The words at the top: what speaks for a run, what against it, what is open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toys.report import SPACE, entries, entry, evaluated, record

from nanonas.core import State
from nanonas.engine.storage.events import Event
from nanonas.report.words.verdict import cards, findings, headline

FINAL = {"test_accuracy": 0.9, "test_images": 300, "epochs": 5, "latency_ms": 0.2, "seconds": 3.0}


def signs(words: str, **more: Any) -> list[str]:
    """Of the findings that have these words."""
    return [one.sign for one in findings(record(entries(60), **more)) if words in one.words]


def opened(*purposes: str) -> tuple[Event, ...]:
    return tuple(Event(0.0, "test set opened", {"for": purpose}) for purpose in purposes)


def test_the_test_set() -> None:
    assert signs("No test image was looked at yet") == ["open"]
    assert signs("opened once for the winner", final=FINAL, events=opened("the winner")) == ["for"]
    assert signs("opened once, to compare", events=opened("compare: found-seed0")) == ["for"]
    compared = opened("the winner", "compare: found-seed0", "compare: resnet18-seed0")
    assert signs("and 2 times to compare it", final=FINAL, events=compared) == ["for"]
    assert signs(
        "opened 2 times for winners", final=FINAL, events=opened("the winner", "train, 9 epochs")
    ) == ["open"]


def row(
    network: str,
    accuracy: float,
    spread: float | None = 0.01,
    trainings: int = 3,
    params: int = 100,
) -> dict[str, Any]:
    found = {
        "network": network,
        "test_accuracy": accuracy,
        "spread": spread,
        "params": params,
        "epochs": 10.0,
    }
    return {**found, "trainings": [{"seconds": 1.0}] * trainings}


@pytest.mark.parametrize(
    ("other", "sign"),
    [
        (row("random 1", 0.8), "for"),
        (row("random 1", 0.895), "open"),  # trainings differ by as much
        (row("random 1", 0.95), "against"),
        (row("random 1", 0.5, spread=None, trainings=1), "open"),
        (row("baseline", 0.95), "against"),
        (row("resnet18", 0.7, params=10_000), "for"),
    ],
)
def test_a_comparison_counts_beyond_its_noise(other: dict[str, Any], sign: str) -> None:
    assert signs("Against ", comparison=(row("found", 0.9), other)) == [sign]


def test_without_a_comparison_nobody_knows() -> None:
    assert signs("Whether the search was worth it is not known") == ["open"]


@pytest.mark.parametrize(("gain", "sign"), [(0.2, "for"), (0.0, "open"), (-0.2, "open")])
def test_learning_is_told_from_luck(gain: float, sign: str) -> None:
    genome = SPACE.sample(np.random.default_rng(0))
    some = [entry(n, genome, 0.5 + gain * (n // 10) / 3 + 0.001 * (n * 7 % 10)) for n in range(40)]
    found = [one for one in findings(record(some)) if "the median accuracy was" in one.words]
    assert [one.sign for one in found] == [sign]


def test_many_failures_are_against_it() -> None:
    assert signs("trainings failed") == []  # a few of them
    failed = [
        replace(one, evaluation=evaluated(n, None, State.FAILED, reason="killed")) if n % 2 else one
        for n, one in enumerate(entries(30))
    ]
    assert [
        one.sign for one in findings(record(failed)) if "of 30 trainings failed" in one.words
    ] == ["against"]


def test_the_headline_says_what_the_figures_say() -> None:
    said = " ".join(
        headline(
            record(
                entries(60), final=FINAL, seconds=100.0, config={"search": {"strategy": "aging"}}
            )
        )
    )
    assert "Aging evolution tried 60 networks of the space layers in 1m 40s" in said
    assert "right on 90.00 % of 300 test images" in said
    assert "is not trained for good yet" in " ".join(headline(record(entries(12))))
    assert headline(record([]))[-1].startswith("No network was judged yet")
    assert dict(cards(record(entries(60), final=FINAL)))["test accuracy"] == "90.00 %"


def test_how_many_are_as_good_depends_on_the_validation_images() -> None:
    few, many = (
        next(
            one
            for one in findings(record(entries(60), events=(Event(0.0, "images", {"valid": n}),)))
            if "tries" in one.words
        )
        for n in (50, 50_000)
    )
    assert "known to ± 1" in few.words
    assert "known to ± 0" in many.words
