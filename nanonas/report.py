"""A run's report: its folder read, report.html and figures/*.png written. Without torch, also while the run goes on."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from loguru import logger

from nanonas.config import Config, RunConfig, SearchConfig, make_objectives, make_space, make_strategy, to_values
from nanonas.core import SearchSpace
from nanonas.engine.controls import lasting
from nanonas.engine.store import RunStore
from nanonas.errors import RunError
from nanonas.files import read_json, write_text
from nanonas.folder import RunFolder, best_genome, read_config
from nanonas.results import record as records
from nanonas.results.record import Record

AT_END = 1000  # candidates that a search may have for its report to be written when it ends: it takes some seconds
_ENDS = ("time", "evaluations", "generations", "final_share", "final_epochs")  # of the "run" half: they change results


@dataclass(frozen=True)
class Written:
    """What a report is made of."""

    page: Path
    pictures: tuple[Path, ...]  # none where matplotlib is missing


def read_record(folder: RunFolder) -> Record:
    """Everything that there is to tell of a run.

    Raises:
        RunError: no run there, it cannot be read, or it has neither an evaluated network nor a note of its images.
        ConfigError: its configuration cannot be read.
    """
    config = read_config(folder)
    with RunStore.read(folder.store) as store:
        space, class_names = _space(folder, config.search, store)
        return records.read(
            store,
            folder.path.resolve().name,
            space,
            generations(config.search, space),
            objectives=make_objectives(config.search),
            command=command(config) + _requests(folder, store),
            class_names=class_names,
            final=_mapping(read_json(folder.final / "result.json")),
            comparison=tuple(row for row in read_json(folder.path / "compare" / "table.json") or () if _mapping(row)),
        )


def write_report(folder: RunFolder, out: Path | None = None, pictures: bool = True) -> Written:
    """Writes report.html and, where matplotlib is there, figures/*.png.

    Args:
        out: the folder for them; by default the run's own.

    Raises:
        RunError: as `read_record`, or a file cannot be written.
    """
    from nanonas.results.page import render

    record, out = read_record(folder), out or folder.path
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{str(out)!r} cannot be made: {error.strerror}; choose another folder with --out") from None
    config = folder.config.read_text(encoding="utf-8") if folder.config.exists() else ""
    page = out / "report.html"
    write_text(page, render(record, config))
    drawn: tuple[Path, ...] = ()
    if pictures and importlib.util.find_spec("matplotlib") is not None:
        from nanonas.results.plots import draw_all

        drawn = tuple(draw_all(record, out / "figures"))
    return Written(page, drawn)


def write_at_end(folder: RunFolder) -> Path | None:
    """The page of a search that has just ended; None where it would take long, or cannot be made.

    A search's end does not wait for a report for more than a few seconds, and does not fail because of one.
    """
    try:
        with RunStore.read(folder.store) as store:
            many = len(store.candidates()) > AT_END
        return None if many else write_report(folder, pictures=False).page
    except Exception as error:  # noqa: BLE001 - whatever it is, what was found is safe
        logger.warning("the report could not be written: {!r}; `nanonas report {}` tries again", error, folder.path)
        return None


def generations(search: SearchConfig, space: SearchSpace) -> Callable[[int], int]:
    """The generation of each number, as the search's strategy says."""
    if search.strategy == "screened":  # its generations are those of what is screened, which is quicker to make
        search = replace(search, strategy=search.screens)
    return make_strategy(search, space).generation


def command(config: Config) -> str:
    """The command line that repeats a run: every value that is not the default, but for where it runs."""
    given, default = to_values(config), to_values(Config())
    usual = make_objectives(replace(config.search, objectives=()))  # what was filled in when the run was begun
    default["search"]["objectives"] = [objective.name for objective in usual]
    words = ["nanonas", "search"]
    names = [("search", field.name) for field in fields(SearchConfig)]
    names += [("run", field.name) for field in fields(RunConfig) if field.name in _ENDS]
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


def _requests(folder: RunFolder, store: RunStore) -> str:
    """The flag that repeats what was asked of a run while it went on; nothing where nothing was."""
    return f" --requests-of {shlex.quote(str(folder.path))}" if lasting(store.events()) else ""


def _space(folder: RunFolder, search: SearchConfig, store: RunStore) -> tuple[SearchSpace, tuple[str, ...]]:
    """The run's space, and the names of the classes, without a look at the images."""
    noted = next((event.details for event in store.events() if event.kind == "images"), {})
    if "input_shape" in noted and "class_names" in noted:
        shape, names = tuple(noted["input_shape"]), tuple(map(str, noted["class_names"]))
    else:  # begun by a version that did not note them
        genome = best_genome(folder)
        shape, names = genome.input_shape, genome.class_names
    return make_space(search, shape, len(names)), names


def _mapping(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None
