"""What a run costs as it grows: how long it takes to open, to resume, to ask, to tell, to show and
to report one of 100, 10,000 and 100,000 stored evaluations, and how much memory.

    python benchmarks/growth.py                       # some minutes of one core
    python benchmarks/growth.py --evaluations 100 10000 --strategies screened
    python benchmarks/growth.py --evaluations --leak 5000   # a minute of two cores

The candidates are bred in the space `stages` (10 classes of 32×32 pixels), but nothing is trained:
an accuracy follows from the network's size, with noise. Only the first thousands of them are
different; a larger store has these again and again, under keys of their own. Each size is measured
in a process of its own; memory is the most that was resident by the end of each step.

- open: the store is read: candidates, evaluations, events.
- resume: a new process of the run has looked for damage, read the store, and told the strategy all.
- ask, first and again: a candidate is bred; what a predictor learns is learnt the first time.
- a candidate: one is asked, committed, measured in no time, committed and kept, as a session does.
- panel: the line that a terminal shows of the search, four times a second.
- show, page: `nanonas show`, with the imports that it needs, and the report's page, whose megabytes
  are kept, too.

The last columns are exponents: 1 is linear, 2 quadratic, from one size to the next.

A leak is what a process holds that has evaluated so many candidates itself, beyond one that has
just resumed the same run: what is kept of each candidate both have. Two workers measure, and a
session's listeners hear of it. The search is random, and nothing waits for the disk.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.config.files import configure, to_values, to_yaml
from nanonas.config.parts import make_objectives, make_space, make_strategy
from nanonas.config.schema import Config
from nanonas.config.trainings import make_budget
from nanonas.core import (
    Candidate,
    Epoch,
    Evaluation,
    Evaluator,
    Genome,
    Prediction,
    Proposal,
    Pulse,
    State,
)
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.evaluators.workers import WorkerPool
from nanonas.engine.storage.events import ENDED, IMAGES, STARTED, Event
from nanonas.engine.storage.rows import Row, candidate_row, evaluation_row, event_row, run_row
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Study
from nanonas.files import read_json
from nanonas.machine import described
from nanonas.processes import memory_of
from nanonas.report.page import render
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile
from nanonas.runs.reading import read_record
from nanonas.session.keeper import Keeper
from nanonas.session.listener import Begun, Listeners
from nanonas.session.log import Log, logged
from nanonas.session.setup import Setup
from nanonas.spaces.base import Space
from nanonas.terminal.progress import SearchProgress

SHAPE, CLASSES = (3, 32, 32), 10
DIFFERENT = 2000  # networks
MORE = 10  # candidates that are asked and told besides
FIRST = 10  # candidate that was predicted
WARM = 1000  # evaluations before a leak is looked for


@dataclass(frozen=True)
class Options:
    """Measures runs of several sizes."""

    evaluations: tuple[int, ...] = (100, 10_000, 100_000)
    """That are stored."""
    strategies: tuple[str, ...] = ("screened", "evolution")
    """That are resumed."""
    page: int = 100_000
    """Evaluations that a run has at most that is reported, too."""
    leak: int = 0
    """Evaluations, after a thousand, over which a leak is looked for; 0: none is."""
    out: Path = Path(__file__).parent / "results" / "growth.json"
    """The file of the figures; those of other sizes and strategies stay in it."""


def main(options: Options) -> None:
    """Measures, prints a table, and keeps the figures."""
    rows = kept(options.out)
    for strategy in options.strategies:
        for size in options.evaluations:
            page = size <= options.page and strategy == options.strategies[0]
            # a process of its own, for memory is that of a process
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                steps = pool.apply(measured, (strategy, size, page))
            rows[strategy, size] = {"strategy": strategy, "evaluations": size, "steps": steps}
            said = "  ".join(f"{name} {one['cpu_seconds']:.3g} s" for name, one in steps.items())
            if page:
                said += f", {steps['page']['megabytes']:.1f} MB"
            print(f"{strategy}, {size:,}: {said}", file=sys.stderr, flush=True)
            keep(options.out, {"runs": [rows[pair] for pair in sorted(rows)]})
    print(table([rows[pair] for pair in sorted(rows)]))
    if options.leak:
        found = leak(options.leak)
        keep(options.out, {"leak": found})
        print(json.dumps(found, indent=1))


def kept(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What earlier measurements have found, by strategy and size."""
    values = read_json(path)
    runs = values.get("runs", []) if isinstance(values, dict) else []
    return {(row["strategy"], row["evaluations"]): row for row in runs}


