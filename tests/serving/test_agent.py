"""`nanonas agent`: who is answered, how, and with what."""

from __future__ import annotations

import importlib.util
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from toys.agents import TOKEN, Running, agent, asked, small
from toys.serving import wait_for

pytest.importorskip("onnx", reason="needs pip install 'nanonas[onnx]'")
pytest.importorskip("onnxruntime", reason="needs pip install 'nanonas[onnx]'")
pytest.importorskip("starlette", reason="needs starlette: pip install 'nanonas[serve]'")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install 'nanonas[serve]'")

import onnxruntime

from nanonas import cli
from nanonas.errors import ConfigError
from nanonas.machine import processor
from nanonas.serving.agent.graph import Refused
from nanonas.serving.agent.measuring import Bounds
from nanonas.serving.agent.server import make_app, serve
from nanonas.serving.listening import Listening, listener
from nanonas.training.measuring.agent import Agent

# --- who is answered ------------------------------------------------------------------------------


class Held:
    """A `Measuring` that measures until it is let go."""

    threads, bounds, device = 1, Bounds(body=1000), "a toy"

    def __init__(self) -> None:
        self.graphs: list[tuple[bytes, int, float]] = []
        self.go = threading.Event()
        self.go.set()

    def measure(self, graph: bytes, batch: int, seconds: float) -> dict[str, Any]:
        self.graphs.append((graph, batch, seconds))
        assert self.go.wait(20)
        if graph == b"bad":
            raise Refused("it is bad")
        return {"median_ms": 1.0, "runs": 30}


@pytest.fixture(scope="module")
def held() -> Held:
    return Held()


