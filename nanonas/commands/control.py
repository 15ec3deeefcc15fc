"""nanonas control"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import parse
from nanonas.errors import ConfigError


@dataclass(frozen=True)
class Control:
    """Asks a search that goes on to pause, to resume, to ban or allow an operation, or to try a
    genome.
    """

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
    if (word is None) != (given.what not in (BAN, ALLOW, PLANT)):
        takes = (
            "takes one more word"
            if word is None
            else f"takes no further word, but was given {word!r}"
        )
        raise ConfigError(f"control {given.what} {takes}; see `nanonas control --help`")
    if given.what == PLANT:
        search = read_config(run).search
        named = Path(word).suffix == ".json"
        genome = genome_of(read_genome(Path(word)), search) if named else genome_in(word, search)
        request = Request(PLANT, genome=genome)
    else:
        request = Request(given.what, operation=word)
    Console().print(ask(run, request), markup=False, highlight=False, soft_wrap=True)
