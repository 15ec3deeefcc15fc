"""A run in the browser while it goes on: `nanonas dashboard RUN`, served by Starlette with uvicorn
(the extra "serve").

    GET   /                    the page
    GET   /news?since=VERSION  what has changed on it, every second
    GET   /candidates/NUMBER   what a click on a candidate shows
    POST  /requests            pause, resume, ban, allow, plant

No file is served. Every request is looked at by `guard.Guard` first.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from nanonas.files import parsed_json
from nanonas.machine import host_names, outside_address
from nanonas.report import page
from nanonas.runs.folder import RunFolder
from nanonas.serving.guard import POLICY, App, Guard, Guarded
from nanonas.serving.listening import Listening, listener, require_extra, url
from nanonas.serving.live import Ask, LivePage, answer
from nanonas.serving.watch import Watch

_NUMBER = re.compile("[0-9]{1,15}")  # of a candidate
_LONGEST = 100_000  # bytes of a request, as of one in a file

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def make_app(live: LivePage, ask: Ask, guard: Guard) -> App:
    """The application, to be served.

    Args:
        ask: leaves a request and says so; raises `NanonasError` for what is none.
    """
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
    from starlette.routing import Route

    def whole(request: Request) -> Response:
        return HTMLResponse(live.whole(guard.cookie))

    def news(request: Request) -> Response:
        return JSONResponse(live.news(request.query_params.get("since", "")))

    def candidate(request: Request) -> Response:
        said = request.path_params["number"]
        number = int(said) if _NUMBER.fullmatch(said) else None
        shown = None if number is None else live.candidate(number)
        if shown is None:
            return PlainTextResponse(f"there is no candidate #{said:.20} yet\n", 404)
        return HTMLResponse(shown)

    async def requests(request: Request) -> Response:
        try:
            asked = parsed_json((await _body(request)).decode("utf-8"))
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return PlainTextResponse("a request must be a JSON object\n", 400)
        said = await run_in_threadpool(answer, ask, asked)
        return PlainTextResponse(said.encode("utf-8", "replace"))  # it may quote what is no text

    app = Starlette(
        routes=[
            Route("/", whole),
            Route("/news", news),
            Route("/candidates/{number}", candidate),
            Route("/requests", requests, methods=["POST"]),
        ]
    )
    app.router.redirect_slashes = False
    return Guarded(app, guard, page.policy(*POLICY))


async def _body(request: Request) -> bytes:
    """What is posted. Raises `ValueError` where it is more than any request of the page."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LONGEST:
            raise ValueError("too long")
    return body


class Server(Listening):
    """A dashboard's server, bound and not yet serving.

    Args:
        listener: the socket that it answers at.
        guard: of the application.
    """

    def __init__(self, app: App, listener: socket.socket, guard: Guard) -> None:
        super().__init__(app, listener)
        self.guard = guard


def make_server(watch: Watch, host: str, port: int) -> Server:
    """The server of a run's dashboard.

    Args:
        host: a name or an address; at "::" it listens at all addresses of both kinds, where the
            system can.

    Raises:
        ConfigError: it cannot listen there.
    """
    bound_to = listener(host, port)
    bound, port = bound_to.getsockname()[:2]
    guard = Guard(bound, port, (host,))
    if not guard.local:
        guard = replace(guard, names=(host, *host_names()))
    return Server(make_app(LivePage(watch.look), watch.ask, guard), bound_to, guard)


def serve(run: RunFolder, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the dashboard of a run until Ctrl-C.

    Args:
        host: as for `make_server`; at any but 127.0.0.1 others can reach it, and they may steer the
            search.
        port: 0: any that is free.
        say: is told where the page is.

    Raises:
        ConfigError: the extra "serve" is not installed, or the server cannot listen there.
        RunError: as `Watch`.
    """
    require_extra("dashboard")
    server = make_server(Watch(run), host, port)
    say(f"{run.path} is {_places(host, server)} now; Ctrl-C ends the page, not the search")
    if not server.guard.local:
        say(
            "whoever can open it there can see this run and steer it; without --host only this "
            "machine can"
        )
    server.serve()


def _places(host: str, server: Server) -> str:
    """Where the page can be opened, in words."""
    if not ipaddress.ip_address(server.guard.address).is_unspecified:
        return f"at {url(host, server.port)}"
    outside = outside_address() or socket.gethostname()
    return (
        f"at {url('localhost', server.port)} on this machine and at "
        f"{url(outside, server.port)} on others"
    )
