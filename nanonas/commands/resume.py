"""nanonas resume"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from nanonas.commands.arguments import parse
from nanonas.commands.search import say_found
from nanonas.config.files import to_values, validated
from nanonas.config.schema import Config, RunConfig
from nanonas.errors import ConfigError


@dataclass(frozen=True)
class Resume:
    """Goes on with a run that was interrupted, or extends one that has ended."""

    folder: Positional[Path] = Path("outputs")
    """The run's folder; a folder of runs means its newest."""
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


def resume(arguments: Sequence[str]) -> None:
    """nanonas resume"""
    from nanonas.runs.folder import find, read_config
    from nanonas.session import begin

    folder = parse(Resume, "resume", arguments).folder
    stored = read_config(
        find(folder)
    ).run  # the defaults of the flags: so it is parsed a second time
    parsed = parse(Resume, "resume", arguments, Resume(folder, stored))
    if (parsed.run.out, parsed.run.name) != (stored.out, stored.name):
        raise ConfigError(
            "--out and --name are of a new run, but resume goes on with one where it is; leave "
            "them out"
        )
    run = validated(to_values(Config(run=parsed.run)), "the command line").run
    more_time = any(word.split("=")[0] == "--time" for word in arguments)
    say_found(begin.resume(parsed.folder, run, more_time=more_time))
