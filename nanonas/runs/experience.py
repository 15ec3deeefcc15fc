"""Experience: what runs have learnt of networks, in one file for all of a user's runs.

A line of JSON for each run, the oldest first:

    {"format": 1, "run": "5e0b…", "space": "stages", "options": {}, "task": {"input_shape": [3, 32,
    32], "classes": 10, "train_images": 45000, "seen": 540000}, "networks": [{"genome": [0, 2, …],
    "accuracy": 0.6542, "seconds": 9.81}, …]}

There are no images in it, no names of classes, and no paths.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np

from nanonas.config.parts import Past
from nanonas.config.schema import EPOCHS, SearchConfig
from nanonas.core import State, Told
from nanonas.engine.storage.events import EXPERIENCE, IMAGES, noted
from nanonas.engine.storage.lock import writing
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.files import contents, digest, in_full, parsed_json, write_text
from nanonas.maths.ranks import Correlation
from nanonas.predictors.experience import PastRun, Task, Trained, useless
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import space_options
from nanonas.typed import finite, fitting, gene, image_shape, many, mapping, share, text, whole

VARIABLE, OFF = "NANONAS_EXPERIENCE", "off"
LARGEST = 2_000_000  # bytes: a hundred runs or more; beyond, the oldest go
NETWORKS = 100  # of one run: the best half, and the others as they lie over its ranks
LEAST = 8  # networks, of which fewer are no run to learn from
_FORMAT = 1
_PATIENCE = 5.0  # seconds to wait for another run that writes the file

# --- the file -------------------------------------------------------------------------------------


def experience_file() -> Path | None:
    """The user's file, which need not be there: $NANONAS_EXPERIENCE, or experience.jsonl in the
    user's data folder on this platform; None where that is "off", or there is no home.

    Raises `ConfigError` for a path that stands for no folder.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return None if named in ("", OFF) else in_full(Path(named))
    import platformdirs

    try:
        return Path(platformdirs.user_data_dir("nanonas", appauthor=False)) / "experience.jsonl"
    except RuntimeError:
        return None


def supplied() -> tuple[PastRun, ...]:
    """The small experience that comes with nanonas; see benchmarks/make_experience.py."""
    with as_file(files("nanonas.runs") / "experience.jsonl") as path:
        return read_experience(path)


def read_experience(path: Path) -> tuple[PastRun, ...]:
    """The runs in a file, the oldest first.

    Raises:
        RunError: it is not there, or something else than experience is in it.
    """
    runs: list[PastRun] = []
    where = ""
    try:
        for number, line in enumerate(contents(path).decode("utf-8").splitlines(), 1):
            where = f"line {number}: "
            if line.strip():
                runs.append(_run_from(parsed_json(line)))
    except (OSError, ValueError, KeyError) as error:
        what = getattr(error, "strerror", None) or error
        raise RunError(
            f"the experience in {str(path)!r} cannot be read ({where}{what}); take another file "
            "with --experience-from, or go without (--no-experience)"
        ) from None
    return tuple(runs)


def write_experience(path: Path, runs: Sequence[PastRun], largest: int | None = None) -> None:
    """Writes runs into a file, whole or not at all.

    Args:
        largest: bytes, beyond which the oldest runs are left out; None: all stay.

    Raises:
        Unwritten: it cannot be written.
    """
    lines = [json.dumps(_values(run), ensure_ascii=False) + "\n" for run in runs]
    while largest is not None and sum(map(len, lines)) > largest and len(lines) > 1:
        del lines[0]
    write_text(path, "".join(lines))


def _values(run: PastRun) -> dict[str, Any]:
    task = {**vars(run.task), "input_shape": list(run.task.input_shape)}
    networks = [
        {"genome": list(one.genome), "accuracy": one.accuracy, "seconds": one.seconds}
        for one in run.networks
    ]
    head = {"format": _FORMAT, "run": run.run, "space": run.space, "options": dict(run.options)}
    return {**head, "task": task, "networks": networks}


def _run_from(values: Any) -> PastRun:
    """A run of a line's values. Raises `ValueError` for what is none."""
    names = ("format", "run", "space", "options", "task", "networks")
    checks = {
        "format": lambda value, what: whole(value, what, _FORMAT, _FORMAT),
        "run": text,
        "space": text,
        "options": mapping,
        "task": mapping,
        "networks": many(mapping),
    }
    found = fitting(values, "a run", checks, names)
    one = {"genome": many(gene), "accuracy": share, "seconds": finite}
    networks = [fitting(network, "a network", one, one) for network in found["networks"]]
    if not networks:
        raise ValueError("a run must have networks")
    options = {name: whole(value, name) for name, value in found["options"].items()}
    trained = tuple(Trained(each["genome"], each["accuracy"], each["seconds"]) for each in networks)
    return PastRun(found["run"], found["space"], options, _task_from(found["task"]), trained)


def _task_from(values: Mapping[str, Any]) -> Task:
    def positive(value: Any, what: str) -> int:
        return whole(value, what, 1)

    checks = {
        "input_shape": image_shape,
        "classes": lambda value, what: whole(value, what, 2),
        "train_images": positive,
        "seen": positive,
    }
    found = fitting(values, "a task", checks, checks)
    return Task(*(found[name] for name in checks))


# --- what a run begins with -----------------------------------------------------------------------


def experience_for(search: SearchConfig) -> tuple[PastRun, ...]:
    """What a search begins with: the runs of its space in the file that the configuration names,
    in the user's, or in the small one that comes with nanonas.

    Raises:
        RunError: the file cannot be read, or the one that the configuration names is not there.
    """
    named, own = search.strategy.experience_from, experience_file()
    if named is not None:
        runs = read_experience(in_full(Path(named)))
    elif own is not None and own.exists():
        runs = read_experience(own)
    else:
        runs = supplied()
    options = space_options(search.space)
    return tuple(run for run in runs if run.space == search.space.space and run.options == options)


