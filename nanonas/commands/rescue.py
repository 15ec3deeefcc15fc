"""nanonas rescue"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.errors import ConfigError
from nanonas.text import command

if TYPE_CHECKING:
    from nanonas.runs import rescuing

_SHOWN = 10  # of what is wrong


@dataclass(frozen=True)
class Rescue:
    """Looks whether a run's store is whole, and saves what can be read of a damaged one."""

    source: Positional[Path]
    """A run's folder, or a folder of runs (its newest). Nothing in it is changed."""
    to: Path | None = None
    """The folder of a new run, which gets what can be read."""
    check: bool = False
    """Only look; ends with exit code 1 where the store is damaged."""


def rescue(arguments: Sequence[str]) -> int:
    """nanonas rescue"""
    given = parse(Rescue, "rescue", arguments)
    if given.check == (given.to is not None):
        raise ConfigError(
            "rescue takes --to NEW_FOLDER to save a run, or --check to look at it; give one of them"
        )

    from nanonas.runs import rescuing
    from nanonas.runs.folder import RunFolder, find

    there = RunFolder(given.source)
    run = there if Path(f"{there.store}-wal").exists() else find(given.source)
    if given.to is None:
        state = rescuing.condition(run)
        _say_condition(run.path, state)
        return int(bool(state.wrong))
    new, state = rescuing.rescue(run, given.to)
    _say(f"{new.path}: {state.found.saved}")
    for sentence in state.lost():
        _say(f"  {sentence}")
    _say(f"`{command('nanonas resume', new.path)}` goes on from there")
    return 0


def _say_condition(path: Path, state: rescuing.Condition) -> None:
    if not state.wrong:
        _say(f"{path}: the store is whole; {state.found.saved}")
        return
    _say(f"{path}: the store is damaged")
    for clause in state.wrong[:_SHOWN]:
        _say(f"  {clause}")
    if len(state.wrong) > _SHOWN:
        _say(f"  and {len(state.wrong) - _SHOWN} more")
    _say(f"`{command('nanonas rescue', path, '--to NEW_FOLDER')}` saves {state.found.saved}")
    for sentence in state.lost():
        _say(f"  {sentence}")


def _say(line: str) -> None:
    Console().print(line, markup=False, highlight=False, soft_wrap=True)


VERB = Verb(Rescue, rescue)
