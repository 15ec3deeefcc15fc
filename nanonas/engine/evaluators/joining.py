"""The way to a Ray cluster and back: quiet, within bounded time, and without sending anything to
anybody else.

Ray is the extra `ray`, and is imported here alone.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nanonas.data.images import Images
from nanonas.errors import ConfigError, RunError
from nanonas.machine import cores

_HERE = "local"  # the address of a cluster of this machine alone, as Ray has it, too
_ANSWER_SECONDS = 10.0  # for an address to take a connection
_LOST_SECONDS = 20.0  # without an answer: the cluster is lost
_ASK_SECONDS = 2.0  # between two looks at the nodes
# Before Ray is loaded, for it reads them once. What the environment says already stays.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": "0",  # else kills by its memory monitor are tried again for ever
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what is to come; else it warns of that
}


@dataclass(frozen=True)
class Need:
    """What a candidate gets on a node."""

    cpus: float = 1.0
    gpus: float = 0.0  # a part of one: others train beside it

    def within(self, resources: dict[str, float]) -> int:
        """How many fit into what a node has."""
        fits = resources.get("CPU", 0.0) / self.cpus
        if self.gpus:
            # a part never lies on two GPUs
            fits = min(fits, resources.get("GPU", 0.0) * int(1 / self.gpus + 1e-6))
        return int(fits + 1e-6)


@dataclass
class Cluster:
    """A cluster that this process has joined.

    Attributes:
        ray: the module.
        address: as the user has said it.
    """

    ray: Any
    address: str
    _door: tuple[str, int] | None  # takes connections while the cluster lives
    _nodes: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    _asked: float = field(default=-_ASK_SECONDS, init=False, repr=False)
    _silent: float | None = field(default=None, init=False, repr=False)  # since when
    _images: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def sent(self, images: Images) -> Any:
        """Images to train on, in the object store, into which each fingerprint goes once, for as
        long as the cluster is joined.
        """
        if images.fingerprint not in self._images:
            self._images[images.fingerprint] = self.ray.put(images.for_training())
        return self._images[images.fingerprint]

    def capacity(self, need: Need) -> int:
        """How many candidates its nodes have room for, as far as nothing else runs there.

        Asks every two seconds at most.

        Raises:
            RunError: the cluster has not answered for 20 seconds.
        """
        now = time.monotonic()
        if now - self._asked >= _ASK_SECONDS:
            self._asked = now
            if self.answers():
                self._silent = None
                self._nodes = [node for node in self.ray.nodes() if node["Alive"]]
                return self._room(need)
            self._silent = self._silent or now
            if now - self._silent > _LOST_SECONDS:
                raise RunError(
                    f"the cluster {self.address!r} does not answer any more; what has arrived is "
                    "kept, and the run can be resumed, on a cluster or without one (--cluster none)"
                )
        return self._room(need)

    def largest(self, gpus: bool) -> tuple[int, int] | None:
        """The cores and the GPUs of the node that has most of them; None where this machine is a
        node that has no less, or no node has any.

        Args:
            gpus: whether GPUs are wanted; else none are counted.

        Raises:
            RunError: as `capacity`.
        """
        self.capacity(Need())
        sizes = [_size(node["Resources"], gpus) for node in self._nodes]
        name = socket.gethostname()
        here = [
            size
            for size, node in zip(sizes, self._nodes, strict=True)
            if node.get("NodeManagerHostname") == name
        ]
        most = max(sizes, default=(0, 0))
        if most[1] < 1 or (gpus and most[0] < 1) or most <= max(here, default=(0, 0)):
            return None
        return most[1], most[0]

    def _room(self, need: Need) -> int:
        return sum(need.within(node["Resources"]) for node in self._nodes)

    def answers(self) -> bool:
        """Whether its head takes connections. Ray itself waits for a lost one until it ends the
        process.
        """
        if self._door is None:
            return True
        try:
            socket.create_connection(self._door, timeout=_ASK_SECONDS).close()
        except OSError:
            return False
        return True


def _size(resources: dict[str, float], gpus: bool) -> tuple[int, int]:
    """GPUs, and cores, of a node."""
    return int(resources.get("GPU", 0)) if gpus else 0, int(resources.get("CPU", 0))


@contextlib.contextmanager
def joined(address: str | None) -> Iterator[Cluster | None]:
    """Joins a cluster for a while; None where there is no address.

    "local" and "local:N" begin one on this machine, which ends with the block. A process that has
    joined one already stays in it, and takes that one for "auto".

    Raises:
        ConfigError: the extra is missing, or there is no such cluster.
    """
    if address is None:
        yield None
        return
    for name, value in {**_ENVIRONMENT, **_token(address)}.items():
        os.environ.setdefault(name, value)
    ray = _ray()
    if ray.is_initialized():
        if address != "auto":
            raise ConfigError(
                f"this process has joined a Ray cluster already, so that --cluster {address} "
                "cannot be joined; take --cluster auto for that one, or call ray.shutdown() first"
            )
        yield Cluster(ray, address, _door(ray, address))
        return
    _require_answer(address)
    try:
        _join(ray, address)
        cluster = Cluster(ray, address, _door(ray, address))
        yield cluster
    finally:
        _leave(ray)


def _token(address: str) -> dict[str, str]:
    """Settings with which a cluster of this machine alone obeys nobody else on it. Ray reads them
    as it is imported; by itself it would keep a token in the user's home.
    """
    if address.partition(":")[0] != _HERE or "ray" in sys.modules:
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _ray() -> Any:
    """The module. Raises `ConfigError` where the extra is missing."""
    found = importlib.util.find_spec("ray")
    if (
        found is None or found.origin is None
    ):  # the latter is a mere folder, such as Ray's own in /tmp
        raise ConfigError("--cluster needs Ray: pip install 'nanonas[ray]'")
    return importlib.import_module("ray")


def _require_answer(address: str) -> None:
    """Raises `ConfigError` where an address takes no connection; Ray tries for minutes."""
    named = os.environ.get("RAY_ADDRESS") if address == "auto" else address
    door = _host_and_port(named or "")
    if door is None:
        return
    try:
        socket.create_connection(door, timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"no cluster answers at {named!r} (--cluster): {error.strerror or error}; begin one "
            "there with `ray start --head`, or see to the address and the firewall"
        ) from None


def _host_and_port(address: str) -> tuple[str, int] | None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal() or host in ("", _HERE):
        return None
    return host.strip("[]"), int(port)


def _join(ray: Any, address: str) -> None:
    kind, _, number = address.partition(":")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if kind == _HERE:
        address = kind
        options |= {"num_cpus": int(number or cores()), "include_dashboard": False}
    try:
        with _own_signals():
            ray.init(address, **options)
        # Ray prints what happened to each lost process, whatever it was told; the run says it, too
        with contextlib.suppress(AttributeError):
            ray._private.worker._worker_logs_enabled = False
    except Exception as error:  # noqa: BLE001 - Ray has no class of its own for these
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise ConfigError(f"--cluster {address} cannot be joined: {_why(lines[0])}") from None


def _why(said: str) -> str:
    """What Ray says, with the way out."""
    if "any running Ray instance" in said:
        return (
            "no cluster runs here; begin one with `ray start --head`, set RAY_ADDRESS, or take "
            "--cluster local"
        )
    if "node_ip_address" in said or "Raylet" in said:
        return (
            f"{said.rstrip('.')}; this machine has to be one of its nodes (`ray start "
            "--address=HOST:PORT`), or take ray://HOST:10001"
        )
    if "grpc" in said:
        return f"{said.rstrip('.')}; ray:// needs pip install 'nanonas[ray]'"
    return said


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keeps what SIGTERM does here: Ray takes it for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _door(ray: Any, address: str) -> tuple[str, int] | None:
    """What to knock at, to see whether the cluster lives."""
    if address.startswith("ray://"):
        return _host_and_port(address)
    return _host_and_port(str(ray.get_runtime_context().gcs_address))


def _leave(ray: Any) -> None:
    """Leaves the cluster; where it is lost, without waiting for it."""
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(_LOST_SECONDS)
