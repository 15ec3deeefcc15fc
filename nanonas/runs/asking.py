"""Asking a run for something, from outside the process that searches: pause, resume, ban, allow,
plant.
"""

from __future__ import annotations

import json
import time

from nanonas.config.schema import SpaceOptions
from nanonas.core import Genome
from nanonas.engine.controls import in_words
from nanonas.engine.requests import Request, RequestFiles
from nanonas.engine.storage.events import REQUEST_REFUSED, REQUEST_TAKEN
from nanonas.engine.storage.store import RunStore
from nanonas.errors import GenomeError
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import FORMAT, GenomeFile, space_options
from nanonas.text import command


def ask(run: RunFolder, request: Request, patience: float = 5.0) -> str:
    """Leaves a request in the run's folder and returns, as a sentence, what became of it within
    `patience` seconds.

    Raises:
        RunError: the request cannot be written, or the run cannot be read.
    """
    name = RequestFiles(run.requests).put(request)
    until = time.monotonic() + patience
    while RunStore.in_use(run.store):
        if (answer := _answer(run, name)) is not None:
            return answer
        if time.monotonic() > until:
            return f"{request}: the search has not heard of it yet; it will, as soon as it can"
        time.sleep(0.2)
    again = command("nanonas resume", run.path)
    return f"{request}: no search is running; it waits until `{again}`"


def _answer(run: RunFolder, name: str) -> str | None:
    with RunStore.read(run.store) as store:
        for event in reversed(store.events()):
            if event.kind in (REQUEST_TAKEN, REQUEST_REFUSED) and event.details["id"] == name:
                return (
                    in_words(event.details)
                    if event.kind == REQUEST_TAKEN
                    else f"refused: {event.details['reason']}"
                )
    return None


def genome_in(text: str, options: SpaceOptions) -> Genome:
    """The genome that a user has written down: a list of whole numbers, or the contents of a
    genome's file.

    Raises:
        GenomeError: it is neither, or the file's genome is of another space than `options`.
    """
    try:
        values = json.loads(text if text.strip()[:1] in ("[", "{") else f"[{text}]")
    except (ValueError, RecursionError):
        values = None
    if isinstance(values, dict) and values.get("format") == FORMAT:
        require_space(str(values.get("space")), values.get("options") or {}, options)
        values = values.get("genome")
    if (
        not isinstance(values, list)
        or not values
        or not all(type(number) is int for number in values)
    ):
        raise GenomeError(
            "a genome must be a list of whole numbers, such as [0, 1, 2, 3], or a genome's file, "
            f"but is {text!r:.80}"
        )
    return tuple(values)


def genome_of(file: GenomeFile, options: SpaceOptions) -> Genome:
    """The genome of a file. Raises `GenomeError` when it is of another space than `options`."""
    require_space(file.space, file.options, options)
    return file.genome


def require_space(space: str, given: object, options: SpaceOptions) -> None:
    """Raises `GenomeError` unless a genome of a space, with the options `given`, reads as one of
    the space that `options` configure.
    """
    expected = space_options(options)
    if space != options.space or given != expected:
        raise GenomeError(
            f"the genome is of the space {space}{_with(given)}, but this run searches "
            f"{options.space}{_with(expected)}; plant one of its own"
        )


def _with(options: object) -> str:
    return f" with {options}" if options else ""
