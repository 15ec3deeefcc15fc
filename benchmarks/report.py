"""How long a run's report takes, and how large it is, for 1,000 and 10,000 candidates.

    python benchmarks/report.py

The candidates are those of a real search (aging evolution with inheritance over `layers`, 10
classes of 32×32 pixels), but nothing is trained: an accuracy follows from the network's size and
depth, with noise. Some are pruned, some fail.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.config.files import configure, to_values, to_yaml
from nanonas.config.parts import make_space, make_strategy
from nanonas.config.trainings import make_budget
from nanonas.core import Candidate, Epoch, Evaluation, Pulse, State
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.machine import described
from nanonas.report.charts.figures import all_charts
from nanonas.report.charts.matplotlib import draw_all
from nanonas.report.page import render
from nanonas.runs import reading as report
from nanonas.runs.folder import RunFolder
from nanonas.spaces.base import Space

SHAPE, CLASSES = (3, 32, 32), 10
Result = TypeVar("Result")
RESULTS = Path(__file__).parent / "results" / "report.json"


class Pretended:
    """Measures without training."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def __call__(self, candidate: Candidate, pulse: Pulse) -> Evaluation:
        """An evaluation as a worker might have sent it."""
        rng, proposal = np.random.default_rng([1, candidate.number]), candidate.proposal
        if rng.random() < 0.02:
            raise RuntimeError(f"CUDA error at step {candidate.number}")
        network = self.space.decode(proposal.genome)
        good = 1 - 1 / (1 + 0.04 * np.log(network.params) * np.log1p(network.depth)) ** 3
        final = float(np.clip(good + rng.normal(0, 0.02) + 0.02 * bool(proposal.inherits), 0, 1))
        assert proposal.budget is not None
        epochs = proposal.budget.epochs
        curve = tuple(Epoch(2.0 / (n + 1), final * (1 - 0.5 ** (n + 1))) for n in range(epochs))
        inherited = (
            {"inherited_share": 0.95, "inherited_tensors": 30.0} if proposal.inherits else {}
        )
        metrics = {"accuracy": curve[-1].accuracy, **inherited}
        seconds = float(rng.uniform(3, 9))
        if rng.random() < 0.03:
            return Evaluation(
                candidate.number,
                State.PRUNED,
                metrics,
                curve,
                seconds,
                "accuracy 0.11 is below 0.15",
            )
        return Evaluation(candidate.number, State.COMPLETE, metrics, curve, seconds)


def pretend(folder: RunFolder, candidates: int) -> None:
    """Makes a run's folder."""
    config = configure(
        strategy="aging",
        population=100,
        epochs=6,
        inherit=True,
        lag=4,
        precision="float32",
        evaluations=candidates,
    )
    search = config.search
    space = make_space(search.space, SHAPE, CLASSES)
    budget = make_budget(search.training, CLASSES)
    with RunStore.begin(folder.store, to_values(config)) as store:
        folder.config.write_text(to_yaml(config), encoding="utf-8")
        names = [f"class {n}" for n in range(CLASSES)]
        store.event(
            "images",
            {"fingerprint": "none", "input_shape": SHAPE, "class_names": names, "valid": 5000},
        )
        evaluator = SerialEvaluator(Pretended(space))
        study = Study(space, make_strategy(search, space), evaluator, store, budget)
        study.run(evaluations=candidates)


def measure(candidates: int) -> dict[str, Any]:
    """Seconds for each part of a report, and its size."""
    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path))
        pretend(folder, candidates)
        (record, reading) = timed(lambda: report.read_record(folder))
        (page, rendering) = timed(lambda: render(Findings(record)))
        (pictures, drawing) = timed(lambda: draw(record, folder.path / "figures"))
        return {
            "candidates": candidates,
            "reading": reading,
            "page": rendering,
            "png": drawing,
            "pictures": len(pictures),
            "megabytes": round(len(page.encode()) / 1e6, 2),
        }


def draw(record: Record, folder: Path) -> list[Path]:
    """Analyses a run, and draws all its figures as PNG."""
    return list(draw_all(all_charts(Findings(record)).values(), folder))


def timed(do: Callable[[], Result]) -> tuple[Result, dict[str, float]]:
    """What comes of something, and its seconds: by the clock, and of processor time, which others
    don't lengthen.
    """
    clock, cpu = time.perf_counter(), time.process_time()
    result = do()
    return result, {
        "seconds": round(time.perf_counter() - clock, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }


def main(measure: Callable[[int], dict[str, Any]], about: str | None, results: Path) -> None:
    """Measures runs of several sizes, prints, and keeps the results."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--candidates", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--out", type=Path, default=results)
    given = parser.parse_args()
    rows = []
    for candidates in given.candidates:
        rows.append(measure(candidates))
        print(rows[-1], flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"date": time.strftime("%Y-%m-%d"), "machine": described(), "runs": rows}
    given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(measure, __doc__, RESULTS)
