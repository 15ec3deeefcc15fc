"""How fast does a strategy find the best network? Strategies and seeds on a table of trained
networks, side by side.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table as Grid

from nanonas.bench.files import read_table
from nanonas.bench.regret import Curve, by_query, by_second, draw_regret
from nanonas.bench.table import Table, TableEvaluator, TableSpace
from nanonas.bench.yardsticks import OPTUNA, optuna_installed, require_optuna, run_optuna
from nanonas.config.files import nearest
from nanonas.config.parts import STRATEGIES, make_strategy
from nanonas.config.schema import SearchConfig
from nanonas.core import Budget, Floats, Integers
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import ConfigError
from nanonas.files import write_text
from nanonas.machine import cores, processor
from nanonas.maths.intervals import bootstrap
from nanonas.text import duration

SHIPPED = Path(__file__).parent / "nano_digits.npz"


@dataclass(frozen=True)
class Job:
    """One run: a strategy with a seed."""

    strategy: str
    seed: int
    queries: int
    population: int
    objective: str | None

    def run(self, table: Table) -> Trace:
        """Searches the table, with one worker whose time is simulated."""
        evaluator = TableEvaluator(table, self.objective, self.seed)
        start = time.process_time()
        if self.strategy in OPTUNA:
            told = run_optuna(self.strategy, table, evaluator, self.seed, self.queries)
        else:
            space = TableSpace(table)
            config = SearchConfig(
                strategy=self.strategy, population=self.population, lag=1, seed=self.seed
            )
            strategy = make_strategy(config, space)
            with (
                tempfile.TemporaryDirectory() as folder,
                RunStore.begin(Path(folder) / "study.db", {}) as store,
            ):
                study = Study(
                    space, strategy, evaluator, store, Budget(evaluator.epochs), self.seed
                )
                study.run(self.queries)
                told = store.told()
        asked = [table.find(one.candidate.proposal.genome) for one in told]
        answers = [one.evaluation.accuracy for one in told]
        accuracies = [-np.inf if accuracy is None else accuracy for accuracy in answers]
        return Trace(
            self.strategy,
            self.seed,
            np.array(asked, dtype=np.int64),
            np.array(accuracies, dtype=np.float64),
            np.cumsum([one.evaluation.seconds for one in told]),
            time.process_time() - start,
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """What a run did, query by query: shape (queries,) each.

    A run that found nothing new any more is shorter.
    """

    strategy: str
    seed: int
    rows: Integers  # of the table that were asked
    accuracies: Floats  # as answered
    elapsed: Floats  # seconds of simulated time after each
    cpu_seconds: float  # that the search itself took

    @property
    def chosen(self) -> Integers:
        """The row with the best answer so far, after each query; of equals the first."""
        best = np.maximum.accumulate(self.accuracies)
        new = np.r_[True, self.accuracies[1:] > best[:-1]]
        places: Integers = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
        chosen: Integers = self.rows[places]
        return chosen

    def queries_to(self, rows: Integers) -> int | None:
        """How many queries it took to ask for one of `rows`; None where it never did."""
        hits = np.flatnonzero(np.isin(self.rows, rows))
        return int(hits[0]) + 1 if len(hits) else None


@dataclass
class Bench:
    """Runs every strategy with every seed, prints, and writes bench.json and regret.png.

    Args:
        table: a file for `read_table`; None: the one that comes along.
        strategies: keys of `config.STRATEGIES` or of `OPTUNA`; none: all that can run here.
        seeds: runs of each strategy, with the seeds 0 … seeds - 1.
        queries: networks that a run may ask for; at most as many as the table has are.
        objective: what a query answers, one of the table's; None: its first.
        workers: processes.
        population: of the strategies that have one.
        out: the folder for what is written.

    Raises:
        ConfigError: an unknown strategy or objective, or Optuna is asked for and not there.
        DataError: no such table, or one that cannot be used.
    """

    table: Path | None = None
    strategies: Sequence[str] = ()
    seeds: int = 10
    queries: int = 150
    objective: str | None = None
    workers: int | None = None
    population: int = 30
    out: Path = Path("bench")
    console: Console = field(default_factory=Console)

    def run(self) -> dict[str, Any]:
        """Returns what it writes to bench.json."""
        names = checked_strategies(self.strategies)
        table = read_table(self.table or SHIPPED)
        answers = table.answers_to(self.objective)
        objective = self.objective or next(iter(table.answers))
        queries = min(self.queries, len(table.rows))
        self.console.print(
            f"{len(table.rows):,} networks of {escape(table.name)}, objective {objective}: "
            f"{len(names)} strategies × "
            f"{self.seeds} seeds × {queries} queries",
            highlight=False,
            soft_wrap=True,
        )
        jobs = [
            Job(name, seed, queries, self.population, objective)
            for name in names
            for seed in range(self.seeds)
        ]
        start = time.time()
        traces = self._traces(table, jobs)
        scores = [Score.of(name, traces[name], table, answers.means, queries) for name in names]
        scores.sort(
            key=lambda score: (
                score.queries_to_optimum["mean"],
                score.by_query["validation"].mean[-1],
            )
        )
        self._show(scores, queries)
        result = {
            "table": table.name,
            "objective": objective,
            "networks": len(table.rows),
            "queries": queries,
            "seeds": self.seeds,
            "population": self.population,
            "wall_seconds": round(time.time() - start, 1),
            "versions": _versions(),
            "hardware": f"{cores()} cores of {processor()}",
            "strategies": {score.strategy: score.values() for score in scores},
        }
        self._write(result, scores, f"{table.name}, {objective}, {self.seeds} seeds, 95 % bands")
        return result

    def _traces(self, table: Table, jobs: Sequence[Job]) -> dict[str, list[Trace]]:
        """The runs of each strategy, by seed; says when a strategy's last one is done."""
        traces: dict[str, list[Trace]] = {job.strategy: [] for job in jobs}
        with Progress(
            console=self.console, transient=True, disable=not self.console.is_terminal
        ) as progress:
            bar = progress.add_task("searching", total=len(jobs))
            for trace in _run(table, jobs, min(self.workers or cores(), len(jobs))):
                progress.advance(bar)
                done = traces[trace.strategy]
                done.append(trace)
                if len(done) == self.seeds:
                    seconds = duration(sum(one.cpu_seconds for one in done))
                    self.console.print(
                        f"  {trace.strategy}: {self.seeds} runs in {seconds} of CPU",
                        highlight=False,
                    )
        return {name: sorted(done, key=lambda trace: trace.seed) for name, done in traces.items()}

    def _show(self, scores: Sequence[Score], queries: int) -> None:
        grid = Grid(
            box=None,
            title=f"queries until the best network (never: {queries}); regret in percentage points",
        )
        for name in ("strategy", "queries, 95 %", "median", "found", "valid.", "test, 95 %"):
            grid.add_column(name, no_wrap=True)
        for score in scores:
            to = score.queries_to_optimum
            found = self.seeds - to["censored"]
            grid.add_row(
                score.strategy,
                f"{to['mean']:.1f} [{to['low']:.0f}, {to['high']:.0f}]"
                if found
                else f"> {queries}",
                f"{to['median']:.0f}" if 2 * found > self.seeds else f"> {queries}",
                f"{found}/{self.seeds}",
                f"{100 * score.by_query['validation'].mean[-1]:.2f}",
                _points(score.by_query.get("test")),
            )
        self.console.print(grid)

    def _write(self, result: dict[str, Any], scores: Sequence[Score], title: str) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        write_text(self.out / "bench.json", json.dumps(result, indent=1) + "\n")
        self.console.print(
            str(self.out / "bench.json"), style="dim", highlight=False, soft_wrap=True
        )
        kind = "test" if "test" in scores[0].by_query else "validation"
        curves = {score.strategy: (score.by_query[kind], score.by_second[kind]) for score in scores}
        try:
            draw_regret(self.out / "regret.png", curves, kind, title)
        except ConfigError as error:
            self.console.print(escape(str(error)), highlight=False, soft_wrap=True)
        else:
            self.console.print(
                str(self.out / "regret.png"), style="dim", highlight=False, soft_wrap=True
            )


