"""What a search has found, as the command line says it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from nanonas.analysis.record import Record
    from nanonas.runs.folder import RunFolder
    from nanonas.training.final import FinalResult


def say_front(console: Console, folder: RunFolder, record: Record) -> None:
    from nanonas.report.terminal import tables

    if len(record.objectives) == 1:
        return
    names = " and ".join(objective.name for objective in record.objectives)
    console.print(f"\n[bold]the front[/bold]: the best trade-offs of {names}", highlight=False)
    console.print(tables.front_table(record))
    console.print(
        f"  each is a genome's file: nanonas train {escape(str(folder.front))}/NUMBER.json",
        highlight=False,
        soft_wrap=True,
    )


def say_final(console: Console, result: FinalResult, folder: Path) -> None:
    from nanonas.text import count, duration

    console.print(
        f"\n[bold green]test accuracy {result.test_accuracy:.2%}[/bold green] on "
        f"{result.test_images:,} images that "
        f"nothing was chosen by; {count(result.params)} parameters, {count(result.macs)} MACs, "
        f"{result.latency_ms:.2f} ms an image; trained for {result.epochs} epochs in "
        f"{duration(result.seconds)} "
        f"on {result.hardware}, seed {result.seed}\n  {escape(str(folder / 'model.safetensors'))}",
        highlight=False,
        soft_wrap=True,
    )
