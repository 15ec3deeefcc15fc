"""Runs everything that docs/tutorial.md shows, and draws its figures.

    python docs/make_figures.py              # about ten minutes on two cores that do nothing else
    python docs/make_figures.py --only pareto

Searches, and what each command said, are kept in the folder that --runs says: what was run before
is not run again. The numbers that the tutorial quotes are in docs/figures/numbers.json. Needs
matplotlib: pip install "nanonas[plots]".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanonas.analysis.findings import Findings
from nanonas.analysis.record import Record
from nanonas.config.parts import make_space
from nanonas.config.schema import SpaceOptions
from nanonas.report.charts import figures
from nanonas.report.charts.architecture import svg
from nanonas.report.charts.chart import PALETTE, Chart
from nanonas.report.charts.matplotlib import draw, empty
from nanonas.runs.folder import find
from nanonas.runs.reading import read_record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "figures"
SEARCH = f"search --config {HERE.parent / 'configs' / 'tutorial.yaml'} --out RUNS"
SEEDS = (0, 1, 2)
STRATEGIES = {
    "random": "--strategy random",
    "evolution": "",
    "screened": "--strategy screened --screens evolution",
}
CHEAPER = "--evaluations 60 --epochs 8"
RUNS = {
    **{
        f"{name}-{seed}": f"{flags} --seed {seed}"
        for seed in SEEDS
        for name, flags in STRATEGIES.items()
    },
    "full": CHEAPER,
    "inherit": f"{CHEAPER} --inherit --inherit-audit 0.25",
    "halving": f"{CHEAPER} --halving 2",
    "front": "--strategy nsga2 --evaluations 80",
}
LATER = {
    "spaces": "spaces",
    "plan": f"plan {SEARCH.removeprefix('search ')} --inherit",
    "report": "report RUNS/evolution-2",
    "compare": "compare RUNS/evolution-2 --epochs 20 --time-per-network 30s --seeds 2 --random 3",
    "bench": "bench --strategies random local aging evolution screened --seeds 10 --queries 100 "
    "--out RUNS/bench",
}


def main() -> None:
    """Runs what is missing, and draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs",
        type=Path,
        help="the folder that searches are kept in; by default one that is removed",
    )
    parser.add_argument(
        "--only", default="", help="draw the figures whose name has this in it alone"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = (given.runs or Path(folder)).resolve()
        runs.mkdir(parents=True, exist_ok=True)
        begin = time.perf_counter()
        for name, flags in RUNS.items():
            if not (runs / name).exists():
                call(name, f"{SEARCH} --name {name} --explain {flags}", runs)
        for name, command in LATER.items():
            if not (runs / f"{name}.txt").exists():
                call(name, command, runs)
        print(f"ran for {time.perf_counter() - begin:.0f} s")
        for name, draw in pictures(runs).items():
            if given.only in name:
                draw().savefig(FIGURES / f"{name}.png", dpi=110)
        shutil.copy(runs / "bench" / "regret.png", FIGURES / "regret.png")
        (FIGURES / "network.svg").write_text(drawn(), encoding="utf-8")
        (FIGURES / "numbers.json").write_text(
            json.dumps(numbers(runs), indent=1) + "\n", encoding="utf-8"
        )


def call(name: str, command: str, runs: Path) -> None:
    """Runs a command of nanonas and keeps what it said."""
    words = [word.replace("RUNS", str(runs)) for word in command.split()]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    begin = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-c", "from nanonas.cli import main; raise SystemExit(main())", *words],
        capture_output=True, text=True, env=environment, cwd=runs,
    )  # fmt: skip
    if ran.returncode:
        raise SystemExit(f"nanonas {command}: {ran.stderr}")
    said = ran.stdout.replace(f"{runs}/", "outputs/").replace(str(runs), "outputs")
    (runs / f"{name}.txt").write_text(said, encoding="utf-8")
    print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)