@dataclass(frozen=True, eq=False)
class Score:
    """What came of a strategy's runs.

    Regrets are accuracies in [0, 1], each a mean with a 95 % interval over seeds.
    """

    strategy: str
    queries_to_optimum: dict[str, Any]  # mean, low, high, median, censored, runs
    by_query: dict[str, Curve]  # "validation" and, where the table has it, "test"
    by_second: dict[str, Curve]  # of simulated time, where all seeds' runs go on
    cpu_seconds: float

    @classmethod
    def of(
        cls, name: str, traces: Sequence[Trace], table: Table, means: Floats, queries: int
    ) -> Score:
        """Counts and regrets against the best of the table's networks.

        Args:
            means: shape (rows,): the validation accuracy that a row is worth.
            queries: that each run was given. One that never asked for the best network counts as
                these.
        """
        rows = np.array(table.rows)
        optimum = rows[means[rows] >= means[rows].max()]
        needed = [trace.queries_to(optimum) for trace in traces]
        counted = np.array(
            [queries if count is None else count for count in needed], dtype=np.float64
        )
        mean, low, high = bootstrap(counted[:, None])
        truths = {"validation": means}
        if "test_acc" in table.columns:
            truths["test"] = table.columns["test_acc"]
        regrets = {
            kind: [truth[rows].max() - truth[trace.chosen] for trace in traces]
            for kind, truth in truths.items()
        }
        return cls(
            name,
            {
                "mean": float(mean[0]),
                "low": float(low[0]),
                "high": float(high[0]),
                "median": float(statistics.median(counted)),
                "censored": needed.count(None),
                "runs": needed,
            },
            {kind: by_query(lines, queries) for kind, lines in regrets.items()},
            {
                kind: by_second(lines, [trace.elapsed for trace in traces])
                for kind, lines in regrets.items()
            },
            sum(trace.cpu_seconds for trace in traces),
        )

    def values(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "queries_to_optimum": self.queries_to_optimum,
            "regret_by_query": {kind: curve.values() for kind, curve in self.by_query.items()},
            "regret_by_second": {kind: curve.values() for kind, curve in self.by_second.items()},
            "cpu_seconds": round(self.cpu_seconds, 2),
        }


