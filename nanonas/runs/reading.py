"""A run's folder, read into a `Record`: everything that there is to tell of a run.

Without torch, also while the run goes on.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from loguru import logger

from nanonas.analysis import equal_time
from nanonas.analysis import record as records
from nanonas.analysis.record import Record
from nanonas.config.parts import make_objectives, make_space
from nanonas.config.schema import Config, SearchConfig
from nanonas.core import Shape
from nanonas.data.answers import PREDICTIONS, Answers, read_answers
from nanonas.data.thumbnails import PICTURES, read_thumbnails
from nanonas.engine.controls import lasting
from nanonas.engine.storage.events import IMAGES, Event, noted
from nanonas.engine.storage.store import RunStore
from nanonas.errors import DataError
from nanonas.files import read_json
from nanonas.runs.folder import RunFolder, best_genome, read_config
from nanonas.runs.models import final_of_winner
from nanonas.spaces.base import Space
from nanonas.text import command
from nanonas.typed import (
    Check,
    finite,
    fitting,
    many,
    mapping,
    maybe,
    share,
    text,
    whole,
)

T = TypeVar("T")

# Above that, how often each class is taken for each other one would take gigabytes.
_CLASSES = 4096
# What is read of result.json, and of the rows of compare/table.json: they may be a stranger's.
_BEGAN: dict[str, Check] = {"name": text, "digest": text, "share": share, "body_lr": share}
_FINAL: dict[str, Check] = {
    "test_accuracy": share,
    "test_images": lambda value, what: whole(value, what, 1),
    "latency_ms": finite,
    "seconds": finite,
    "epochs": finite,
    "hardware": text,
    "torch": text,
    "temperature": maybe(finite),
    "balanced_accuracy": maybe(share),
    "began_with": maybe(lambda value, what: fitting(value, what, _BEGAN, _BEGAN)),
}
_NEEDED = ("test_accuracy", "test_images", "latency_ms", "seconds", "epochs")
_TRAINING: dict[str, Check] = {"seconds": finite}
_COMPARED: dict[str, Check] = {
    "network": text,
    "test_accuracy": share,
    "spread": maybe(finite),
    "trainings": many(lambda one, what: fitting(one, what, _TRAINING, _TRAINING)),
    "params": whole,
    "macs": whole,
    "latency_ms": maybe(finite),
    "epochs": finite,
    "search_seconds": maybe(finite),
    "train_seconds": maybe(finite),
    "metric": text,
}


def read_record(folder: RunFolder) -> Record:
    """Everything that there is to tell of a run.

    Raises:
        RunError: no run there, it cannot be read, a row of it is damaged, or it has neither an
            evaluated network nor a note of its images.
        ConfigError: its configuration cannot be read.
    """
    config = read_config(folder)
    with RunStore.read(folder.store) as store:
        store.require_unchanged()
        events = store.events()
        space, class_names = _space(folder, config.search, events)
        return records.read(
            store,
            events,
            folder.path.resolve().name,
            space,
            objectives=make_objectives(config.search.strategy),
            command=_command(folder, config, events),
            class_names=class_names,
            **read_final(folder, class_names),
            comparison=_rows(read_json(folder.path / "compare" / "table.json")),
            equal_time=equal_time.from_values(
                read_json(folder.path / "compare" / "equal-time.json")
            ),
        )


def read_final(folder: RunFolder, class_names: Sequence[str]) -> dict[str, Any]:
    """What is kept of a run's final trainings: `final`, `front_finals`, `answers` and `thumbnails`
    of a `Record`.

    None for what is not there: earlier versions kept no answers. What is damaged is said, and left
    out.
    """
    place = final_of_winner(folder)
    final = _final(place / "result.json")
    read = {n: _final(other / "result.json") for n, other in folder.finals_of_front.items()}
    others = {number: result for number, result in read.items() if result is not None}
    if final is None:
        return {"final": None, "front_finals": others, "answers": None, "thumbnails": None}
    answers = _kept(place / PREDICTIONS, read_answers)
    if answers is not None and not _belongs(answers, final, class_names):
        logger.warning("{}: of another training, left out", place / PREDICTIONS)
        answers = None
    thumbnails = _kept(place / PICTURES, read_thumbnails)
    return {
        "final": final,
        "front_finals": others,
        "answers": answers,
        "thumbnails": thumbnails,
    }


def _final(path: Path) -> Mapping[str, Any] | None:
    values = read_json(path)
    try:
        return None if values is None else fitting(values, "it", _FINAL, _NEEDED)
    except ValueError as error:
        logger.warning("{}: not what a training writes, left out: {}", path, error)
        return None


def _belongs(answers: Answers, final: Mapping[str, Any], class_names: Sequence[str]) -> bool:
    """Whether answers are those that a result was counted from."""
    if answers.classes > _CLASSES:
        return False
    hits = int((answers.logits.argmax(axis=1) == answers.labels).sum())
    same = final.get("test_accuracy") == hits / len(answers)
    return same and answers.classes == len(class_names)


def _kept(path: Path, read: Callable[[Path], T]) -> T | None:
    """What a file holds; None where it is missing or damaged."""
    if not path.exists():
        return None
    try:
        return read(path)
    except DataError as error:
        logger.warning("{}", error)
        return None


def _command(folder: RunFolder, config: Config, events: Sequence[Event]) -> str:
    """The command line that repeats a run: from its own config.yaml, under another name where it
    has one, with what was asked of it while it went on. Empty where its config.yaml is gone.
    """
    if not folder.config.exists():
        return ""
    words = [command("nanonas search --config", folder.config)]
    if config.run.name is not None:
        words.append(f"--name {shlex.quote(f'{config.run.name}-again')}")
    if lasting(events):
        words.append(command("--requests-of", folder.path))
    return " ".join(words)


def _space(
    folder: RunFolder, search: SearchConfig, events: Sequence[Event]
) -> tuple[Space, tuple[str, ...]]:
    """The run's space, and the names of the classes, without a look at the images."""
    shape, names = noted_images(folder, events)
    return make_space(search.space, shape, len(names)), names


def noted_images(folder: RunFolder, events: Sequence[Event]) -> tuple[Shape, tuple[str, ...]]:
    """The shape (C, H, W) of a run's images and the names of their classes, without a look at them.

    Raises:
        RunError: neither its events nor a genome of it has them.
    """
    images = noted(events, IMAGES) or {}
    if "input_shape" in images and "class_names" in images:
        return tuple(images["input_shape"]), tuple(map(str, images["class_names"]))
    genome = best_genome(folder)  # begun by a version that did not note them
    return genome.input_shape, genome.class_names


def _rows(values: object) -> tuple[Mapping[str, Any], ...]:
    """Those of compare/table.json; none of anything else."""
    try:
        needed = ("network", "test_accuracy", "params")
        return tuple(
            fitting(row, "a row", _COMPARED, needed) for row in many(mapping)(values, "it")
        )
    except ValueError:
        return ()
