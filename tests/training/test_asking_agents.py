"""What a search does with the answers of an agent that measures: right, wrong and missing ones."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest
from toys.agents import TOKEN, scripted

from nanonas.errors import DeviceError, DeviceLost
from nanonas.training.measuring import agent as agent_module
from nanonas.training.measuring.agent import Agent, Device, TimeUp

DEVICE = Device("a board", 2, "1.23.2")
ABOUT = {
    "service": "nanonas agent",
    "device": "a board",
    "threads": 2,
    "onnxruntime": "1.23.2",
    "max_seconds": 30.0,
}
MEASURED = {
    "median_ms": 2.0,
    "p95_ms": 2.5,
    "interval_ms": [1.9, 2.1],
    "runs": 60,
    "narrow": True,
    "peak_bytes": None,
    "seconds": 1.5,
    "device": "a board",
    "threads": 2,
    "onnxruntime": "1.23.2",
}
BUSY = (503, {"error": "another network is being measured"})
GONE = (500, {"error": "out of order"})


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The token is known, and nobody waits; gives for how long they would have."""
    waited: list[float] = []
    monkeypatch.setenv("NANONAS_AGENT_TOKEN", TOKEN)
    monkeypatch.setattr(Agent, "_wait", lambda self, seconds, go: waited.append(seconds))
    return waited


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


def test_an_agent_is_met_before_it_is_asked() -> None:
    with scripted((200, ABOUT), (200, MEASURED)) as server:
        met = Agent(server.url).met()
        assert (met.device, met.max_seconds) == (DEVICE, 30.0)
        took = met.measure(b"graph", batch=3, seconds=0.25)
    assert (took.median, took.low, took.high, took.p95) == (2.0, 1.9, 2.1, 2.5)
    assert (took.runs, took.narrow, took.peak, took.device) == (60, True, None, DEVICE)
    bearer = f"Bearer {TOKEN}"
    assert server.requests == [
        ("/health", bearer, 0),
        ("/measure?batch=3&seconds=0.25", bearer, 5),
    ]
    assert str(DEVICE) == "a board (2 threads, onnxruntime 1.23.2)"
    assert TOKEN not in repr(met)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((401, {}), "was given another token than the one that it was begun with; set NANONAS_AG"),
        ((200, {"service": "a shop"}), "is no nanonas agent (status 200)"),
        ((404, b"<html>"), "is no nanonas agent (status 404)"),
        ((200, ABOUT | {"threads": "many"}), "does not say what it measures on"),
        ((200, ABOUT | {"max_seconds": True}), "does not say what it measures on"),
    ],
)
def test_what_is_no_agent_is_one_sentence(answer: tuple[int, Any], sentence: str) -> None:
    with scripted(answer) as server, pytest.raises(DeviceError) as error:
        Agent(server.url).met()
    assert sentence in str(error.value)


def test_nobody_at_the_address_is_one_sentence() -> None:
    with pytest.raises(DeviceError, match=r"no nanonas agent answers at .*: Connection refused; b"):
        Agent(f"http://127.0.0.1:{free_port()}").met()


def test_without_a_token_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NANONAS_AGENT_TOKEN")
    with (
        scripted((401, {})) as server,
        pytest.raises(DeviceError, match="was given no token; it takes the one"),
    ):
        Agent(server.url).met()


def test_workers_wait_as_long_as_they_are_told(soon: list[float]) -> None:
    with scripted(BUSY, BUSY, GONE, GONE, GONE, BUSY, GONE, (200, MEASURED)) as server:
        assert Agent(server.url).measure(b"graph").median == 2.0
    # busy is a sign of life, after which pauses begin anew; gone makes them longer
    assert soon == [1, 1, 2, 4, 8, 1, 2]


def test_one_that_stays_away_is_lost_after_the_patience(soon: list[float]) -> None:
    with pytest.raises(DeviceLost, match="has not answered for 0 minutes: Connection refused"):
        Agent(f"http://127.0.0.1:{free_port()}", patience=0.0).measure(b"graph")
    assert soon == []
    with scripted(*[GONE] * 9, (200, MEASURED)) as server:
        Agent(server.url).measure(b"graph")
    assert soon[-1] == agent_module.LONGEST_PAUSE


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_is_the_candidates_own(status: int, soon: list[float]) -> None:
    with (
        scripted((status, {"error": "it never\nends"})) as server,
        pytest.raises(DeviceError, match="refuses: it never ends") as error,
    ):
        Agent(server.url).measure(b"graph")
    assert not isinstance(error.value, DeviceLost)
    assert soon == []


def test_another_token_or_device_than_before_is_lost() -> None:
    with scripted((401, {})) as server, pytest.raises(DeviceLost, match="another token than"):
        Agent(server.url).measure(b"graph")
    other = replace(DEVICE, threads=4)
    with scripted((200, MEASURED)) as server, pytest.raises(DeviceLost) as error:
        Agent(server.url, other).measure(b"graph")
    assert "measures on a board (2 threads" in str(error.value)
    assert "but measured on a board (4 threads" in str(error.value)


WRONG: list[Any] = [
    b"",
    b"[" * 50_000,
    b"{" + b" " * 100_000,
    {},
    *(MEASURED | {name: "2.0"} for name in ("median_ms", "p95_ms", "runs", "threads", "seconds")),
    MEASURED | {"median_ms": -1.0},
    MEASURED | {"median_ms": float("nan")},
    MEASURED | {"median_ms": float("inf"), "interval_ms": [1.0, float("inf")]},
    MEASURED | {"median_ms": 9.0},
    MEASURED | {"interval_ms": [1.9]},
    MEASURED | {"peak_bytes": []},
]


@pytest.mark.parametrize("said", WRONG, ids=range(len(WRONG)))
def test_an_answer_that_is_no_measurement_is_one_sentence(said: Any) -> None:
    with scripted((200, said)) as server, pytest.raises(DeviceError, match="something else than"):
        Agent(server.url).measure(b"graph")


def test_whoever_has_no_time_left_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    lives = iter([True, True, False])
    with (
        scripted(BUSY) as server,
        pytest.raises(TimeUp, match="the time was up before the nanonas"),
    ):
        Agent(server.url).measure(b"graph", go=lambda: next(lives))
