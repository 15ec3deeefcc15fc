"""nanonas backup"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.text import command, number_of


@dataclass(frozen=True)
class Backup:
    """Copies a run, also while its search goes on; the copy opens, resumes and reports."""

    source: Positional[Path] = Path("outputs")
    """A run's folder, or a folder of runs (its newest)."""
    to: Path | None = None
    """The new folder, or a file that ends in .tar, .tar.gz or .tgz; by default, the folder
    "backups" beside the run gets a copy with its name and the time."""
    link: bool = True
    """Weights are hard links to the run's where that is possible, which takes no space; --no-link
    copies them."""


def backup(arguments: Sequence[str]) -> None:
    """nanonas backup"""
    given = parse(Backup, "backup", arguments)

    from nanonas.runs import copying
    from nanonas.runs.folder import find

    made = copying.backup(find(given.source), given.to, link=given.link)
    console = Console()
    candidates = number_of(made.candidates, "candidate")
    what = f"{made.path}: {candidates}, {number_of(made.evaluations, 'evaluation')}"
    console.print(what, markup=False, highlight=False, soft_wrap=True)
    if made.path.is_dir():
        again = f"`{command('nanonas resume', made.path)}` goes on from it"
        console.print(again, markup=False, highlight=False, soft_wrap=True)


VERB = Verb(Backup, backup)
