"""A search whose latencies another device measures: its figures are those of the device, and the
device may go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys.agents import TOKEN, Running, agent, small
from toys.serving import wait_for
from toys.session import InProcess

pytest.importorskip("onnxscript", reason="needs pip install 'nanonas[onnx]'")
pytest.importorskip("onnxruntime", reason="needs pip install 'nanonas[onnx]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'nanonas[serve]'")

from nanonas import cli
from nanonas.config.files import configure
from nanonas.core import DEVICE_LOST, Evaluation, State
from nanonas.engine.storage.events import ENDED, MEASURES
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Why
from nanonas.errors import ConfigError, DeviceError, RunError
from nanonas.runs.folder import RunFolder
from nanonas.session import session, start
from nanonas.session.listener import Listener
from nanonas.training import graphs
from nanonas.training.measuring import agent as agent_module
from nanonas.training.measuring import costs
from nanonas.training.measuring.agent import Device

pytestmark = pytest.mark.usefixtures("one_thread", "quick_measurements")
BASE: dict[str, Any] = {
    "data": "digits",
    "space": "nano",
    "channels": 2,
    "length": 2,
    "strategy": "nsga2",
    "objectives": ("accuracy", "latency"),
    "population": 4,
    "epochs": 1,
    "train_images": 40,
    "precision": "float32",
    "evaluations": 3,
    "final_epochs": 1,
    "workers": 1,
    "device": "cpu",
    "doctor": False,
}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The token is known, candidates are trained in this process, patience is short, and graphs are
    as quick to make as they are small: that what is exported is measured, tests of it show.
    """
    monkeypatch.setenv("NANONAS_AGENT_TOKEN", TOKEN)
    monkeypatch.setattr(session, "WorkerPool", InProcess)
    monkeypatch.setattr(agent_module, "PATIENCE", 0.0)
    monkeypatch.setattr(costs, "onnx_to_measure", lambda module: small().SerializeToString())


@pytest.fixture(scope="module")
def agents() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Killer(Listener):
    """Ends an agent after two candidates."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def evaluated(self, progress: Progress, front: Any) -> None:
        if progress.evaluated == 2:
            self.running.process.kill()
            self.running.process.wait()


def stored(folder: RunFolder) -> list[Evaluation]:
    with RunStore.read(folder.store) as store:
        latest = store.latest()
    return [latest[number] for number in sorted(latest)]


def ends(folder: RunFolder) -> list[str]:
    with RunStore.read(folder.store) as store:
        return [event.details["why"] for event in store.events() if event.kind == ENDED]


def said(running: Running) -> list[float]:
    """The medians that an agent has printed, in ms, to three digits."""
    found = [re.search(r": ([0-9.e-]+) ms,", line) for line in running.lines]
    return [float(match[1]) for match in found if match is not None]


def test_a_search_by_the_figures_of_a_device_that_goes_and_comes_back(
    tmp_path: Path, agents: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = agents.enter_context(agent("--max-seconds", "20"))
    config = configure(**BASE, out=tmp_path, name="run", latency_from=first.url + "/")
    assert config.run.latency_from == first.url
    outcome = start.begin(config, Killer(first))
    assert outcome.end.why is Why.LOST
    assert f"the nanonas agent at {first.url} has not answered" in outcome.end.message
    assert outcome.final is not None  # the winner is trained all the same
    folder = outcome.folder
    *judged, waited = stored(folder)
    assert [one.state for one in judged] == [State.COMPLETE] * 2
    wait_for(lambda: len(said(first)) == 2)
    assert [float(f"{one.metrics['latency']:.3g}") for one in judged] == said(first)
    for one in judged:
        low, median, high = (one.metrics[f"latency{end}"] for end in ("_low", "", "_high"))
        assert low <= median <= high
    assert (waited.state, waited.accuracy, waited.metrics[DEVICE_LOST]) == (State.CUT, None, 1.0)
    assert ends(folder) == ["lost"]

    with pytest.raises(DeviceError, match="no nanonas agent answers"):
        start.resume(folder.path)
    second = agents.enter_context(agent("--max-seconds", "20"))
    run = replace(config.run, latency_from=second.url)
    resumed = start.resume(folder.path, run, final=False)
    assert resumed.end.why is Why.EVALUATIONS
    assert [one.state for one in stored(folder)] == [State.COMPLETE] * 3
    assert stored(folder)[:2] == judged  # read back, not measured again
    wait_for(lambda: len(said(second)) == 1)
    assert float(f"{stored(folder)[2].metrics['latency']:.3g}") == said(second)[0]
    for path in folder.path.rglob("*"):
        assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path

    here = replace(config.run, latency_from=None)
    with pytest.raises(RunError, match=r"were measured on .*; name its agent with --latency-from"):
        start.resume(folder.path, here)
    with RunStore.read(folder.store) as store:
        [notes] = [event.details for event in store.events() if event.kind == MEASURES]
    assert set(notes) == {"name", "threads", "onnxruntime"}
    faster = Device(notes["name"], 2, notes["onnxruntime"])
    monkeypatch.setattr(agent_module.Agent, "met", lambda self: replace(self, device=faster))
    with pytest.raises(RunError, match=r"were measured on .*\(one thread.*\(2 threads, onnx"):
        start.resume(folder.path, run)


def test_what_is_wrong_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {**BASE, "out": tmp_path, "name": "run", "latency_from": "http://127.0.0.1:9"}
    with pytest.raises(DeviceError, match=r"no nanonas agent answers at http://127.0.0.1:9"):
        start.begin(configure(**given))
    with pytest.raises(ConfigError, match="but nothing asks for a latency; give --max-latency-ms"):
        start.begin(configure(**{**given, "strategy": "aging", "objectives": ()}))
    monkeypatch.setattr(graphs, "EXTRA", ("onnx_that_nobody_has",))
    with pytest.raises(ConfigError, match="ONNX needs onnx_that_nobody_has"):
        start.begin(configure(**given))
    assert list(tmp_path.iterdir()) == []
    words = ["--latency-from", "http://127.0.0.1:9", "--max-latency-ms", "1", "--data", "digits"]
    assert cli.main(["plan", *words]) == 2
    assert cli.main(["latency", "nowhere", "--from", "http://me:secret@pi:1"]) == 2
    assert "without user and password" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    [
        "pi:8765",
        "ftp://pi",
        "http://",
        "http://pi:x",
        "http://pi:0",
        "http://pi/measure",
        "http://[",
    ],
)
def test_what_is_no_address_is_one_sentence(url: str) -> None:
    with pytest.raises(ConfigError, match=r"must be an address such as http://127.0.0.1:8765") as e:
        configure(latency_from=url)
    assert "--latency-from" in str(e.value)


def test_no_user_or_password_is_stored() -> None:
    with pytest.raises(ConfigError, match="token belongs into NANONAS_AGENT_TOKEN"):
        configure(latency_from="http://me:secret@pi:8765")
