"""Which requests a dashboard answers: those of its own page, opened under an address of its own.

A browser sends requests to 127.0.0.1 for any page that asks it to. So three things are looked at:

- the Host header: a page that had its own name point to this machine (DNS rebinding) is known by
that name;
- the Origin and Sec-Fetch-Site headers of whatever is posted: another site's are refused;
- a token, of this process alone, in a header that no other site can set: whoever posts must have
read our page.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

HEADER = "X-CSRFToken"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Guard:
    """The rules of one dashboard.

    Args:
        host: the address that it is bound to.
        port: the port; only so that two dashboards keep their cookies apart.
    """

    host: str
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @property
    def cookie(self) -> str:
        """The name of the cookie that hands the token to the page."""
        return f"nanonas_{self.port}"

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in _LOOPBACK or (
            _address(self.host) is not None and ipaddress.ip_address(self.host).is_loopback
        )

    def refusal(self, method: str, headers: Mapping[str, str]) -> str | None:
        """Why a request is refused, as a sentence; None where it is not."""
        host = headers.get("Host", "")
        if not self._known(_name(host)):
            return f"this dashboard does not answer to the host {host!r:.80}; open it by the address that it has said"
        if method in ("GET", "HEAD"):
            return None
        if self.foreign(headers):
            return "another site's requests are refused; use the dashboard's own page"
        if not hmac.compare_digest(headers.get(HEADER, "").encode(), self.token.encode()):
            return "the request has not the token of this dashboard; load its page again"
        return None

    def foreign(self, headers: Mapping[str, str]) -> bool:
        """Whether another site's page has sent a request, as far as the browser says."""
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site")
        if (
            origin is not None
            and urlsplit(origin).netloc.lower() != headers.get("Host", "").lower()
        ):
            return True
        return site is not None and site not in ("same-origin", "none")

    def _known(self, name: str) -> bool:
        """Whether it is a name of this dashboard. Any address is: rebinding needs a name that can
        be changed.
        """
        if self.local:
            return name in (*_LOOPBACK, self.host)
        return name in ("localhost", self.host, *_own_names()) or _address(name) is not None


HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def policy(script_hashes: list[str]) -> str:
    """The Content-Security-Policy of the page: nothing from anywhere else, no script but the
    dashboard's own.
    """
    scripts = " ".join(["'self'", *script_hashes])
    return (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src "
        "'self' data: blob:; "
        "frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
    )


@cache  # it may take a look-up
def _own_names() -> tuple[str, ...]:
    return socket.gethostname().lower(), socket.getfqdn().lower()


def _name(host: str) -> str:
    """A Host header without its port: "[::1]:8050" is "::1"."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _address(name: str) -> str | None:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return None
