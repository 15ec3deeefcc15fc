"""What a search has found, printed."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.report.words.experience import experience
from nanonas.report.words.mistakes import UNEVEN, mistakes
from nanonas.report.words.verdict import choice
from nanonas.report.writing import write_at_end
from nanonas.runs.folder import RunFolder
from nanonas.runs.reading import read_record
from nanonas.session.session import Outcome
from nanonas.terminal import tables
from nanonas.terminal.progress import best_line
from nanonas.text import began_with, command, count, duration, number_of

if TYPE_CHECKING:
    from nanonas.training.final import FinalResult


def say_outcome(console: Console, outcome: Outcome) -> None:
    """Prints what a run came to, writes its report, and says what can be done next."""
    run = outcome.folder.path
    record = read_record(outcome.folder)
    console.print(
        f"\n{outcome.end.message}; the best of the search, by validation {record.measure}:",
        highlight=False,
    )
    console.print(
        f"  {best_line(outcome.best, outcome.evaluation)}", highlight=False, soft_wrap=True
    )
    say_choice(console, record)
    console.print(tables.architecture(outcome.space, outcome.best.proposal.genome))
    findings = Findings(record)
    say_experience(console, findings)
    inheritance = tables.inheritance(findings)
    if inheritance is not None:
        console.print(f"\n{inheritance}", highlight=False, soft_wrap=True)
    say_front(console, outcome.folder, record)
    if outcome.final is not None:
        say_final(console, outcome.final, outcome.folder.final, record.metric)
        say_mistakes(console, findings, most=1)
    page = write_at_end(outcome.folder)
    console.print(f"\nkept in {escape(str(run))}; next:", highlight=False, soft_wrap=True)
    if page is not None:
        about = "[dim]what was found, how, and whether to believe it[/dim]"
        console.print(
            f"  [bold]{escape(str(page))}[/bold]  {about}", highlight=False, soft_wrap=True
        )
    code = f"import nanonas; model = nanonas.load({str(run)!r})"
    for words, what in (
        (command("nanonas show", run), "what was found"),
        (command("nanonas train", run, "--epochs 100"), "train it longer"),
        (command("nanonas export", run), "files that work without nanonas"),
        (command("nanonas compare", run), "against ResNet-18, a plain CNN and random networks"),
        (f"python -c {_quoted(code)}", "the module"),
    ):
        console.print(
            f"  [bold]{escape(words)}[/bold]  [dim]{what}[/dim]", highlight=False, soft_wrap=True
        )


def _quoted(code: str) -> str:
    """Code as a shell reads it, within double quotes where these are enough."""
    return shlex.quote(code) if any(mark in code for mark in '"$`\\!') else f'"{code}"'


def say_choice(console: Console, record: Record) -> None:
    """Prints why the best network is not that with the highest figure, where it is not."""
    for sentence in choice(record):
        console.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)


def say_experience(console: Console, findings: Findings) -> None:
    """Prints what a search that began with experience could rely on; nothing of any other."""
    if (words := experience(findings)) is not None:
        console.print(f"\n[bold]experience[/bold]: {words}", highlight=False, soft_wrap=True)


def say_front(console: Console, folder: RunFolder, record: Record) -> None:
    """Prints the best trade-offs of a run with several objectives; nothing for any other."""
    if len(record.objectives) == 1:
        return
    names = " and ".join(record.weighed)
    console.print(f"\n[bold]the front[/bold]: the best trade-offs of {names}", highlight=False)
    console.print(tables.front_table(record))
    train = command("nanonas train", folder.front / "NUMBER.json")
    console.print(
        f"  each is a genome's file: {escape(train)}",
        highlight=False,
        soft_wrap=True,
    )
    if record.trained_front:
        _say_trained_front(console, folder, record)


def _say_trained_front(console: Console, folder: RunFolder, record: Record) -> None:
    """Prints the networks of the front that were finally trained, and where they lie."""
    console.print(
        "\n[bold]trained networks of the front[/bold]: each was tested once", highlight=False
    )
    console.print(tables.trained_front_table(Findings(record)))
    export = command("nanonas export", folder.front / "NUMBER", "--to …")
    winner = f"the winner lies in {folder.final}; the others: " if record.final else ""
    console.print(f"  {escape(winner + export)}", highlight=False, soft_wrap=True)


def say_mistakes(console: Console, findings: Findings, most: int | None = None) -> None:
    """Prints what the trained winner gets wrong, in at most so many sentences; nothing where its
    answers were not kept.
    """
    for sentence in mistakes(findings)[:most]:
        console.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)


def say_final(
    console: Console, result: FinalResult, folder: Path, metric: str = "accuracy"
) -> None:
    """Prints what a final training came to, whose weights lie in `folder`; with its balanced
    accuracy where that is the metric, or another figure.
    """
    balanced, words = result.balanced_accuracy, ""
    began = "" if result.began_with is None else f"; {began_with(result.began_with)}"
    if balanced is not None and (
        metric != "accuracy" or abs(balanced - result.test_accuracy) > UNEVEN
    ):
        words = f" (balanced {balanced:.2%})"
    console.print(
        f"\n[bold green]test accuracy {result.test_accuracy:.2%}[/bold green]{words} on "
        f"{number_of(result.test_images, 'image')} that nothing was chosen by; "
        f"{count(result.params)} parameters, {count(result.macs)} MACs, "
        f"{result.latency_ms:.2f} ms an image; "
        f"trained for {number_of(result.epochs, 'epoch', form='.4g')} in "
        f"{duration(result.seconds)} on "
        f"{result.where}, seed {result.seed}{escape(began)}\n"
        f"  {escape(str(folder / 'model.safetensors'))}",
        highlight=False,
        soft_wrap=True,
    )
