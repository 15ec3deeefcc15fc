"""Stores that are filled, looked into and damaged by hand."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nanonas.core import Budget, Candidate, Epoch, Evaluation, Prediction, Proposal, State
from nanonas.engine.storage.store import RunStore
from toys.engine import CONFIG

PAGE = 4096


@contextmanager
def by_hand(path: Path, *, checksums: bool = False) -> Iterator[sqlite3.Connection]:
    """A store that is changed by hand; its rows' checksums are forgotten, or kept as they were."""
    with closing(sqlite3.connect(path)) as db, db:
        yield db
        if not checksums:
            for table in ("run", "candidate", "evaluation", "event"):
                db.execute(f"UPDATE {table} SET checksum = NULL")


_ADDED = {  # the columns that each format added
    4: [(table, "checksum") for table in ("run", "candidate", "evaluation", "event")],
    3: [("evaluation", "clock"), ("event", "clock")],
    2: [("candidate", "generation")],
}


def as_format(path: Path, version: int) -> None:
    """Makes a store what an earlier version of the format was."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for number, columns in _ADDED.items():
            for table, column in columns if number > version else ():
                db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute(f"PRAGMA user_version = {version}")


def filled(path: Path, candidates: int, seed: int = 0) -> None:
    """A store of so many candidates with all that rows can hold: long tracebacks, which go on over
    several pages, cut evaluations, predictions, events.
    """
    rng = np.random.default_rng(seed)
    with RunStore.begin(path, CONFIG) as store:
        store.event("started", {"evaluations": candidates})
        for number in range(candidates):
            genome = tuple(int(gene) for gene in rng.integers(0, 900, 40))
            predicted = Prediction(float(rng.normal()), 0.1, "gaussian")
            proposal = Proposal(genome, (number // 2,), Budget(3, 1, 0.3), predicted)
            store.asked(
                Candidate(number, proposal, f"key{number}", max(0, number - 1), number // 9)
            )
            if number % 10 == 3:
                store.arrived(Evaluation(number, State.CUT, {"accuracy": 0.1}))
            store.arrived(_evaluation(number, rng))
            if number % 7 == 2:
                store.event("request", {"id": f"r{number}", "first": number, "what": "pause"})


def _evaluation(number: int, rng: np.random.Generator) -> Evaluation:
    curve = tuple(Epoch(float(rng.random()), float(rng.random())) for _ in range(12))
    if number % 11 == 5:
        words = "".join(map(chr, rng.integers(0x20, 0x3000, 5000)))
        return Evaluation(number, State.FAILED, {}, (), 1.0, "RuntimeError: é", words)
    metrics = {"accuracy": float(rng.random()), "params": 1000.0, "macs": 5e6}
    return Evaluation(number, State.COMPLETE, metrics, curve, float(number))


@dataclass(frozen=True)
class Truth:
    """All rows of a store, as values."""

    candidates: list[Candidate]
    evaluations: list[Evaluation]
    events: list[tuple[float, str, dict[str, Any], float]]
    config: object


def truth(path: Path) -> Truth:
    """What a store holds."""
    with RunStore.read(path) as store:
        events = [(e.time, e.kind, dict(e.details), e.clock) for e in store.events()]
        return Truth(store.candidates(), store.evaluations(), events, store.config)


def damage(content: bytes, rng: random.Random) -> bytes:
    """A file's content after an accident: cut off, bytes or pages overwritten, swapped or lost."""
    kind = rng.choice(["cut", "bits", "noise", "zeros", "swap", "header", "page"])
    changed, size = bytearray(content), len(content)
    start = rng.randrange(max(1, size))
    length = rng.choice([1, 16, 100, PAGE])
    pages = max(1, size // PAGE)
    if kind == "cut":
        return bytes(changed[:start])
    if kind == "header":
        start, length = 0, rng.choice([16, 100, PAGE])
    if kind in ("page", "swap"):
        start, length = PAGE * rng.randrange(pages), PAGE
    if kind == "bits":
        for _ in range(rng.choice([1, 5, 50])):
            changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "swap":
        other = PAGE * rng.randrange(pages)
        one, two = changed[start : start + PAGE], changed[other : other + PAGE]
        changed[start : start + PAGE], changed[other : other + PAGE] = two, one
    elif kind == "zeros":
        changed[start : start + length] = bytes(len(changed[start : start + length]))
    else:
        changed[start : start + length] = rng.randbytes(len(changed[start : start + length]))
    return bytes(changed)


def is_subsequence(some: list[object], whole: list[object]) -> bool:
    """Whether `some` is `whole` with a few left out."""
    rest = iter(whole)
    return all(any(one == other for other in rest) for one in some)
