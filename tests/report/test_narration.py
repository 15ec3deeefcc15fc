"""What is said of a search is what happened in it: numbers, names and reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from toys.report import BUDGET, HALF, SPACE, entries, entry, evaluated, record

from nanonas.analysis.record import Entry, Record
from nanonas.analysis.remembered import of_networks
from nanonas.core import Budget, Objective, Prediction, State
from nanonas.engine.storage.events import Event
from nanonas.networks.edits import difference, in_words
from nanonas.report.words.narration import Narrator, farewell, narrate

JUDGED = Event(0.0, "images", {"valid": 200})
RNG = np.random.default_rng(3)
GENOMES = [SPACE.sample(RNG) for _ in range(10)]
FIRST = [entry(n, genome, 0.5 + 0.02 * n) for n, genome in enumerate(GENOMES)]  # 50 % to 68 %


def child(
    number: int, parent: int, accuracy: float | None, among: Sequence[Entry] = FIRST, **more: Any
) -> Entry:
    genome = SPACE.mutate(among[parent].genome, np.random.default_rng(number))
    return entry(number, genome, accuracy, parents=(parent,), **more)


def said(some: Sequence[Entry], generation: int, **search: object) -> str:
    run = record(
        list(some), config={"search": {"strategy": "evolution", **search}}, events=(JUDGED,)
    )
    return " ".join(narrate(run, generation))


def edit(parent: Entry, young: Entry) -> str:
    words = in_words(of_networks(difference, SPACE, parent.genome, young.genome).edits)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def state(one: Entry, state: State, reason: str) -> Entry:
    return replace(one, evaluation=evaluated(one.number, one.accuracy, state, reason=reason))


def test_the_first_generation_is_drawn_and_its_spread_is_told() -> None:
    words = said(FIRST, 0)
    assert "10 networks were drawn at random, for nothing is known yet." in words
    assert (
        "right on 50.00 % to 68.00 % of the validation images, half of them on more than 59.00 %"
        in words
    )
    assert "The best so far is #9 with 68.00 % (1.0K parameters, 20.0K MACs)." in words
    assert "bred" in words
    assert "parents" not in words.replace("the parents", "")


def test_children_are_told_with_parents_edits_and_gains() -> None:
    some = [*FIRST, child(10, 9, 0.70), child(11, 9, 0.60), child(12, 8, 0.60)]
    words = said(some, 1)
    assert (
        "3 children were bred: 3 by a change to one parent. The parents, with how many children: "
        "#9 (2) and #8 (1)." in words
    )
    assert "1 of 3 came out better than their parents." in words
    assert (
        f"The largest step was #10: +2.00 points over #9, by {edit(FIRST[9], some[10])}." in words
    )
    assert "The best so far is #10 with 70.00 %" in words
    assert "+2.00 points over the best before" in words
    assert f"It is #9 with {edit(FIRST[9], some[10])}." in words
    assert "tournament" in words


def test_the_typical_child_is_told_against_the_typical_beginner() -> None:
    some = [*FIRST, child(10, 9, 0.70), child(11, 9, 0.66), child(12, 8, 0.60)]
    level = (
        "Half of the children are right on more than {} %, of the first generation half were on "
        "more than 59.00 %"
    )
    assert f"{level.format('66.00')}: so breeding pays, best or not." in said(some, 1)
    worse = [*FIRST, *(child(n, 9, 0.55) for n in (10, 11, 12))]
    assert f"{level.format('55.00')}: so breeding has not paid yet." in said(worse, 1)
    unlike = [*FIRST, *(child(n, 9, 0.7, budget=HALF) for n in (10, 11, 12))]
    assert "Half of the children" not in said(unlike, 1)


def test_what_a_word_means_is_said_once() -> None:
    some = [*FIRST, *(child(n, 9, 0.6) for n in range(10, 20)), child(20, 9, 0.6)]
    assert "tournament" in said(some, 1)
    assert "Most changes do harm" in said(some, 1)
    later = said(some, 2)
    assert "tournament" not in later
    assert "Most changes do harm" not in later
    assert "None of 1 came out better" in later


def test_only_what_was_told_by_then_is_told() -> None:
    some = [*FIRST, child(10, 9, 0.99)]
    assert said(some, 0) == said(FIRST, 0)


def test_a_best_that_stays_is_said_to() -> None:
    some = [*FIRST, *(child(n, 9, 0.6) for n in range(10, 21))]
    assert "Nothing beats #9 of the generation before: 68.00 % remain the best." in said(some, 1)
    assert "Nothing beats #9 of 2 generations ago" in said(some, 2)


def test_two_parents_are_a_crossing_and_the_better_one_counts() -> None:
    crossed = SPACE.crossover(GENOMES[9], GENOMES[2], np.random.default_rng(0))
    some = [*FIRST, entry(10, crossed, 0.66, parents=(9, 2)), child(11, 9, 0.69)]
    words = said(some, 1)
    assert (
        "2 children were bred: 1 by a change to one parent and 1 by crossing two parents, then a "
        "change." in words
    )
    assert (
        "1 of 2 came out better than the better of their parents." in words
    )  # 66 % is more than #2 had, but less than #9


def test_how_parents_are_chosen_is_the_strategys() -> None:
    some = [*FIRST, child(10, 9, 0.7)]
    assert "The oldest dies" in said(some, 1, strategy="aging")
    assert "The oldest dies" in said(some, 1, strategy="screened", screens="aging")
    assert "goes on from there" in said(some, 1, strategy="local")
    assert "nothing from those before" in said(
        [*FIRST, entry(10, GENOMES[0], 0.7)], 1, strategy="random"
    )


def test_the_pruned_and_the_failed_are_told_with_reasons() -> None:
    stops = Budget(4, 2, 0.3)
    some = [
        *FIRST,
        state(child(10, 9, 0.2, budget=stops), State.PRUNED, "accuracy 0.200 is below 0.300"),
        state(child(11, 9, None), State.FAILED, "out of memory"),
        state(child(12, 9, None), State.FAILED, "out of memory"),
        state(child(13, 9, None), State.INFEASIBLE, "9.1 ms are more than 5 ms"),
    ]
    words = said(some, 1)
    assert "1 network was stopped early: after epoch 2 it was right on less than 30.00 %" in words
    assert "2 networks were lost: out of memory." in words
    assert "1 network was over a limit: 9.1 ms are more than 5 ms." in words


def test_a_plant_is_nobodys_child() -> None:
    words = said([*FIRST, entry(10, GENOMES[1], 0.7, planted=True)], 1)
    assert "#10 was planted by a person." in words
    assert "bred" not in words


@pytest.mark.parametrize(
    ("right", "verdict"),
    [(True, "better than chance"), (False, "worth nothing, so it stands aside")],
)
def test_a_predictor_is_told_with_what_it_is_worth(right: bool, verdict: str) -> None:
    some = list(FIRST)
    for n in range(10, 30):
        accuracy = 0.5 + 0.01 * n
        guess = Prediction(-accuracy if right else accuracy, 0.01, "gaussian", chosen=n % 4 != 3)
        some.append(child(n, 9, accuracy, predicted=guess))
    words = said(some, 2)
    assert (
        "The predictor (gaussian) guessed the accuracy of 10 networks beforehand, and chose 8 of "
        "them." in words
    )
    assert f"Of the last 20 guesses Kendall's τ is {'+' if right else '−'}1.00" in words
    assert verdict in words
    assert "It has learnt" in said(some, 1)
    assert "It has learnt" not in words


def test_inheritance_is_told_with_what_its_twins_show() -> None:
    some = list(FIRST)
    for n in range(10, 19):
        heir = some[-1]
        if n % 3 == 2:
            some.append(entry(n, heir.genome, (heir.accuracy or 0) - 0.05, parents=(heir.number,)))
        else:
            some.append(child(n, 9, 0.6 + 0.01 * n, inherits=(9,), budget=HALF))
    words = said(some, 1)
    assert "6 children began with the parents' weights and trained for 2 epochs only." in words
    assert "3 twins, the same as a child but from scratch, were trained." in words
    assert (
        "By the 3 twins so far, an heir's accuracy is 5.00 ± 0.00 points above what it would have"
        in words
    )
    assert "may be nothing" not in words
    assert "is not known before three twins" in said(some[:13], 1)
    way = farewell(record(some, config={"search": {"finalists": 3}}))
    assert any("the best 3 are now trained from scratch" in words for words in way)


def test_promotions_are_told_by_rung_and_are_nobodys_children() -> None:
    some = [
        *FIRST,
        entry(10, GENOMES[9], 0.8, parents=(9,), resumes=9, budget=Budget(8, begin=4)),
        entry(11, GENOMES[8], 0.8, parents=(8,), resumes=8, budget=Budget(8, begin=4)),
        entry(12, GENOMES[9], 0.9, parents=(10,), resumes=10, budget=Budget(16, begin=8)),
        child(13, 9, 0.7),
    ]
    words = said(some, 1)
    assert "3 networks trained on, 2 to epoch 8 and 1 to epoch 16" in words
    assert "1 child was bred" in words
    unlike = [
        *some[:13],
        entry(13, SPACE.mutate(GENOMES[9], RNG), 0.95, parents=(12,), budget=BUDGET),
    ]
    assert "came out better" not in said(unlike, 1)  # 16 epochs against 4 compare nothing


def test_with_several_objectives_the_front_is_told() -> None:
    both = (Objective(), Objective("params", maximize=False))
    words = " ".join(narrate(record(FIRST, objectives=both), 0))
    assert (
        "has 10 members, 10 of them new: from #0, 50.00 % with 1.0K parameters, to #9, 68.00 % "
        "with 1.0K" in words
    )
    assert "There is no one best" in words
    some = [*FIRST, child(10, 9, 0.7), child(11, 9, 0.6), child(12, 9, 0.6)]
    words = " ".join(narrate(record(some, objectives=both), 1))
    assert "1 of 3 came out more accurate than their parents." in words
    assert "Half of the children" not in words  # accuracy alone is not what is bred for


def test_the_way_to_the_best_ends_a_search() -> None:
    some = [*FIRST, child(10, 4, 0.7)]
    some.append(
        entry(11, SPACE.mutate(some[10].genome, np.random.default_rng(5)), 0.8, parents=(10,))
    )
    way, doubt = farewell(record(some, events=(JUDGED,)))
    assert way.startswith("The best, #11, goes back to #4: #4 (58.00 %) → #10 (")
    assert f"#11 ({edit(some[10], some[11])}; 80.00 %)" in way
    assert "80.00 % is the best of 12 tries" in doubt
    assert (
        "with 200 validation images, two networks less than 7.8 points apart may well be alike"
        in doubt
    )
    assert "drawn at random: nothing that was bred is better" in farewell(record(FIRST))[0]
    assert farewell(record([])) == ["No network was judged, so there is nothing to look back on."]


def narrator(known: Sequence[Entry] = ()) -> Narrator:
    return Narrator(record(list(known)), lambda generation: 10 * (generation + 1))


def test_a_generation_is_told_once_all_of_it_is_there() -> None:
    some = entries(25)
    telling = narrator()
    order = [*range(1, 10), 12, 0, *(n for n in range(10, 25) if n != 12)]
    told = {n: [generation for generation, _ in telling.hear(some[n])] for n in order}
    assert {n: whole for n, whole in told.items() if whole} == {0: [0], 19: [1]}
    assert [generation for generation, _ in telling.end()] == [2, None]


def test_a_resumed_search_is_not_told_again() -> None:
    some = entries(25)
    telling, fresh = narrator(some[:15]), narrator()
    of_fresh = [told for one in some[:20] for told in fresh.hear(one)]
    assert [told for one in some[15:20] for told in telling.hear(one)] == of_fresh[1:]


def test_what_the_deadline_cut_is_told_at_the_end_alone() -> None:
    some = [*FIRST[:9], state(FIRST[9], State.CUT, "the time was up")]
    telling = narrator()
    assert [told for one in some for told in telling.hear(one)] == []
    (generation, words), last = telling.end()
    assert generation == 0
    assert "1 network was cut off by the end of the time." in words
    assert last[0] is None


def test_every_toy_can_be_told() -> None:
    run: Record = record(
        entries(60), config={"search": {"strategy": "screened", "screens": "aging"}}
    )
    told = [
        words.replace("None of", "")
        for generation in range(6)
        for words in narrate(run, generation)
    ]
    assert all(words.endswith(".") and "None" not in words for words in told)
