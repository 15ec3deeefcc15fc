"""nanonas control"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.errors import ConfigError


@dataclass(frozen=True)
class Control:
    """Asks a search that goes on to pause, resume, ban or allow an operation, or try a genome."""

    folder: Positional[Path]
    """The run's folder; a folder of runs means its newest."""
    what: Positional[Literal["pause", "resume", "ban", "allow", "plant"]]
    """pause begins no further network, resume goes on; the others take one more word."""
    word: Positional[str | None] = None
    """ban and allow: an operation, such as conv5x5; plant: a genome's JSON file, or its numbers,
    such as 0,1,2,3."""


def control(arguments: Sequence[str]) -> None:
    """nanonas control"""
    given = parse(Control, "control", arguments)

    from nanonas.engine.requests import ALLOW, BAN, PLANT, Request
    from nanonas.runs.asking import ask, genome_in, genome_of
    from nanonas.runs.folder import find, read_config
    from nanonas.runs.genome import read_genome

    run, word = find(given.folder), given.word
    if given.what not in (BAN, ALLOW, PLANT):
        if word is not None:
            raise _wrong_words(given.what, f"takes no further word, but was given {word!r}")
        request = Request(given.what)
    elif word is None:
        raise _wrong_words(given.what, "takes one more word")
    elif given.what != PLANT:
        request = Request(given.what, operation=word)
    else:
        space, path = read_config(run).search.space, Path(word)
        in_file = path.suffix == ".json"
        genome = genome_of(read_genome(path), space) if in_file else genome_in(word, space)
        request = Request(PLANT, genome=genome)
    Console().print(ask(run, request), markup=False, highlight=False, soft_wrap=True)


def _wrong_words(what: str, wrong: str) -> ConfigError:
    return ConfigError(f"control {what} {wrong}; see `nanonas control --help`")


VERB = Verb(Control, control)
