"""The searches that accidents happen to, and what has to be equal in two runs of one of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import safe_open

from nanonas.config.files import GONE
from nanonas.core import State
from nanonas.engine.storage.store import RunStore
from nanonas.files import read_json
from nanonas.runs.checking import Stored, differences
from nanonas.runs.folder import RunFolder
from nanonas.session.start import counted

TOTAL = 14  # candidates
_DATA = "--data digits --train-images 60 --epochs 1 --precision float32 --device cpu --no-doctor"
_SPACE = "--space nano --channels 2 --length 3 --population 4 --workers 2 --lag 4"
_ENDS = f"--evaluations {TOTAL} --final-epochs 0"

PRETENDED = {  # nothing is trained
    "inherits": "--strategy evolution --inherit --inherit-epochs 1 --finalists 1 --keep front",
    "keeps the best": "--strategy aging --keep top:3",
    "a front": "--strategy nsga2 --keep top:2",
    "halves": "--strategy random --halving 2 --rungs 2 --epochs 2 --rung-epochs 1",
}
REAL = {  # PyTorch, and the winner is trained
    "trains": "--strategy aging --inherit --inherit-epochs 1 --finalists 1 --final-epochs 1",
    "screens": "--strategy screened --final-epochs 1",
}


def arguments(search: str) -> list[str]:
    """A search as flags; its folder is added to them."""
    own = {**PRETENDED, **REAL}[search]
    return f"{_DATA} {_SPACE} {_ENDS} {own}".split()


def outcome(path: Path) -> dict[str, Any]:
    """All that two runs of one search have in common: everything but times, and what happened to
    them.
    """
    folder = RunFolder(path)
    with RunStore.read(folder.store) as store:
        stored = Stored.of(store)
    counts = [one for one in stored.arrived if one.state is not State.CUT]
    assert len({one.number for one in counts}) == len(counts)
    assert not list(differences(folder, stored, counted(), GONE))
    counts.sort(key=lambda one: one.number)
    return {
        "search": stored.config["search"],
        "candidates": stored.candidates,
        "evaluations": [value_of(one) for one in counts],
        "weights": _weights(folder.weights),
        "finalists": _weights(folder.finalists),
        "front": {path.name: read_json(path) for path in sorted(folder.front.glob("*"))},
        "best": read_json(folder.best_genome),
        "final": {_trained_by(folder.final): _weights(folder.final, "model")},
    }


def other(now: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """In what an outcome differs from another. The winner's weights are compared where as many
    threads and processes have trained them, which is measured as a training begins.
    """
    different = [name for name, value in expected.items() if now[name] != value]
    if "final" in different and now["final"].keys() != expected["final"].keys():
        different.remove("final")
    return different


def reported(path: Path) -> dict[int, Any]:
    """The evaluations that a reader sees now, by number, and "" where there is no run yet."""
    with RunStore.read(RunFolder(path).store) as store:
        return {
            one.number: value_of(one) for one in store.evaluations() if one.state is not State.CUT
        }


def value_of(evaluation: Any) -> tuple[Any, ...]:
    """An evaluation without the time that it took."""
    one = evaluation
    return one.number, one.state, dict(one.metrics), one.curve, one.reason


def _trained_by(final: Path) -> tuple[Any, ...]:
    """The threads and processes of a final training."""
    result = read_json(final / "result.json") or {}
    return result.get("threads"), result.get("processes")


def _weights(folder: Path, named: str = "*") -> dict[str, Any]:
    """What each file of a folder holds: metadata, and tensors as digests. Not its bytes, for the
    order of metadata is by chance.
    """
    found: dict[str, Any] = {}
    for path in sorted(folder.glob(f"{named}.safetensors")):
        with safe_open(path, framework="numpy") as file:
            digests = {
                name: hashlib.sha256(file.get_tensor(name).tobytes()).hexdigest()
                for name in sorted(file.keys())
            }
            found[path.name] = (file.metadata(), digests)
    return found
