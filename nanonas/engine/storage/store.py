"""What happened in a run: one SQLite file, append-only tables, one writer.

Workers never open it. A candidate is committed before it is submitted, and an evaluation before the
strategy is told, so at every instant the file holds all that is needed to resume. Nothing is ever
changed or deleted.

Write-ahead logging with ``synchronous = FULL``: neither a killed process nor a power cut loses what
was acknowledged, as far as the disk keeps what it says that it has. NORMAL loses the last moments
in a power cut. A resumed run repeats those, but for what came from outside: a request, whose file
is gone by then, or that the test set was opened. What FULL costs: `benchmarks/store.py`.

SQLite has no checksums, so the rows have: see `storage.integrity`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from nanonas.core import Candidate, Evaluation, Told
from nanonas.engine.storage.events import RESUMED, Event
from nanonas.engine.storage.identity import require_equal_search
from nanonas.engine.storage.integrity import PATIENCE, changed_rows, problems
from nanonas.engine.storage.lock import held, lock_for_writing, make_folder_of
from nanonas.engine.storage.opening import (
    connect,
    connect_readonly,
    damaged,
    existing,
    explained,
    fetched,
    foreign,
)
from nanonas.engine.storage.rows import (
    APPLICATION,
    CANDIDATE_COLUMNS,
    EVALUATION_COLUMNS,
    EVENT_COLUMNS,
    MIGRATIONS,
    Row,
    candidate_row,
    candidates_from,
    evaluation_row,
    evaluations_from,
    event_row,
    events_from,
    has_other_tables,
    moments_from,
    run_row,
    settings_from,
)
from nanonas.errors import RunError
from nanonas.files import sync
from nanonas.machine import version_of


class RunStore:
    """The store of one run. Made by `begin`, `resume` or `read`; a context manager.

    Every method may raise `RunError`: a full disk, a damaged file, no permission. Nothing that was
    stored is lost then.

    A run has a clock of its own, which says how long it took: it stands still between sessions, and
    nobody sets it, as the wall's can be. What arrives is stored by both.
    """

    def __init__(self, path: Path, *, readonly: bool, durable: bool = True) -> None:
        """Opens the file as it is, without a look inside. Use `begin`, `resume` or `read`."""
        self.path = path
        self._format = len(MIGRATIONS)  # of the tables, once they are migrated
        self._clock_ahead: float | None = None  # of this machine's
        self._lock = None if readonly else lock_for_writing(path)
        try:
            with explained(path):
                self._db = connect_readonly(path) if readonly else connect(path, durable)
        except RunError:
            self._unlock()
            raise

    @classmethod
    def begin(
        cls, path: Path | str, config: Mapping[str, Any], *, durable: bool = True
    ) -> RunStore:
        """A new run.

        Args:
            path: the file to make; its folder is made too.
            config: JSON-able, as resolved. Its key "search" is what `resume` compares.
            durable: whether commits wait for the disk; a store that is thrown away need not.

        Raises:
            RunError: there is a run already, or the file cannot be written.
        """
        path = Path(path)
        make_folder_of(path)
        store = cls(path, readonly=False, durable=durable)
        with store._closed_on_error():
            store._require_empty()
            store._migrate(0, run_row(config, time.time(), version_of("nanonas")))
        return store

    @classmethod
    def restore(cls, path: Path, run: Row, rows: Mapping[str, Sequence[Row]]) -> None:
        """Makes a store of rows that were saved from another one: all of them or none.

        Args:
            path: of the new file.
            run: as `rows.run_row` has it.
            rows: of the other tables, by their names, as `rows.candidate_row` and the others have
                them, in their order.

        Raises:
            RunError: there is a run already, the file cannot be written, or the rows do not fit.
        """
        make_folder_of(path)
        with cls(path, readonly=False) as store:
            store._require_empty()
            store._migrate(0, run)
            with explained(path):
                store._db.execute("BEGIN")
                for table in ("candidate", "evaluation", "event"):
                    for row in rows[table]:
                        store._insert(table, row)
                store._db.execute("COMMIT")

    @classmethod
    def require_new(cls, path: Path) -> None:
        """Raises `RunError` where `begin` would find a run already, before there is any work to be
        lost.
        """
        if path.exists():
            with cls(path, readonly=False) as store:
                store._require_empty()

    def _require_empty(self) -> None:
        if not self._empty():
            raise RunError(
                f"there is a run in {self.path} already: resume it, or choose another folder for "
                "a new one"
            )

    @classmethod
    def resume(
        cls,
        path: Path | str,
        config: Mapping[str, Any] | None = None,
        defaults: Mapping[str, Any] | None = None,
        ignored: Collection[str] = (),
    ) -> RunStore:
        """The run at `path`, to be continued. An event records when, and with which "run" half of
        the configuration.

        Args:
            path: the file that `begin` made.
            config: its "search" half must be the one that the run was begun with; None: is not
                compared.
            defaults: a configuration; its "search" half counts for the keys that the run was begun
                without, by a version of nanonas that did not have them yet.
            ignored: keys of the "search" half that earlier versions had, and that are not compared.

        Raises:
            RunError: no run there, another search configuration, another writer, a newer or damaged
                file.
        """
        path = existing(path)
        store = cls(path, readonly=False)
        with store._closed_on_error():
            version = store._checked_version()
            if wrong := problems(store._db, seconds=PATIENCE):  # before anything is written there
                raise RunError(damaged(path, wrong[0]))
            store._migrate(version)
            if config is not None:
                require_equal_search(path, store.config, config, defaults, ignored)
                store.event(RESUMED, {"run": config.get("run"), "version": version_of("nanonas")})
        return store

    @classmethod
    def read(cls, path: Path | str) -> RunStore:
        """The run at `path`, read only, also while it is running; of any format up to the newest.

        Raises `RunError` as `resume` does.
        """
        path = existing(path)
        store = cls(path, readonly=True)
        with store._closed_on_error():
            store._format = store._checked_version()
        return store

    @staticmethod
    def in_use(path: Path) -> bool:
        """Whether a process writes the run at `path` now: its search is going on, or its winner is
        being trained.
        """
        return held(path)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was begun with."""
        return settings_from(self.path, self._of_run("config"))

    @property
    def created(self) -> float:
        """When the run was begun, in seconds since 1970."""
        return moments_from(self.path, [(self._of_run("created"),)])[0]

    @property
    def version(self) -> str:
        """The version of nanonas that began the run."""
        return str(self._of_run("version"))

    def _of_run(self, column: str) -> Any:
        rows = self._rows(f"SELECT {column} FROM run LIMIT 1")
        if rows:
            return rows[0][0]
        raise RunError(damaged(self.path, "the row of its run is lost"))

    def asked(self, candidate: Candidate) -> None:
        """Commits the next candidate. Its number must be the next one."""
        self._insert("candidate", candidate_row(candidate, time.time()))

    def arrived(self, evaluation: Evaluation) -> None:
        """Commits an evaluation.

        Refused when its candidate has one already that is not `State.CUT`.
        """
        seq, clock = self._next("evaluation"), self._clock()
        self._insert("evaluation", evaluation_row(seq, evaluation, time.time(), clock))

    def event(self, kind: str, details: Mapping[str, Any] | None = None) -> None:
        """Commits something that came from outside. `details` must be JSON-able."""
        event = Event(time.time(), kind, details or {}, self._clock())
        self._insert("event", event_row(self._next("event"), event))

    def candidates(self, since: int = 0) -> list[Candidate]:
        """All that were asked, by number; without the first `since`, which the caller has."""
        columns = CANDIDATE_COLUMNS if self._format == 1 else f"{CANDIDATE_COLUMNS}, generation"
        rows = self._rows(
            f"SELECT {columns} FROM candidate WHERE number >= ? ORDER BY number", since
        )
        # of format 1 where it was opened by `read`, which cannot migrate it
        search = self.config.get("search") if self._format == 1 else None
        return candidates_from(self.path, rows, search, since)

    def evaluations(self, since: int = 0) -> list[Evaluation]:
        """All that arrived, in the order of their arrival; without the first `since`.

        A number may come again after a `State.CUT`.
        """
        rows = self._rows(
            # `seq` has no gaps: nothing is ever deleted
            f"SELECT {EVALUATION_COLUMNS} FROM evaluation WHERE seq > ? ORDER BY seq",
            since,
        )
        last = self._rows("SELECT COALESCE(MAX(number), -1) FROM candidate")[0][0]
        return evaluations_from(self.path, rows, last)

    def latest(self) -> dict[int, Evaluation]:
        """The evaluation of each candidate that has one, by number: the last that arrived."""
        latest = {evaluation.number: evaluation for evaluation in self.evaluations()}
        return {number: latest[number] for number in sorted(latest)}

    def told(self) -> list[Told]:
        """The candidates that have an evaluation, with their latest, by number."""
        latest = self.latest()
        return [
            Told(candidate, latest[candidate.number], candidate.asked_after)
            for candidate in self.candidates()
            if candidate.number in latest
        ]

    def arrival_times(self, since: int = 0) -> list[float]:
        """When each of `evaluations` arrived, in seconds since 1970."""
        return self._arrivals("time", since)

    def arrival_clocks(self, since: int = 0) -> list[float]:
        """When each of `evaluations` arrived, in seconds by the run's own clock."""
        return self._arrivals(self._clock_column, since)

    def _arrivals(self, column: str, since: int) -> list[float]:
        rows = self._rows(f"SELECT {column} FROM evaluation WHERE seq > ? ORDER BY seq", since)
        return moments_from(self.path, rows)

    def events(self, since: int = 0) -> list[Event]:
        """All events, in the order in which they were stored; without the first `since`."""
        columns = f"{EVENT_COLUMNS}, {self._clock_column}"
        rows = self._rows(f"SELECT {columns} FROM event WHERE seq > ? ORDER BY seq", since)
        return events_from(self.path, rows)

    def require_unchanged(self) -> None:
        """Raises `RunError` where a row is not what was written. Takes a quarter of the time that
        reading them takes.
        """
        with explained(self.path):
            wrong = next(changed_rows(self._db), None)
        if wrong is not None:
            raise RunError(damaged(self.path, wrong))

    def copy_to(self, path: Path) -> None:
        """Copies the run as it is at this moment into a new file, also while another process goes
        on with it. The copy is whole, and on the disk, when this returns.

        Raises:
            RunError: the store is damaged, or the copy cannot be written.
        """
        with explained(path), closing(sqlite3.connect(path)) as copy:
            with explained(self.path):
                self._db.backup(copy)
            wrong = problems(copy)
        if wrong:
            raise RunError(damaged(self.path, wrong[0]))
        sync(path)

    def close(self) -> None:
        """Closes the file and releases the lock. May be called twice."""
        self._db.close()
        self._unlock()

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _rows(self, query: str, *values: object) -> list[Row]:
        with explained(self.path):
            return fetched(self._db.execute(query, values), self.path)

    def _next(self, table: str) -> int:
        """The next number of a table; nobody else writes."""
        return int(self._rows(f"SELECT COALESCE(MAX(seq), 0) + 1 FROM {table}")[0][0])

    def _insert(self, table: str, row: Row) -> None:
        places = ", ".join("?" * len(row))
        with explained(self.path):
            self._db.execute(f"INSERT INTO {table} VALUES ({places})", row)

    @property
    def _clock_column(self) -> str:
        return "clock" if self._format > 2 else "time"  # before, there was the wall's alone

    def _clock(self) -> float:
        """The run's own clock, in seconds. It goes on from where the last session left it."""
        if self._clock_ahead is None:
            last = [
                clock
                for table in ("evaluation", "event")
                for (clock,) in self._rows(f"SELECT clock FROM {table} ORDER BY seq DESC LIMIT 1")
            ]
            self._clock_ahead = max(last, default=0.0) - time.monotonic()
        return self._clock_ahead + time.monotonic()

    def _empty(self) -> bool:
        """Whether nothing was ever stored, as where a run was killed while it began."""
        return bool(self._rows("SELECT COUNT(*) FROM sqlite_master")[0][0] == 0)

    def _checked_version(self) -> int:
        """The version of the file's tables.

        Raises `RunError` for files that are not ours, or too new.
        """
        (version,) = self._rows("PRAGMA user_version")[0]
        (application,) = self._rows("PRAGMA application_id")[0]
        if self._empty():
            raise RunError(
                f"{self.path} is empty, its run was stopped while it began: begin it again"
            )
        if application != APPLICATION:
            other = f"{self.path} is a database, but not a run's: give the folder of a run"
            raise RunError(foreign(self.path, other))
        if version > len(MIGRATIONS):
            raise RunError(
                f"{self.path} has the format {version}, but this nanonas knows formats up to "
                f"{len(MIGRATIONS)}: update nanonas"
            )
        with explained(self.path):
            if has_other_tables(self._db, version):
                raise RunError(damaged(self.path, "its tables are not those of a run's store"))
        return int(version)

    def _migrate(self, version: int, run: Row | None = None) -> None:
        """Brings the tables from `version` to the newest and stores the row of a new run: all of it
        or nothing.
        """
        if version == len(MIGRATIONS):
            return
        with explained(self.path):
            if version == 0:  # kept in the file; not possible inside a transaction
                self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for migration in MIGRATIONS[version:]:
                    migration(self._db)
                self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
                if run is not None:
                    self._insert("run", run)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)  # which releases it
            self._lock = None
