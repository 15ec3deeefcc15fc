"""What a session tells its listeners, in order; and that it prints nothing itself."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from toys.session import InProcess

from nanonas.config.files import configure
from nanonas.config.schema import Config
from nanonas.core import Budget, Told
from nanonas.engine.study import Progress
from nanonas.serving.watch import _goal
from nanonas.session import session as session_module
from nanonas.session.listener import Begun, Listener, Listeners
from nanonas.session.start import begin, resume

EVENTS = [name for name, _ in inspect.getmembers(Listener, inspect.isfunction)]


class Recorder(Listener):
    """Keeps what it hears, by name."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Any, ...]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name not in EVENTS:
            return super().__getattribute__(name)
        return lambda *arguments: self.heard.append((name, arguments))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.heard]


@pytest.fixture(autouse=True)
def in_this_process(quick_measurements: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)


SMALL = {
    "data": "digits",
    "train_images": 40,
    "space": "nano",
    "channels": 2,
    "length": 2,
    "population": 2,
    "epochs": 1,
    "evaluations": 3,
    "final_epochs": 2,
    "workers": 1,
    "device": "cpu",
    "name": "run",
}


def config(out: Path, **more: object) -> Config:
    return configure(**{**SMALL, "out": out, **more})


def test_a_session_tells_all_that_happens_and_prints_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder()
    outcome = begin(config(tmp_path), recorder)
    assert recorder.names == [
        *["begun", "evaluated", "evaluated", "evaluated", "ended"],
        *["training", "epoch", "epoch", "trained"],
    ]
    search = recorder.heard[0][1][0]
    assert (search.evaluations, search.generations, search.deadline) == (3, None, None)
    assert search.folder == outcome.folder
    assert recorder.heard[4][1] == (outcome.end,)
    assert [arguments[:2] for name, arguments in recorder.heard if name == "epoch"] == [
        (1, 2),
        (2, 2),
    ]
    assert recorder.heard[-1][1] == (outcome.final,)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("off", [{"final_epochs": 0}, {"final_share": 0.0}])
def test_without_a_final_training_all_of_the_time_is_the_searchs(
    tmp_path: Path, off: dict[str, object]
) -> None:
    recorder = Recorder()
    start = time.monotonic()
    outcome = begin(config(tmp_path, time="1h", **off), recorder)
    assert outcome.final is None
    assert recorder.names[-1] == "ended"
    assert recorder.heard[0][1][0].deadline == pytest.approx(start + 3600, abs=60)
    assert _goal(config(tmp_path, time="1h", **off)).seconds == 3600
    assert _goal(config(tmp_path, time="1h")).seconds == 3600 * 0.6
    for run in (config(tmp_path, time="1h").run, config(tmp_path, final_share=0.0).run):
        assert run.trains_winner


def test_finalists_are_told_with_both_of_their_evaluations(tmp_path: Path) -> None:
    recorder = Recorder()
    inherits = {"strategy": "aging", "inherit": True, "finalists": 2, "inherit_epochs": 1}
    longer = config(tmp_path, **inherits, epochs=2, stop_epoch=0, evaluations=6)
    begin(longer, recorder, final=False)
    assert "training" not in recorder.names
    begun = recorder.names.index("finals_begun")
    assert recorder.heard[begun] == ("finals_begun", (2, Budget(2)))
    assert set(recorder.names[begun + 1 :]) <= {"finalist"}
    for _, (candidate, searched, scratch) in recorder.heard[begun + 1 :]:
        assert candidate.number == searched.number == scratch.number


def test_a_resumed_search_knows_what_was_told_before(tmp_path: Path) -> None:
    begin(config(tmp_path), final=False)
    recorder = Recorder()
    again = config(tmp_path)
    resume(tmp_path / "run", replace(again.run, evaluations=4), recorder, final=False)
    told = recorder.heard[0][1][0].told
    assert [one.number for one in told] == [0, 1, 2]
    assert recorder.names == ["begun", "evaluated", "ended"]


class Stops(Listener):
    """Presses Ctrl-C at the first evaluation."""

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        raise KeyboardInterrupt


def test_the_end_is_told_also_when_an_exception_ends_the_search(tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(KeyboardInterrupt, match="everything so far is kept: `nanonas resume"):
        begin(config(tmp_path), Listeners(recorder, Stops()))
    assert recorder.names == ["begun", "evaluated", "ended"]
    assert recorder.heard[-1] == ("ended", (None,))


def test_several_listeners_hear_everything_in_their_order() -> None:
    heard: list[tuple[int, str]] = []

    class Numbered(Recorder):
        def __init__(self, number: int) -> None:
            self.number = number

        def __getattribute__(self, name: str) -> Any:
            if name not in EVENTS:
                return super().__getattribute__(name)
            return lambda *arguments: heard.append((self.number, name))

    both = Listeners(Numbered(1), Numbered(2))
    for name in EVENTS:
        arguments = inspect.signature(getattr(Listener, name)).parameters
        getattr(both, name)(*[SimpleNamespace()] * (len(arguments) - 1))
    assert heard == [(number, name) for name in EVENTS for number in (1, 2)]
    assert Begun.__dataclass_fields__.keys() >= {"setup", "study", "told"}
