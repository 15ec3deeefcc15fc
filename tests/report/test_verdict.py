"""The words at the top: what speaks for a run, what against it, what is open."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toys.report import SPACE, entries, entry, evaluated, record

from nanonas.analysis.equal_time import EqualTime, Trained
from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Entry
from nanonas.core import Budget, Objective, State
from nanonas.engine.storage.events import Event
from nanonas.report.words.verdict import Argument, cards, headline, verdict

FINAL = {"test_accuracy": 0.9, "test_images": 300, "epochs": 5, "latency_ms": 0.2, "seconds": 3.0}


def found(some: list[Entry], **more: Any) -> Findings:
    return Findings(record(some, **more))


def arguments(words: str, some: list[Entry], **more: Any) -> list[Argument]:
    """Those that have these words."""
    return [one for one in verdict(found(some, **more)) if words in one.words]


def signs(words: str, **more: Any) -> list[str]:
    return [one.sign for one in arguments(words, entries(60), **more)]


def opened(*purposes: str) -> tuple[Event, ...]:
    return tuple(Event(0.0, "test set opened", {"for": purpose}) for purpose in purposes)


def test_the_test_set() -> None:
    assert signs("No test image was looked at yet") == ["open"]
    assert signs("opened once for the winner", final=FINAL, events=opened("the winner")) == ["for"]
    assert signs("opened once, to compare", events=opened("compare: found-seed0")) == ["for"]
    compared = opened("the winner", "compare: found-seed0", "compare: resnet18-seed0")
    assert signs("and 2 times to compare it", final=FINAL, events=compared) == ["for"]
    exported = opened("the winner", "export", "export")
    assert signs("and 2 times to check what was exported", final=FINAL, events=exported) == ["for"]
    assert signs("opened once, to check what was exported", events=opened("export")) == ["for"]
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
    trained = {
        "network": network,
        "test_accuracy": accuracy,
        "spread": spread,
        "params": params,
        "epochs": 10.0,
    }
    return {**trained, "trainings": [{"seconds": 1.0}] * trainings}


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


@pytest.mark.parametrize(
    ("ahead", "sign"), [((0.1, 0.11), "for"), ((-0.1, -0.11), "against"), ((0.1, -0.1), "open")]
)
def test_a_comparison_at_equal_time_counts_as_its_seeds_say(
    ahead: tuple[float, ...], sign: str
) -> None:
    trained = [
        Trained(name, seed, accuracy, 100, 1000, 9.0, 60.0)
        for seed, off in enumerate(ahead)
        for name, accuracy in (("search", 0.8 + off), ("plain", 0.8))
    ]
    said = EqualTime(60.0, "", ("plain",), trained)
    assert signs("the best hand-made network (plain)", equal_time=said) == [sign]
    assert signs("Whether the search was worth it is not known", equal_time=said) == []


TASK = {"input_shape": [3, 32, 32], "classes": 10}


def judged(n: int, tau: float, left_out: bool = False) -> Event:
    details = {"tau": tau, "low": tau - 0.2, "high": tau + 0.2, "n": n, "left_out": left_out}
    return Event(0.0, "experience judged", details)


@pytest.mark.parametrize(
    ("noted", "after", "sign", "words"),
    [
        (
            {},
            [judged(20, 0.3)],
            "for",
            "networks here agrees with that by Kendall's τ of +0.30 "
            "(+0.10 to +0.50), which is better than chance: it was heeded.",
        ),
        (
            {},
            [judged(9, 0.1)],
            "open",
            "which so few networks cannot tell from chance: it was heeded.",
        ),
        (
            {},
            [judged(10, -0.1, True), judged(40, -0.2, True)],
            "open",
            "(−0.40 to +0.00), no better than chance: it was left out after 10 networks.",
        ),
        ({}, [judged(30, 0.1, True)], "open", "not surely better than chance: it was left out"),
        (
            {},
            [judged(10, -0.1, True), judged(25, 0.3)],
            "for",
            "better than chance: it was left out after 10 networks and heeded again after 25 "
            "networks.",
        ),
        (
            {"tasks": [TASK, {"input_shape": [1, 8, 8], "classes": 3}]},
            [judged(20, 0.3)],
            "for",
            "have shown on images of 32×32×3 in 10 classes and 8×8×1 in 3 classes; the order",
        ),
        (
            {"foretold": judged(40, -0.1, True).details},
            [],
            "open",
            "do not foretell each other (Kendall's τ of −0.10 (−0.30 to +0.10)), so that was left",
        ),
        ({}, [], "open", "how well that orders the networks here is not known."),  # of an old run
        ({"networks": 0, "runs": 0}, [], "open", "no other run over its space was known"),
    ],
)
def test_experience_counts_as_far_as_it_ordered_what_was_measured(
    noted: dict[str, Any], after: list[Event], sign: str, words: str
) -> None:
    begun = Event(0.0, "begun with", {"digest": "0", "runs": 2, "networks": 80, **noted})
    assert signs(words, events=(begun, *after)) == [sign]


def test_who_has_no_use_for_experience_is_told() -> None:
    begun = Event(0.0, "begun with", {"digest": "0", "runs": 2, "networks": 80})
    for search, words in (
        ({"strategy": "screened", "predictor": "lstm"}, "the predictor lstm begins anew"),
        ({"strategy": "aging", "predictor": "gaussian"}, "no predictor screens this search"),
        ({"strategy": "nsga2", "predictor": "gaussian"}, "with several objectives nothing"),
    ):
        names = ("accuracy", "params") if search["strategy"] == "nsga2" else ("accuracy",)
        objectives = tuple(Objective(name) for name in names)
        known = {"events": (begun,), "config": {"search": search}, "objectives": objectives}
        assert signs(words, **known) == ["open"]


def test_without_a_comparison_nobody_knows() -> None:
    assert signs("Whether the search was worth it is not known") == ["open"]


@pytest.mark.parametrize(("gain", "sign"), [(0.2, "for"), (0.0, "open"), (-0.2, "open")])
def test_learning_is_told_from_luck(gain: float, sign: str) -> None:
    genome = SPACE.sample(np.random.default_rng(0))
    some = [entry(n, genome, 0.5 + gain * (n // 10) / 3 + 0.001 * (n * 7 % 10)) for n in range(40)]
    assert [one.sign for one in arguments("the median accuracy was", some)] == [sign]


def test_many_failures_are_against_it() -> None:
    assert signs("trainings failed") == []  # a few of them
    failed = [
        replace(one, evaluation=evaluated(n, None, State.FAILED, reason="killed")) if n % 2 else one
        for n, one in enumerate(entries(30))
    ]
    assert [one.sign for one in arguments("of 30 trainings failed", failed)] == ["against"]


def test_the_headline_says_what_the_figures_say() -> None:
    said = " ".join(
        headline(
            found(entries(60), final=FINAL, seconds=100.0, config={"search": {"strategy": "aging"}})
        )
    )
    assert "Aging evolution tried 60 networks of the space layers in 1m 40s" in said
    assert "right on 90.00 % of 300 test images" in said
    seconds = [entry(0, SPACE.sample(np.random.default_rng(0)), 0.5, budget=Budget(1, seconds=7.0))]
    planned = {"search": {"strategy": "aging", "candidate_image_size": 12, "typical_cost": 1e-3}}
    said = " ".join(headline(found(seconds, config=planned)))
    assert "trained for 7 s, a costlier one for longer, on" in said
    assert "images of 3×16×16, seen at 12×12) and judged" in said
    assert "without its final training yet" in " ".join(headline(found(entries(12))))
    assert headline(found([]))[-1].startswith("No network was judged yet")
    assert dict(cards(found(entries(60), final=FINAL)))["test accuracy"] == "90.00 %"


def test_how_many_are_as_good_depends_on_the_validation_images() -> None:
    few, many = (
        arguments("tries", entries(60), events=(Event(0.0, "images", {"valid": n}),))[0]
        for n in (50, 50_000)
    )
    (few_from, few_to), (many_from, many_to) = (
        (float(bound) for bound in re.findall(r"may be ([\d.]+) % to ([\d.]+) %", one.words)[0])
        for one in (few, many)
    )
    assert few_to - few_from > 15
    assert many_to - many_from < 1


def test_a_best_that_nothing_was_chosen_from_does_not_speak_for_itself() -> None:
    events = (Event(0.0, "images", {"valid": 7}),)
    (alone,) = arguments("Validation accuracies come from 7 images", entries(1), events=events)
    assert alone.sign == "open"
    assert "tries" not in alone.words
    genomes = [SPACE.sample(np.random.default_rng(seed)) for seed in (0, 1)]
    far, near = (
        arguments(
            "the best of 2 tries",
            [entry(0, genomes[0], 1.0), entry(1, genomes[1], other)],
            events=events,
        )[0]
        for other in (0.2, 0.9)
    )
    assert (far.sign, near.sign) == ("for", "open")
    assert "100.00 % may be 64.57 % to 100.00 %" in far.words  # Wilson's interval, 7 of 7


def test_one_random_network_has_no_mean() -> None:
    comparison = (row("found", 0.9), row("random 1", 0.8))
    (said,) = arguments("Against a random network", entries(60), comparison=comparison)
    assert said.words == (
        "Against a random network of the same space, trained alike: +10.00 points."
    )
    two = (*comparison, row("random 2", 0.7))
    (said,) = arguments("Against 2 random networks", entries(60), comparison=two)
    assert "+15.00 points over their mean, +10.00 points over the best of them" in said.words


def test_the_headline_says_why_the_winner_has_not_the_highest_figure() -> None:
    some = entries(60)
    highest, *_, other = record(some).ranked
    assert highest.accuracy is not None

    def said(number: int, **more: float) -> str:
        details = {"number": number, "accuracy": 0.612, **more}
        chosen = (Event(0.0, "chosen", details),)
        return " ".join(headline(found(some, final=FINAL, events=chosen)))

    words = said(other.number, of_highest=0.598)
    assert f"The winner, #{other.number}, has" in words
    assert f"#{other.number} was chosen by the accuracy that is expected of it" in words
    assert "61.20 %: the highest of many figures is the luckiest" in words
    figure = f"{100 * highest.accuracy:.2f} %"
    assert f"That is {figure}, of #{highest.number}, of which 59.80 % is expected." in words
    assert f"#{highest.number}." in said(other.number)
    assert "was chosen by the" not in said(highest.number)
    assert other.evaluation is not None
    equal = {**other.metrics, "accuracy": highest.accuracy}
    some[other.number] = replace(other, evaluation=replace(other.evaluation, metrics=equal))
    assert "was chosen by the" not in said(other.number)  # of two equal figures one
