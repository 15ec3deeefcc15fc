"""Agents that measure, and graphs for them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

TOKEN = "of-the-tests-0123456789"
ROOT = Path(__file__).parents[2]


@dataclass
class Running:
    """An agent in a process of its own."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str] = field(default_factory=list)  # that it has said

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def read(self) -> None:
        """Takes in what it says, until it ends."""
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip() for line in self.process.stdout)


@contextlib.contextmanager
def agent(*flags: str, path: Sequence[Path] = (), **environment: str) -> Iterator[Running]:
    """`nanonas agent` at any free port, which finds modules in `path` first."""
    places = os.pathsep.join(map(str, [*path, ROOT]))
    process = subprocess.Popen(
        [sys.executable, "-m", "nanonas", "agent", "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": places, "NANONAS_AGENT_TOKEN": TOKEN, **environment},
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        found = re.search(r"at (http://\S+);", first)
        assert found, first + process.stdout.read()
        running = Running(process, found[1], [first.rstrip()])
        reader = threading.Thread(target=running.read, daemon=True)
        reader.start()
        yield running
        process.kill()
        reader.join()
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def asked(
    port: int,
    method: str = "POST",
    path: str = "/measure",
    body: Any = b"",
    token: str | None = TOKEN,
    **headers: str,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """The status, the values and the headers of an answer."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        values = json.loads(content) if content.startswith(b"{") else {}
        return response.status, values, dict(response.headers)


@dataclass
class Scripted:
    """A server that says one answer after the other, the last one again and again."""

    answers: list[tuple[int, Any]]
    requests: list[tuple[str, str, int]] = field(default_factory=list)  # path, token, bytes
    url: str = ""


@contextlib.contextmanager
def scripted(*answers: tuple[int, Any]) -> Iterator[Scripted]:
    """What an agent may say."""
    script = Scripted(list(answers))

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            self.rfile.read(length)
            script.requests.append((self.path, self.headers.get("Authorization", ""), length))
            status, said = script.answers[0]
            if len(script.answers) > 1:
                script.answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(said if isinstance(said, bytes) else json.dumps(said).encode())

        do_POST = do_GET  # noqa: N815  its name

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield script
        server.shutdown()


# --- graphs ---------------------------------------------------------------------------------------


def model(
    nodes: Sequence[Any],
    *,
    shape: Sequence[int | str] = ("batch", 8),
    initializers: Sequence[Any] = (),
    output: str = "y",
    **more: Any,
) -> Any:
    """A model with the input x and an output, as a message of onnx."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        list(initializers),
    )
    imports = [helper.make_opsetid("", 18), *more.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, **more)


def small(**more: Any) -> Any:
    """A product with a matrix."""
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((8, 4), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return model([node], initializers=[weights], **more)


def endless() -> Any:
    """A loop of 2^62 rounds."""
    from onnx import TensorProto, helper, numpy_helper

    body = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["again"]),
            helper.make_node("Identity", ["state"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    rounds = numpy_helper.from_array(np.array(2**62, np.int64), "rounds")
    go = numpy_helper.from_array(np.array(True), "go")
    loop = helper.make_node("Loop", ["rounds", "go", "x"], ["y"], body=body)
    return model([loop], initializers=[rounds, go])


def huge(values: int) -> Any:
    """A graph of some bytes that asks for so many values of 4 bytes."""
    from onnx import helper, numpy_helper

    shape = numpy_helper.from_array(np.array([1, values], np.int64), "shape")
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Expand", ["sum", "shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["y"]),
    ]
    return model(nodes, initializers=[shape])
