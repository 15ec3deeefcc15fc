"""A run in the browser while it goes on: `nanonas dashboard RUN`.

What is new in the store is read once a second, by a connection that cannot write. What people ask
for is left in the run's folder, where the process that searches finds it. No file of the run is
served.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanonas.analysis.record import Entry, searching
from nanonas.core import Evaluation
from nanonas.engine.controls import in_words, standing
from nanonas.engine.requests import PLANT, Request, RequestFiles, parsed
from nanonas.engine.storage.events import REQUEST_REFUSED, REQUEST_TAKEN, SESSION, STARTED, Event
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError
from nanonas.files import read_json
from nanonas.runs.asking import genome_in
from nanonas.runs.folder import RunFolder, read_config
from nanonas.runs.reading import read_record
from nanonas.serving.guard import Guard
from nanonas.serving.view import Asked, View

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer


class Live:
    """A run as it is now. Every look reads only what is new since the last one; many threads may
    look.

    Raises:
        RunError: as `nanonas.runs.reading.read_record`, for the first look.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._lock = threading.Lock()
        self._seen: object = None
        self._begun, self._reads = time.time_ns(), 0
        self._begin()
        self.look()

    def look(self) -> View:
        """The run now. What cannot be read this time is read the next time."""
        with self._lock:
            seen = self._signs()
            if seen != self._seen:
                with contextlib.suppress(RunError):
                    self._read()
                    self._seen = seen
                    self._view = self._made()
            return replace(self._view, now=time.time())

    def ask(self, what: str, word: str | None = None) -> str:
        """Leaves a request in the run's folder and says so. `word`: an operation, or a genome's
        numbers.

        Raises:
            NanonasError: it is no request, no genome, or cannot be written.
        """
        if what == PLANT:
            request = Request(
                PLANT, genome=genome_in(word or "", read_config(self.run).search.space)
            )
        else:
            request = Request(what, operation=word)
        RequestFiles(self.run.requests).put(request)
        return f"asked: {request}"

    def _begin(self) -> None:
        self._record = read_record(self.run)
        self._entries: list[Entry] = []
        self._evaluations: list[Evaluation] = []
        self._times: list[float] = []
        self._events: list[Event] = []

    def _signs(self) -> object:
        """What is otherwise when there is something new."""
        store = self.run.store
        files = (store, store.with_name(f"{store.name}-wal"), self.run.final / "result.json")
        waiting = tuple(name for name, _ in RequestFiles(self.run.requests).waiting())
        return tuple(map(_stamp, files)), waiting, RunStore.in_use(store)

    def _read(self) -> None:
        with RunStore.read(self.run.store) as store:
            if store.created != self._record.created:  # another run has taken its place
                self._begin()
            events = store.events(len(self._events))
            evaluations, times = (
                store.evaluations(len(self._evaluations)),
                store.arrival_times(len(self._times)),
            )
            candidates = store.candidates(
                len(self._entries)
            )  # last: an evaluation's candidate is there before it
        self._events += events
        self._times += times[: len(evaluations)]
        self._entries += [Entry(candidate, None) for candidate in candidates]
        elapsed, seconds = searching(self._events, self._times)
        for place, evaluation in enumerate(evaluations, len(self._evaluations)):
            entry = self._entries[evaluation.number]
            self._entries[evaluation.number] = replace(
                entry, evaluation=evaluation, elapsed=elapsed[place]
            )
        self._evaluations += evaluations
        final = read_json(self.run.final / "result.json")
        self._record = replace(
            self._record,
            entries=tuple(self._entries),
            events=tuple(self._events),
            seconds=seconds,
            final=final,
        )

    def _made(self) -> View:
        self._reads += 1
        stands = standing(self._events)
        kinds = [event.kind for event in self._events if event.kind in SESSION]
        alive = RunStore.in_use(self.run.store)
        waiting = [
            Asked(str(request), "waits") for _, request in RequestFiles(self.run.requests).waiting()
        ]
        heard = [
            _asked(event)
            for event in self._events
            if event.kind in (REQUEST_TAKEN, REQUEST_REFUSED)
        ]
        return View(
            self._record,
            version=f"{self._begun}-{self._reads}",
            alive=alive,
            searching=alive and kinds[-1:] == [STARTED],
            paused=alive and stands.paused,
            banned=stands.banned,
            asked=(*waiting, *reversed(heard)),
            last=max(
                [*self._times[-1:], *(event.time for event in self._events[-1:])], default=0.0
            ),
        )


def serve(run: RunFolder, host: str, port: int, say: Callable[[str], None]) -> None:
    """Serves the dashboard of a run until Ctrl-C.

    Args:
        host: the address to listen at; but for 127.0.0.1 others can reach it, and whoever can may
            steer the search.
        port: 0: any that is free.
        say: hears where it is.

    Raises:
        ConfigError: dash is not installed, or nobody can listen there.
        RunError: as `Live`.
    """
    _require_dash()
    logging.getLogger("werkzeug").setLevel(
        logging.ERROR
    )  # a line for every request would say nothing
    live = Live(run)
    server = make_server(live, host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{server.server_address[1]}"
    say(f"{run.path} is at {address} now; Ctrl-C ends the page, not the search")
    if not Guard(host, port).local:
        say(
            f"whoever can reach {host} can see this run and steer it; without --host only this "
            "machine can"
        )
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def make_server(live: Live, host: str, port: int) -> BaseWSGIServer:
    """The server, bound and not yet serving. Raises `ConfigError` when nobody can listen there."""
    from werkzeug.serving import make_server as make

    from nanonas.serving.board import make_app

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"nobody can listen at {host}, port {port}: {error.strerror}; choose another --port "
            "or --host"
        ) from None
    guard = Guard(host, listener.getsockname()[1])
    app = make_app(live.look, live.ask, guard)
    with listener:  # the server has a descriptor of its own
        return make(host, guard.port, app.server, threaded=True, fd=listener.fileno())


def _require_dash() -> None:
    if importlib.util.find_spec("dash") is None:
        raise ConfigError("nanonas dashboard needs dash: pip install 'nanonas[dashboard]'")


def _asked(event: Event) -> Asked:
    if event.kind == REQUEST_TAKEN:
        return Asked(in_words(event.details), "taken", event.time)
    wish = {
        name: value
        for name, value in event.details.items()
        if name in ("what", "operation", "genome")
    }
    said = str(parsed(wish)) if wish else "a file"
    return Asked(f"{said}: {event.details['reason']}", "refused", event.time)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size