def keep(path: Path, found: dict[str, Any]) -> None:
    """Writes what is known by now; what else is in the file stays."""
    values = read_json(path)
    result = {
        **(values if isinstance(values, dict) else {}),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": described(),
        **found,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Seconds of the processor, which others do not lengthen, most memory and exponents."""
    lines = []
    for strategy in dict.fromkeys(row["strategy"] for row in rows):
        own = [row for row in rows if row["strategy"] == strategy]
        sizes = [row["evaluations"] for row in own]
        lines.append(f"{strategy:14}" + "".join(f"{size:>22,}" for size in sizes) + "   exponents")
        for name in own[0]["steps"]:
            steps = [row["steps"][name] for row in own if name in row["steps"]]
            cells = [f"{one['cpu_seconds']:>11.4g} s {one['mebibytes']:>5.0f} MiB" for one in steps]
            seconds = [max(1e-4, one["cpu_seconds"]) for one in steps]
            pairs = zip(seconds, seconds[1:], sizes, sizes[1:], strict=False)
            powers = [math.log(after / t) / math.log(more / n) for t, after, n, more in pairs]
            lines.append(f"{name:14}{''.join(cells)}   {' '.join(f'{p:5.2f}' for p in powers)}")
    return "\n".join(lines)


def measured(strategy: str, size: int, page: bool) -> dict[str, dict[str, float]]:
    """Seconds and MiB of each step."""
    steps: dict[str, dict[str, float]] = {}

    @contextmanager
    def step(name: str, times: int = 1) -> Iterator[None]:
        begin, busy = time.perf_counter(), time.process_time()
        yield
        seconds = (time.perf_counter() - begin) / times
        cpu_seconds = (time.process_time() - busy) / times
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mebibytes = most / (2**20 if sys.platform == "darwin" else 2**10)
        steps[name] = {"seconds": seconds, "cpu_seconds": cpu_seconds, "mebibytes": mebibytes}

    with tempfile.TemporaryDirectory() as place:
        folder, config = RunFolder(Path(place) / "run"), made(strategy, size)
        space = make_space(config.search.space, SHAPE, CLASSES)
        with step("make"):
            fill(folder, config, space, size)
        with step("open"), RunStore.read(folder.store) as store:
            store.told(), store.events()
        grown(folder, config, space, size, step)
        with step("show"), contextlib.redirect_stdout(io.StringIO()):
            assert not cli.main(["show", str(folder.path)])
        if page:
            with step("page"):
                text = render(Findings(read_record(folder)))
            steps["page"]["megabytes"] = len(text.encode()) / 1e6
    return steps


def made(strategy: str, size: int) -> Config:
    """The configuration of a run."""
    return configure(
        strategy=strategy, population=100, epochs=6, lag=4, precision="float32", evaluations=size
    )


def grown(
    folder: RunFolder,
    config: Config,
    space: Space,
    size: int,
    step: Callable[..., contextlib.AbstractContextManager[None]],
) -> None:
    """Resumes a run, and lets it go on for a few candidates."""
    evaluator = SerialEvaluator(Pretended(space))
    with contextlib.ExitStack() as stack:
        with step("resume"):
            store = stack.enter_context(RunStore.resume(folder.store))
            study = coordinator(config, space, store, evaluator)
            told, strategy = study.told, study.strategy
            objectives = make_objectives(config.search.strategy)
            keeper = Keeper(folder, described_as(space), 20, told, objectives)
            panel = SearchProgress(Console(file=io.StringIO()))
            panel.begun(Begun(Setup(config), folder, store, study, told, size + MORE, None, None))
            assert study._tell(strategy.needs(size))
            gc.collect()  # soon, in any case, and not to be counted for a candidate
        pending = study._candidates[study._told :]
        for name in ("ask, first", "ask, again"):
            with step(name):
                strategy.ask(size, np.random.default_rng(0), pending)

        def observe(progress: Progress) -> None:
            keeper.hear(progress.told)
            keeper.prune()
            panel.evaluated(progress, keeper.front)

        with step("a candidate", MORE):
            study.run(evaluations=size + MORE, observe=observe)
        with step("panel"):
            panel._line()


def described_as(space: Space) -> Callable[[Candidate, Any], GenomeFile]:
    """How candidates become files."""

    def describe(candidate: Candidate, known: Any) -> GenomeFile:
        names = tuple(f"class {number}" for number in range(CLASSES))
        genome = candidate.proposal.genome
        number = {"candidate": candidate.number}
        return GenomeFile(space.name, genome, SHAPE, names, known={**number, **known})

    return describe


class Pretended:
    """Measures without training."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        """An evaluation as a worker might have sent it."""
        network = self.space.decode(candidate.proposal.genome)
        return evaluation(candidate.number, network.params, network.macs)


def evaluation(number: int, params: int, macs: int) -> Evaluation:
    """What a candidate comes to."""
    rng = np.random.default_rng([1, number])
    if rng.random() < 0.02:
        return Evaluation(number, State.FAILED, {}, (), 1.0, "RuntimeError: it is pretended")
    final = float(np.clip(0.1 * math.log10(params) + rng.normal(0, 0.05), 0, 1))
    curve = tuple(Epoch(2.0 / (n + 1), final * (1 - 0.5 ** (n + 1))) for n in range(6))
    metrics = {"accuracy": curve[-1].accuracy, "params": float(params), "macs": float(macs)}
    state = State.PRUNED if rng.random() < 0.03 else State.COMPLETE
    return Evaluation(number, state, metrics, curve, float(rng.uniform(3, 9)))


def predicted(result: Evaluation) -> Prediction:
    """What a predictor might have expected of that."""
    rng = np.random.default_rng([2, result.number])
    return Prediction(float(rng.normal(-(result.accuracy or 0.0), 0.05)), 0.05, "gaussian")


def fill(folder: RunFolder, config: Config, space: Space, size: int) -> None:
    """Makes a run of so many candidates, all of them evaluated."""
    networks = bred(space, min(size, DIFFERENT))
    strategy = make_strategy(config.search, space)
    budget = make_budget(config.search.training, CLASSES)
    begun = 1.8e9
    rows: dict[str, list[Row]] = {"candidate": [], "evaluation": [], "event": []}
    notes: dict[str, Any] = {
        "input_shape": SHAPE,
        "class_names": [f"class {n}" for n in range(CLASSES)],
    }
    notes |= {"fingerprint": "none", "valid": 5000}
    for number, (kind, details) in enumerate(((IMAGES, notes), (STARTED, {}))):
        rows["event"].append(event_row(number + 1, Event(begun, kind, details, 0.0)))
    for number in range(size):
        genome, key, params, macs = networks[number % len(networks)]
        result = evaluation(number, params, macs)
        screened = config.search.strategy.strategy == "screened" and number >= FIRST
        parents = (number - number % 7 - 1,) if number > 100 else ()
        candidate = Candidate(
            number,
            Proposal(genome, parents, budget, predicted(result) if screened else None),
            key if number < len(networks) else f"{key[:50]}-{number}",
            asked_after=min(number, strategy.needs(number)),
            generation=strategy.generation(number),
        )
        clock = 5.0 * number
        rows["candidate"].append(candidate_row(candidate, begun + clock))
        rows["evaluation"].append(evaluation_row(number + 1, result, begun + clock, clock + 5.0))
    ended = Event(begun, ENDED, {"why": "evaluations", "message": "all"}, 5.0 * size)
    rows["event"].append(event_row(3, ended))
    RunStore.restore(folder.store, run_row(to_values(config), begun, "growth"), rows)
    folder.config.write_text(to_yaml(config), encoding="utf-8")
    folder.weights.mkdir()


def bred(space: Space, number: int) -> list[tuple[Genome, str, int, int]]:
    """Different networks, by genome: key, parameters, MACs."""
    rng, genomes = np.random.default_rng(0), dict[Genome, tuple[Genome, str, int, int]]()
    genome = space.sample(rng)
    while len(genomes) < number:
        genome = space.mutate(genome, rng) if rng.random() < 0.9 else space.sample(rng)
        network = space.decode(genome)
        genomes[genome] = (genome, network.key, network.params, network.macs)
    return list(genomes.values())


# --- leaks ----------------------------------------------------------------------------------------


def leak(evaluations: int) -> dict[str, Any]:
    """MiB of a coordinator after `WARM` and `evaluations` more, and of one that has resumed."""
    sizes = (WARM, WARM + evaluations)
    with tempfile.TemporaryDirectory() as place:
        spawn = multiprocessing.get_context("spawn")
        with spawn.Pool(1) as pool:
            worked = pool.apply(coordinated, (Path(place) / "run", sizes))
        resumed: dict[int, float] = {}
        for size in sizes:
            with spawn.Pool(1) as pool:
                resumed |= pool.apply(coordinated, (Path(place) / str(size), (size,)))
    grown, stored = (one[sizes[1]] - one[sizes[0]] for one in (worked, resumed))
    return {
        "worked": worked,
        "resumed": resumed,
        "kept_bytes_an_evaluation": round(stored * 2**20 / evaluations),
        "leak_share": (grown - stored) / worked[WARM],
    }


def coordinated(path: Path, sizes: Sequence[int]) -> dict[int, float]:
    """MiB of this process once a run has so many evaluations, each of the sizes; the run goes on
    until it has. Copies of it, as it is then, are left beside it.
    """
    # random networks do not grow, as bred ones do: the last 512 are kept, not to be drawn again
    config = made("random", sizes[-1])
    space, folder = make_space(config.search.space, SHAPE, CLASSES), RunFolder(path)
    # not of this module as a program, which workers do not find
    measure = importlib.import_module("growth").Pretended(space)
    held: dict[int, float] = {}
    with contextlib.ExitStack() as stack:
        if folder.store.exists():
            store = stack.enter_context(RunStore.resume(folder.store))
        else:
            begun = RunStore.begin(folder.store, to_values(config), durable=False)
            store = stack.enter_context(begun)
        folder.weights.mkdir(exist_ok=True)
        stack.enter_context(logged(folder))
        quiet = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        listener = Listeners(Log(), SearchProgress(Console(file=quiet)))
        pool = stack.enter_context(WorkerPool([measure] * 2))
        study = coordinator(config, space, store, pool)
        told = study.told
        objectives = make_objectives(config.search.strategy)
        keeper = Keeper(folder, described_as(space), 20, told, objectives)
        listener.begun(Begun(Setup(config), folder, store, study, told, sizes[-1], None, None))

        def weigh(evaluated: int) -> None:
            if evaluated in sizes:
                gc.collect()
                held[evaluated] = memory_of(os.getpid()) or math.nan
                beside = RunFolder(path.with_name(str(evaluated)))
                if not beside.path.exists():
                    beside.path.mkdir()
                    store.copy_to(beside.store)

        def observe(progress: Progress) -> None:
            keeper.hear(progress.told)
            listener.evaluated(progress, keeper.front)
            weigh(progress.evaluated)

        study._tell(len(told) - 10)  # there may be some in flight before the last one
        weigh(len(told))
        study.run(evaluations=sizes[-1], observe=observe)
    return held


def coordinator(config: Config, space: Space, store: RunStore, evaluator: Evaluator) -> Study:
    """What runs a search."""
    budget = make_budget(config.search.training, CLASSES)
    return Study(space, make_strategy(config.search, space), evaluator, store, budget)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
