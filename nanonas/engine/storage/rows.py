"""The tables of a run's store, and how values become rows and rows values again."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nanonas.core import Budget, Candidate, Epoch, Evaluation, Prediction, Proposal, State
from nanonas.engine.storage.events import Event
from nanonas.errors import RunError

APPLICATION = 0x6E6E6173  # "nnas", in the file's header: tells our files from all others

Row = tuple[Any, ...]


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
            seq INTEGER PRIMARY KEY, number INTEGER NOT NULL REFERENCES candidate,
            state TEXT NOT NULL, metrics TEXT NOT NULL, curve TEXT NOT NULL, seconds REAL NOT NULL,
            reason TEXT, traceback TEXT, time REAL NOT NULL)"""
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


def _clocks(db: sqlite3.Connection) -> None:
    """Evaluations and events are stored by the run's own clock, too; before, there was the wall's
    alone.
    """
    for table in ("evaluation", "event"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN clock REAL NOT NULL DEFAULT 0")
        db.execute(f"UPDATE {table} SET clock = time")


def _checksums(db: sqlite3.Connection) -> None:
    """Rows have checksums; of those that were written before, none is known."""
    for table in ("run", "candidate", "evaluation", "event"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER")


# the n-th makes version n, from 1
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    _first_tables,
    _generations,
    _clocks,
    _checksums,
)
CHECKSUMS = 4  # the first version that has them


def first_format_generation(search: object, number: int) -> int:
    """The generation of a candidate of format 1, which does not store it.

    It is what its strategy counted: the population's size of candidates in each generation, but for
    `evolution`, whose elite stays in the population without being evaluated again. In versions that
    had a scored pool, the pool belonged to generation 0.

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


# --- values become rows ---------------------------------------------------------------------------


def to_json(value: object) -> str:
    """Floats by their repr, which reads back exactly; NaN and infinities by name; numpy's scalars
    as Python's.
    """
    return json.dumps(value, sort_keys=True, default=lambda scalar: scalar.item())


def checksum(values: Iterable[object]) -> int:
    """CRC-32 of a row's values as the table gives them back, where numbers may have become floats,
    and -0.0 is 0.
    """
    plain = [float(one) + 0.0 if isinstance(one, (int, float)) else one for one in values]
    return zlib.crc32(json.dumps(plain).encode())


def summed(*values: object) -> Row:
    """A row's values, and their checksum behind them."""
    return *values, checksum(values)


def run_row(config: Mapping[str, Any], created: float, version: str) -> Row:
    """In the order of the table's columns; `created` in seconds since 1970."""
    return summed(to_json(dict(config)), created, version)


def candidate_row(candidate: Candidate, time: float) -> Row:
    """In the order of the table's columns; `time` in seconds since 1970."""
    proposal = to_json(asdict(candidate.proposal))
    asked_after, generation = candidate.asked_after, candidate.generation
    return summed(candidate.number, candidate.key, proposal, asked_after, time, generation)


def evaluation_row(seq: int, evaluation: Evaluation, time: float, clock: float) -> Row:
    """In the order of the table's columns; `seq` is the next number of the table, `time` as above,
    `clock` in seconds by the run's own.
    """
    curve = [(epoch.train_loss, epoch.accuracy) for epoch in evaluation.curve]
    return summed(
        seq,
        evaluation.number,
        evaluation.state.value,
        to_json(dict(evaluation.metrics)),
        to_json(curve),
        evaluation.seconds,
        _storable(evaluation.reason),
        _storable(evaluation.traceback),
        time,
        clock,
    )


def event_row(seq: int, event: Event) -> Row:
    """In the order of the table's columns; `seq` is the next number of the table."""
    return summed(seq, event.time, event.kind, to_json(dict(event.details)), event.clock)


def _storable(text: str | None) -> str | None:
    """Without the lone surrogates that UTF-8 cannot store: a strange message must not cost the
    row.
    """
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


# --- rows become values ---------------------------------------------------------------------------

# What the functions below read, in this order; a candidate's generation since format 2, an event's
# clock since format 3.
CANDIDATE_COLUMNS = "number, key, proposal, asked_after"
EVALUATION_COLUMNS = "number, state, metrics, curve, seconds, reason, traceback"
EVENT_COLUMNS = "time, kind, details"


# Each raises `RunError` for a row of the store at `path` that cannot be read back.


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raises `RunError` for a row that cannot be read back, because it was changed by hand."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(
            f"{path} holds a row that nanonas did not write ({error}): restore it from a copy"
        ) from error


def settings_from(path: Path, text: str) -> dict[str, Any]:
    """The configuration that a run was begun with."""
    with _readable(path):
        return dict(json.loads(text))


def candidates_from(path: Path, rows: Iterable[Row], search: object = None) -> list[Candidate]:
    """Rows of `CANDIDATE_COLUMNS` and, since format 2, the generation. What an earlier version did
    not know of has its default.

    Args:
        search: of a run of format 1, the "search" half of its configuration.
    """
    with _readable(path):
        return [_candidate_from(row, search) for row in rows]


def _candidate_from(row: Row, search: object) -> Candidate:
    number, key, proposal_json, asked_after, *generations = row
    stored = json.loads(proposal_json)
    budget, predicted = stored["budget"], stored.get("predicted")
    proposal = Proposal(
        genome=tuple(stored["genome"]),
        parents=tuple(stored["parents"]),
        budget=None if budget is None else Budget(**budget),
        predicted=None if predicted is None else Prediction(**predicted),
        resumes=stored.get("resumes"),
        inherits=tuple(stored.get("inherits", ())),
        planted=stored.get("planted", False),
        ancestor=stored.get("ancestor", ""),
    )
    generation = generations[0] if generations else first_format_generation(search, number)
    return Candidate(number, proposal, key, asked_after, generation)


def evaluations_from(path: Path, rows: Iterable[Row]) -> list[Evaluation]:
    """Rows of `EVALUATION_COLUMNS`."""
    with _readable(path):
        return [_evaluation_from(row) for row in rows]


def _evaluation_from(row: Row) -> Evaluation:
    number, state, metrics_json, curve_json, seconds, reason, traceback = row
    metrics = json.loads(metrics_json)
    metrics.pop("image_size", None)  # of earlier versions: the budget has it
    curve = tuple(Epoch(loss, accuracy) for loss, accuracy in json.loads(curve_json))
    return Evaluation(number, State(state), metrics, curve, seconds, reason, traceback)


def events_from(path: Path, rows: Iterable[Row]) -> list[Event]:
    """Rows of `EVENT_COLUMNS` and the clock."""
    with _readable(path):
        return [
            Event(time, kind, json.loads(details), clock) for time, kind, details, clock in rows
        ]
