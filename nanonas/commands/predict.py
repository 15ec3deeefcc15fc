"""nanonas predict"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional

from nanonas.commands.arguments import Verb, at_least, parse
from nanonas.errors import ConfigError

if TYPE_CHECKING:
    from nanonas.deploy.classifying import Answer

_STDIN = "-"


@dataclass(frozen=True)
class Predict:
    """Says which class images belong to."""

    source: Positional[Path]
    """A run's folder, a folder of runs (its newest), the folder of a final training,
    RUN/front/NUMBER, or one that `nanonas export` wrote."""
    images: Positional[tuple[str, ...]]
    """Image files, and folders of them; - reads their paths from standard input, one a line."""
    top: int = 1
    """How many classes of each image, the most probable first."""
    json: bool = False
    """Print JSON."""
    csv: bool = False
    """Print CSV."""


def predict(arguments: Sequence[str]) -> int:
    """nanonas predict"""
    given = parse(Predict, "predict", arguments)
    at_least(1, top=given.top)
    if given.json and given.csv:
        raise ConfigError("--json and --csv exclude each other; leave one of the two out")
    if not given.images:
        raise ConfigError("predict needs images: name files or folders, or - for standard input")

    from nanonas.deploy.classifying import classifier, image_files

    network = classifier(given.source)
    answers = list(network.answers(image_files(_paths(given.images))))
    names, top = network.rule.class_names, given.top
    rows = [_row(answer, names, top) for answer in answers]
    if given.json:
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    elif given.csv:
        _print_csv(rows)
    else:
        Console().print(_table(rows))
    broken = [answer for answer in answers if answer.error]
    for answer in broken:
        print(f"nanonas: {answer.error}", file=sys.stderr)
    return 1 if broken else 0


def _paths(words: Sequence[str]) -> Iterator[Path]:
    for word in words:
        if word == _STDIN:
            yield from (Path(line.rstrip("\n")) for line in sys.stdin if line.strip())
        else:
            yield Path(word)


def _row(answer: Answer, names: Sequence[str], top: int) -> dict[str, Any]:
    """An answer as JSON has it."""
    if answer.probabilities is None:
        return {"file": str(answer.path), "error": answer.error}
    best = answer.probabilities.argsort()[::-1][:top]
    classes = [
        {"class": names[place], "probability": float(answer.probabilities[place])} for place in best
    ]
    return {"file": str(answer.path), "classes": classes}


def _print_csv(rows: Sequence[dict[str, Any]]) -> None:
    """A line for each class of each image; of a broken one the error."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "class", "probability", "error"])
    for row in rows:
        if "error" in row:
            writer.writerow([row["file"], "", "", row["error"]])
        for one in row.get("classes", ()):
            writer.writerow([row["file"], one["class"], f"{one['probability']:.6g}", ""])


def _table(rows: Sequence[dict[str, Any]]) -> Table:
    table = Table("image", "class", "probability", box=None)
    for row in rows:
        for one in row.get("classes", ()):
            table.add_row(Text(row["file"]), Text(one["class"]), f"{one['probability']:.1%}")
    return table


VERB = Verb(Predict, predict)
