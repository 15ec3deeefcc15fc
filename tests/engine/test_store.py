"""The store: exact, append-only, one writer, and one sentence for everything that goes wrong."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import re
import runpy
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys.engine import CONFIG
from toys.screened import NANO as SPACE
from toys.storage import as_format

from nanonas.core import Budget, Candidate, Epoch, Evaluation, Proposal, State, Strategy
from nanonas.engine.storage import opening, rows
from nanonas.engine.storage import store as store_module
from nanonas.engine.storage.lock import lock_file
from nanonas.engine.storage.rows import MIGRATIONS
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.evolution import Evolution
from nanonas.strategies.local import LocalSearch
from nanonas.strategies.nsga2 import NSGA2
from nanonas.strategies.random import RandomSearch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "study.db"


@pytest.fixture
def store(path: Path) -> Iterator[RunStore]:
    with RunStore.begin(path, CONFIG) as store:
        yield store


def candidate(number: int) -> Candidate:
    return Candidate(
        number,
        Proposal((1, 2, number), (0,) * number, Budget(3, 1, 0.1 + 0.2)),
        f"key{number}",
        number,
    )


seconds = st.floats(allow_nan=False, allow_infinity=False)
floats = st.floats(allow_nan=False)  # NaN is not equal to itself: it has a test of its own
text = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
evaluations = st.builds(
    Evaluation,
    st.just(0),
    st.sampled_from(State),
    st.dictionaries(st.text(), floats),
    st.lists(st.builds(Epoch, floats, floats)).map(tuple),
    seconds,
    text,
    text,
)


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    evaluation=evaluations, genome=st.lists(st.integers(-(2**70), 2**70)).map(tuple), stop=floats
)
def test_what_goes_in_comes_out(
    tmp_path: Path, evaluation: Evaluation, genome: tuple[int, ...], stop: float
) -> None:
    path = tmp_path / "study.db"
    for name in ("study.db", "study.db-wal", "study.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    asked = Candidate(0, Proposal(genome, (3, 4), Budget(5, 2, stop)), "key", 17)
    with RunStore.begin(path, CONFIG) as store:
        store.asked(asked)
        store.arrived(evaluation)
    with RunStore.read(path) as store:
        assert store.candidates() == [asked]
        assert store.evaluations() == [evaluation]
        assert store.config == CONFIG


def test_not_a_number_and_numpy_scalars_and_strange_text(store: RunStore) -> None:
    store.asked(Candidate(0, Proposal((np.int64(3),), ()), "key"))
    store.arrived(
        Evaluation(
            0, State.FAILED, {"loss": math.nan, "accuracy": np.float32(0.1)}, reason="\ud800"
        )
    )
    assert store.candidates()[0].proposal == Proposal((3,), ())
    (back,) = store.evaluations()
    assert math.isnan(back.metrics["loss"])
    assert back.metrics["accuracy"] == np.float32(0.1)
    assert back.reason == "\\ud800"


def test_a_cut_evaluation_gives_way_to_a_real_one_and_nothing_else_does(store: RunStore) -> None:
    store.asked(candidate(0))
    for state in (State.CUT, State.CUT, State.FAILED):
        store.arrived(Evaluation(0, state))
    for state in (State.COMPLETE, State.CUT):
        with pytest.raises(RunError, match="evaluated already"):
            store.arrived(Evaluation(0, state))
    assert [e.state for e in store.evaluations()] == [State.CUT, State.CUT, State.FAILED]
    assert store.latest()[0].state is State.FAILED
    assert len(store.arrival_times()) == len(store.arrival_clocks()) == 3


def test_numbers_are_dense_and_evaluations_have_candidates(store: RunStore) -> None:
    with pytest.raises(RunError, match="next number"):
        store.asked(candidate(1))
    store.asked(candidate(0))
    with pytest.raises(RunError, match="next number"):
        store.asked(candidate(0))
    with pytest.raises(RunError, match="FOREIGN KEY"):
        store.arrived(Evaluation(1, State.COMPLETE))


def test_events(store: RunStore, path: Path) -> None:
    store.event("worker lost", {"number": 3})
    store.close()
    other_run = {**CONFIG, "run": {"workers": 2}}
    with RunStore.resume(path, other_run) as again:
        assert [event.kind for event in again.events()] == ["worker lost", "resumed"]
        assert again.events()[0].details == {"number": 3}
        assert again.events()[1].details["run"] == {"workers": 2}
        assert again.config == CONFIG
        assert again.created <= again.events()[0].time


def test_reading_while_a_run_is_going(store: RunStore, path: Path) -> None:
    with RunStore.read(path) as reader:
        store.asked(candidate(0))
        assert reader.candidates() == [candidate(0)]
        with pytest.raises(RunError, match="cannot be written: get write permission"):
            reader.asked(candidate(1))


def test_who_reads_a_finished_run_leaves_nothing_beside_it(store: RunStore, path: Path) -> None:
    store.asked(candidate(0))
    store.close()
    before = sorted(path.parent.iterdir())
    with RunStore.read(path) as reader:
        assert reader.candidates() == [candidate(0)]
    assert sorted(path.parent.iterdir()) == before


def test_reading_a_finished_run_from_a_folder_without_write_permission(
    store: RunStore, path: Path
) -> None:
    store.asked(candidate(0))
    store.close()
    path.parent.chmod(0o555)
    try:
        with RunStore.read(path) as reader:
            assert reader.candidates() == [candidate(0)]
    finally:
        path.parent.chmod(0o755)


def test_a_second_writer_is_refused_and_a_killed_one_is_not_in_the_way(path: Path) -> None:
    code = f"""
