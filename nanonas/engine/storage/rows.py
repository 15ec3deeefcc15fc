"""The tables of a run's store, and how values become rows and rows values again."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from nanonas.core import Budget, Candidate, Epoch, Evaluation, Prediction, Proposal, State
from nanonas.engine.storage.events import Event, event_of
from nanonas.errors import RunError
from nanonas.files import parsed_json
from nanonas.typed import (
    Check,
    finite,
    fitting,
    flag,
    gene,
    many,
    mapping,
    maybe,
    number,
    text,
    whole,
)

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


@cache
def _tables(version: int) -> frozenset[tuple[str, ...]]:
    """What SQLite says of the tables of a version."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        for migration in MIGRATIONS[:version]:
            migration(db)
        return _described(db)


def _described(db: sqlite3.Connection) -> frozenset[tuple[str, ...]]:
    """Tables, indexes and triggers, each with how it was made; but for white space."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchmany(1000)
    return frozenset(tuple("".join(str(one).split()) for one in row) for row in rows)


def has_other_tables(db: sqlite3.Connection, version: int) -> bool:
    """Whether a file has others than ours of a version. A view, a trigger or a computed column is a
    program: it may compute without end whenever a row is read or written.
    """
    return not 0 < version <= len(MIGRATIONS) or _described(db) != _tables(version)


def first_format_generation(search: object, number: int) -> int:
    """The generation of a candidate of format 1, which does not store it.

    It is what its strategy counted: the population's size of candidates in each generation, but for
    `evolution`, whose elite stays in the population without being evaluated again. In versions that
    had a scored pool, the pool belonged to generation 0.

    Args:
        search: the "search" half of the configuration that the run was begun with.

    Raises `ValueError` where that is none.
    """
    if not isinstance(search, dict) or "population" not in search:
        return 0  # the strategy was the user's own
    population, strategy = whole(search["population"], "population", 2), search.get("strategy")
    if strategy == "screened":
        strategy = search.get("screens")
    trained = max(0, number - whole(search.get("warm_pool", 0), "warm_pool"))
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
    return zlib.crc32(json.dumps(plain, default=repr).encode())  # of bytes, which none of ours is


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
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise RunError(
            f"{path} holds a row that nanonas did not write ({error!s:.200}): restore it from a "
            "copy"
        ) from error


def settings_from(path: Path, config: str) -> dict[str, Any]:
    """The configuration that a run was begun with."""
    with _readable(path):
        halves = {"search": mapping, "run": mapping}
        return fitting(parsed_json(config), "the configuration", halves)


def moments_from(path: Path, rows: Iterable[Row]) -> list[float]:
    """Rows of one moment each, in seconds."""
    with _readable(path):
        return [finite(moment, "a moment") for (moment,) in rows]


def candidates_from(
    path: Path, rows: Iterable[Row], search: object = None, since: int | None = None
) -> list[Candidate]:
    """Rows of `CANDIDATE_COLUMNS` and, since format 2, the generation. What an earlier version did
    not know of has its default.

    Args:
        search: of a run of format 1, the "search" half of its configuration.
        since: the number of the first, where each must have the next one; None: any will do.
    """
    with _readable(path):
        candidates = [_candidate_from(row, search) for row in rows]
        for place, candidate in enumerate(candidates, since or 0):
            if since is not None and candidate.number != place:
                raise ValueError(f"candidate {place} is lost")
        return candidates


def _candidate_from(row: Row, search: object) -> Candidate:
    place, key, proposal_json, asked_after, *generations = row
    whole(place, "number")
    stored = fitting(parsed_json(proposal_json), "a proposal", _PROPOSAL)
    proposal = Proposal(
        genome=stored["genome"],
        parents=stored["parents"],
        budget=stored["budget"],
        predicted=stored.get("predicted"),
        resumes=stored.get("resumes"),
        inherits=stored.get("inherits", ()),
        planted=stored.get("planted", False),
        ancestor=stored.get("ancestor", ""),
        recalled=stored.get("recalled", False),
    )
    generation = generations[0] if generations else first_format_generation(search, place)
    return Candidate(
        place,
        proposal,
        text(key, "key"),
        whole(asked_after, "asked_after"),
        whole(generation, "generation"),
    )


def _budget(value: Any, what: str) -> Budget:
    checks: dict[str, Check] = {
        "epochs": whole,
        "stop_epoch": whole,
        "stop_below": number,
        "begin": whole,
        "share": finite,
        "image_size": maybe(whole),
        "seconds": maybe(finite),
    }
    return Budget(**fitting(value, what, checks))


def _prediction(value: Any, what: str) -> Prediction:
    checks: dict[str, Check] = {"mean": number, "std": number, "by": text, "chosen": flag}
    return Prediction(**fitting(value, what, checks))


_PROPOSAL: dict[str, Check] = {
    "genome": many(gene),
    "parents": many(whole),
    "budget": maybe(_budget),
    "predicted": maybe(_prediction),
    "resumes": maybe(whole),
    "inherits": many(whole),
    "planted": flag,
    "ancestor": text,
    "recalled": flag,
}


def evaluations_from(path: Path, rows: Iterable[Row], last: int | None = None) -> list[Evaluation]:
    """Rows of `EVALUATION_COLUMNS`.

    Args:
        last: the number of the last candidate; None: any will do.
    """
    with _readable(path):
        evaluations = [_evaluation_from(row) for row in rows]
        for evaluation in evaluations:
            if last is not None and evaluation.number > last:
                raise ValueError(f"candidate {evaluation.number} is lost")
        return evaluations


def _evaluation_from(row: Row) -> Evaluation:
    place, state, metrics_json, curve_json, seconds, reason, traceback = row
    metrics = mapping(parsed_json(metrics_json), "metrics")
    metrics.pop("image_size", None)  # of earlier versions: the budget has it
    for name, value in metrics.items():
        number(value, name)
    pairs = many(many(number))(parsed_json(curve_json), "a curve")
    return Evaluation(
        whole(place, "number"),
        State(state),
        metrics,
        tuple(Epoch(loss, accuracy) for loss, accuracy in pairs),
        finite(seconds, "seconds"),
        maybe(text)(reason, "reason"),
        maybe(text)(traceback, "traceback"),
    )


def events_from(path: Path, rows: Iterable[Row]) -> list[Event]:
    """Rows of `EVENT_COLUMNS` and the clock."""
    with _readable(path):
        return [
            event_of(time, kind, parsed_json(details), clock) for time, kind, details, clock in rows
        ]
