"""nanonas replay"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.text import number_of, percent

if TYPE_CHECKING:
    from nanonas.session import replay as session

_SHOWN = 20  # differences of one kind


@dataclass(frozen=True)
class Replay:
    """Derives a run again from its store, and says what differs: candidates, files, trainings."""

    source: Positional[Path] = Path("outputs")
    """A run's folder, or a folder of runs (its newest). Nothing in it is changed."""
    check: bool = True
    """End with exit code 1 where anything differs."""
    train: int = 1
    """How many of the best networks are trained again; 0 for none, and then no images are needed.
    Their numbers are compared on the same kind of CPU with the same versions; on a GPU both are
    shown, and a difference does not count."""


def replay(arguments: Sequence[str]) -> int:
    """nanonas replay"""
    given = parse(Replay, "replay", arguments)
    at_least(0, train=given.train)

    from nanonas.runs.folder import find
    from nanonas.session import replay as session

    console = _Lines(Console())
    run = session.Replay(find(given.source))
    total = len(run.stored.candidates)
    console.say(f"{run.folder.path}: {number_of(total, 'candidate')}")
    wrong = console.list_of(
        "candidates, derived again", run.candidates(), f"all {total} as asked for"
    )
    if run.goes_on:
        console.say("files: not compared, for the search is going on")
    else:
        wrong += console.list_of("files", run.files(), "all as the store says")
        if gone := run.not_compared():
            console.say(f"{', '.join(gone)}: not compared, for none of the weights are here")
    if given.train:
        wrong += _train(console, run, given.train)
    console.say(number_of(wrong, "difference") if wrong else "nothing differs")
    return int(given.check and wrong > 0)


@dataclass(frozen=True)
class _Lines:
    """What is said, line by line."""

    console: Console

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def list_of(self, title: str, found: Iterable[object], otherwise: str) -> int:
        """Says what was found, or else what it means that nothing was. Returns how much it was."""
        number = 0
        for number, one in enumerate(found, 1):
            if number == 1:
                self.say(f"{title}:")
            if number <= _SHOWN:
                self.say(f"  {one}")
        if number > _SHOWN:
            self.say(f"  and {number - _SHOWN} more")
        if not number:
            self.say(f"{title}: {otherwise}")
        return number


def _train(console: _Lines, run: session.Replay, number: int) -> int:
    """Trains networks again and says what they came to. Returns how many differ that must not."""
    console.say("trained again:")
    wrong = trained = 0
    for repeat in run.trainings(number):
        trained += 1
        wrong += repeat.comparable and not repeat.equal
        console.say(f"  {_words(repeat)}")
    if trained < number:
        console.say(
            f"  {'none' if not trained else f'no more than {trained}'}: of the others the training "
            "was cut short, or the weights that it began with are not kept"
        )
    return wrong


def _words(repeat: session.Repeat) -> str:
    """One training and what it came to, as a line."""
    before, now = (
        "no accuracy" if accuracy is None else percent(accuracy) for accuracy in repeat.accuracies
    )
    name = f"candidate #{repeat.told.number}"
    if repeat.equal:
        return f"{name}: {before}, epoch by epoch as it is stored"
    if repeat.again.reason is not None:
        return f"{name}: {before}, but now {now} ({repeat.again.reason})"
    if repeat.comparable:
        return f"{name}: {before}, but now {now}, on the same kind of machine"
    return (
        f"{name}: {before}, now {now}; it was trained on another kind of machine, or by other "
        "versions, so that equal numbers are not to be expected"
    )


VERB = Verb(Replay, replay)
