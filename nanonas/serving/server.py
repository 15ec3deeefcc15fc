"""A run in the browser while it goes on: `nanonas dashboard RUN`, served by Starlette with uvicorn
(the extra "serve").

    GET   /                    the page
    GET   /news?since=VERSION  what has changed on it, every second
    GET   /candidates/NUMBER   what a click on a candidate shows
    POST  /requests            pause, resume, ban, allow, plant

No file is served. Every request is looked at by `guard.Guard` first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from nanonas.errors import ConfigError
from nanonas.report import page
from nanonas.runs.folder import RunFolder
from nanonas.serving.guard import POLICY, App, Guard, Guarded
from nanonas.serving.live import Ask, LivePage, answer
from nanonas.serving.watch import Watch

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
        number = request.path_params["number"]
        shown = live.candidate(number)
        if shown is None:
            return PlainTextResponse(f"there is no candidate #{number} yet\n", 404)
        return HTMLResponse(shown)

    async def requests(request: Request) -> Response:
        try:
            asked = await request.json()
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            return PlainTextResponse("a request must be a JSON object\n", 400)
        return PlainTextResponse(await run_in_threadpool(answer, ask, asked))

    app = Starlette(
        routes=[
            Route("/", whole),
            Route("/news", news),
            Route("/candidates/{number:int}", candidate),
            Route("/requests", requests, methods=["POST"]),
        ]
    )
    app.router.redirect_slashes = False
    return Guarded(app, guard, page.policy(*POLICY))


class Server:
    """A dashboard's server, bound and not yet serving.

    Args:
        listener: the socket that it answers at.
    """

    def __init__(self, app: App, listener: socket.socket) -> None:
        import uvicorn

        self._listener = listener
        self.port: int = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,  # a line for every request would say nothing
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)

    def serve(self) -> None:
        """Answers until `stop`, or until Ctrl-C where this is the main thread."""
        with contextlib.suppress(KeyboardInterrupt):
            self._server.run(sockets=[self._listener])

    def stop(self) -> None:
        """Ends `serve`, from another thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Frees the port of a server that does not serve."""
        self._listener.close()


def make_server(watch: Watch, host: str, port: int) -> Server:
    """The server of a run's dashboard.

    Raises:
        ConfigError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"no server can listen at {host}, port {port}: {error.strerror}; choose another --port "
            "or --host"
        ) from None
    guard = Guard(host, listener.getsockname()[1])
    return Server(make_app(LivePage(watch.look), watch.ask, guard), listener)


def serve(run: RunFolder, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the dashboard of a run until Ctrl-C.

    Args:
        host: the address to listen at; at any but 127.0.0.1 others can reach it, and they may
            steer the search.
        port: 0: any that is free.
        say: is told where the page is.

    Raises:
        ConfigError: the extra "serve" is not installed, or the server cannot listen there.
        RunError: as `Watch`.
    """
    require_extra()
    server = make_server(Watch(run), host, port)
    shown = f"[{host}]" if ":" in host else host
    say(f"{run.path} is at http://{shown}:{server.port} now; Ctrl-C ends the page, not the search")
    if not Guard(host, port).local:
        say(
            f"whoever can reach {host} can see this run and steer it; without --host only this "
            "machine can"
        )
    server.serve()


def require_extra() -> None:
    """Raises `ConfigError` where the extra "serve" is not installed."""
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"nanonas dashboard needs {name}: pip install 'nanonas[serve]'")
