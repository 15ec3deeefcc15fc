"""A run's folder, read into a `Record`: everything that there is to tell of a run.

Without torch, also while the run goes on.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from nanonas.analysis import equal_time
from nanonas.analysis import record as records
from nanonas.analysis.record import Record
from nanonas.config.files import SEARCH_KEYS, to_values
from nanonas.config.parts import STRATEGIES, make_objectives, make_space
from nanonas.config.schema import Config, SearchConfig
from nanonas.core import Shape
from nanonas.engine.controls import lasting
from nanonas.engine.storage.events import IMAGES, Event
from nanonas.engine.storage.store import RunStore
from nanonas.files import read_json
from nanonas.runs.folder import RunFolder, best_genome, read_config
from nanonas.spaces.base import Space

# of the "run" half: those that change results
_RESULT_KEYS = ("time", "evaluations", "generations", "final_share", "final_epochs")


def read_record(folder: RunFolder) -> Record:
    """Everything that there is to tell of a run.

    Raises:
        RunError: no run there, it cannot be read, or it has neither an evaluated network nor a note
            of its images.
        ConfigError: its configuration cannot be read.
    """
    config = read_config(folder)
    with RunStore.read(folder.store) as store:
        events = store.events()
        space, class_names = _space(folder, config.search, events)
        return records.read(
            store,
            events,
            folder.path.resolve().name,
            space,
            objectives=make_objectives(config.search.strategy),
            command=command(config) + _requests(folder, events),
            class_names=class_names,
            final=_mapping(read_json(folder.final / "result.json")),
            comparison=tuple(
                row
                for row in read_json(folder.path / "compare" / "table.json") or ()
                if _mapping(row)
            ),
            equal_time=equal_time.from_values(
                read_json(folder.path / "compare" / "equal-time.json")
            ),
        )


def command(config: Config) -> str:
    """The command line that repeats a run: every value that is not the default, but for where it
    runs.
    """
    given, default = to_values(config), to_values(Config())
    # what was filled in when the run was begun
    default["search"]["objectives"] = list(STRATEGIES[config.search.strategy.strategy].objectives)
    words = ["nanonas", "search"]
    names = [("search", name) for name in SEARCH_KEYS] + [("run", name) for name in _RESULT_KEYS]
    for half, name in names:
        value = given[half][name]
        if value == default[half][name]:
            continue
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool) and isinstance(default[half][name], bool):
            words.append(flag if value else f"--no-{name.replace('_', '-')}")
        else:
            words += [flag, *(map(str, value) if isinstance(value, list) else [str(value)])]
    return shlex.join(words)


def _requests(folder: RunFolder, events: Sequence[Event]) -> str:
    """The flag that repeats what was asked of a run while it went on; nothing where nothing was."""
    return f" --requests-of {shlex.quote(str(folder.path))}" if lasting(events) else ""


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
    noted = next((event.details for event in events if event.kind == IMAGES), {})
    if "input_shape" in noted and "class_names" in noted:
        return tuple(noted["input_shape"]), tuple(map(str, noted["class_names"]))
    genome = best_genome(folder)  # begun by a version that did not note them
    return genome.input_shape, genome.class_names


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None
