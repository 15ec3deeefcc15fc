"""nanonas show"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, at_least, parse


@dataclass(frozen=True)
class Show:
    """Says what a run has found, or what a training or a genome's file holds."""

    source: Positional[Path] = Path("outputs")
    """A run's folder, a folder of runs (its newest), the folder that a training wrote, or a JSON
    file of a genome."""
    top: int = 5
    """How many of the best networks."""


def show(arguments: Sequence[str]) -> None:
    """nanonas show"""
    given = parse(Show, "show", arguments)
    at_least(1, top=given.top)

    from nanonas.analysis.findings import Findings
    from nanonas.runs.folder import RunFolder
    from nanonas.runs.models import GENOME, final_at, final_of_winner
    from nanonas.runs.reading import read_record
    from nanonas.runs.source import open_source
    from nanonas.terminal import tables
    from nanonas.terminal.results import (
        say_choice,
        say_experience,
        say_final,
        say_front,
        say_mistakes,
    )
    from nanonas.training.final import read_result

    console = Console()
    alone = None if RunFolder(given.source).store.exists() else final_at(given.source)
    if alone is not None:
        console.print(f"[bold]{escape(str(alone))}[/bold]", soft_wrap=True)
    source = open_source(given.source if alone is None else alone / GENOME)
    if source.run is not None:
        record = read_record(source.run)
        findings = Findings(record)
        console.print(f"[bold]{escape(str(source.run.path))}[/bold]")
        console.print(tables.summary(record) + "\n", markup=False, highlight=False, soft_wrap=True)
        console.print(tables.fitness(findings))
        console.print()
        console.print(tables.best_table(record, given.top))
        if (audit := tables.audit_table(findings)).row_count:
            console.print(
                "\n[bold]what ordered the networks before they were trained[/bold]: Kendall's "
                "τ, 95 %",
                highlight=False,
            )
            console.print(audit)
        say_experience(console, findings)
        if (inheritance := tables.inheritance(findings)) is not None:
            words = f"\n[bold]inheritance[/bold]: {inheritance}"
            console.print(words, highlight=False, soft_wrap=True)
        say_front(console, source.run, record)
    console.print(f"\n[bold]the {'best' if alone is None else 'trained'} network[/bold]")
    if source.run is not None:
        say_choice(console, record)
    console.print(tables.architecture(source.genome.make_space(), source.genome.genome))
    if (rule := source.genome.preprocessing) is not None and rule.backbone is not None:
        console.print(
            f"  {rule.backbone.behind}; it comes on top of all figures here",
            highlight=False,
            soft_wrap=True,
        )
    console.print(tables.architecture_tree(source.genome.network(), "\nlayer by layer"))
    final = alone if source.run is None else final_of_winner(source.run)
    if final is not None and (result := read_result(final)):
        say_final(console, result, final, "accuracy" if alone is not None else record.metric)
    if source.run is not None:
        say_mistakes(console, findings)


VERB = Verb(Show, show)
