"""Networks measured on another device, by `nanonas agent` there."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

from nanonas.core import Pulse
from nanonas.errors import DeviceError, DeviceLost

NAME = "nanonas agent"  # by which an agent says what it is
TOKEN = "NANONAS_AGENT_TOKEN"  # the variable with the token, which no file and no run ever holds
SECONDS = 5.0  # of passes for a network, at most; where the device is idle, far fewer are enough
PATIENCE = 600.0  # seconds without a sign of life, until an agent counts as lost
LONGEST_PAUSE = 30.0  # seconds between two tries, at most
_BEAT = 0.5  # seconds between two looks at whether to go on
_SLOW = 30.0  # seconds that an answer may take beyond the agent's own bound
_ANSWER = 2**16  # bytes of an answer, at most
_FAILURES = (OSError, http.client.HTTPException, UnicodeError)  # the last for a name that is none


class TimeUp(Exception):
    """Whoever waits for a measurement has no time left."""


@dataclass(frozen=True)
class Device:
    """What an agent measures on: figures of another one are not comparable."""

    name: str
    threads: int
    onnxruntime: str  # its version

    def __str__(self) -> str:
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.name} ({threads}, onnxruntime {self.onnxruntime})"


@dataclass(frozen=True)
class Measured:
    """What an agent says of a graph; times in milliseconds."""

    median: float
    low: float  # of the median's 95 % interval
    high: float
    p95: float  # 95 % of the passes took no longer
    runs: int
    narrow: bool  # whether the interval is within 5 % of the median
    peak: int | None  # bytes of memory that the graph took; None where the device does not tell
    seconds: float  # that the measurement took
    device: Device


@dataclass(frozen=True)
class Agent:
    """The agent at an address.

    The token is read from the environment ($NANONAS_AGENT_TOKEN) at each request.

    Args:
        url: as in "http://127.0.0.1:8765".
        device: what its figures have to be of; None: of any.
        max_seconds: that it may take for one graph.
        patience: seconds without an answer, until it counts as lost.
    """

    url: str
    device: Device | None = None
    max_seconds: float = 60.0
    patience: float = PATIENCE

    def met(self) -> Agent:
        """This agent, with its device, once it has answered.

        Raises:
            DeviceError: there is none that answers, or none that takes the token.
        """
        try:
            status, values, _ = self._asked("GET", "/health", None, 10.0)
        except _FAILURES as error:
            raise DeviceError(
                f"no nanonas agent answers at {self.url}: {_reason(error)}; begin one there with "
                "`nanonas agent`, or measure here"
            ) from None
        if status == 401:
            raise DeviceError(self._stranger())
        if status != 200 or values.get("service") != NAME:
            raise DeviceError(
                f"what answers at {self.url} is no nanonas agent (status {status}); give the "
                "address that `nanonas agent` has said"
            )
        try:
            device = _device(values)
            seconds = _number(values, "max_seconds", 0, 3600)
        except (KeyError, TypeError, ValueError):
            raise DeviceError(
                f"the nanonas agent at {self.url} does not say what it measures on; install the "
                "same version of nanonas there and here"
            ) from None
        return replace(self, device=device, max_seconds=seconds)

    def measure(
        self, graph: bytes, batch: int = 1, seconds: float = SECONDS, go: Pulse = lambda: True
    ) -> Measured:
        """Has a graph measured; waits while others are, and while the agent is away.

        Args:
            graph: a file of ONNX.
            batch: images in a pass.
            seconds: of passes, at most.
            go: called about twice a second.

        Raises:
            DeviceError: the agent refuses the graph.
            DeviceLost: it was away for longer than the patience, does not take the token any more,
                or is another device than before.
            TimeUp: `go` has said no.
        """
        path = f"/measure?{urlencode({'batch': batch, 'seconds': f'{seconds:g}'})}"
        heard, pause = time.monotonic(), 1.0
        while True:
            status, values, retry = self._tried(path, graph, go)
            if status == 200:
                return self._read(values)
            if status == 401:
                raise DeviceLost(self._stranger())
            if 400 <= status < 500 and status != 408:
                raise DeviceError(f"{self._who()} refuses: {_said(values)}")
            if status == 503:  # a sign of life: others come first
                heard, pause = time.monotonic(), 1.0
            elif time.monotonic() - heard > self.patience:
                raise DeviceLost(
                    f"{self._who()} has not answered for {self.patience / 60:.3g} minutes: "
                    f"{_said(values)}"
                )
            self._wait(retry or pause, go)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _who(self) -> str:
        return f"the nanonas agent at {self.url}"

    def _stranger(self) -> str:
        given = "another token than" if os.environ.get(TOKEN) else "no token; it takes"
        return (
            f"{self._who()} was given {given} the one that it was begun with; set {TOKEN} to that"
        )

    def _wait(self, seconds: float, go: Pulse) -> None:
        """Waits about so long, no two workers as long as each other."""
        end = time.monotonic() + seconds * random.uniform(0.75, 1.25)
        while (left := end - time.monotonic()) > 0:
            self._require(go)
            time.sleep(min(left, _BEAT))

    def _require(self, go: Pulse) -> None:
        if not go():
            raise TimeUp(f"the time was up before {self._who()} had measured the network")

    def _read(self, values: Mapping[str, Any]) -> Measured:
        try:
            measured = _measured(values)
        except (KeyError, TypeError, ValueError):
            raise DeviceError(
                f"{self._who()} answers with something else than a measurement; install the same "
                "version of nanonas there and here"
            ) from None
        if self.device not in (None, measured.device):
            raise DeviceLost(
                f"{self._who()} measures on {measured.device} now, but measured on {self.device} "
                "before; bring that one back"
            )
        return measured

    def _tried(self, path: str, graph: bytes, go: Pulse) -> tuple[int, Mapping[str, Any], float]:
        """As `_asked`, while `go` is called; where nothing answers, the status is 0."""
        answers: list[tuple[int, Mapping[str, Any], float]] = []

        def ask() -> None:
            try:
                answers.append(self._asked("POST", path, graph, self.max_seconds + _SLOW))
            except _FAILURES as error:
                answers.append((0, {"error": _reason(error)}, 0.0))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        while thread.is_alive():
            self._require(go)
            thread.join(_BEAT)
        return answers[0] if answers else (0, {}, 0.0)

    def _asked(
        self, method: str, path: str, body: bytes | None, patience: float
    ) -> tuple[int, Mapping[str, Any], float]:
        """The status of an answer, its values, and the seconds that it asks to wait for.

        Raises `OSError` and `HTTPException`.
        """
        address = urlsplit(self.url)
        kind: type[http.client.HTTPConnection] = http.client.HTTPConnection
        if address.scheme == "https":
            kind = http.client.HTTPSConnection
        connection = kind(address.hostname or "", address.port, timeout=patience)
        token = os.environ.get(TOKEN, "")
        if not (token.isascii() and token.isprintable()):
            token = ""
        try:
            # it may have answered without reading everything
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body, {"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            content = response.read(_ANSWER)
            retry = response.headers.get("Retry-After", "")
            pause = min(float(retry), 60.0) if retry.isdecimal() else 0.0
            return response.status, _object(content), pause
        finally:
            connection.close()


# --- answers --------------------------------------------------------------------------------------


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _measured(values: Mapping[str, Any]) -> Measured:
    """Raises `KeyError`, `TypeError` or `ValueError` for what is no measurement."""
    low, high = (_finite(value) for value in values["interval_ms"])
    peak = values["peak_bytes"]
    median = _number(values, "median_ms", 0, math.inf)
    if not low <= median <= high:
        raise ValueError("the median lies outside of its interval")
    return Measured(
        median,
        low,
        high,
        p95=_number(values, "p95_ms", 0, math.inf),
        runs=int(_number(values, "runs", 1, math.inf)),
        narrow=values["narrow"] is True,
        peak=None if peak is None else int(_finite(peak)),
        seconds=_number(values, "seconds", 0, math.inf),
        device=_device(values),
    )


def _device(values: Mapping[str, Any]) -> Device:
    threads = int(_number(values, "threads", 1, math.inf))
    return Device(str(values["device"])[:200], threads, str(values["onnxruntime"])[:50])


def _number(values: Mapping[str, Any], name: str, least: float, most: float) -> float:
    value = _finite(values[name])
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}")
    return value


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no number")
    return float(value)


def _said(values: Mapping[str, Any]) -> str:
    """What an answer gives as its reason, in one line."""
    return " ".join(str(values.get("error", "no reason is given")).split())[:500]


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
