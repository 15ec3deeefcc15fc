"""nanonas resume"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from tyro.conf import OmitArgPrefixes, Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.config.files import checked
from nanonas.config.schema import RunConfig
from nanonas.errors import ConfigError


@dataclass(frozen=True)
class Resume:
    """Goes on with a run that was interrupted, or extends one that has ended."""

    matter: ClassVar = (
        "folder",
        "data",
        "time",
        "evaluations",
        "generations",
        "workers",
        "device",
        "explain",
    )

    folder: Positional[Path] = Path("outputs")
    """The run's folder; a folder of runs means its newest."""
    data: str | None = None
    """Where the run's images are now, if they were moved; they must be the same."""
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


def resume(arguments: Sequence[str]) -> None:
    """nanonas resume"""
    from nanonas.runs.folder import find, read_config
    from nanonas.session import start
    from nanonas.terminal.live import live
    from nanonas.terminal.results import say_outcome

    folder = parse(Resume, "resume", arguments).folder
    stored = read_config(find(folder))
    # the stored values are the defaults of the flags: so they are parsed a second time
    given = parse(Resume, "resume", arguments, Resume(folder, run=stored.run))
    if (given.run.out, given.run.name) != (stored.run.out, stored.run.name):
        raise ConfigError(
            "--out and --name are of a new run, but resume goes on with one where it is; leave "
            "them out"
        )
    run = checked(replace(stored, run=given.run), "the command line", begun=True).run
    more_time = any(word.split("=")[0] == "--time" for word in arguments)
    console = Console()
    listener = live(console, explain=run.explain)
    outcome = start.resume(given.folder, run, listener, more_time=more_time, data=given.data)
    say_outcome(console, outcome)


VERB = Verb(Resume, resume)
