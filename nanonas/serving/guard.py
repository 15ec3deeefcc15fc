"""Which requests a dashboard answers: those of its own page, opened under an address of its own.

A browser sends requests to 127.0.0.1 for any page that asks it to. So three things are looked at:

- the Host header: a page that had its own name point to this machine (DNS rebinding) is known by
  that name;
- the Origin and Sec-Fetch-Site headers of whatever is posted: another site's are refused;
- a token, of this process alone, in a header that no other site can set: whoever posts it must
  have read our page.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

HEADER = "X-CSRFToken"
# What the page's own policy does not say: it asks its server, and stands in no other page.
POLICY = ("connect-src 'self'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'")
_LOOPBACK = ("127.0.0.1", "::1")

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]  # of ASGI 3


@dataclass(frozen=True)
class Guard:
    """The rules of one dashboard.

    Args:
        address: that it is bound to.
        port: the port; only so that two dashboards keep their cookies apart.
        names: by which it may be opened, besides addresses and localhost.
    """

    address: str
    port: int
    names: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def cookie(self) -> str:
        """The name of the cookie that hands the token to the page."""
        return f"nanonas_{self.port}"

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.address).is_loopback

    def refusal(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused, as a sentence; None where it is not."""
        given = _lowered(headers)
        if not self.addressed(headers):
            host = given.get("host", "")
            return (
                f"this dashboard does not answer to the host {host!r:.80}; open it by the address "
                "that it has said"
            )
        if method in ("GET", "HEAD"):
            return None
        if self.foreign(headers):
            return "another site's requests are refused; use the dashboard's own page"
        token = given.get(HEADER.lower(), "")
        if not hmac.compare_digest(token.encode(), self.token.encode()):
            return "the request has not the token of this dashboard; load its page again"
        return None

    def addressed(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is sent to a name of this dashboard.

        Where others can reach it, any address is one: rebinding needs a name that can be changed.
        """
        name = _name(_lowered(headers).get("host", ""))
        named = name in ("localhost", *(own.lower() for own in self.names if own))
        if self.local:
            return named or name in (*_LOOPBACK, self.address)
        return named or _is_address(name)

    def foreign(self, headers: Mapping[str, str]) -> bool:
        """Whether another site's page has sent a request, as far as the browser says."""
        given = _lowered(headers)
        origin, site = given.get("origin"), given.get("sec-fetch-site")
        if origin is not None and urlsplit(origin).netloc.lower() != given.get("host", "").lower():
            return True
        return site is not None and site not in ("same-origin", "none")


class Guarded:
    """An application behind a guard, as ASGI middleware.

    Args:
        policy: the Content-Security-Policy of every answer.
    """

    def __init__(self, app: App, guard: Guard, policy: str) -> None:
        self._app, self._guard = app, guard
        headers = {**_HEADERS, "Content-Security-Policy": policy}
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        refusal = self._guard.refusal(scope["method"], headers)
        # A page of ours that was opened before this process began gets the new token, too, with
        # the refusal of its first request.
        own = self._guard.addressed(headers) and not self._guard.foreign(headers)
        added = list(self._headers)
        if own and (refusal is not None or scope["path"] == "/"):
            cookie = f"{self._guard.cookie}={self._guard.token}; Path=/; SameSite=Strict"
            added.append((b"Set-Cookie", cookie.encode()))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        app = self._app if refusal is None else _refused(refusal)
        await app(scope, receive, send_with_headers)


def _refused(reason: str) -> App:
    """An application that answers with a sentence alone."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        headers = [(b"Content-Type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": f"{reason}\n".encode()})

    return app


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _name(host: str) -> str:
    """A Host header without its port: "[::1]:8050" is "::1"."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
