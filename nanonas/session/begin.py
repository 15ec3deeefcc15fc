"""Begin a run, or go on with it."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from nanonas.config.files import GONE, to_values, to_yaml, validated
from nanonas.config.parts import (
    make_objectives,
)
from nanonas.config.schema import Config, RunConfig
from nanonas.engine.controls import copy_requests
from nanonas.engine.storage.events import IMAGES
from nanonas.engine.storage.store import RunStore
from nanonas.errors import Exhausted, RunError
from nanonas.files import write_text
from nanonas.runs.folder import RunFolder, find, read_config, search_seconds
from nanonas.runs.genome import space_options
from nanonas.session.session import Outcome, Session
from nanonas.session.setup import budget_seconds


def halves(settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings by name, sorted into the two halves of a configuration; unknown ones land in the
    first.
    """
    run = {field.name for field in dataclasses.fields(RunConfig)}
    return {
        "search": {name: value for name, value in settings.items() if name not in run},
        "run": {name: value for name, value in settings.items() if name in run},
    }


def begin(config: Config, *, quiet: bool = False, final: bool = True) -> Outcome:
    """Begins a run and sees it through.

    Args:
        final: whether to train the winner for good at the end, as far as the configuration asks for
            it.

    Raises:
        NanonasError: what cannot be done, in one sentence. KeyboardInterrupt goes through; the
            folder can be resumed.
    """
    start = time.time()
    budget_seconds(config.run)
    repeated = (
        None if config.run.requests_of is None else _repeatable(config.run.requests_of, config)
    )
    config = resolved(config)
    session = Session(config, quiet=quiet, start=start)
    session.check()
    folder = RunFolder(
        config.run.out / (config.run.name or _name(config.run.out, config.search.data))
    )
    try:
        with RunStore.begin(folder.store, to_values(config)) as store:
            write_text(folder.config, to_yaml(config))
            store.event(IMAGES, session.noted())
            if repeated is not None:
                with RunStore.read(repeated.store) as other:
                    copy_requests(other, store)
            return session.carry_on(store, folder, final)
    except Exhausted:  # before a single candidate: nothing is worth keeping
        folder.remove()
        raise


def resume(
    source: Path,
    run: RunConfig | None = None,
    *,
    more_time: bool = False,
    quiet: bool = False,
    final: bool = True,
) -> Outcome:
    """Goes on with the run at `source` (see `find`), with another "run" half of the configuration
    if one is given.

    Args:
        more_time: the time budget counts from here; else it is the whole run's, and what the search
            took is gone.

    Raises:
        NanonasError: as `begin`; also when config.yaml says another "search" half than the run was
            begun with, or when the images are others.
    """
    start = time.time()
    folder = find(source)
    config = read_config(folder)
    if run is not None:
        config = replace(config, run=run)
    budget_seconds(config.run)
    config = replace(config, run=replace(config.run, out=folder.path.parent, name=folder.path.name))
    spent = 0.0 if more_time else search_seconds(folder)
    with RunStore.resume(
        folder.store, to_values(config), defaults=to_values(Config()), ignored=GONE
    ) as store:
        if not folder.config.exists():
            write_text(folder.config, to_yaml(config))
        session = Session(config, quiet=quiet, start=start - spent, more_time=more_time)
        session.check_images(store, folder)
        return session.carry_on(store, folder, final)


def _repeatable(source: Path, config: Config) -> RunFolder:
    """The run whose requests are to be made again.

    Raises `RunError` where there is none, or one over another space.
    """
    folder = find(source)
    search = read_config(folder).search
    if (search.space, space_options(search)) != (config.search.space, space_options(config.search)):
        raise RunError(
            f"--requests-of {source} is a run over the space {search.space} "
            f"{space_options(search) or ''}, whose "
            f"genomes are none of {config.search.space} {space_options(config.search) or ''}; "
            "repeat its own search"
        )
    return folder


def resolved(config: Config) -> Config:
    """The configuration with everything filled in that depends on this machine and belongs to the
    run's identity.
    """
    from nanonas.data.sources import find_reader
    from nanonas.training.device import default_workers, resolve_device, resolve_precision

    device = resolve_device(config.run.device)
    values = to_values(config)
    kind, _ = find_reader(config.search.data)
    values["search"]["precision"] = resolve_precision(config.search.precision, device)
    values["search"]["objectives"] = [
        objective.name for objective in make_objectives(config.search)
    ]
    values["search"]["lag"] = config.search.lag or 2 * (
        config.run.workers or default_workers(device)
    )
    if kind != config.search.data:  # a path: so that it is found from anywhere
        values["search"]["data"] = str(Path(config.search.data).expanduser().resolve())
    return validated(values)


def _name(out: Path, data: str) -> str:
    """A name for a run that no other in `out` has."""
    words = re.sub(r"[^a-zA-Z0-9]+", "-", Path(data).stem).strip("-") or "run"
    name = f"{datetime.now():%Y-%m-%d_%H%M%S}_{words}"
    same = len(list(out.glob(f"{name}*"))) if out.is_dir() else 0
    return f"{name}_{same + 1}" if same else name
