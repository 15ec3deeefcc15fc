"""A search's time is measured by a clock that nobody sets: the wall's may jump."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from pathlib import Path

import pytest
from rich.console import Console
from toys.engine import SPACE, UntilDeadline, ones, study
from toys.session import InProcess, begun

from nanonas.config.files import configure
from nanonas.core import Candidate, Proposal, State, Told
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.evaluators.worker import _Pulse
from nanonas.engine.requests import Request, RequestFiles
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Why
from nanonas.runs.folder import RunFolder, search_seconds
from nanonas.session import session as session_module
from nanonas.session.listener import Listener
from nanonas.session.start import begin, resume
from nanonas.strategies.random import RandomSearch
from nanonas.terminal.progress import SearchProgress

DAY = 86_400.0
JUMPS = pytest.mark.parametrize("jump", [-DAY, DAY])


class Clocks:
    """The clocks of this process, of which either can be moved by some seconds."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall = self.steady = 0.0
        now, monotonic = time.time, time.monotonic
        patch.setattr(time, "time", lambda: now() + self.wall)
        patch.setattr(time, "monotonic", lambda: monotonic() + self.steady)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)
    return Clocks(monkeypatch)


class After(Listener):
    """Does something when so many evaluations have arrived."""

    def __init__(self, evaluations: int, do: Callable[[], None]) -> None:
        self.left, self.do = evaluations, do

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        self.left -= 1
        if self.left == 0:
            self.do()


def tiny(out: Path, **more: object) -> dict[str, object]:
    size = {"train_images": 40, "space": "nano", "channels": 2, "length": 2, "population": 2}
    run = {"epochs": 1, "workers": 1, "device": "cpu", "out": out, "name": "run"}
    return {"data": "digits", **size, **run, "time": "1h", "final_share": 0.0, **more}


@JUMPS
def test_a_wall_clock_that_jumps_neither_ends_a_search_nor_prolongs_it(
    tmp_path: Path, clocks: Clocks, jump: float
) -> None:
    def set_wall() -> None:
        clocks.wall += jump

    outcome = begin(configure(**tiny(tmp_path, evaluations=4)), After(2, set_wall))
    assert outcome.end.why is Why.EVALUATIONS

    def hours_pass() -> None:
        clocks.wall += jump
        clocks.steady += 2 * 3600

    again = configure(**tiny(tmp_path, evaluations=8, name="again"))
    outcome = begin(again, After(2, hours_pass))
    assert outcome.end.why is Why.DEADLINE
    with RunStore.read(outcome.folder.store) as store:
        assert len(store.candidates()) == 2


@JUMPS
def test_what_a_search_has_taken_is_known_whatever_the_wall_clock_says(
    tmp_path: Path, clocks: Clocks, jump: float
) -> None:
    def time_passes() -> None:
        clocks.wall += jump
        clocks.steady += 600

    begin(configure(**tiny(tmp_path, evaluations=2)), After(1, time_passes))
    folder = RunFolder(tmp_path / "run")
    assert 600 < search_seconds(folder) < 660
    clocks.wall -= 3 * jump
    clocks.steady = -1_000_000.0  # the machine was started anew
    run = configure(**tiny(tmp_path, evaluations=3)).run
    assert resume(folder.path, run, After(1, time_passes)).end.why is Why.EVALUATIONS
    assert 1200 < search_seconds(folder) < 1260
    with RunStore.read(folder.store) as store:
        clock = [event.clock for event in store.events()]
    assert clock == sorted(clock)


@JUMPS
def test_a_pause_is_as_long_as_it_is(tmp_path: Path, clocks: Clocks, jump: float) -> None:
    files = RequestFiles(tmp_path / "requests")
    made = study(tmp_path / "p.db", RandomSearch(SPACE), SerialEvaluator(ones), inbox=files)

    def observe(progress: Progress) -> None:
        if progress.evaluated == 1:
            files.put(Request("pause"))
            made._controls.hear(1)
            clocks.wall += jump
            clocks.steady += 100
            files.put(Request("resume"))

    made.run(2, observe=observe)
    made.store.close()
    assert 100 <= made.paused_seconds < 110


@JUMPS
def test_a_deadline_reaches_a_measurement_by_the_same_clock(clocks: Clocks, jump: float) -> None:
    _, there = Pipe()
    pulse = _Pulse(there, time.monotonic() + 100)
    evaluator = SerialEvaluator(UntilDeadline(quick=0))
    evaluator.submit(Candidate(0, Proposal((0,)), "key"), time.monotonic() - 1)
    clocks.wall += jump
    assert pulse()
    clocks.steady += 200
    assert not pulse()
    late = evaluator.result()
    assert late is not None
    assert late.state is State.CUT


@JUMPS
def test_the_time_left_is_shown_by_the_same_clock(clocks: Clocks, jump: float) -> None:
    progress = SearchProgress(Console(quiet=True))
    progress.begun(begun(deadline=time.monotonic() + 100))
    clocks.wall += jump
    assert progress.seconds_left() == pytest.approx(100, abs=5)
    clocks.steady += 50
    assert progress.seconds_left() == pytest.approx(50, abs=5)
    assert progress._share() == pytest.approx(0.5, abs=0.05)
    progress.ended(None)
