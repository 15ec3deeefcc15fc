"""What a final training uses of Ray; processes are threads, and can be lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
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
    """Ray, as far as it goes. Every actor is noted, with what it was given.

    Args:
        nodes: the cores and GPUs of each.
        busy: cores that others use of the largest.
        host: the name of all of them.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(
        self, nodes: Sequence[tuple[int, int]], busy: int = 0, host: str = "a node"
    ) -> None:
        self._nodes, self._busy, self._host = nodes, busy, host
        self.actors: list[Actor] = []
        self.sent = 0

    def nodes(self) -> list[dict[str, Any]]:
        """As Ray says it."""
        return [
            {
                "Alive": True,
                "Resources": {"CPU": float(cpus), "GPU": float(gpus)},
                "NodeManagerHostname": self._host,
            }
            for cpus, gpus in self._nodes
        ]

    def put(self, value: object) -> object:
        """The object itself."""
        self.sent += 1
        return value

    def remote(self, **options: Any) -> Callable[[type], Any]:
        """A decorator."""

        def decorated(kind: type) -> Any:
            def begin(*arguments: Any) -> Actor:
                room = max(cpus for cpus, _ in self._nodes) - self._busy
                actor = Actor(kind(*arguments), options, begins=options["num_cpus"] <= room)
                self.actors.append(actor)
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

    def get(self, answer: Future[Any]) -> Any:
        """What came of it."""
        try:
            return answer.result(timeout=30)
        except RayError:
            raise
        except BaseException as error:
            raise RayTaskError(error) from error

    def kill(self, actor: Actor, no_restart: bool) -> None:
        """Ends an actor."""
        actor.lose("ended")


class Actor:
    """An object whose methods run in threads, until it is lost."""

    def __init__(self, made: Any, options: dict[str, Any], begins: bool) -> None:
        self.made, self.options, self.ended = made, options, ""
        self._begins, self._asked = begins, list[Future[Any]]()

    def lose(self, reason: str) -> None:
        """Nothing comes of what it was asked."""
        self.ended = self.ended or reason
        for answer in self._asked:
            if not answer.done():
                answer.set_exception(RayError(reason))

    def __getattr__(self, name: str) -> Any:
        def asked(*arguments: Any) -> Future[Any]:
            answer: Future[Any] = Future()
            self._asked.append(answer)
            if self.ended:
                answer.set_exception(RayError(self.ended))
            elif self._begins:
                threading.Thread(target=answered, args=(answer, arguments), daemon=True).start()
            return answer

        def answered(answer: Future[Any], arguments: tuple[Any, ...]) -> None:
            try:
                found = getattr(self.made, name)(*arguments)
            except BaseException as error:  # noqa: BLE001 - as Ray's own
                if not answer.done():
                    answer.set_exception(error)
            else:
                if not answer.done():
                    answer.set_result(found)

        return SimpleNamespace(remote=asked)


def cluster_of(ray: ThreadRay) -> Cluster:
    """A cluster that was joined."""
    return Cluster(ray, "auto", None)
