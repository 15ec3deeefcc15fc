"""Stores of strangers: as `toys.hostile.formats`."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from nanonas.engine.storage.salvage import rows_of, salvaged
from nanonas.engine.storage.store import RunStore
from toys.hostile.formats import RUN, Format, reader
from toys.hostile.mutations import as_json, changed, odd


def store(work: Path) -> Format:
    """study.db, its bytes."""

    def read(path: Path) -> object:
        for name in ("-wal", "-shm", "-journal"):
            Path(f"{path}{name}").unlink(missing_ok=True)
        rows_of(salvaged(path))
        with RunStore.read(path) as opened:
            return (
                opened.config,
                opened.created,
                opened.candidates(),
                opened.told(),
                opened.events(),
                opened.arrival_times(),
                opened.arrival_clocks(),
            )

    seeds = [_small_store(work / "seed.db")]
    return Format(changed(seeds), reader(work / "study.db", read), seeds)


def _small_store(path: Path) -> bytes:
    from toys.storage import filled

    filled(path, 6)
    return path.read_bytes()


_TABLES = {
    "run": ("config", "created", "version"),
    "candidate": ("key", "proposal", "asked_after", "time", "generation"),
    "evaluation": ("number", "state", "metrics", "curve", "seconds", "reason", "time", "clock"),
    "event": ("time", "kind", "details", "clock"),
}


def cells(work: Path) -> Format:
    """study.db, a few values of its rows, by SQLite; a case is JSON: what is put where."""
    from nanonas.analysis.findings import Findings
    from nanonas.report.words import verdict
    from nanonas.runs.folder import RunFolder
    from nanonas.runs.reading import read_record

    run = work / "cells"
    shutil.copytree(RUN, run)
    RunStore.resume(run / "study.db").close()  # brings it into the newest format
    original = (run / "study.db").read_bytes()
    texts = _texts(run / "study.db")

    def put(case: Any) -> None:
        (run / "study.db").write_bytes(original)
        with closing(sqlite3.connect(run / "study.db")) as db, db:
            for table, column, row, value in case:
                # what was there before checksums is not looked at
                db.execute(
                    f"UPDATE {table} SET {column} = ?, checksum = NULL WHERE rowid = "
                    f"(SELECT rowid FROM {table} LIMIT 1 OFFSET ?)",
                    (value, row),
                )

    def read(content: bytes) -> object:
        put(json.loads(content))
        findings = Findings(read_record(RunFolder(run)))
        return verdict.headline(findings), verdict.cards(findings)

    @st.composite
    def case(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
        made = []
        for _ in range(draw(st.integers(1, 2))):
            table = draw(st.sampled_from(sorted(_TABLES)))
            column = draw(st.sampled_from(_TABLES[table]))
            row = draw(st.integers(0, 12))
            known = texts.get((table, column), [])
            value = draw(_SCALARS)
            if known and draw(st.integers(0, 4)):
                value = json.dumps(draw(odd([known[row % len(known)]])))
            made.append((table, column, row, value))
        return as_json(made)

    return Format(case(), read, [as_json([])])


_SCALARS = st.sampled_from(
    [0, -1, 1, 2**63 - 1, 0.5, 1e308, "", "x", "[]", "{}", "[[1,2]]", "1e999", "NaN", "x" * 9000]
)


def _texts(path: Path) -> dict[tuple[str, str], list[Any]]:
    """The JSON in a store, by table and column."""
    found: dict[tuple[str, str], list[Any]] = {}
    with closing(sqlite3.connect(path)) as db:
        for table, columns in _TABLES.items():
            for column in columns:
                for (value,) in db.execute(f"SELECT {column} FROM {table}"):
                    if isinstance(value, str) and value[:1] in "[{":
                        found.setdefault((table, column), []).append(json.loads(value))
    return found
