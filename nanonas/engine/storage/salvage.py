"""What can be read of a damaged store, as the rows of a new one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanonas.core import State
from nanonas.engine.storage.carving import Carved, carved
from nanonas.engine.storage.rows import (
    Row,
    candidates_from,
    checksum,
    evaluations_from,
    events_from,
    first_format_generation,
    settings_from,
    summed,
)
from nanonas.errors import RunError
from nanonas.text import number_of

_STATES = frozenset(state.value for state in State)
_Shape = tuple[Any, ...]
_NONE, _TEXT, _WHOLE, _REAL = type(None), str, int, (int, float)
_ABSENT = (str, type(None))

# What the columns of each table hold, as a file has them: a number that a table counts by is left
# out there. How many there may be: each format has added some.
_CANDIDATE: _Shape = (_NONE, _TEXT, _TEXT, _WHOLE, _REAL, _WHOLE, (int, _NONE))
_EVALUATION: _Shape = (
    *(_NONE, _WHOLE, _TEXT, _TEXT, _TEXT, _REAL, _ABSENT, _ABSENT, _REAL, _REAL),
    (int, _NONE),
)
_EVENT: _Shape = (_NONE, _REAL, _TEXT, _TEXT, _REAL, (int, _NONE))
_RUN: _Shape = (_TEXT, _REAL, _TEXT, (int, _NONE))


@dataclass
class Salvage:
    """The rows of a store that can be read.

    Attributes:
        run: the row of the run's table, without its checksum; None: it is lost.
        candidates: by number, without checksums; there may be gaps.
        evaluations, events: by the number that they were stored under, without checksums.
        changed: how many rows were read that are not what was written.
        unsure: how many are of a format without checksums.
    """

    run: Row | None = None
    candidates: dict[int, Row] = field(default_factory=dict)
    evaluations: dict[int, Row] = field(default_factory=dict)
    events: dict[int, Row] = field(default_factory=dict)
    changed: int = 0
    unsure: int = 0

    @property
    def empty(self) -> bool:
        """Whether there is nothing of a run."""
        return not (self.run or self.candidates or self.evaluations or self.events)

    @property
    def whole(self) -> int:
        """How many candidates there are, from number 0 to the first that is lost."""
        return next(n for n in range(len(self.candidates) + 1) if n not in self.candidates)

    @property
    def beyond(self) -> int:
        """How many can be read behind the first that is lost."""
        return len(self.candidates) - self.whole

    @property
    def known(self) -> int:
        """How many candidates there were, as far as anything tells."""
        numbers = [*self.candidates, *(int(row[0]) for row in self.evaluations.values())]
        return max(numbers, default=-1) + 1

    @property
    def saved(self) -> str:
        """What a new store gets, in words."""
        counts = {table: len(rows) for table, rows in rows_of(self).items()}
        return (
            f"{number_of(counts['candidate'], 'candidate')}, "
            f"{number_of(counts['evaluation'], 'evaluation')} and "
            f"{number_of(counts['event'], 'event')}"
        )


def salvaged(path: Path) -> Salvage:
    """What can be read of the store at `path` and its log; nothing is written there.

    Raises:
        RunError: the file cannot be read at all.
    """
    log = Path(f"{path}-wal")
    try:
        content = path.read_bytes() if path.exists() else b""  # the log may be what is left
        pending = log.read_bytes() if log.exists() else b""
    except OSError as error:
        raise RunError(
            f"{path} cannot be read: {error.strerror}; copy what the disk still gives, and rescue "
            "the copy"
        ) from error
    return _sorted_out(carved(content, pending), path)


def _sorted_out(rows: Iterable[Carved], path: Path) -> Salvage:
    """Rows by their tables. Where a row was found twice, one with a checksum counts, and the
    longest, which is of the newest format.
    """
    found = Salvage()
    sure: dict[tuple[str, int], tuple[bool, int]] = {}  # the best of each so far
    changed: set[tuple[str, int]] = set()
    for row in rows:
        table = _table(row.values)
        if table is None:
            continue
        key = (table, 0 if table == "run" else row.rowid)
        values, right = _checked(table, row)
        if right is False or not _reads(table, values, path):
            changed.add(key)
            continue
        rank = (right is True, len(row.values))
        if rank > sure.get(key, (False, 0)):
            sure[key] = rank
            _put(found, table, row.rowid, values)
    found.changed = len(changed - sure.keys())
    found.unsure = sum(not right for right, _ in sure.values())
    _complete(found)
    return found


def _table(values: Sequence[Any]) -> str | None:
    """The table that a row is of, by what its columns hold."""
    for name, shape, least in (
        ("candidate", _CANDIDATE, 5),
        ("evaluation", _EVALUATION, 9),
        ("event", _EVENT, 4),
        ("run", _RUN, 3),
    ):
        fits = least <= len(values) <= len(shape)
        if fits and all(isinstance(one, kind) for one, kind in zip(values, shape, strict=False)):
            return name
    return None


def _checked(table: str, row: Carved) -> tuple[Row, bool | None]:
    """A row's values without the checksum, and whether it is right; None where there is none."""
    longest = {"candidate": _CANDIDATE, "evaluation": _EVALUATION, "event": _EVENT, "run": _RUN}
    values = list(row.values)
    stored = values.pop() if len(values) == len(longest[table]) else None
    if table != "run":
        values[0] = row.rowid
    right = None if stored is None else stored == checksum(values)
    numbered = table in ("evaluation", "event")
    return tuple(values[1:] if numbered else values), right


