"""What people ask of a run.

The oracle is the run that had the same requests for the same numbers, undisturbed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toys.controls import PLANTED, TOTAL, WIDE, WISHES, Script, run
from toys.engine import (
    BUDGET,
    CONFIG,
    SPACE,
    STRATEGIES,
    Interrupting,
    Shuffled,
    UntilDeadline,
    by_number,
    jittery,
    ones,
    score,
    study,
)

from nanonas.core import Budget, Candidate, Evaluation, Proposal, State, Strategy
from nanonas.engine.controls import copy_requests, in_words
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.engine.requests import Request, RequestFiles, parsed
from nanonas.engine.storage.events import REQUEST_REFUSED, REQUEST_TAKEN
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Why
from nanonas.errors import InvalidInput, RunError
from nanonas.networks.limits import Limits
from nanonas.spaces.base import Bans
from nanonas.strategies.around.halving import Halving
from nanonas.strategies.around.inheriting import Inheriting
from nanonas.strategies.evolution import Evolution
from nanonas.strategies.local import LocalSearch
from nanonas.strategies.random import RandomSearch


def repeat(path: Path, copy: Path, strategy: Strategy, evaluator: object) -> None:
    """A new run with the requests of another one, for the same numbers."""
    with RunStore.read(path) as store, RunStore.begin(copy, CONFIG) as new:
        copy_requests(store, new)
    run(copy, strategy, evaluator)


def events(path: Path, *kinds: str) -> list[dict[str, object]]:
    with RunStore.read(path) as store:
        return [dict(event.details) for event in store.events() if event.kind in kinds]


def candidates(path: Path) -> list[Candidate]:
    with RunStore.read(path) as store:
        return store.candidates()


@pytest.fixture(params=STRATEGIES)
def make(request: pytest.FixtureRequest) -> Callable[[], Strategy]:
    return STRATEGIES[request.param]


# --- the same run everywhere ----------------------------------------------------------------------


def test_requests_are_recorded_with_the_first_number_that_they_apply_to(
    make: Callable[[], Strategy], tmp_path: Path
) -> None:
    run(tmp_path / "a.db", make(), wishes=WISHES)
    taken, refused = (
        events(tmp_path / "a.db", REQUEST_TAKEN),
        events(tmp_path / "a.db", REQUEST_REFUSED),
    )
    assert [(event["first"], event["what"]) for event in taken] == [
        (0, "ban"),
        (7, "plant"),
        (7, "ban"),
        (7, "plant"),
        (12, "ban"),
        (17, "allow"),
    ]
    assert [(event["id"], event["reason"]) for event in refused] == [
        (
            "12-1",
            (
                "the space 'toy' has no operation 'no such thing'; it has wide0, wide1, wide2, "
                "wide3, "
                "wide4, wide5, wide6"
            ),
        ),
        ("17-1", "this network is candidate #7 already; nothing is trained twice"),
    ]
    found = candidates(tmp_path / "a.db")
    assert [c.number for c in found if c.proposal.planted] == [7, 8]
    assert found[7].proposal == Proposal(PLANTED, budget=BUDGET, planted=True)
    assert found[7].asked_after == 0
    used = [WIDE.operations(c.proposal.genome) for c in found]
    assert not any("wide6" in operations for operations in used[:17])
    assert not any("wide0" in operations for operations in used[7:])
    assert not any("wide1" in operations for operations in used[12:])
    assert any(used[n] & {"wide0", "wide1"} for n in range(7))


@pytest.mark.parametrize("slots", [2, 3, 16])
def test_many_workers_come_to_the_same_store(
    make: Callable[[], Strategy], tmp_path: Path, slots: int
) -> None:
    """Requests of another run, for the same numbers; who was faster does not matter."""
    run(tmp_path / "one.db", make(), wishes=WISHES)
    repeat(tmp_path / "one.db", tmp_path / "many.db", make(), Shuffled(slots, seed=slots))
    assert by_number(tmp_path / "many.db") == by_number(tmp_path / "one.db")


def test_two_processes_come_to_the_same_store(tmp_path: Path) -> None:
    run(tmp_path / "one.db", STRATEGIES["aging"](), wishes=WISHES)
    with WorkerPool([jittery, jittery]) as pool:
        repeat(tmp_path / "one.db", tmp_path / "two.db", STRATEGIES["aging"](), pool)
    assert by_number(tmp_path / "two.db") == by_number(tmp_path / "one.db")


@pytest.mark.parametrize("at", [0, 1, 7, 8, 12, 17, TOTAL - 1])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_run_cut_anywhere_resumes_to_the_same_end(
    make: Callable[[], Strategy], tmp_path: Path, at: int, slots: int
) -> None:
    whole, cut = tmp_path / "whole.db", tmp_path / "cut.db"
    with pytest.raises(KeyboardInterrupt):
        run(cut, make(), Shuffled(slots, seed=at, measure=Interrupting(at)), WISHES)
    run(cut, make(), Shuffled(3, seed=0))  # what was not heard by then is not asked again
    repeat(cut, whole, make(), SerialEvaluator(score))
    assert by_number(cut) == by_number(whole)


def test_a_crash_between_the_record_and_the_removal_records_nothing_twice(tmp_path: Path) -> None:
    class Sticky(Script):
        def remove(self, name: str) -> None: ...

    wishes = {3: [Request("plant", genome=PLANTED)], 5: [Request("ban", "nothing")]}
    for _ in range(2):
        script = Sticky(wishes)
        made = study(
            tmp_path / "s.db", RandomSearch(WIDE), SerialEvaluator(score), space=WIDE, inbox=script
        )
        script.study = made
        made.run(TOTAL)
        made.store.close()
    assert (
        len(events(tmp_path / "s.db", REQUEST_TAKEN))
        == len(events(tmp_path / "s.db", REQUEST_REFUSED))
        == 1
    )
    assert [c.number for c in candidates(tmp_path / "s.db") if c.proposal.planted] == [3]


# --- planting -------------------------------------------------------------------------------------


def test_a_plant_begins_on_the_lowest_rung_and_may_be_promoted(tmp_path: Path) -> None:
    rungs = (Budget(1), Budget(3, begin=1))
    strategy = Halving(Inheriting(Evolution(WIDE, population_size=5)), rungs, eta=2, lag=2)
    best = (3, 3, 3, 4)
    run(
        tmp_path / "h.db",
        strategy,
        wishes={10: [Request("plant", genome=best)]},
        planted_budget=rungs[0],
    )
    found = candidates(tmp_path / "h.db")
    assert found[10].proposal == Proposal(best, budget=rungs[0], planted=True)
    assert any(c.proposal.resumes == 10 and c.proposal.budget == rungs[1] for c in found)
    assert any(10 in c.proposal.parents and c.proposal.inherits for c in found)


def test_a_bad_plant_ends_no_climb(tmp_path: Path) -> None:
    """To local search, what has no parents is a new beginning; what it did not ask for is one only
    if it is better.
    """

    def parents(genome: tuple[int, ...]) -> set[int]:
        path = tmp_path / f"{genome[0]}.db"
        run(path, LocalSearch(WIDE), wishes={6: [Request("plant", genome=genome)]})
        return {parent for c in candidates(path) for parent in c.proposal.parents}

    assert 6 not in parents((1, 1, 1, 1))
    assert 6 in parents((3, 3, 3, 4))


@pytest.mark.parametrize(
    ("genome", "reason"),
    [
        ((1, 2), "a genome of this space has 4 genes, but (1, 2) has 2"),
        (
            (6, 6, 6, 6),
            (
                "the network has 16,450 parameters and 1,037,040 MACs, but the limits are at most "
                "9,000 param"
            ),
        ),
        ((1, 1, 1, 0), "this genome uses wide1, which is banned; allow it first"),
        ((2, 2, 2, 2), "this genome waits already to become the next candidate"),
    ],
)
def test_what_cannot_be_planted(genome: tuple[int, ...], reason: str, tmp_path: Path) -> None:
    first = [Request("ban", "wide1"), Request("plant", genome=(2, 2, 2, 2))]
    wishes = {5: [*first, Request("plant", genome=genome)]}
    run(tmp_path / "r.db", RandomSearch(WIDE), wishes=wishes, limits=Limits(max_params=9_000))
    (refused,) = events(tmp_path / "r.db", REQUEST_REFUSED)
    assert str(refused["reason"]).startswith(reason)
    assert refused["genome"] == list(genome)


# --- bans -----------------------------------------------------------------------------------------


def test_a_ban_that_leaves_nothing_ends_the_run_and_says_why(tmp_path: Path) -> None:
    wishes = {3: [Request("ban", f"wide{gene}") for gene in range(7)]}
    script = Script(wishes)
    made = study(
        tmp_path / "n.db", RandomSearch(WIDE), SerialEvaluator(score), space=WIDE, inbox=script
    )
    script.study = made
    end = made.run(TOTAL)
    assert end.why is Why.EXHAUSTED
    assert end.message == (
        "what is not banned is exhausted: 10,200 of 10,200 draws from the space 'toy' use wide0, "
        "wide1, wide2, wide3, "
        "wide4, wide5, wide6; allow an operation again, or choose a larger space"
    )
    script.requests[4] = []
    script.requests[3] += [Request("allow", "wide3"), Request("allow", "wide2")]
    assert made.run(8).why is Why.EVALUATIONS
    made.store.close()
    assert all(set(c.proposal.genome) <= {2, 3} for c in candidates(tmp_path / "n.db")[3:])


def test_bans_are_not_repeated_nor_lifted_twice(tmp_path: Path) -> None:
    wishes = {1: [Request("ban", "wide2"), Request("ban", "wide2"), Request("allow", "wide3")]}
    run(tmp_path / "b.db", RandomSearch(WIDE), wishes=wishes)
    assert [event["reason"] for event in events(tmp_path / "b.db", REQUEST_REFUSED)] == [
        "wide2 is banned already",
        "wide3 is not banned",
    ]


def test_a_strategy_reads_the_bans_of_its_number(tmp_path: Path) -> None:
    bans, seen = Bans(WIDE), []

    class Reading(RandomSearch):
        def ask(self, number: int, rng: np.random.Generator, pending: object) -> Proposal:
            seen.append((number, bans.operations))
            return super().ask(number, rng, ())

    run(tmp_path / "b.db", Reading(WIDE), wishes=WISHES, bans=bans)
    assert {operations for number, operations in seen if number < 7} == {frozenset({"wide6"})}
    assert {operations for number, operations in seen if number >= 17} == {
        frozenset({"wide0", "wide1"})
    }


def test_operations_of_a_space_that_does_not_say_so() -> None:
    assert SPACE.operation_names == ("conv3x3", "globalpool")
    assert SPACE.operations((1, 0, 0, 0)) == {"conv3x3", "globalpool"}
    assert SPACE.operations((0, 0, 0, 0)) == {"globalpool"}


# --- pausing --------------------------------------------------------------------------------------


def test_a_pause_begins_nothing_until_it_ends(tmp_path: Path) -> None:
    files = RequestFiles(tmp_path / "requests")
    made = study(tmp_path / "p.db", RandomSearch(SPACE), Shuffled(3, seed=0), inbox=files)
    said: list[str] = []
    seen: list[tuple[int, bool]] = []

    def observe(progress: object) -> None:
        seen.append((len(made._candidates), made.paused))
        if len(seen) == 5:
            files.put(Request("pause"))
            files.put(Request("pause"))
            threading.Timer(1.2, lambda: files.put(Request("resume"))).start()

    start = time.monotonic()
    made.run(TOTAL, observe=observe, answered=said.append)
    assert time.monotonic() - start > 1.0
    assert 1.0 < made.paused_seconds < 3.0
    made.store.close()
    asked = [asked for asked, paused in seen if paused]
    assert asked
    assert len(set(asked)) == 1  # those at work finished, nothing was begun
    assert said == [
        f"paused before candidate #{asked[0]}",
        "refused: the search is paused already",
        f"going on with candidate #{asked[0]}",
    ]
    assert list((tmp_path / "requests").iterdir()) == []
    run(tmp_path / "whole.db", RandomSearch(SPACE), space=SPACE)
    assert by_number(tmp_path / "p.db") == by_number(tmp_path / "whole.db")


def test_a_pause_stops_the_clock(tmp_path: Path) -> None:
    files = RequestFiles(tmp_path / "requests")
    files.put(Request("pause"))
    made = study(
        tmp_path / "c.db", RandomSearch(SPACE), SerialEvaluator(UntilDeadline(quick=2)), inbox=files
    )
    threading.Timer(1.5, lambda: files.put(Request("resume"))).start()
    start = time.monotonic()
    end = made.run(deadline=start + 1)  # is over while it is paused
    assert end.why is Why.DEADLINE
    assert 2.4 < time.monotonic() - start < 4.5
    assert len(made.store.candidates()) == 3
    made.store.close()


def test_what_a_deadline_cut_during_a_pause_is_trained_again(tmp_path: Path) -> None:
    files = RequestFiles(tmp_path / "requests")
    made = study(tmp_path / "c.db", RandomSearch(SPACE), SerialEvaluator(score), inbox=files)

    def measure(candidate: Candidate, pulse: Callable[[], bool]) -> Evaluation:
        if candidate.number == 2 and not made.paused_seconds:
            files.put(Request("pause"))
            for sentence in made._controls.hear(3):
                assert sentence == "paused before candidate #3"
            time.sleep(0.1)
            threading.Timer(0.3, lambda: files.put(Request("resume"))).start()
            return Evaluation(2, State.CUT, {"accuracy": 0.1}, reason="the time was over")
        return ones(candidate, pulse)

    made.evaluator = SerialEvaluator(measure)
    assert made.run(5, deadline=time.monotonic() + 30).why is Why.EVALUATIONS
    assert [e.state for e in made.store.evaluations() if e.number == 2] == [
        State.CUT,
        State.COMPLETE,
    ]
    made.store.close()


def test_a_paused_run_that_is_killed_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    wishes = {4: [Request("pause")]}

    class Killed(Script):
        def waiting(self) -> list[tuple[str, Request | InvalidInput]]:
            if self.study is not None and self.study.paused:
                raise KeyboardInterrupt
            return super().waiting()

    script = Killed(wishes)
    made = study(tmp_path / "k.db", RandomSearch(SPACE), SerialEvaluator(score), inbox=script)
    script.study = made
    with pytest.raises(KeyboardInterrupt):
        made.run(TOTAL)
    made.store.close()
    assert len(candidates(tmp_path / "k.db")) == 4
    run(tmp_path / "k.db", RandomSearch(SPACE), space=SPACE)
    run(tmp_path / "whole.db", RandomSearch(SPACE), space=SPACE)
    assert by_number(tmp_path / "k.db") == by_number(tmp_path / "whole.db")


def test_a_run_that_has_reached_its_goal_ends_although_it_is_paused(tmp_path: Path) -> None:
    run(tmp_path / "e.db", RandomSearch(SPACE), space=SPACE, wishes={TOTAL: [Request("pause")]})
    assert len(candidates(tmp_path / "e.db")) == TOTAL


# --- the files ------------------------------------------------------------------------------------


def test_files_are_heard_in_order_and_whole_or_not_at_all(tmp_path: Path) -> None:
    files = RequestFiles(tmp_path / "requests")
    assert files.waiting() == []
    names = [files.put(Request("ban", f"op{n}")) for n in range(5)]
    (files.folder / f".{names[0]}.json.123.part").write_text('{"what": "pau')
    (files.folder / "Notes of mine.json").write_text("{}")
    (files.folder / "notes.txt").write_text("mine")
    assert [(name, str(request)) for name, request in files.waiting()] == [
        (name, f"ban op{n}") for n, name in enumerate(names)
    ]
    for name in names:
        files.remove(name)
        files.remove(name)
    assert files.waiting() == []
    assert len(list(files.folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "a request must be a JSON file that can be read, but this one is not"),
        ("[" * 5000, "a request must be a JSON file"),
        ("\xff", "a request must be a JSON file"),
        ("[1]", "a request must be an object such as {'what': 'pause'}, but is [1]"),
        ("{}", "what is asked for must be words, but is None and None"),
        (
            '{"what": "stop"}',
            "a request must be one of pause, resume, ban, allow, plant, but is 'stop'",
        ),
        ('{"what": "ban"}', "the request 'ban' must name an operation"),
        ('{"what": "ban", "operation": 3}', "what is asked for must be words"),
        (
            '{"what": "pause", "operation": "zero"}',
            "the request 'pause' has no operation, but was given 'zero'",
        ),
        ('{"what": "plant"}', "the request 'plant' must have a genome, a list of whole numbers"),
        (
            '{"what": "plant", "genome": [1, true]}',
            "a genome must be a list of whole numbers, but is [1, True]",
        ),
        ('{"what": "pause", "genome": [1]}', "the request 'pause' has no genome"),
        (
            '{"what": "pause", "when": "now"}',
            "a request has what, operation and genome, but this one has 'when'",
        ),
        (" " * 100_001, "a request has at most 100,000 bytes, but this one has more"),
    ],
)
def test_what_nobody_can_read_is_refused_with_a_reason(
    content: str, reason: str, tmp_path: Path
) -> None:
    files = RequestFiles(tmp_path / "requests")
    files.folder.mkdir()
    (files.folder / "a.json").write_bytes(content.encode("latin-1"))
    made = study(tmp_path / "f.db", RandomSearch(SPACE), SerialEvaluator(score), inbox=files)
    made.run(3)
    made.store.close()
    (refused,) = events(tmp_path / "f.db", REQUEST_REFUSED)
    assert str(refused["reason"]).startswith(reason)
    assert refused["id"] == "a"
    assert files.waiting() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_request(tmp_path: Path) -> None:
    files = RequestFiles(tmp_path)
    os.mkfifo(tmp_path / "a.json")
    ((_, request),) = files.waiting()
    assert isinstance(request, InvalidInput)


def test_a_request_reads_back() -> None:
    for request in (Request("pause"), Request("ban", "zero"), Request("plant", genome=(1, 2))):
        assert parsed(request.to_values()) == request


def test_a_long_genome_is_said_briefly() -> None:
    assert str(Request("plant", genome=(1,) * 12)) == "plant [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"
    assert (
        str(Request("plant", genome=(1,) * 13))
        == "plant [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, …] of 13 numbers"
    )


def test_a_request_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "requests").write_text("a file")
    with pytest.raises(RunError, match="requests' cannot be made"):
        RequestFiles(tmp_path / "requests").put(Request("pause"))


def test_requests_in_words() -> None:
    assert (
        in_words({"what": "ban", "operation": "zero", "first": 3})
        == "zero is banned from candidate #3 on"
    )
    assert (
        in_words({"what": "allow", "operation": "zero", "first": 3})
        == "zero is allowed again from candidate #3 on"
    )
    said = in_words({"what": "plant", "genome": [1], "first": 3})
    assert said == "a genome is planted, as candidate #3 or as soon after it as one is trained"
