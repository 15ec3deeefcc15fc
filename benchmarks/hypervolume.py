"""How good is a front after so many trainings? On NAS-Bench-201, accuracy against parameters, and
accuracy against the latency on a Raspberry Pi 4.

    python benchmarks/hypervolume.py --table cifar10.parquet    # two minutes of one core

Each strategy searches with the same seeds; a query answers with the mean validation accuracy after
200 epochs, and with the latency that the table has; parameters are counted. What is compared is the
hypervolume of all that was asked for, as a share of that of the whole table: accuracy, against the
logarithm of the cost up to the dearest network. Below the accuracy of the median network nothing
counts, because tiny networks that guess are on every front; `from the worst` has that, too.

Figures go to results/hypervolume.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from nasbench201 import summary
from throughput import surroundings

from nanonas.bench.files import read_table
from nanonas.bench.table import Table, TableEvaluator, TableSpace
from nanonas.config.parts import make_strategy
from nanonas.config.schema import SearchConfig, StrategyOptions
from nanonas.core import Budget, Candidate, Evaluation, Floats, Genome
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.maths.pareto import hypervolume
from nanonas.networks.network import Network

RESULT = Path(__file__).parent / "results" / "hypervolume.json"
COSTS = {"params": "params", "latency": "latency_ms_raspi4"}  # the columns of the table
STRATEGIES = ("screened", "nsga2", "random")
MOMENTS = (25, 50, 100, 150)  # queries


_networks: dict[str, Network] = {}  # by key


class Drawn(TableSpace):
    """A table whose networks are drawn once a process: a search counts the parameters of each."""

    def decode(self, genome: Genome) -> Network:
        """The network."""
        key = self.key(genome)
        if key not in _networks:
            _networks[key] = super().decode(genome)
        return _networks[key]


@dataclass
class Timed(TableEvaluator):
    """Answers with the latency, too."""

    def _answer(self, candidate: Candidate) -> Evaluation:
        evaluation = super()._answer(candidate)
        row = self.table.find(candidate.proposal.genome)
        assert row is not None  # the space is the table's
        latency = float(self.table.columns[COSTS["latency"]][row])
        return replace(evaluation, metrics={**evaluation.metrics, "latency": latency})


@dataclass(frozen=True)
class Job:
    """One search of the table."""

    path: Path
    strategy: str
    cost: str
    seed: int
    queries: int

    def __call__(self) -> dict[str, Any]:
        """The hypervolume after each moment, in shares of the table's, and after every query."""
        table = table_of(self.path)
        objectives = () if self.strategy == "random" else ("accuracy", self.cost)
        options = StrategyOptions(self.strategy, objectives=objectives, population=30, lag=1)
        space = Drawn(table)
        strategy = make_strategy(SearchConfig(strategy=options, seed=self.seed), space)
        answering = Timed if self.cost == "latency" else TableEvaluator
        evaluator, start = answering(table, seed=self.seed), time.process_time()
        with (
            tempfile.TemporaryDirectory() as folder,
            RunStore.begin(Path(folder) / "study.db", {}, durable=False) as store,
        ):
            study = Study(space, strategy, evaluator, store, Budget(evaluator.epochs), self.seed)
            study.run(self.queries)
            asked = [table.find(one.proposal.genome) for one in store.candidates()]
        spent = time.process_time() - start
        shares = {
            corner: [share(self.path, self.cost, corner, asked[: n + 1]) for n in range(len(asked))]
            for corner in ("median", "worst")
        }
        return {"shares": shares, "cpu_seconds": spent}


@cache
def table_of(path: Path) -> Table:
    """The table, read once a process."""
    return read_table(path)


@cache
def losses_of(path: Path, cost: str) -> Floats:
    """Of each row that answers, by the table itself: (rows, 2); NaN of the others."""
    table = table_of(path)
    rows = np.array(table.rows)
    losses = np.full((len(table.genomes), 2), np.nan)
    losses[rows, 0] = -table.answers_to().means[rows]
    losses[rows, 1] = np.log(table.columns[COSTS[cost]][rows])
    return losses


@cache
def corner_of(path: Path, cost: str, corner: str) -> tuple[tuple[float, ...], float]:
    """The reference, with the accuracy of the median or of the worst network, and the whole
    table's hypervolume.
    """
    losses = losses_of(path, cost)[np.array(table_of(path).rows)]
    accuracy = np.quantile(losses[:, 0], {"median": 0.5, "worst": 1.0}[corner])
    reference = (float(accuracy), float(losses[:, 1].max()))
    return reference, hypervolume(losses, reference)


def share(path: Path, cost: str, corner: str, asked: Sequence[int | None]) -> float:
    """The hypervolume of some rows, in percent of the table's."""
    reference, whole = corner_of(path, cost, corner)
    rows = np.array(asked, dtype=np.int64)
    return 100 * hypervolume(losses_of(path, cost)[rows], reference) / whole


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="NAS-Bench-201 as parquet")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--costs", nargs="+", default=list(COSTS), choices=list(COSTS))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--queries", type=int, default=150)
    parser.add_argument("--screened-queries", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    results: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/hypervolume.py", *arguments]),
        **surroundings(),
    }
    start = time.monotonic()
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for cost in given.costs:
            for name in given.strategies:
                queries = given.screened_queries if name == "screened" else given.queries
                jobs = [Job(given.table, name, cost, n, queries) for n in range(given.seeds)]
                runs = list(pool.map(Job.__call__, jobs))
                entry = results[f"{name}, {cost}"] = figures_of(runs, queries)
                shown = ", ".join(
                    f"{figure['mean']:.2f} ± {figure['error']:.2f} after {n}"
                    for n, figure in entry["from the median"].items()
                )
                seconds = entry["cpu_seconds_a_run"]["mean"]
                print(f"{cost:<8} {name:<8} {shown}; {seconds:.1f} s a run", flush=True)
    results["minutes"] = round((time.monotonic() - start) / 60, 1)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def figures_of(runs: Sequence[dict[str, Any]], queries: int) -> dict[str, Any]:
    """What the runs of one strategy came to."""
    moments = [moment for moment in MOMENTS if moment <= queries]
    entry: dict[str, Any] = {
        f"from the {corner}": {
            moment: summary([run["shares"][corner][moment - 1] for run in runs])
            for moment in moments
        }
        for corner in ("median", "worst")
    }
    entry["runs"] = [
        [round(run["shares"]["median"][moment - 1], 3) for moment in moments] for run in runs
    ]
    entry["cpu_seconds_a_run"] = summary([run["cpu_seconds"] for run in runs])
    return entry


if __name__ == "__main__":
    main(sys.argv[1:])
