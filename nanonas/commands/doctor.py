"""nanonas doctor"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, parse
from nanonas.config.files import configure
from nanonas.config.schema import Config
from nanonas.errors import DataError
from nanonas.text import number_of

if TYPE_CHECKING:
    from nanonas.data.doctor.diagnosis import Diagnosis
    from nanonas.data.images import Images

_COLOURS = ("green", "yellow", "red")
_CLASSES = 12  # rows of the table, of the classes with most and with fewest images
_SHOWN = 3  # examples of a finding


@dataclass(frozen=True)
class Doctor:
    """Says what is wrong with images, before a search believes them.

    What is broken, what judges and has copies in training, what has two labels, what must not be
    mirrored. Ends with 1 where something must be mended.
    """

    data: Positional[str]
    """As of a search: a folder of images, an .npz, parquet, or the name of a built-in set."""
    image_size: int | None = None
    """Height and width that images are resized to; by default as in a search."""
    valid_share: float = 0.1
    """Share of the training images that is set apart to judge candidates."""
    groups: str | None = None
    """Images that belong together; as of a search."""
    flip: bool | None = None
    """Mirror images while training; by default as in a search."""
    seed: int = 0
    """Of the split that is looked at."""
    write_groups: Path | None = None
    """Write a CSV file, for --groups, in which copies are in one group."""
    json: bool = False
    """Say it as JSON."""


def doctor(arguments: Sequence[str]) -> int:
    """nanonas doctor"""
    given = parse(Doctor, "doctor", arguments)
    config = configure(
        data=given.data,
        image_size=given.image_size,
        valid_share=given.valid_share,
        groups=given.groups,
        flip=given.flip,
        seed=given.seed,
    )

    from nanonas.data.doctor.diagnosis import Diagnosis
    from nanonas.data.doctor.findings import Case, Severity
    from nanonas.data.doctor.likeness import Subject
    from nanonas.data.split import split

    images = _images(config)
    parts = split(images, given.seed, given.valid_share)
    flip = images.flip if given.flip is None else given.flip
    diagnosis = Diagnosis(Case(images, parts, Subject(images), flip, given.data))
    console = Console()
    if given.json:
        print(json.dumps(diagnosis.to_json(), indent=1))
    else:
        _say(console, diagnosis)
    if given.write_groups is not None:
        number = diagnosis.write_groups(given.write_groups)
        if not given.json:
            told = f"{given.write_groups}: {number_of(number, 'group')}; search with --groups"
            console.print(f"{told} {given.write_groups}", markup=False, soft_wrap=True)
    return int(diagnosis.severity is Severity.MEND)


def _images(config: Config) -> Images:
    """The images; those that cannot be read are passed over, and are a finding."""
    from nanonas.config.trainings import load_images

    options = config.search.data
    try:
        return load_images(options)
    except DataError:  # of broken images, or it is raised again
        return load_images(replace(options, skip_broken=True))


def _say(console: Console, diagnosis: Diagnosis) -> None:
    console.print(_table(diagnosis))
    for finding in diagnosis.findings:
        colour = _COLOURS[finding.severity]
        console.print(
            f"\n[{colour}]{finding.severity.words}[/{colour}]: {escape(finding.sentence)}",
            highlight=False,
            soft_wrap=True,
        )
        for names in finding.examples[:_SHOWN]:
            console.print(f"    {', '.join(names)}", markup=False, highlight=False, soft_wrap=True)
        if finding.flag:
            console.print(f"    → {finding.flag}", markup=False, highlight=False, soft_wrap=True)


def _table(diagnosis: Diagnosis) -> Table:
    """Images by class and part."""
    from nanonas.data.doctor.facts import counts

    by_class = sorted(counts(diagnosis.case).items(), key=lambda item: -sum(item[1]))
    table = Table("class", box=None, pad_edge=False)
    for part in ("train", "valid", "test"):
        table.add_column(part, justify="right")
    shown = by_class
    if len(by_class) > _CLASSES:
        shown = [*by_class[: _CLASSES // 2], ("…", (-1, -1, -1)), *by_class[-_CLASSES // 2 :]]
    for name, numbers in shown:
        table.add_row(escape(name), *("" if number < 0 else f"{number:,}" for number in numbers))
    return table


VERB = Verb(Doctor, doctor)