def _reads(table: str, values: Row, path: Path) -> bool:
    """Whether a row can be read back as what it stands for."""
    try:
        if table == "candidate":
            candidates_from(path, [(*values[:4], 0)])
        elif table == "evaluation":
            evaluations_from(path, [values[:7]])
        elif table == "event":
            events_from(path, [(*values[:3], 0.0)])
        else:
            settings_from(path, values[0])
    except RunError:
        return False
    return True


def _put(found: Salvage, table: str, rowid: int, values: Row) -> None:
    if table == "run":
        found.run = values
    else:
        rows = {
            "candidate": found.candidates,
            "evaluation": found.evaluations,
            "event": found.events,
        }
        rows[table][rowid] = values


def _complete(found: Salvage) -> None:
    """Gives rows of earlier formats what the newest has."""
    search = json.loads(found.run[0]).get("search") if found.run else None
    for number, row in found.candidates.items():
        if len(row) == len(_CANDIDATE) - 2:
            try:
                generation = first_format_generation(search, number)
            except ValueError:  # a configuration that was changed by hand
                generation = 0
            found.candidates[number] = (*row, generation)
    for seq, row in found.evaluations.items():
        if len(row) == len(_EVALUATION) - 3:
            found.evaluations[seq] = (*row, row[-1])
    for seq, row in found.events.items():
        if len(row) == len(_EVENT) - 3:
            found.events[seq] = (*row, row[0])


def rows_of(found: Salvage) -> dict[str, list[Row]]:
    """The rows of a new store: candidates up to the first that is lost, what became of them, and
    all events, in their order.
    """
    whole = found.whole
    return {
        "candidate": [summed(*found.candidates[number]) for number in range(whole)],
        "evaluation": [summed(seq, *row) for seq, row in enumerate(_kept(found, whole), 1)],
        "event": [
            summed(seq, *found.events[old]) for seq, old in enumerate(sorted(found.events), 1)
        ],
    }


def _kept(found: Salvage, whole: int) -> list[Row]:
    """The evaluations of the first so many candidates; none after the one that counts."""
    final: set[int] = set()
    kept = []
    for seq in sorted(found.evaluations):
        row = found.evaluations[seq]
        number, state = int(row[0]), str(row[1])
        if 0 <= number < whole and number not in final and state in _STATES:
            kept.append(row)
            if state != State.CUT.value:
                final.add(number)
    return kept