import sys
from nanonas.engine.storage.store import RunStore
store = RunStore.begin({str(path)!r}, {CONFIG!r})
print("begun", flush=True)
sys.stdin.read()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as writer:  # type: ignore[call-overload]
        assert writer.stdout.readline() == b"begun\n"
        assert RunStore.in_use(path)
        its = re.escape(f"(pid {writer.pid} on {socket.gethostname()})")
        with pytest.raises(RunError, match=f"being written by another process {its}"):
            RunStore.resume(path)
        writer.kill()
    assert not RunStore.in_use(path)
    assert not RunStore.in_use(path.parent / "nothing.db")
    with RunStore.resume(path), pytest.raises(RunError, match="another process"):
        RunStore.resume(path)


def test_what_the_locks_file_says_is_shown_in_part(path: Path) -> None:
    with RunStore.begin(path, CONFIG):
        lock_file(path).write_text("a\x1b[31m\n" + 1000 * "b")
        with pytest.raises(RunError, match=r"another process \(a\[31mb{200,300}\): wait"):
            RunStore.resume(path)
        lock_file(path).write_text("")
        with pytest.raises(RunError, match=r"another process \(it did not say which\): wait"):
            RunStore.resume(path)


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_one_sentence(
    store: RunStore, path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    store.close()

    def none(descriptor: int, operation: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", none)
    handles = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RunError, match="lies on a disk without locks") as error:
        RunStore.resume(path)
    assert os.strerror(reason) in str(error.value)
    assert "choose a folder on another disk" in str(error.value)
    assert len(os.listdir("/proc/self/fd")) == handles
    assert not RunStore.in_use(path)  # who reads is not in the way


def test_who_has_read_the_beginning_reads_the_rest(store: RunStore) -> None:
    for number in range(6):
        store.asked(candidate(number))
        store.arrived(Evaluation(number, State.CUT))
        store.arrived(Evaluation(number, State.COMPLETE, seconds=float(number)))
        store.event("something", {"number": number})
    for read in (store.candidates, store.evaluations, store.arrival_clocks, store.events):
        for since in (0, 1, 5, 6, 12, 13):
            assert read(since) == read()[since:]


def test_beginning_where_a_run_is(store: RunStore, path: Path) -> None:
    store.close()
    with pytest.raises(
        RunError, match=r"there is a run in .* already: resume it, or choose another folder"
    ):
        RunStore.begin(path, CONFIG)


def test_beginning_again_where_a_beginning_was_killed(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with pytest.raises(RunError, match="is empty"):
        RunStore.resume(path)
    with RunStore.begin(path, CONFIG) as store:
        assert store.config == CONFIG


def test_resuming_with_another_search(store: RunStore, path: Path) -> None:
    store.close()
    changed = {"search": {"seed": 8, "space": {"name": "toy"}, "lag": 2}, "run": {}}
    with pytest.raises(RunError) as error:
        RunStore.resume(path, changed)
    assert str(error.value) == (
        f"{path} was begun with search.lag = 'nothing', not 2; search.seed = 7, not 8; "
        "search.space.depth = 4, not 'nothing': a run keeps its search, so resume it without this "
        "change, or begin a new run in another folder; where nobody made it, config.yaml is "
        "damaged, and can be removed"
    )
    RunStore.resume(path, CONFIG).close()  # and the refused one has let go of the lock


def test_what_a_run_was_begun_without_counts_as_its_default(store: RunStore, path: Path) -> None:
    search: dict[str, object] = CONFIG["search"]
    store.close()
    defaults = {"search": {"seed": 0, "new": 5, "names": ()}}
    RunStore.resume(path, {"search": {**search, "new": 5, "names": ()}}, defaults=defaults).close()
    with pytest.raises(
        RunError, match=r"was begun with search\.new = 5, not 6: a run keeps its search"
    ):
        RunStore.resume(path, {"search": {**search, "new": 6, "names": []}}, defaults=defaults)
    with pytest.raises(
        RunError, match=r"was begun with search\.seed = 7, not 0: a run keeps its search"
    ):
        RunStore.resume(
            path,
            {"search": {**search, "seed": 0, "new": 5, "names": []}},
            defaults=defaults,
        )
    with pytest.raises(RunError, match=r"search\.new = 'nothing', not 5: a run keeps its search"):
        RunStore.resume(path, {"search": {**search, "new": 5}})


def test_no_run_there(tmp_path: Path) -> None:
    for open_it in (RunStore.resume, RunStore.read):
        with pytest.raises(RunError, match=r"there is no run in .*: give the folder of a run"):
            open_it(tmp_path / "study.db")


def test_files_that_are_no_stores(tmp_path: Path) -> None:
    text, foreign = tmp_path / "text.db", tmp_path / "foreign.db"
    text.write_text("this is not a database, but it is long enough to be looked at" * 10)
    other = sqlite3.connect(foreign)
    other.execute("CREATE TABLE song (name TEXT)")
    other.close()
    for open_it in (RunStore.resume, RunStore.read):
        with pytest.raises(RunError, match="is not a run's store, or its beginning is damaged"):
            open_it(text)
        with pytest.raises(RunError, match="is a database, but not a run's"):
            open_it(foreign)


def test_a_damaged_store(store: RunStore, path: Path) -> None:
    for number in range(200):
        store.asked(candidate(number))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with (
        pytest.raises(RunError, match=r"is damaged \(.*malformed\), and nothing of it can be read"),
        RunStore.read(path) as damaged,
    ):
        damaged.candidates()


def test_a_row_changed_by_hand(store: RunStore, path: Path) -> None:
    store.asked(candidate(0))
    store.close()
    by_hand = sqlite3.connect(path)
    by_hand.execute("UPDATE candidate SET proposal = '{genome: [1'")
    by_hand.commit()
    by_hand.close()
    with (
        RunStore.read(path) as changed,
        pytest.raises(RunError, match="a row that nanonas did not write"),
    ):
        changed.candidates()


def test_a_newer_format(store: RunStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.close()
    monkeypatch.setattr(store_module, "MIGRATIONS", ())
    with pytest.raises(
        RunError, match="has the format 4, but this nanonas knows formats up to 0: update nanonas"
    ):
        RunStore.read(path)


def test_an_older_format_is_migrated_by_the_writer(
    store: RunStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.asked(candidate(0))
    store.close()

    def newer(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE run ADD COLUMN note TEXT")

    for module in (store_module, rows):
        monkeypatch.setattr(module, "MIGRATIONS", (*MIGRATIONS, newer))
    with RunStore.read(path) as older:
        assert older.candidates() == [candidate(0)]
    with RunStore.resume(path, CONFIG) as migrated:
        assert migrated.candidates() == [candidate(0)]
    RunStore.read(path).close()


@pytest.mark.parametrize(
    ("search", "strategy"),
    [
        ({"strategy": "random", "population": 4}, RandomSearch(SPACE, 4)),
        ({"strategy": "aging", "population": 5}, AgingEvolution(SPACE, population_size=5)),
        ({"strategy": "local", "population": 5}, LocalSearch(SPACE, population_size=5)),
        ({"strategy": "nsga2", "population": 7}, NSGA2(SPACE, population_size=7)),
        *(
            ({"strategy": "evolution", "population": size}, Evolution(SPACE, population_size=size))
            for size in (2, 9, 15, 25, 30)  # the elite of 15 and of 25 is 2: halves go to even
        ),
        (
            {"strategy": "screened", "screens": "evolution", "population": 10},
            Evolution(SPACE, population_size=10),
        ),
        (
            {"strategy": "screened", "screens": "aging", "population": 10, "halving": 3},
            AgingEvolution(SPACE, population_size=10),
        ),
    ],
)
@pytest.mark.parametrize("pool", [None, 0, 12])
def test_a_run_of_the_first_format_knows_its_generations(
    tmp_path: Path, search: dict[str, Any], strategy: Strategy, pool: int | None
) -> None:
    path = tmp_path / "study.db"
    config = {"search": search if pool is None else {**search, "warm_pool": pool}}
    expected = [strategy.generation(max(0, number - (pool or 0))) for number in range(70)]
    with RunStore.begin(path, config) as store:
        for number in range(70):
            store.asked(candidate(number))
    as_format(path, 1)
    for opened in (RunStore.read(path), RunStore.resume(path, config), RunStore.read(path)):
        with opened:
            assert [c.generation for c in opened.candidates()] == expected
            assert [c.generation for c in opened.candidates(65)] == expected[65:]
    with RunStore.resume(path, config) as store:
        store.asked(replace(candidate(70), generation=9))
        assert store.candidates()[-1].generation == 9


def test_a_run_of_the_first_format_without_a_configured_strategy_has_one_generation(
    tmp_path: Path,
) -> None:
    path = tmp_path / "study.db"
    with RunStore.begin(path, {"what": "a strategy of my own"}) as store:
        store.asked(candidate(0))
    as_format(path, 1)
    with RunStore.read(path) as read:
        assert [c.generation for c in read.candidates()] == [0]
    with RunStore.resume(path) as resumed:
        assert [c.generation for c in resumed.candidates()] == [0]


def test_what_is_only_looked_at_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    RunStore.begin(path, CONFIG).close()
    as_format(path, 1)
    with RunStore.read(path) as read:
        assert read.candidates() == []
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)


def test_a_run_of_an_earlier_format_goes_on_by_its_clock(store: RunStore, path: Path) -> None:
    store.event("started")
    store.asked(candidate(0))
    store.arrived(Evaluation(0, State.COMPLETE))
    store.close()
    as_format(path, 1)
    with RunStore.read(path) as older:
        assert older.arrival_clocks() == older.arrival_times()
        assert [event.clock for event in older.events()] == [e.time for e in older.events()]
    with RunStore.resume(path) as migrated:
        (arrived,) = migrated.arrival_clocks()
        assert [arrived] == migrated.arrival_times()
        migrated.event("started")
        assert 0 <= migrated.events()[-1].clock - arrived < 10


def test_an_image_size_among_the_metrics_of_an_earlier_version_is_left_out(
    store: RunStore,
) -> None:
    store.asked(candidate(0))
    store.arrived(Evaluation(0, State.COMPLETE, {"accuracy": 0.5, "image_size": 8.0}))
    assert store.evaluations()[0].metrics == {"accuracy": 0.5}


def test_a_full_disk_loses_nothing(store: RunStore) -> None:
    store.asked(candidate(0))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(
        RunError, match=r"no space is left for .*: free some and resume; all that was stored before"
    ):
        store.arrived(Evaluation(0, State.FAILED, traceback="x" * 100_000))
    store._db.execute("PRAGMA max_page_count = 100000")
    store.arrived(Evaluation(0, State.COMPLETE))
    assert [e.state for e in store.evaluations()] == [State.COMPLETE]


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 0)])
def test_commits_wait_for_the_disk_but_where_a_store_is_thrown_away(
    path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, level: int
) -> None:
    usual = runpy.run_path(opening.__file__)["SYNCHRONOUS"]  # the other tests do not wait
    monkeypatch.setattr(opening, "SYNCHRONOUS", usual)
    with RunStore.begin(path, CONFIG, durable=durable) as store:
        assert store._db.execute("PRAGMA synchronous").fetchone() == (level,)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be made: .*; choose another folder"):
        RunStore.begin(tmp_path / "file" / "study.db", CONFIG)


def test_a_path_that_cannot_be_a_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be opened"):
        RunStore.begin(tmp_path, CONFIG)