def pictures(runs: Path) -> dict[str, Callable[[], Figure]]:
    """The figures, by name."""

    def chart(run: str, key: str) -> Chart:
        return figures.all_charts(Findings(read_record(find(runs / run))), key)[key]

    return {
        "random": lambda: draw(chart("random-2", "fitness-generation")),
        "evolution": lambda: draw(chart("evolution-2", "fitness-generation")),
        "tree": lambda: draw(chart("evolution-2", "tree")),
        "strategies": lambda: strategies(runs),
        "trust": lambda: draw(chart("screened-2", "trust")),
        "twins": lambda: twins(chart("inherit", "inheritance")),
        "halving": lambda: draw(chart("halving", "curves")),
        "pareto": lambda: draw(chart("front", "pareto-params")),
    }


def twins(chart: Chart) -> Figure:
    """Inherited against from scratch, the legend where nothing lies."""
    figure = draw(chart)
    figure.axes[0].legend(loc="upper left")
    return figure


def best_so_far(record: Record) -> np.ndarray[Any, np.dtype[np.float64]]:
    """In percent, after each candidate."""
    return np.maximum.accumulate([100 * (entry.accuracy or 0.0) for entry in record.entries])


def strategies(runs: Path) -> Figure:
    """Best so far by candidate: each seed a thin line, the mean a thick one."""
    figure, panel = empty("networks trained", "best validation accuracy so far (%)")
    for place, name in enumerate(STRATEGIES):
        lines = np.array(
            [best_so_far(read_record(find(runs / f"{name}-{seed}"))) for seed in SEEDS]
        )
        x = np.arange(1, lines.shape[1] + 1)
        for line in lines:
            panel.step(
                x, line, where="post", color=PALETTE[(0, 5, 2)[place]], linewidth=0.6, alpha=0.6
            )
        panel.step(
            x,
            lines.mean(axis=0),
            where="post",
            color=PALETTE[(0, 5, 2)[place]],
            linewidth=2.2,
            label=name,
        )
    panel.set_ylim(bottom=80)
    panel.legend(loc="lower right", title=f"mean of {len(SEEDS)} seeds")
    return figure


def drawn() -> str:
    """The network that the first chapter builds."""
    space = make_space(SpaceOptions("nano", channels=8, length=4), (1, 8, 8), 10)
    return svg(space.decode((0, 1, 2, 3)), title="the network of the genome 0, 1, 2, 3")


def numbers(runs: Path) -> dict[str, Any]:
    """What the tutorial quotes."""
    quoted: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }
    for name in STRATEGIES:
        some = [read_record(find(runs / f"{name}-{seed}")) for seed in SEEDS]
        best = [float(best_so_far(one)[-1]) for one in some]
        quoted[name] = {
            "best": [round(one, 2) for one in best],
            "mean": round(statistics.mean(best), 2),
            "spread": round(statistics.stdev(best), 2),
            "training seconds": [
                round(sum(e.evaluation.seconds for e in one.trained if e.evaluation))
                for one in some
            ],
            "median parameters": [
                statistics.median(e.metric("params") or 0 for e in one.trained) for one in some
            ],
        }
    for name in ("screened-0", "screened-1", "screened-2", "halving"):
        predictors = Findings(read_record(find(runs / name))).predictors
        quoted[f"trust in {name}"] = {by: str(trust) for by, trust in predictors.items()}
    for name in ("full", "inherit", "halving", "front"):
        one = read_record(find(runs / name))
        budgets = [entry.candidate.proposal.budget for entry in one.trained]
        epochs = sum(budget.epochs - budget.begin for budget in budgets if budget is not None)
        quoted[name] = {
            "best": str(one.winner and one.winner.accuracy),
            "epochs": epochs,
            "finalists": one.finalists,
        }
    quoted["inherit"]["head start"] = str(Findings(read_record(find(runs / "inherit"))).head_start)
    return quoted


if __name__ == "__main__":
    main()
