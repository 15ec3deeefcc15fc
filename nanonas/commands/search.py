"""nanonas search"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from tyro.conf import OmitArgPrefixes

from nanonas.commands.arguments import configured
from nanonas.commands.found import say_final, say_front
from nanonas.config.schema import RunConfig, SearchConfig

if TYPE_CHECKING:
    from nanonas.session.session import Outcome


@dataclass(frozen=True)
class Search:
    """Finds a network: evolution proposes, workers train, the best is trained for good and tested
    once.
    """

    config: Path | None = None
    """A YAML file with any of the values below; flags win over it. See configs/."""
    search: OmitArgPrefixes[SearchConfig] = field(default_factory=SearchConfig)
    run: OmitArgPrefixes[RunConfig] = field(default_factory=RunConfig)


def search(arguments: Sequence[str]) -> None:
    """nanonas search"""
    config = configured(Search, "search", arguments)

    from nanonas.session.begin import begin

    say_found(begin(config))


def say_found(outcome: Outcome) -> None:
    from nanonas.analysis.findings import Findings
    from nanonas.commands.report import write_at_end
    from nanonas.report.terminal import tables
    from nanonas.report.terminal.progress import best_line
    from nanonas.runs.reading import read_record

    console = Console()
    run = escape(str(outcome.folder.path))
    console.print(
        f"\n{outcome.end.message}; the best of the search, by validation accuracy:", highlight=False
    )
    console.print(
        f"  {best_line(outcome.best, outcome.evaluation)}", highlight=False, soft_wrap=True
    )
    console.print(tables.architecture(outcome.space, outcome.best.proposal.genome))
    record = read_record(outcome.folder)
    inherited = tables.inheritance(Findings(record))
    if inherited is not None:
        console.print(f"\n{inherited}", highlight=False, soft_wrap=True)
    say_front(console, outcome.folder, record)
    if outcome.final is not None:
        say_final(console, outcome.final, outcome.folder.final)
    page = write_at_end(outcome.folder)
    console.print(f"\nkept in {run}; next:", highlight=False, soft_wrap=True)
    if page is not None:
        said = f"  [bold]{escape(str(page))}[/bold]  [dim]what was found, how, and whether to believe it[/dim]"
        console.print(said, highlight=False, soft_wrap=True)
    for command, what in (
        (f"nanonas show {run}", "what was found"),
        (f"nanonas train {run} --epochs 100", "train it longer"),
        (f"nanonas compare {run}", "against ResNet-18, a plain CNN and random networks"),
        (f'python -c "import nanonas; model = nanonas.load({str(run)!r})"', "the module"),
    ):
        console.print(
            f"  [bold]{command}[/bold]  [dim]{what}[/dim]", highlight=False, soft_wrap=True
        )
