"""Of how many candidates weights lie on the disk while a search goes on, where later ones begin
with them.

Searches with inheritance or successive halving, by a store, a loop and a keeper as in every run;
only that nothing is trained: an accuracy follows from the genome, and weights are empty files. They
are counted after each evaluation.

    python benchmarks/disk.py            # a minute of one core

prints a table and writes benchmarks/results/disk.json.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from nanonas.config.files import configure
from nanonas.config.parts import make_search_space, make_strategy, most_kept
from nanonas.core import Candidate, Epoch, Evaluation, Pulse, State
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Study
from nanonas.files import weights_in
from nanonas.machine import described
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile
from nanonas.session.keeper import Keeper
from nanonas.session.setup import Setup
from nanonas.spaces.base import Space

SHAPE, NAMES = (3, 32, 32), tuple("abcdefghij")
SEARCHES: dict[str, dict[str, Any]] = {
    "aging, inherits": {"strategy": "aging", "inherit": True},
    "evolution, inherits": {"strategy": "evolution", "inherit": True},
    "local, inherits": {"strategy": "local", "inherit": True},
    "nsga2, inherits": {"strategy": "nsga2", "inherit": True},
    "aging, halving 4": {"strategy": "aging", "halving": 4},
    "aging, halving 4, inherits": {"strategy": "aging", "halving": 4, "inherit": True},
}


@dataclass(frozen=True)
class Options:
    """Counts weights."""

    evaluations: tuple[int, ...] = (250, 500, 1000)
    """After so many the table has a column; the last is where searches end."""
    out: Path = Path(__file__).parent / "results" / "disk.json"
    """The file of the figures."""


def main(options: Options) -> None:
    total, found = max(options.evaluations), dict[str, Any]()
    print(f"{'':28}" + "".join(f"{size:>8,}" for size in options.evaluations) + "   at most")
    for name, settings in SEARCHES.items():
        with tempfile.TemporaryDirectory() as place:
            counts, bound = kept(Path(place) / "run", total, settings)
        most = {size: max(counts[:size]) for size in options.evaluations}
        found[name] = {"settings": settings, "most": most, "bound": bound}
        print(f"{name:28}" + "".join(f"{n:8,}" for n in most.values()) + f"{bound:10,}")
    result = {"machine": described(), "keep": "top:20", "population": 20, "searches": found}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def kept(path: Path, total: int, settings: Mapping[str, Any]) -> tuple[list[int], int]:
    """How many weights there are after each evaluation of a search, and what a plan says of it."""
    config = configure(space="layers", lag=4, epochs=16, evaluations=total, **settings)
    space = make_search_space(config.search, SHAPE, len(NAMES))
    setup, folder = Setup(config, noted=(SHAPE, len(NAMES))), RunFolder(path)
    folder.weights.mkdir(parents=True)
    counts = list[int]()
    with RunStore.begin(folder.store, {}, durable=False) as store:
        keeper = Keeper(folder, described_as(space), setup.kept_weights, (), setup.objectives)
        strategy = make_strategy(config.search, space)
        evaluator = SerialEvaluator(Pretended(folder.weights))
        study = Study(
            space, strategy, evaluator, store, setup.budget, planted_budget=setup.rungs[0]
        )

        def observe(progress: Progress) -> None:
            keeper.hear(progress.told)
            keeper.prune(study.needed())
            counts.append(sum(1 for _ in folder.weights.iterdir()))

        study.run(total, observe=observe)
    return counts, most_kept(config, strategy, total)


@dataclass
class Pretended:
    """Measures without training, and keeps an empty file for the weights."""

    weights: Path

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        for number in candidate.proposal.begins_with:
            assert weights_in(self.weights, number).exists(), f"the weights of #{number} are gone"
        weights_in(self.weights, candidate.number).touch()
        genes = np.asarray(candidate.proposal.genome, dtype=float)
        accuracy = 0.5 + 0.4 * math.tanh(float(np.sin(genes).mean()))  # something to climb
        curve = (Epoch(1.0, accuracy),)
        return Evaluation(candidate.number, State.COMPLETE, {"accuracy": accuracy}, curve, 1.0)


def described_as(space: Space) -> Any:
    """How candidates become files."""

    def describe(candidate: Candidate, known: Mapping[str, Any]) -> GenomeFile:
        about = {"candidate": candidate.number, **known}
        return GenomeFile(space.name, candidate.proposal.genome, SHAPE, NAMES, known=about)

    return describe


if __name__ == "__main__":
    main(tyro.cli(Options))
