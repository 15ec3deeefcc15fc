"""The tables of a run's store, and how values become rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanonas.core import Budget, Epoch, Prediction, Proposal
from nanonas.errors import RunError

APPLICATION = 0x6E6E6173  # "nnas", in the file's header: tells our files from anybody else's


def _first_tables(db: sqlite3.Connection) -> None:
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    db.execute(
        "CREATE TABLE run (config TEXT NOT NULL, created REAL NOT NULL, version TEXT NOT NULL)"
    )
    db.execute(
        """CREATE TABLE candidate (
            number INTEGER PRIMARY KEY, key TEXT NOT NULL, proposal TEXT NOT NULL,
            asked_after INTEGER NOT NULL, time REAL NOT NULL)"""
    )
    db.execute(
        """CREATE TABLE evaluation (
            seq INTEGER PRIMARY KEY, number INTEGER NOT NULL REFERENCES candidate, state TEXT NOT NULL,
            metrics TEXT NOT NULL, curve TEXT NOT NULL, seconds REAL NOT NULL, reason TEXT, traceback TEXT,
            time REAL NOT NULL)"""
    )
    db.execute("CREATE INDEX evaluation_number ON evaluation (number)")
    db.execute(
        "CREATE TABLE event (seq INTEGER PRIMARY KEY, time REAL NOT NULL, kind TEXT NOT NULL, "
        "details TEXT NOT NULL)"
    )
    db.execute(
        """CREATE TRIGGER candidates_are_dense BEFORE INSERT ON candidate
        WHEN NEW.number <> (SELECT COALESCE(MAX(number) + 1, 0) FROM candidate)
        BEGIN SELECT RAISE(ABORT, 'a candidate must have the next number'); END"""
    )
    db.execute(
        """CREATE TRIGGER one_result BEFORE INSERT ON evaluation
        WHEN EXISTS (SELECT 1 FROM evaluation WHERE number = NEW.number AND state <> 'cut')
        BEGIN SELECT RAISE(ABORT, 'the candidate has been evaluated already'); END"""
    )


def _generations(db: sqlite3.Connection) -> None:
    """Each candidate's generation is stored with it."""
    db.execute("ALTER TABLE candidate ADD COLUMN generation INTEGER NOT NULL DEFAULT 0")
    configs = db.execute("SELECT config FROM run").fetchall()  # none while a run is begun
    search = json.loads(configs[0][0]).get("search") if configs else None
    numbers = [number for (number,) in db.execute("SELECT number FROM candidate").fetchall()]
    rows = [(first_format_generation(search, number), number) for number in numbers]
    db.executemany("UPDATE candidate SET generation = ? WHERE number = ?", rows)


# the n-th makes version n, from 1
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_first_tables, _generations)


def first_format_generation(search: object, number: int) -> int:
    """The generation of a candidate of format 1, which does not store it.

    That is what its strategy said: the population's size of candidates each, but for `evolution`,
    whose elite stays in the population without being evaluated again. The scored pool of versions
    that had one belonged to generation 0.

    Args:
        search: the "search" half of the configuration that the run was begun with.
    """
    if not isinstance(search, dict) or "population" not in search:
        return 0  # the strategy was the user's own
    population, strategy = int(search["population"]), search.get("strategy")
    if strategy == "screened":
        strategy = search.get("screens")
    trained = max(0, number - int(search.get("warm_pool", 0)))
    if strategy != "evolution":
        return trained // population
    children = population - max(1, round(population / 10))  # of each generation but the first
    return max(0, 1 + (trained - population) // children)


@contextmanager
def decoded(path: Path) -> Iterator[None]:
    """What cannot be read back was changed by hand."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{path} holds a row that nanonas did not write ({error}): restore it from a copy"
        ) from error


def to_json(value: object) -> str:
    """Floats by their repr, which reads back exactly; NaN and infinities by name; numpy's scalars
    as Python's.
    """
    return json.dumps(value, sort_keys=True, default=lambda scalar: scalar.item())


def storable(text: str | None) -> str | None:
    """Without the lone surrogates that UTF-8 cannot store: a strange message must not cost the row."""
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


def proposal_from(fields: dict[str, Any]) -> Proposal:
    """What an earlier version did not know of has its default."""
    budget, predicted = fields["budget"], fields.get("predicted")
    return Proposal(
        tuple(fields["genome"]),
        tuple(fields["parents"]),
        None if budget is None else Budget(**budget),
        None if predicted is None else Prediction(**predicted),
        fields.get("resumes"),
        tuple(fields.get("inherits", ())),
        fields.get("planted", False),
    )


def metrics_from(metrics: dict[str, float]) -> dict[str, float]:
    """Without the image size, which earlier versions stored here too: the budget has it."""
    return {name: value for name, value in metrics.items() if name != "image_size"}


def curve_from(points: list[list[float]]) -> tuple[Epoch, ...]:
    return tuple(Epoch(train_loss, accuracy) for train_loss, accuracy in points)
