"""What users request of a run while it goes on: one small file per request, in a folder of the run.

The process that requests writes a file, whole or not at all, and never opens the store for writing.
The process that runs the search takes the files in the order of their names, records each in the
store and removes it; see `engine/controls.py`.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nanonas.core import Genome
from nanonas.errors import InvalidInput, RunError
from nanonas.files import write_text

PAUSE, RESUME, BAN, ALLOW, PLANT = WHATS = ("pause", "resume", "ban", "allow", "plant")
_LONGEST = 100_000  # bytes of a request; a genome of the largest space has 220 numbers
_BRIEF = 12  # numbers of a genome that are shown
_NAME = re.compile(r"[0-9a-z-]{1,80}")


@dataclass(frozen=True)
class Request:
    """What a user asks of a run.

    Raises:
        InvalidInput: a field is missing, or does not belong to this kind of request.
    """

    what: str  # one of `WHATS`
    operation: str | None = None  # of "ban" and "allow": a name as in `Space.operation_names`
    genome: Genome | None = None  # of "plant"

    def __post_init__(self) -> None:
        if self.what not in WHATS:
            raise InvalidInput(f"a request must be one of {', '.join(WHATS)}, but is {self.what!r}")
        names_operation = self.what in (BAN, ALLOW)
        if names_operation and self.operation is None:
            raise InvalidInput(f"the request {self.what!r} must name an operation")
        if not names_operation and self.operation is not None:
            raise InvalidInput(
                f"the request {self.what!r} has no operation, but was given {self.operation!r}"
            )
        if self.what == PLANT and self.genome is None:
            raise InvalidInput("the request 'plant' must have a genome, a list of whole numbers")
        if self.what != PLANT and self.genome is not None:
            raise InvalidInput(f"the request {self.what!r} has no genome")

    def __str__(self) -> str:
        genome = None if self.genome is None else briefly(self.genome)
        return " ".join(part for part in (self.what, self.operation, genome) if part is not None)

    def to_values(self) -> dict[str, Any]:
        """JSON-able, without the fields that are None."""
        genome = None if self.genome is None else list(self.genome)
        values = {"what": self.what, "operation": self.operation, "genome": genome}
        return {name: value for name, value in values.items() if value is not None}


def briefly(genome: Sequence[int]) -> str:
    """A genome as a list; of a long one, the beginning."""
    shown = ", ".join(map(str, genome[:_BRIEF]))
    return f"[{shown}, …] of {len(genome)} numbers" if len(genome) > _BRIEF else f"[{shown}]"


def parsed(values: object) -> Request:
    """A request from JSON. Raises `InvalidInput` for anything else."""
    if not isinstance(values, dict):
        raise InvalidInput(
            f"a request must be an object such as {{'what': 'pause'}}, but is {values!r:.80}"
        )
    if unknown := set(values) - {"what", "operation", "genome"}:
        raise InvalidInput(
            "a request has what, operation and genome, but this one has "
            f"{sorted(map(str, unknown))[0]!r}"
        )
    what, operation, genome = (values.get(name) for name in ("what", "operation", "genome"))
    if not isinstance(what, str) or not isinstance(operation, (str, type(None))):
        raise InvalidInput(
            f"what is asked for must be words, but is {what!r:.80} and {operation!r:.80}"
        )
    if genome is None:
        return Request(what, operation)
    if not isinstance(genome, list) or not all(type(number) is int for number in genome):
        raise InvalidInput(f"a genome must be a list of whole numbers, but is {genome!r:.80}")
    return Request(what, operation, tuple(genome))


class Inbox(Protocol):
    """Where a study gets requests from."""

    def waiting(self) -> Sequence[tuple[str, Request | InvalidInput]]:
        """Those that wait, in order: the name of each, and the request or why it cannot be read."""

    def remove(self, name: str) -> None:
        """Forgets one, which is recorded."""


@dataclass(frozen=True)
class RequestFiles:
    """A folder with one JSON file for each request; it need not be there before the first one."""

    folder: Path

    def put(self, request: Request) -> str:
        """Writes a request and returns its name. Raises `RunError` when it cannot be written."""
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{str(self.folder)!r} cannot be made: {error.strerror}; get write permission"
            ) from error
        write_text(self.folder / f"{name}.json", json.dumps(request.to_values()) + "\n")
        return name

    def waiting(self) -> list[tuple[str, Request | InvalidInput]]:
        """Those that wait, the oldest first. Files with other names are left alone."""
        try:
            paths = sorted(
                path for path in self.folder.glob("*.json") if _NAME.fullmatch(path.stem)
            )
        except OSError:
            return []
        return [(path.stem, _read(path)) for path in paths]

    def remove(self, name: str) -> None:
        """Removes a request. One that cannot be removed is recorded all the same, and not taken
        again.
        """
        with contextlib.suppress(OSError):
            (self.folder / f"{name}.json").unlink()


def _read(path: Path) -> Request | InvalidInput:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise InvalidInput("a request must be a file, but this one is something else")
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
        if len(content) > _LONGEST:
            raise InvalidInput(f"a request has at most {_LONGEST:,} bytes, but this one has more")
        return parsed(json.loads(content))
    except InvalidInput as error:
        return error
    except (OSError, ValueError, RecursionError) as error:
        return InvalidInput(
            f"a request must be a JSON file that can be read, but this one is not ({error})"
        )