def checked_strategies(names: Sequence[str]) -> list[str]:
    """The strategies to run: those named, or all that can run here.

    Raises `ConfigError` for an unknown one.
    """
    known = [*STRATEGIES, *OPTUNA]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"the strategy {name!r} is unknown (--strategies){nearest(name, known)}"
            )
        if name in OPTUNA:
            require_optuna(name)
    return list(dict.fromkeys(names)) or [*STRATEGIES, *(OPTUNA if optuna_installed() else ())]


def _run(table: Table, jobs: Sequence[Job], workers: int) -> Iterator[Trace]:
    """The jobs' traces, as they are done."""
    if workers == 1:
        yield from (job.run(table) for job in jobs)
        return
    with (
        _one_thread(),
        ProcessPoolExecutor(workers, get_context("spawn"), _install, (table,)) as pool,
    ):
        try:
            for future in as_completed([pool.submit(_work, job) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_installed: list[Table] = []  # in a worker process: the table, once


def _install(table: Table) -> None:
    _installed[:] = [table]


def _work(job: Job) -> Trace:
    return job.run(_installed[0])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that are started within use one thread each: there are as many of them as cores."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _points(curve: Curve | None) -> str:
    """The last regret, in per cent."""
    if curve is None:
        return "–"
    mean, low, high = (100 * line[-1] for line in (curve.mean, curve.low, curve.high))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ["nanonas", "numpy", *(["optuna"] if optuna_installed() else [])]
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