def keep_copy(folder: RunFolder, runs: Sequence[PastRun]) -> dict[str, Any]:
    """Writes what a run begins with into its folder. Returns what its store notes of that."""
    write_experience(folder.experience, runs)
    tasks = Counter((run.task.input_shape, run.task.classes) for run in runs)
    return {
        "digest": digest(folder.experience),
        "runs": len(runs),
        "networks": sum(len(run.networks) for run in runs),
        "tasks": [
            {"input_shape": list(shape), "classes": classes}
            for (shape, classes), _ in tasks.most_common()
        ],
    }


def judgement(worth: Correlation) -> dict[str, Any]:
    """What a store notes of how well experience orders networks."""
    return {**vars(worth), "left_out": useless(worth)}


def begun_with(folder: RunFolder, store: RunStore, search: SearchConfig) -> Past | None:
    """What a run has begun with; None where that was nothing.

    Raises:
        RunError: its copy is gone, or is another one, or it was killed before it noted its images.
    """
    events = store.events()
    begun, images = noted(events, EXPERIENCE), noted(events, IMAGES)
    if begun is None:
        return None
    if images is None:
        raise RunError(
            f"the run in {folder.path} was stopped while it began, and holds nothing yet: remove "
            "it, and begin it again"
        )
    if not folder.experience.exists() or digest(folder.experience) != begun["digest"]:
        what = "was changed" if folder.experience.exists() else "is gone"
        raise RunError(
            f"the experience that the run began with, {str(folder.experience)!r}, {what}; bring it "
            "back from a copy of the run, since without it nothing can be derived as it was"
        )
    return Past(read_experience(folder.experience), task_of(search, images))


def task_of(search: SearchConfig, images: Mapping[str, Any]) -> Task:
    """What candidates are trained for.

    Args:
        images: what the store notes of them: "input_shape", "class_names", "train".
    """
    training, number = search.training, max(1, int(images.get("train") or 1))
    seen = (training.epochs or EPOCHS) * number
    if training.candidate_seconds is not None and training.typical_cost is not None:
        seen = max(1, round(training.candidate_seconds / training.typical_cost))
    shape = tuple(int(size) for size in images["input_shape"])
    return Task(shape, len(images["class_names"]), number, seen)


# --- what a run leaves ----------------------------------------------------------------------------


def learnt(store: RunStore, search: SearchConfig) -> PastRun | None:
    """What a run has learnt of networks; None where these are fewer than `LEAST`, or nothing is
    noted of the images: by an early version, or where it was killed just before it would have been.

    Of those that were trained to the end, from scratch and under the budget that most of them had:
    the best half of `NETWORKS`, and the others evenly over their ranks.
    """
    images = noted(store.events(), IMAGES) or {}
    whole_ones = [one for one in store.told() if _counts(one)]
    budgets = Counter(one.candidate.proposal.budget for one in whole_ones)
    if not (budgets and {"input_shape", "class_names"} <= images.keys()):
        return None
    usual, _ = budgets.most_common(1)[0]
    alike = [one for one in whole_ones if one.candidate.proposal.budget == usual]
    if len(alike) < LEAST:
        return None
    alike.sort(key=lambda one: (-(one.evaluation.accuracy or 0.0), one.number))
    if len(alike) > NETWORKS:
        rest = np.linspace(NETWORKS // 2, len(alike) - 1, NETWORKS - NETWORKS // 2)
        places = [*range(NETWORKS // 2), *rest.round().astype(int).tolist()]
        alike = [alike[place] for place in dict.fromkeys(places)]
    networks = tuple(
        Trained(
            one.candidate.proposal.genome,
            round(one.evaluation.accuracy or 0.0, 6),
            round(one.evaluation.seconds, 3),
        )
        for one in alike
    )
    task = task_of(search, images)
    options = space_options(search.space)
    return PastRun(_name(store), search.space.space, options, task, networks)


def _counts(told: Told) -> bool:
    """Whether its accuracy is a network's own."""
    accuracy = told.evaluation.accuracy
    own = told.candidate.proposal.from_scratch and told.evaluation.state is State.COMPLETE
    return own and accuracy is not None and math.isfinite(accuracy)


def _name(store: RunStore) -> str:
    """Names a run, wherever its folder lies, and says nothing of it."""
    about = json.dumps([store.created, store.config], sort_keys=True, default=str)
    return hashlib.sha256(about.encode()).hexdigest()[:16]


def leave(path: Path, run: PastRun) -> None:
    """Adds a run to a file, in the place of what an earlier session of it has left, and beside what
    comes with nanonas where there is no file yet.

    Raises:
        RunError: the file cannot be read or written, or another process writes it for seconds.
    """
    with ExitStack() as stack:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                stack.enter_context(writing(path))
                break
            except RunError:
                if time.monotonic() > deadline or not path.parent.is_dir():
                    raise
                time.sleep(0.1)
        before = read_experience(path) if path.exists() else supplied()
        others = [one for one in before if one.run != run.run]
        write_experience(path, [*others, run], LARGEST)


def leave_for(search: SearchConfig, store: RunStore) -> None:
    """Leaves what a run has learnt, where the configuration and the environment want that.

    Raises:
        NanonasError: as `leave`.
    """
    # where all begin with other weights, accuracies are not those of networks from scratch
    leaves = search.strategy.experience and search.fidelity.ancestor is None
    path = experience_file() if leaves else None
    run = learnt(store, search)
    if path is not None and run is not None:
        leave(path, run)
