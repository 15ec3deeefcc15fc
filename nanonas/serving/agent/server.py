"""`nanonas agent`: answers with how long a network takes on this machine (Starlette with uvicorn,
the extra "serve", and onnxruntime).

    GET   /health                       what it is; with the token also its device and bounds
    POST  /measure?batch=1&seconds=5    a file of ONNX as the body; figures as JSON

A request to measure has the token in its header, "Authorization: Bearer TOKEN". One graph is
measured at a time, for two would disturb each other; whoever comes meanwhile gets 503 and a
Retry-After. Nothing is stored, no file is served, and what is sent is run by onnxruntime alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import math
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nanonas.errors import ConfigError
from nanonas.machine import processor, version_of
from nanonas.serving.agent.graph import Refused
from nanonas.serving.agent.measuring import MIB, Bounds, Measuring
from nanonas.serving.guard import App
from nanonas.serving.listening import Listening, listener, require_extra, url

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

NAME = "nanonas agent"  # by which a client knows it
TOKEN = "NANONAS_AGENT_TOKEN"  # the variable that holds the token, here and where a search runs
SECONDS = 5.0  # of passes, where nothing is said
RETRY = 1  # seconds until the next try, for whoever finds it busy
_SHORTEST = 16  # characters of a token
_LARGEST_BATCH = 4096
_UPLOAD = 60.0  # seconds within which a body has to be there
_CONNECTIONS = 64  # at once; beyond, uvicorn answers with 503, too


@dataclass
class _Answering:
    """The answers of one agent."""

    measuring: Measuring
    token: str = field(repr=False)
    say: Callable[[str], None]
    busy: bool = field(default=False, init=False)

    async def health(self, request: Request) -> Response:
        """What it is; a token that is given has to be right."""
        known: dict[str, Any] = {"service": NAME, "nanonas": version_of("nanonas")}
        if "authorization" in request.headers:
            if not self._trusted(request):
                return self._stranger()
            bounds = self.measuring.bounds
            known |= {
                "device": processor(),
                "threads": self.measuring.threads,
                "onnxruntime": version_of("onnxruntime"),
                "max_bytes": bounds.body,
                "max_seconds": bounds.seconds,
            }
        return _json(known)

    async def measure(self, request: Request) -> Response:
        """The figures of the graph that is sent."""
        if not self._trusted(request):
            return self._stranger()
        most = self.measuring.bounds.body
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > most:
            return self._too_large()
        try:
            batch = _number(request, "batch", 1, 1, _LARGEST_BATCH)
            seconds = _number(request, "seconds", SECONDS, 0, 3600)
        except ValueError as error:
            return _error(400, str(error))
        if self.busy:
            # What is sent is read and let go: else the connection ends before the answer is read.
            with contextlib.suppress(Exception):
                await asyncio.wait_for(_body(request, most), _UPLOAD)
            return _error(503, "another network is being measured", {"Retry-After": str(RETRY)})
        self.busy = True
        try:
            return await self._measured(request, int(batch), seconds)
        finally:
            self.busy = False

    async def _measured(self, request: Request, batch: int, seconds: float) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import ClientDisconnect

        try:
            graph = await asyncio.wait_for(_body(request, self.measuring.bounds.body), _UPLOAD)
        except (asyncio.TimeoutError, ClientDisconnect):
            return _error(408, f"the body was not there after {_UPLOAD:g} s")
        if graph is None:
            return self._too_large()
        size = f"{len(graph) / MIB:.2f} MiB"
        try:
            figures = await run_in_threadpool(self.measuring.measure, graph, batch, seconds)
        except Refused as refusal:
            self.say(f"a graph of {size}: {refusal}")
            return _error(422, str(refusal))
        self.say(f"a graph of {size}: {figures['median_ms']:.3g} ms, {figures['runs']:,} passes")
        return _json(figures)

    def _trusted(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode("latin-1"), f"Bearer {self.token}".encode())

    def _stranger(self) -> Response:
        return _error(
            401,
            f"the token is missing or wrong; it is what the agent was started with ({TOKEN})",
            {"WWW-Authenticate": "Bearer"},
        )

    def _too_large(self) -> Response:
        most = self.measuring.bounds.body / MIB
        return _error(413, f"a graph may have {most:g} MiB here (nanonas agent --max-mb)")


def make_app(measuring: Measuring, token: str, say: Callable[[str], None]) -> App:
    """The application, to be served.

    Args:
        say: is told of each graph.
    """
    from starlette.applications import Starlette
    from starlette.routing import Route

    answering = _Answering(measuring, token, say)
    app = Starlette(
        routes=[
            Route("/", answering.health),
            Route("/health", answering.health),
            Route("/measure", answering.measure, methods=["POST"]),
        ]
    )
    app.router.redirect_slashes = False
    return app


def serve(
    host: str,
    port: int,
    token: str | None,
    threads: int,
    bounds: Bounds,
    say: Callable[[str], None],
) -> None:
    """Answers until Ctrl-C.

    Args:
        host: at any but 127.0.0.1 others can reach it.
        port: 0: any that is free.
        token: None: that of the environment, else a new one, which is said.
        threads: of each pass.
        say: is told where it is, and of each graph.

    Raises:
        ConfigError: an extra is not installed, it cannot listen there, or the token is too short.
    """
    require_extra("agent", onnxruntime="onnx")
    known = os.environ.pop(TOKEN, "")  # the processes that run others' graphs do not get it
    given = token if token is not None else known or None
    secret = _checked(given) if given is not None else secrets.token_urlsafe(32)
    measuring = Measuring(threads, bounds)
    bound_to = listener(host, port)
    server = Listening(make_app(measuring, secret, say), bound_to, connections=_CONNECTIONS)
    say(
        f"measures on {processor()}, {threads} thread{'s' if threads > 1 else ''}, at "
        f"{url(host, server.port)}; Ctrl-C ends it"
    )
    if given is None:
        say(f"who asks needs this token, which is for this time only: {TOKEN}={secret}")
    if host not in ("127.0.0.1", "::1", "localhost"):
        say(
            "nothing is encrypted: whoever can listen on the way learns the token; an ssh tunnel "
            "to 127.0.0.1 is safer"
        )
    try:
        server.serve()
    finally:
        measuring.close()


def _checked(token: str) -> str:
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"a token must have {_SHORTEST} printable ASCII characters or more, without spaces, "
            f"but the one given has {len(token)}; leave it out, and one is made"
        )
    return token


async def _body(request: Request, most: int) -> bytes | None:
    """The body; None where it is larger than it may be, and the rest is not read."""
    parts, size = list[bytes](), 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            return None
        parts.append(part)
    return b"".join(parts)


def _number(request: Request, name: str, default: float, least: float, most: float) -> float:
    given = request.query_params.get(name)
    try:
        value = default if given is None else float(given)
    except ValueError:
        value = math.nan
    whole = name != "batch" or value % 1 == 0
    if not (least <= value <= most and whole):
        raise ValueError(f"{name} must lie in [{least:g}, {most:g}], but is {given!r:.40}")
    return value


def _json(
    values: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    from starlette.responses import JSONResponse

    always = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return JSONResponse(values, status, headers={**always, **(headers or {})})


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return _json({"error": sentence}, status, headers)
