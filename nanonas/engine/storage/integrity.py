"""Is a store whole? Its pages, as SQLite knows them, and its rows, by their checksums."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from nanonas.engine.storage.opening import FAILURES, connect_readonly
from nanonas.engine.storage.rows import (
    APPLICATION,
    CHECKSUMS,
    checksum,
    has_other_tables,
)

# of looking at pages when a run is resumed: 800 MB, where the file is in memory already
PATIENCE = 1.0
_TABLES = ("run", "candidate", "evaluation", "event")
_LEAST = 8  # bytes of a row


def examined(path: Path) -> list[str]:
    """What is wrong with the store at `path`, each as a clause; empty where nothing is. A copy of
    it is looked at, for SQLite may write beside what it reads.

    Raises:
        OSError: it cannot be copied.
    """
    with tempfile.TemporaryDirectory(prefix="nanonas-check-") as place:
        copy = Path(place) / path.name
        for name in (path, Path(f"{path}-wal")):
            if name.exists():
                shutil.copyfile(name, copy.with_name(name.name))
        try:
            with closing(connect_readonly(copy)) as db:
                (application,) = db.execute("PRAGMA application_id").fetchone()
                if application != APPLICATION:
                    return ["its header is not that of a run's store"]
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if has_other_tables(db, version):
                    return ["its tables are not those of a run's store"]
                return problems(db, full=True)
        except FAILURES as error:
            return [str(error)]


def problems(
    db: sqlite3.Connection, *, seconds: float | None = None, full: bool = False
) -> list[str]:
    """What is wrong with a store, each as a clause; empty where nothing is.

    Args:
        db: a connection to it.
        seconds: to look at its pages; what was not looked at by then counts as whole. None: as long
            as that takes.
        full: whether indexes are compared with their tables, too.
    """
    found: list[str] = []
    try:
        found += _pages(db, seconds, full)
        found += changed_rows(db)
    except FAILURES as error:
        found.append(str(error))
    return found


def _pages(db: sqlite3.Connection, seconds: float | None, full: bool) -> list[str]:
    check = "integrity_check" if full else "quick_check"
    timer = threading.Timer(seconds or 0.0, db.interrupt)
    if seconds is not None:
        timer.start()
    try:
        found = [str(line) for (line,) in db.execute(f"PRAGMA {check}(20)").fetchall()]
    except sqlite3.OperationalError as error:
        if "interrupt" not in str(error):
            raise
        found = ["ok"]
    finally:
        timer.cancel()
        if seconds is not None:
            timer.join()  # it must not interrupt what comes next
    return [" ".join(line.split()) for line in found if line != "ok"]


def changed_rows(db: sqlite3.Connection) -> Iterator[str]:
    """The rows that are not what was written: damaged, or changed by hand. Rows of formats before 4
    have no checksum. Raises `sqlite3.Error`.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version < CHECKSUMS:
        return
    (pages,), (size,) = (
        db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
    )
    room = pages * size // _LEAST
    for table in _TABLES:
        for count, row in enumerate(db.execute(f"SELECT * FROM {table}")):
            if count > room:
                yield f"the table {table} has more rows than it has room for"
                break
            *values, stored = row
            if stored is not None and stored != checksum(values):
                place = "" if table == "run" else f" {values[0]}"
                yield f"the row {table}{place} is not what was written"