@pytest.fixture(scope="module")
def port(held: Held) -> Iterator[int]:
    app = make_app(held, TOKEN, lambda words: None)  # type: ignore[arg-type]
    server = Listening(app, listener("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    yield server.port
    server.stop()
    thread.join()


def test_a_graph_is_measured(port: int, held: Held) -> None:
    status, values, headers = asked(port, path="/measure?batch=3&seconds=0.5", body=b"graph")
    assert (status, values["median_ms"]) == (200, 1.0)
    assert headers["cache-control"] == "no-store"
    assert held.graphs[-1] == (b"graph", 3, 0.5)
    assert asked(port, body=b"graph")[0] == 200
    assert held.graphs[-1] == (b"graph", 1, 5.0)
    status, values, _ = asked(port, body=b"bad")
    assert (status, values) == (422, {"error": "it is bad"})


@pytest.mark.parametrize("token", [None, "", "of-the-tests-012345678", TOKEN + "0", "\xff\xfe"])
def test_nobody_is_measured_for_without_the_token(port: int, held: Held, token: str | None) -> None:
    before = len(held.graphs)
    status, values, headers = asked(port, body=b"graph", token=token)
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert "token is missing or wrong" in values["error"]
    assert len(held.graphs) == before


def test_what_it_is_is_known_to_all_and_the_device_to_those_with_the_token(port: int) -> None:
    for path in ("/", "/health"):
        status, values, _ = asked(port, "GET", path, token=None)
        assert (status, set(values)) == (200, {"service", "nanonas"})
    assert asked(port, "GET", "/health", token="wrong")[0] == 401
    status, values, _ = asked(port, "GET", "/health")
    assert values["service"] == "nanonas agent"
    assert (values["threads"], values["max_bytes"]) == (1, 1000)
    assert asked(port, "GET", "/measure")[0] == 405
    assert asked(port, "GET", "/../etc/passwd")[0] == 404


@pytest.mark.parametrize("words", ["batch=0", "batch=1.5", "batch=x", "batch=1e9", "seconds=nan"])
def test_numbers_out_of_range(port: int, words: str) -> None:
    status, values, _ = asked(port, path=f"/measure?{words}", body=b"graph")
    assert status == 400
    assert words.split("=")[0] + " must lie in [" in values["error"]


def test_too_large_a_body_is_not_read(port: int, held: Held) -> None:
    before = len(held.graphs)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = f"POST /measure HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        connection.sendall(f"{head}Content-Length: 1000000000000\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")  # nothing of it was sent
    parts = iter([bytes(600)] * 3)  # without a length
    assert asked(port, body=parts)[0] == 413
    assert asked(port, body=bytes(1001))[0] == 413
    assert len(held.graphs) == before
    assert asked(port, body=bytes(1000))[0] == 200


def test_one_at_a_time(port: int, held: Held) -> None:
    held.go.clear()
    before, first = len(held.graphs), list[int]()
    thread = threading.Thread(target=lambda: first.append(asked(port, body=b"1")[0]))
    thread.start()
    wait_for(lambda: len(held.graphs) > before)
    try:
        status, values, headers = asked(port, body=bytes(1000))
        assert (status, headers["retry-after"]) == (503, "1")
        assert "another network" in values["error"]
        assert asked(port, "GET", "/health")[0] == 200
    finally:
        held.go.set()
        thread.join()
    assert first == [200]
    assert len(held.graphs) == before + 1
    assert asked(port, body=b"2")[0] == 200


# --- the whole of it ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An agent where PyTorch cannot be imported."""
    folder = tmp_path_factory.mktemp("path")
    (folder / "torch.py").write_text("raise ImportError('there is no torch here')")
    with agent("--max-mb", "1", path=[folder]) as found:
        yield found


def test_a_real_agent_measures_a_real_graph_without_torch(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NANONAS_AGENT_TOKEN", TOKEN)
    met = Agent(running.url).met()
    assert met.device is not None
    assert (met.device.threads, met.device.onnxruntime) == (1, onnxruntime.__version__)
    took = met.measure(small().SerializeToString(), batch=2, seconds=0.3)
    assert 0 < took.low <= took.median <= took.high
    assert took.median <= took.p95
    assert took.runs >= 30
    assert took.peak is None or 0 < took.peak < 2**30
    wait_for(lambda: any("passes" in line for line in running.lines))
    assert TOKEN not in "".join(running.lines)  # it was given, so it is not said


def test_an_agent_makes_a_token_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NANONAS_AGENT_TOKEN", raising=False)
    monkeypatch.setattr(Listening, "serve", lambda server: server.close())
    said = list[str]()
    for _ in range(2):
        serve("127.0.0.1", 0, None, 1, Bounds(), said.append)
    tokens = {
        line.split("NANONAS_AGENT_TOKEN=")[1] for line in said if "NANONAS_AGENT_TOKEN=" in line
    }
    assert len(tokens) == 2
    assert all(len(token) >= 40 for token in tokens)
    said.clear()
    serve("0.0.0.0", 0, TOKEN, 4, Bounds(), said.append)
    assert "4 threads" in said[0]
    assert "nothing is encrypted" in said[1]
    assert TOKEN not in " ".join(said)
    for words, sentence in (
        (["--token", "short"], "a token must have 16 printable ASCII characters or more"),
        (["--token", "with spaces in between"], "a token must have 16 printable"),
        (["--port", "70000"], "--port must lie in [0, 65535]"),
        (["--max-mb", "0"], "--max-mb must be 1 or more, but is 0"),
        (["--max-seconds", "0.5"], "--max-seconds must be in [1, 3600], but is 0.5"),
    ):
        assert cli.main(["agent", *words]) == 2
        assert sentence in capsys.readouterr().err


def test_without_an_extra_the_agent_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    for missing, extra in (("starlette", "serve"), ("onnxruntime", "onnx")):
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, missing=missing: None if name == missing else real(name),
        )
        with pytest.raises(
            ConfigError, match=rf"needs {missing}: pip install 'nanonas\[{extra}\]'"
        ):
            serve("127.0.0.1", 0, TOKEN, 1, Bounds(), print)


def test_the_board_is_named_where_the_processor_has_no_name(tmp_path: Path) -> None:
    (tmp_path / "proc" / "device-tree").mkdir(parents=True)
    (tmp_path / "proc" / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd0b\n")
    (tmp_path / "proc" / "device-tree" / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert processor(tmp_path) == "Raspberry Pi 5 Model B Rev 1.0"
    (tmp_path / "proc" / "cpuinfo").write_text("model name\t: Fast CPU @ 3 GHz\n")
    assert processor(tmp_path) == "Fast CPU @ 3 GHz"
