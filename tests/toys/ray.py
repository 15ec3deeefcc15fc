"""What searches and final trainings use of Ray; processes are threads, and can be lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from nanonas.engine.evaluators.joining import Cluster


class RayError(Exception):
    """The root of Ray's own."""


class RayTaskError(RayError):
    """What a process has raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class ThreadRay:
    """Ray, as far as it goes. Every actor is noted, with what it was given; it holds its cores for
    life, and those that find none wait.

    Args:
        nodes: the cores and GPUs of each.
        busy: cores that others use of the largest.
        host: the name of all of them.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(
        self, nodes: Sequence[tuple[int, int]], busy: int = 0, host: str = "a node"
    ) -> None:
        self._nodes = [_Node(*node) for node in nodes]
        max(self._nodes, key=lambda node: node.cpus).busy = busy
        self._host = host
        self.actors: list[Actor] = []
        self.sent: list[object] = []  # what was put into its store

    def nodes(self) -> list[dict[str, Any]]:
        """As Ray says it."""
        return [
            {
                "Alive": True,
                "Resources": {"CPU": float(node.cpus), "GPU": float(node.gpus)},
                "NodeManagerHostname": self._host,
            }
            for node in self._nodes
        ]

    def join(self, cpus: int, gpus: int = 0) -> None:
        """Another node joins."""
        self._nodes.append(_Node(cpus, gpus))
        self.place()

    def lose_node(self) -> int:
        """The oldest node is lost. Returns how many actors were on it."""
        node = self._nodes.pop(0)
        actors = list(node.actors)
        for actor in actors:
            actor.lose("its node has died")
        return len(actors)

    def place(self) -> None:
        """Begins actors that wait, where there is room by now."""
        for actor in self.actors:
            if actor.node is None and not actor.ended:
                node = next((node for node in self._nodes if node.has_room(actor)), None)
                if node is not None:
                    actor.lie_on(node)

    def put(self, value: object) -> object:
        """The object itself."""
        self.sent.append(value)
        return value

    def remote(self, **options: Any) -> Callable[[type], Any]:
        """A decorator."""

        def decorated(kind: type) -> Any:
            def begin(*arguments: Any) -> Actor:
                actor = Actor(self, lambda: kind(*arguments), options)
                self.actors.append(actor)
                self.place()
                return actor

            return SimpleNamespace(remote=begin)

        return decorated

    def wait(
        self, wanted: list[Future[Any]], num_returns: int, timeout: float
    ) -> tuple[list[Future[Any]], list[Future[Any]]]:
        """Those that are done."""
        until = time.monotonic() + timeout
        while time.monotonic() < until and not any(one.done() for one in wanted):
            time.sleep(0.005)
        done = [one for one in wanted if one.done()][:num_returns]
        return done, [one for one in wanted if one not in done]

    def get(self, answer: Future[Any], timeout: float = 30.0) -> Any:
        """What came of it."""
        try:
            return answer.result(timeout)
        except RayError:
            raise
        except BaseException as error:
            raise RayTaskError(error) from error

    def kill(self, actor: Actor, no_restart: bool) -> None:
        """Ends an actor."""
        actor.lose("ended")


class Actor:
    """An object whose methods run in threads, from when it has a node until it is lost."""

    def __init__(self, ray: ThreadRay, make: Callable[[], Any], options: dict[str, Any]) -> None:
        self.options, self.ended = options, ""
        self.node: _Node | None = None
        self._ray, self._make, self._made = ray, make, None
        self._asked: list[Future[Any]] = []
        self._waiting: list[threading.Thread] = []

    def lie_on(self, node: _Node) -> None:
        """There is room for it: it begins."""
        self.node, self._made = node, self._make()
        node.actors.append(self)
        for thread in self._waiting:
            thread.start()

    def lose(self, reason: str) -> None:
        """Nothing comes of what it was asked, and others have its room."""
        if self.ended:
            return
        self.ended = reason
        for answer in self._asked:
            with suppress(InvalidStateError):
                answer.set_exception(RayError(reason))
        if self.node is not None:
            self.node.actors.remove(self)
            self._ray.place()

    def __getattr__(self, name: str) -> Any:
        def asked(*arguments: Any) -> Future[Any]:
            answer: Future[Any] = Future()
            self._asked.append(answer)
            thread = threading.Thread(target=answered, args=(answer, arguments), daemon=True)
            if self.ended:
                answer.set_exception(RayError(self.ended))
            elif self.node is None:
                self._waiting.append(thread)
            else:
                thread.start()
            return answer

        def answered(answer: Future[Any], arguments: tuple[Any, ...]) -> None:
            try:
                found = getattr(self._made, name)(*arguments)
            except BaseException as error:  # noqa: BLE001 - as Ray's own
                with suppress(InvalidStateError):
                    answer.set_exception(error)
            else:
                with suppress(InvalidStateError):
                    answer.set_result(found)

        return SimpleNamespace(remote=asked)


@dataclass
class _Node:
    """A machine of a cluster."""

    cpus: int
    gpus: int
    busy: int = 0  # cores that others use
    actors: list[Actor] = field(default_factory=list)

    def has_room(self, actor: Actor) -> bool:
        used = [sum(one.options[what] for one in self.actors) for what in ("num_cpus", "num_gpus")]
        wanted = [actor.options["num_cpus"], actor.options["num_gpus"]]
        room = [self.cpus - self.busy, self.gpus]
        return all(u + w <= r for u, w, r in zip(used, wanted, room, strict=True))


def cluster_of(ray: ThreadRay) -> Cluster:
    """A cluster that was joined."""
    return Cluster(ray, "auto", None)
