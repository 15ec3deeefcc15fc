"""How fast a strategy finds the best network: strategies and seeds side by side, on a table of
trained networks.
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
from nanonas.config.schema import SearchConfig, StrategyOptions
from nanonas.core import Budget, Floats, Integers
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import ConfigError
from nanonas.files import write_text
from nanonas.machine import cores, described
from nanonas.maths.intervals import bootstrap
from nanonas.text import duration, number_of

SHIPPED = Path(__file__).parent / "nano_digits.npz"


@dataclass(frozen=True)
class Job:
    """One run: a strategy with a seed."""

    strategy: str  # a key of `STRATEGIES`, or one of `OPTUNA`
    seed: int
    queries: int  # networks to evaluate
    population: int  # of strategies that have one
    objective: str | None  # one of the table's; None: its first

    def run(self, table: Table) -> Trace:
        """Searches the table with one worker, whose time is simulated."""
        evaluator = TableEvaluator(table, self.objective, self.seed)
        start = time.process_time()
        if self.strategy in OPTUNA:
            told = run_optuna(self.strategy, table, evaluator, self.seed, self.queries)
        else:
            space = TableSpace(table)
            options = StrategyOptions(self.strategy, population=self.population, lag=1)
            strategy = make_strategy(SearchConfig(strategy=options, seed=self.seed), space)
            with (
                tempfile.TemporaryDirectory() as folder,
                RunStore.begin(Path(folder) / "study.db", {}, durable=False) as store,
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
    """A run, query by query: shape (queries,) each.

    A run whose strategy found no further network is shorter.
    """

    strategy: str
    seed: int
    rows: Integers  # the queried rows of the table
    accuracies: Floats  # the answers
    elapsed: Floats  # seconds of simulated time after each query
    cpu_seconds: float  # that the search itself took

    @property
    def chosen(self) -> Integers:
        """The row with the best answer so far, after each query; ties go to the first."""
        best = np.maximum.accumulate(self.accuracies)
        improves = np.r_[True, self.accuracies[1:] > best[:-1]]
        queries = np.arange(len(improves))
        best_query = np.maximum.accumulate(np.where(improves, queries, 0))
        chosen: Integers = self.rows[best_query]
        return chosen

    def queries_to(self, rows: Integers) -> int | None:
        """The number of the first query, from 1, for one of `rows`; None if there was none."""
        hits = np.flatnonzero(np.isin(self.rows, rows))
        return int(hits[0]) + 1 if len(hits) else None


@dataclass
class Bench:
    """Runs every strategy with every seed, prints a table, and writes bench.json and regret.png.

    Args:
        table: a file for `read_table`; None: `SHIPPED`.
        strategies: keys of `STRATEGIES`, or of `OPTUNA`; empty: all that can run here.
        seeds: runs per strategy, with the seeds 0 … seeds - 1.
        queries: networks that a run may evaluate; no more than the table has.
        objective: what a query answers, one of the table's; None: its first.
        workers: processes; None: one per core.
        population: of strategies that have one.
        out: the folder to write to, created if it is missing.
        console: to print on.
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
        """Runs, prints and writes everything; returns the content of bench.json.

        Raises:
            ConfigError: an unknown strategy or objective, or a strategy needs Optuna and it is not
                installed.
            DataError: the table is missing or cannot be used.
            RunError: a file cannot be written.
        """
        names = checked_strategies(self.strategies)
        table = read_table(self.table or SHIPPED)
        answers = table.answers_to(self.objective)
        objective = self.objective or next(iter(table.answers))
        queries = min(self.queries, len(table.rows))
        self.console.print(
            f"{number_of(len(table.rows), 'network')} of {escape(table.name)}, objective "
            f"{objective}: {number_of(len(names), 'strategy', 'strategies')} × "
            f"{number_of(self.seeds, 'seed')} × {number_of(queries, 'query', 'queries')}",
            highlight=False,
            soft_wrap=True,
        )
        jobs = [
            Job(name, seed, queries, self.population, objective)
            for name in names
            for seed in range(self.seeds)
        ]
        start = time.monotonic()
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
            "wall_seconds": round(time.monotonic() - start, 1),
            "versions": _versions(),
            "hardware": described()["hardware"],
            "strategies": {score.strategy: score.values() for score in scores},
        }
        seeds = number_of(self.seeds, "seed")
        self._write(result, scores, f"{table.name}, {objective}, {seeds}, 95 % bands")
        return result

    def _traces(self, table: Table, jobs: Sequence[Job]) -> dict[str, list[Trace]]:
        """The runs of each strategy, by seed; prints when the last one of a strategy is done."""
        traces: dict[str, list[Trace]] = {job.strategy: [] for job in jobs}
        hidden = not self.console.is_terminal
        with Progress(console=self.console, transient=True, disable=hidden) as progress:
            bar = progress.add_task("searching", total=len(jobs))
            for trace in _run(table, jobs, min(self.workers or cores(), len(jobs))):
                progress.advance(bar)
                done = traces[trace.strategy]
                done.append(trace)
                if len(done) == self.seeds:
                    spent = duration(sum(run.cpu_seconds for run in done))
                    self.console.print(
                        f"  {trace.strategy}: {number_of(self.seeds, 'run')} in {spent} of CPU",
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
            needed = score.queries_to_optimum
            successes = self.seeds - needed["censored"]
            mean = median = f"> {queries}"
            if successes:
                mean = f"{needed['mean']:.1f} [{needed['low']:.0f}, {needed['high']:.0f}]"
            if 2 * successes > self.seeds:
                median = f"{needed['median']:.0f}"
            grid.add_row(
                score.strategy,
                mean,
                median,
                f"{successes}/{self.seeds}",
                f"{100 * score.by_query['validation'].mean[-1]:.2f}",
                _points(score.by_query.get("test")),
            )
        self.console.print(grid)

    def _write(self, result: dict[str, Any], scores: Sequence[Score], title: str) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        figures, picture = self.out / "bench.json", self.out / "regret.png"
        write_text(figures, json.dumps(result, indent=1) + "\n")
        self._print_path(figures)
        kind = "test" if "test" in scores[0].by_query else "validation"
        curves = {score.strategy: (score.by_query[kind], score.by_second[kind]) for score in scores}
        try:
            draw_regret(picture, curves, kind, title)
        except ConfigError as error:  # no matplotlib: the figures are written all the same
            self.console.print(escape(str(error)), highlight=False, soft_wrap=True)
        else:
            self._print_path(picture)

    def _print_path(self, path: Path) -> None:
        self.console.print(str(path), style="dim", markup=False, highlight=False, soft_wrap=True)


@dataclass(frozen=True, eq=False)
class Score:
    """The runs of one strategy in figures.

    Regrets are differences of accuracies in [0, 1], each a mean over seeds with a 95 % interval.
    """

    strategy: str
    queries_to_optimum: dict[str, Any]  # mean, low, high, median, censored, runs
    by_query: dict[str, Curve]  # "validation" and, where the table has it, "test"
    by_second: dict[str, Curve]  # of simulated time, while all runs are going on
    cpu_seconds: float  # of all runs

    @classmethod
    def of(
        cls, name: str, traces: Sequence[Trace], table: Table, means: Floats, queries: int
    ) -> Score:
        """Counts and regrets against the best network of the table.

        Args:
            name: of the strategy.
            traces: its runs, one or more.
            table: that was searched.
            means: the validation accuracy of each row, shape (rows,).
            queries: the limit of each run. A run that never queried the best network counts as this
                many.
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
        """As plain values for JSON."""
        return {
            "queries_to_optimum": self.queries_to_optimum,
            "regret_by_query": {kind: curve.values() for kind, curve in self.by_query.items()},
            "regret_by_second": {kind: curve.values() for kind, curve in self.by_second.items()},
            "cpu_seconds": round(self.cpu_seconds, 2),
        }


def checked_strategies(names: Sequence[str]) -> list[str]:
    """The strategies to run: those named, each once, or all that can run here.

    Raises:
        ConfigError: an unknown strategy, or one that needs Optuna, and it is not installed.
    """
    known = [*STRATEGIES, *OPTUNA]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"the strategy {name!r} is unknown (--strategies){nearest(name, known)}"
            )
        if name in OPTUNA:
            require_optuna(name)
    runnable = known if optuna_installed() else list(STRATEGIES)
    return list(dict.fromkeys(names)) or runnable


def _run(table: Table, jobs: Sequence[Job], workers: int) -> Iterator[Trace]:
    """The traces of the jobs, in the order in which they finish."""
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


_installed: list[Table] = []  # in a worker process: the table, sent once and not with each job


def _install(table: Table) -> None:
    _installed[:] = [table]


def _work(job: Job) -> Trace:
    return job.run(_installed[0])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started in this context use one thread each: there is one per core."""
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
    """The last regret with its interval, in percentage points."""
    if curve is None:
        return "–"
    mean, low, high = (100 * line[-1] for line in (curve.mean, curve.low, curve.high))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def _versions() -> dict[str, str]:
    """The versions that the figures depend on."""
    from importlib.metadata import version

    names = ["nanonas", "numpy", *(["optuna"] if optuna_installed() else [])]
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
