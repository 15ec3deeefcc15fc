"""What a run costs as it grows: how long it takes to open, to resume, to ask, to tell, to show and
to report one of 100, 10,000 and 100,000 stored evaluations, and how much memory.

    python benchmarks/growth.py                       # some minutes of one core
    python benchmarks/growth.py --evaluations 100 10000 --strategies screened

The candidates are bred in the space `stages` (10 classes of 32×32 pixels), but nothing is trained:
an accuracy follows from the network's size, with noise. Only the first thousands of them are
different; a larger store has these again and again, under keys of their own. Each size is measured
in a process of its own; memory is the most that was resident by the end of each step.

- open: the store is read: candidates, evaluations, events.
- resume: a new process of the run has looked for damage, read the store, and told the strategy all.
- ask, first and again: a candidate is bred; what a predictor learns is learnt the first time.
- a candidate: one is asked, committed, measured in no time, committed and kept, as a session does.
- show, page: `nanonas show`, with the imports that it needs, and the report's page.

The last columns are exponents: 1 is linear, 2 quadratic, from one size to the next.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import multiprocessing
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

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.config.files import configure, to_values, to_yaml
from nanonas.config.parts import make_budget, make_space, make_strategy
from nanonas.config.schema import Config
from nanonas.core import Candidate, Epoch, Evaluation, Genome, Proposal, Pulse, State
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.events import ENDED, IMAGES, STARTED, Event
from nanonas.engine.storage.rows import Row, candidate_row, evaluation_row, event_row, run_row
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Study
from nanonas.files import read_json
from nanonas.machine import described
from nanonas.report.page import render
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile
from nanonas.runs.reading import read_record
from nanonas.session.keeper import Keeper
from nanonas.spaces.base import Space

SHAPE, CLASSES = (3, 32, 32), 10
DIFFERENT = 2000  # networks
MORE = 10  # candidates that are asked and told besides


@dataclass(frozen=True)
class Options:
    """Measures runs of several sizes."""

    evaluations: tuple[int, ...] = (100, 10_000, 100_000)
    """That are stored."""
    strategies: tuple[str, ...] = ("screened", "evolution")
    """That are resumed."""
    page: int = 10_000
    """Evaluations that a run has at most that is reported, too: each takes some milliseconds."""
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
            print(f"{strategy}, {size:,}: {said}", file=sys.stderr, flush=True)
            keep(options.out, rows)
    print(table([rows[pair] for pair in sorted(rows)]))


def kept(path: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What earlier measurements have found, by strategy and size."""
    values = read_json(path)
    runs = values["runs"] if isinstance(values, dict) else []
    return {(row["strategy"], row["evaluations"]): row for row in runs}


def keep(path: Path, rows: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Writes what is known by now."""
    result = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": described(),
        "runs": [rows[pair] for pair in sorted(rows)],
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
                render(Findings(read_record(folder)))
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
    budget = make_budget(config.search.training, CLASSES)
    strategy = make_strategy(config.search, space)
    evaluator = SerialEvaluator(Pretended(space))
    with contextlib.ExitStack() as stack:
        with step("resume"):
            store = stack.enter_context(RunStore.resume(folder.store))
            told = store.told()
            keeper = Keeper(folder, described_as(space), 20, told)
            study = Study(space, strategy, evaluator, store, budget)
            assert study._tell(strategy.needs(size))
        pending = study._candidates[study._told :]
        for name in ("ask, first", "ask, again"):
            with step(name):
                strategy.ask(size, np.random.default_rng(0), pending)

        def observe(progress: Progress) -> None:
            keeper.hear(progress.told)
            keeper.prune()

        with step("a candidate", MORE):
            study.run(evaluations=size + MORE, observe=observe)


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
        parents = (number - number % 7 - 1,) if number > 100 else ()
        candidate = Candidate(
            number,
            Proposal(genome, parents, budget),
            key if number < len(networks) else f"{key[:50]}-{number}",
            asked_after=min(number, strategy.needs(number)),
            generation=strategy.generation(number),
        )
        clock = 5.0 * number
        rows["candidate"].append(candidate_row(candidate, begun + clock))
        result = evaluation(number, params, macs)
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


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
