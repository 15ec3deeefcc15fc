"""A server at an address of this machine: Starlette's applications, served by uvicorn (the extra
"serve").
"""

from __future__ import annotations

import contextlib
import importlib.util
import socket

from nanonas.errors import ConfigError
from nanonas.serving.guard import App


class Listening:
    """An application's server, bound and not yet serving.

    Args:
        listener: the socket that it answers at.
        connections: at once, at most; beyond, it answers with 503. None: any number.
    """

    def __init__(self, app: App, listener: socket.socket, connections: int | None = None) -> None:
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
            limit_concurrency=connections,
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


def listener(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Args:
        host: a name or an address; at "::" it listens at all addresses of both kinds, where the
            system can.
        port: 0: any that is free.

    Raises:
        ConfigError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:  # the latter for what can be no name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"no server can listen at {host}, port {port}: {reason}; choose another --port or "
            "--host"
        ) from None


def url(host: str, port: int) -> str:
    """Where a browser, or another program, finds it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def require_extra(verb: str, **more: str) -> None:
    """Raises `ConfigError` where what a verb needs is not installed: what serves, and `more`, the
    extra that brings a package by the package's name.
    """
    for name, extra in {"starlette": "serve", "uvicorn": "serve", **more}.items():
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"nanonas {verb} needs {name}: pip install 'nanonas[{extra}]'")
