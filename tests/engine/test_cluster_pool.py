"""Places for candidates on a cluster, without Ray: threads play its processes. The oracle is the
store of one process.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from toys.cluster import Heir, Looks
from toys.engine import (
    STRATEGIES,
    Misbehaving,
    Unloadable,
    UntilDeadline,
    by_number,
    jittery,
    score,
    study,
)
from toys.ray import ThreadRay, cluster_of

from nanonas.core import Candidate, Evaluation, Measure, Proposal, State
from nanonas.data import images as images_module
from nanonas.data.images import DataSpec, Images, load
from nanonas.engine.evaluators import cluster as cluster_module
from nanonas.engine.evaluators import joining, slot
from nanonas.engine.evaluators.attempt import Unkept
from nanonas.engine.evaluators.cluster import ClusterPool
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.events import MACHINE, WORKER_LOST
from nanonas.engine.study import Progress
from nanonas.errors import RunError
from nanonas.processes import memory_of
from nanonas.session.away import Away

TOTAL = 20

Heard = list[tuple[str, Mapping[str, Any]]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that join and leave are seen at once, and images are held by nobody else."""
    monkeypatch.setattr(joining, "_ASK_SECONDS", 0.0)
    monkeypatch.setattr(cluster_module, "_TICK", 0.02)
    monkeypatch.setattr(images_module, "_held", {})


def candidate(number: int, **known: Any) -> Candidate:
    return Candidate(number, Proposal((1, 1, 1, 2), **known), f"key{number}")


def evaluate(
    ray: ThreadRay, measure: Measure, numbers: int = 1, **options: Any
) -> dict[int, Evaluation]:
    """Evaluations of candidates 0 … numbers - 1."""
    with ClusterPool(cluster_of(ray), measure, **options) as pool:
        for number in range(numbers):
            pool.submit(candidate(number))
        results = [pool.result(timeout=30) for _ in range(numbers)]
        assert pool.result(timeout=0) is None
    assert all(actor.ended for actor in ray.actors)
    return {result.number: result for result in results if result is not None}


def listening(heard: Heard) -> Callable[[str, Mapping[str, Any]], None]:
    return lambda kind, details: heard.append((kind, details))


@pytest.mark.parametrize("strategy", ["steady", "evolution"])
def test_nodes_that_are_lost_and_join_leave_the_store_of_one_process(
    strategy: str, tmp_path: Path
) -> None:
    made = study(tmp_path / "one.db", STRATEGIES[strategy](), SerialEvaluator(score))
    made.run(TOTAL)
    made.store.close()
    ray, heard, slots = ThreadRay([(1, 0), (2, 0)]), Heard(), set[int]()
    with ClusterPool(cluster_of(ray), jittery, notice=listening(heard)) as pool:
        assert pool.slots == 3

        def observe(progress: Progress) -> None:
            slots.add(pool.slots)
            if progress.evaluated in (6, 14):
                ray.lose_node()
            elif progress.evaluated in (3, 10):
                ray.join(2)

        made = study(tmp_path / "cluster.db", STRATEGIES[strategy](), pool)
        made.run(TOTAL, observe=observe)
        made.store.close()
    assert by_number(tmp_path / "cluster.db") == by_number(tmp_path / "one.db")
    assert {3, 5} <= slots
    assert {kind for kind, _ in heard} <= {WORKER_LOST}


def at_work(pool: ClusterPool) -> bool:
    """Whether a candidate is, and all places are ready that there is room for."""
    there = [place for place in pool._slots if place.ready and not place.actor.ended]
    return len(there) == pool.slots and any(place.task for place in there)


@pytest.mark.parametrize("losses", [1, 2])
def test_a_candidate_whose_node_is_lost_is_tried_once_more(losses: int) -> None:
    """Not in a place that was idle on the same node."""
    ray, heard = ThreadRay([(2, 0)] * 3), Heard()
    with ClusterPool(cluster_of(ray), UntilDeadline(0), most=2, notice=listening(heard)) as pool:
        assert pool.slots == 2
        pool.submit(candidate(0), time.monotonic() + (0.5 if losses == 1 else 60))
        for _ in range(losses):
            while not at_work(pool):
                assert pool.result(timeout=0.02) is None
            assert ray.lose_node() == 2
        result = pool.result(timeout=30)
    assert result is not None
    assert result.state is (State.CUT if losses == 1 else State.FAILED)
    lost = "its node was lost"
    assert losses == 1 or result.reason == f"its worker died twice: {lost}"
    assert heard == [(WORKER_LOST, {"number": 0, "reason": lost})]


def test_a_lost_candidate_is_not_given_to_a_place_that_answered_before_its_node_was_lost() -> None:
    """One loss is one attempt, though the pool hears of it and of that answer at once."""
    ray, heard = ThreadRay([(2, 0), (2, 0)]), Heard()
    with ClusterPool(cluster_of(ray), UntilDeadline(1), most=2, notice=listening(heard)) as pool:
        while not all(slot.ready for slot in pool._slots):
            pool._listen(0.02)
        pool.submit(candidate(1), time.monotonic() + 1)
        pool.submit(candidate(0))
        while not pool._slots[1].work.done():
            time.sleep(0.01)
        assert ray.lose_node() == 2
        results = [pool.result(timeout=30) for _ in range(2)]
    assert [one.state for one in results if one is not None] == [State.COMPLETE, State.CUT]
    assert [details["number"] for _, details in heard] == [1]


