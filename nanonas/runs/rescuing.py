"""A damaged run, saved into a new one as far as it can be read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanonas.config.files import read_yaml, to_values, to_yaml, validated
from nanonas.core import Told
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.integrity import examined
from nanonas.engine.storage.rows import Row, run_row, summed
from nanonas.engine.storage.salvage import Salvage, rows_of, salvaged
from nanonas.engine.storage.store import RunStore
from nanonas.errors import NanonasError, RunError
from nanonas.files import in_full, sync, write_text
from nanonas.runs.copying import copy_files, settle
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import read_genome
from nanonas.text import by_number, command, number_of


@dataclass(frozen=True)
class Condition:
    """What a run's store is like.

    Attributes:
        wrong: what is wrong with it, each as a clause; empty where nothing is.
        found: what can be read of it.
    """

    wrong: tuple[str, ...]
    found: Salvage

    def lost(self) -> Iterator[str]:
        """What cannot be saved, or is uncertain, each as a sentence without its full stop."""
        found, rows = self.found, rows_of(self.found)
        if found.run is None:
            yield "the configuration is lost, and is taken from config.yaml"
        if found.whole < found.known:
            others = found.known - found.whole - found.beyond - 1
            lost = f"candidate #{found.whole} is lost" + (f", and {others} more" if others else "")
            behind = f", and for {found.beyond} behind it that can be read" if found.beyond else ""
            yield f"{lost}: a resumed run asks for what is lost again{behind}"
        trained = {int(row[1]) for row in rows["evaluation"]}
        if untrained := found.whole - len(trained):
            candidates = number_of(untrained, "candidate")
            have, them = by_number(untrained, "has", "have"), by_number(untrained, "it", "them")
            yield f"{candidates} {have} no evaluation: a resumed run trains {them} again"
        if gone := max(found.events, default=0) - len(found.events):
            yield (
                f"{number_of(gone, 'event')} {by_number(gone, 'is', 'are')} lost: if a ban or a "
                "planted genome is among what is gone, what was asked for after it cannot be "
                "derived"
            )
        if found.changed:
            are = by_number(found.changed, "is", "are")
            changed = number_of(found.changed, "row")
            yield f"{changed} {are} not what was written, and {are} left out"
        if found.unsure:
            yield (
                f"{number_of(found.unsure, 'row')} {by_number(found.unsure, 'is', 'are')} of a "
                "version that kept no checksums: whether that is what was written is not known"
            )


def condition(run: RunFolder) -> Condition:
    """What a run's store is like: all of it is looked at, and nothing written.

    Raises:
        RunError: a search is going on, or the file cannot be read at all.
    """
    _require_at_rest(run)
    found = salvaged(run.store)
    try:
        return Condition(tuple(examined(run.store)), found)
    except OSError as error:
        raise RunError(f"{run.store} cannot be read: {error.strerror or error}") from None


def rescue(run: RunFolder, to: Path) -> tuple[RunFolder, Condition]:
    """Saves what can be read of a run into a new one, which opens, resumes and reports as far as it
    is whole. The damaged one stays as it is.

    Args:
        to: the new run's folder.

    Returns:
        the new run, and what the damaged one was like.

    Raises:
        RunError: nothing can be read, a search is going on, or `to` cannot be written or is there
            already.
    """
    state, target = condition(run), in_full(to).resolve()
    row = _run_row(run, state.found)
    if target.exists():
        raise RunError(f"{str(target)!r} is there already: name a new folder with --to")
    if run.path.resolve() in target.parents:
        raise RunError(f"{str(target)!r} lies in the run itself: name another folder with --to")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        copy_files(run.path, part, link=False)
        new = RunFolder(part)
        RunStore.restore(new.store, row, rows_of(state.found))
        _mend(new, json.loads(row[0]))
        settle(new)
        part.rename(target)
        sync(target.parent)
    except OSError as error:
        raise RunError(
            f"{str(target)!r} cannot be written: {error.strerror or error}; free space or "
            "permissions, or name another folder with --to"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return RunFolder(target), state


def _require_at_rest(run: RunFolder) -> None:
    if RunStore.in_use(run.store):
        raise RunError(
            f"the search in {run.path} is going on: stop it first, or copy it with "
            f"`{command('nanonas backup', run.path)}`, which looks at the copy"
        )


def _run_row(run: RunFolder, found: Salvage) -> Row:
    """The row of the new store's run. Raises `RunError` where nothing says what was searched."""
    if found.run is not None:
        return summed(*found.run[:3])
    if found.empty:
        raise RunError(f"nothing of a run can be read in {run.store}: restore it from a copy")
    try:
        values = to_values(read_yaml(run.config))
    except NanonasError as error:
        raise RunError(
            f"{run.store} has lost its configuration, and config.yaml cannot replace it ({error}): "
            f"put the run's configuration there"
        ) from None
    times = [float(row[0]) for row in found.events.values()]
    return run_row(values, min(times, default=0.0), "unknown")


def _mend(run: RunFolder, config: dict[str, Any]) -> None:
    """Makes the files of a run fit its store: its configuration, where the file cannot be read, and
    the best of the candidates that are left.
    """
    try:
        read_yaml(run.config)
    except NanonasError:
        write_text(run.config, to_yaml(validated(config, str(run.store))))
    with RunStore.read(run.store) as store:
        told = store.told()
    best = next(iter(ranking(told)), None)
    known = {one.number: one for one in told}
    for path in (run.best_genome, *run.front.glob("*.json")):
        if path.exists():
            _mend_genome(path, known, best)


def _mend_genome(path: Path, known: dict[int, Told], best: Told | None) -> None:
    """A genome's file of a candidate that is lost becomes that of the best; it vanishes where there
    is none, or it cannot be read.
    """
    try:
        file = read_genome(path)
    except NanonasError:
        path.unlink()
        return
    if file.known.get("candidate") in known:
        return
    if best is None or path.stem.isdigit():  # one of a front, which is found again by resuming
        path.unlink()
        return
    metrics = {"candidate": best.number, **best.evaluation.metrics}
    replace(file, genome=best.candidate.proposal.genome, known=metrics).write(path)