def test_nodes_that_are_lost_before_a_process_is_ready_are_no_candidates_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin, there = slot.Slot.begin, threading.Event()
    monkeypatch.setattr(slot.Slot, "begin", lambda self: there.wait() and begin(self))
    ray, heard = ThreadRay([(1, 0)]), Heard()
    with ClusterPool(cluster_of(ray), score, notice=listening(heard)) as pool:
        pool.submit(candidate(0))
        for _ in range(3):
            assert pool.result(timeout=0.1) is None
            assert ray.lose_node() == 1
            ray.join(1)
        there.set()
        result = pool.result(timeout=30)
    assert result is not None
    assert result.state is State.COMPLETE
    assert heard == []


def test_what_hangs_or_takes_too_long_is_ended_and_costs_no_other(tmp_path: Path) -> None:
    hangs = Misbehaving(1, "hang", tmp_path)
    results = evaluate(ThreadRay([(2, 0)]), hangs, 3, hang_seconds=0.3)
    assert results.pop(1).reason == "no batch for 0.3 s: it hung, and was killed"
    assert {one.state for one in results.values()} == {State.COMPLETE}
    results = evaluate(ThreadRay([(1, 0)]), hangs, 2, timeout=lambda candidate: 0.2)
    assert results[0].state is State.COMPLETE
    assert results[1].reason == "still at work after 0.2 s: it was killed (--candidate-timeout)"


def test_where_no_process_can_load_the_measure_candidates_fail_with_the_reason() -> None:
    result = evaluate(ThreadRay([(1, 0)]), Unloadable())[0]
    assert result.reason == (
        "no worker could start: ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
    )


@pytest.mark.skipif(memory_of(os.getpid()) is None, reason="memory is watched on Linux alone")
def test_a_process_that_holds_too_much_is_replaced() -> None:
    heard = Heard()
    result = evaluate(ThreadRay([(1, 0)]), score, memory_mb=1.0, notice=listening(heard))[0]
    assert result.state is State.FAILED
    assert (result.reason or "").startswith("its worker died twice: it held ")
    assert [kind for kind, _ in heard] == [WORKER_LOST]


def test_another_kind_of_node_is_noted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot, "described", lambda: {"hardware": "8 cores of Others"})
    heard = Heard()
    evaluate(ThreadRay([(1, 0), (1, 0)]), score, 4, notice=listening(heard))
    assert [kind for kind, _ in heard] == [MACHINE]
    assert "Others" in heard[0][1]["hardware"]


def test_a_closed_pool_takes_nothing_more() -> None:
    pool = ClusterPool(cluster_of(ThreadRay([(1, 0)])), score)
    pool.close()
    pool.close()
    with pytest.raises(RunError, match="is closed: make a new one"):
        pool.submit(candidate(0))


# --- what goes there, and comes back --------------------------------------------------------------


def test_weights_of_each_content_go_there_once(tmp_path: Path) -> None:
    ray = ThreadRay([(1, 0)])
    with ClusterPool(cluster_of(ray), Heir(Path("/nowhere")), weights=tmp_path) as pool:
        for number, parents in enumerate([(), (0,), (0,), (0, 1)]):
            pool.submit(candidate(number, inherits=parents))
            assert pool.result(timeout=30) is not None
    contents = [(tmp_path / f"{number}.safetensors").read_bytes() for number in range(4)]
    assert contents[1] == contents[2]
    assert ray.sent[1:] == [contents[0], contents[1]]  # after the measure


def test_images_go_there_once_whatever_uses_them() -> None:
    ray, images = ThreadRay([(1, 0)]), load("digits")
    cluster, spec = cluster_of(ray), DataSpec("nowhere", fingerprint=images.fingerprint)
    for _ in range(2):  # a search, and its finalists
        with ClusterPool(cluster, Looks(spec), images=images) as pool:
            pool.submit(candidate(0))
            result = pool.result(timeout=30)
            assert result is not None
            assert result.metrics["sum"] == float(images.x_train.sum())
    away = Away(cluster, images, False, lambda kind, details: None)
    assert away.cluster.sent(images) is cluster.sent(images)
    assert sum(isinstance(one, Images) for one in ray.sent) == 1


# --- disks that are full --------------------------------------------------------------------------


def test_weights_that_cannot_be_written_here_end_the_search(tmp_path: Path) -> None:
    """As they do without a cluster: what was measured is not stored."""
    result = evaluate(ThreadRay([(1, 0)]), Heir(Path()), weights=tmp_path / "gone")[0]
    assert isinstance(result, Unkept)
    assert (result.state, result.accuracy) == (State.CUT, None)
    assert "0.safetensors' cannot be written: No such file or directory; free" in str(result.reason)


@pytest.mark.parametrize("times", [1, 2])
def test_a_nodes_full_disk_is_a_lost_worker_and_no_failure_of_the_candidate(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, heard = [times], Heard()

    def full(**options: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return TemporaryDirectory(**options)

    monkeypatch.setattr(slot, "TemporaryDirectory", full)
    result = evaluate(ThreadRay([(1, 0)]), Heir(Path()), weights=tmp_path, notice=listening(heard))[
        0
    ]
    assert [details["number"] for _, details in heard] == [0]
    assert (
        "a node of the cluster: weights cannot be written: No space left" in heard[0][1]["reason"]
    )
    assert isinstance(result, Unkept) == (times == 2)  # the search ends, and can be resumed
    assert result.state is (State.CUT if times == 2 else State.COMPLETE)
