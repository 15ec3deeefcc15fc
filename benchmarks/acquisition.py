"""Should a search prefer what is quick to train? By how much a network is expected to improve on
the best, or that divided by the seconds that it takes, on NAS-Bench-201 with its own seconds.

What chooses the next network is, in turn: the confidence bound (the default), the bound with a
price on the logarithm of the seconds, the expected improvement (Jones et al. 1998,
https://doi.org/10.1023/A:1008306431147), and that per second or per square root of a second (Snoek
et al. 2012, https://arxiv.org/abs/1206.2944, section 3.2). The seconds are those of the table,
known beforehand, so a search with predicted ones can do no better. What counts is the time until
the network with the best test accuracy, in mean trainings, and the test accuracy of what a search
would choose after so much time.

    python benchmarks/acquisition.py --table cifar10.parquet    # ten minutes of one core

Figures go to results/acquisition.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from nasbench201 import summary
from scipy.stats import norm
from throughput import surroundings

from nanonas.bench.files import read_table
from nanonas.bench.table import Table, TableEvaluator, TableSpace
from nanonas.config.parts import make_strategy
from nanonas.config.schema import SearchConfig, StrategyOptions
from nanonas.core import Budget, Floats, Proposal
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.predictors.surrogate import Model
from nanonas.strategies.around.screened import Screened

RESULT = Path(__file__).parent / "results" / "acquisition.json"
MOMENTS = (10, 20, 30, 40)  # mean trainings


def bound(mean: Floats, std: Floats, best: float, seconds: Floats, price: float) -> Floats:
    """The confidence bound, with a price on the logarithm of the seconds."""
    return mean - std + price * np.log(seconds)


def improvement(mean: Floats, std: Floats, best: float, seconds: Floats, power: float) -> Floats:
    """The logarithm of the expected improvement per second to a power, negative."""
    gap = (best - mean) / std
    expected = std * (gap * norm.cdf(gap) + norm.pdf(gap))
    scores: Floats = power * np.log(seconds) - np.log(np.maximum(expected, 1e-300))
    return scores


# By name: what gives (options,) scores, the lower the better, from the mean and the deviation of
# the predicted losses, the lowest loss so far, and the seconds in those of a mean training.
CHOICES: dict[str, Callable[[Floats, Floats, float, Floats], Floats]] = {
    "bound": partial(bound, price=0.0),
    "bound, seconds priced": partial(bound, price=0.5),
    "improvement": partial(improvement, power=0.0),
    "improvement a root of a second": partial(improvement, power=0.5),
    "improvement a second": partial(improvement, power=1.0),
}


@dataclass(frozen=True)
class Job:
    """One search of a table."""

    path: Path
    objective: str
    choice: str
    seed: int
    queries: int

    def __call__(self) -> dict[str, Any]:
        """When it came to the best network, and what it would have chosen when, in mean
        trainings.
        """
        table = read_table(self.path)
        evaluator, space = TableEvaluator(table, self.objective, self.seed), TableSpace(table)
        options = StrategyOptions("screened", population=30, lag=1)
        strategy = make_strategy(SearchConfig(strategy=options, seed=self.seed), space)
        assert isinstance(strategy, Screened)
        seconds = table.answers_to(self.objective).seconds
        seconds = seconds / seconds.mean()
        choosing = _choosing_by(CHOICES[self.choice], table, seconds)
        given = [option.name for option in fields(strategy) if option.init]
        strategy = choosing(**{name: getattr(strategy, name) for name in given})
        with (
            tempfile.TemporaryDirectory() as folder,
            RunStore.begin(Path(folder) / "study.db", {}) as store,
        ):
            study = Study(space, strategy, evaluator, store, Budget(evaluator.epochs), self.seed)
            study.run(self.queries)
            told = store.told()
        asked = np.array([table.find(one.candidate.proposal.genome) for one in told])
        accuracies = np.array([one.evaluation.accuracy for one in told])
        spent, test = np.cumsum(seconds[asked]), table.columns["test_acc"]
        rows = np.array(table.rows)
        best = np.isin(asked, rows[test[rows] >= test[rows].max()])
        chosen = {
            moment: 100 * float(test[asked[np.argmax(accuracies[: max(1, done)])]])
            for moment in MOMENTS
            if (done := int(np.searchsorted(spent, moment, side="right"))) < len(spent)
        }
        hit = float(spent[np.argmax(best)]) if best.any() else None
        return {"seed": self.seed, "time": hit, "spent": float(spent[-1]), "test": chosen}


def _choosing_by(
    choice: Callable[[Floats, Floats, float, Floats], Floats], table: Table, seconds: Floats
) -> type[Screened]:
    """A screened search that chooses otherwise."""

    class Choosing(Screened):
        def _acquisition(
            self, model: Model, options: Sequence[Proposal], features: Floats
        ) -> Floats:
            mean, std = model.expected(features)
            losses = [self.objective.loss(told.evaluation) for told in self._surrogate.told]
            best = float(model.unit.score(np.array(losses)).min())
            rows = np.array([table.find(option.genome) for option in options], np.int64)
            return choice(mean, std, best, seconds[rows])

    return Choosing


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="as of `nanonas bench`")
    parser.add_argument("--objective", default="val_acc_200ep")
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=list(CHOICES))
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    figures: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/acquisition.py", *arguments]),
        **surroundings(),
    }
    with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
        for choice in given.choices:
            about = (given.table, given.objective, choice)
            jobs = [Job(*about, seed, given.queries) for seed in range(given.seeds)]
            runs = list(pool.map(Job.__call__, jobs))
            never = sum(run["time"] is None for run in runs)
            times = [run["spent"] if run["time"] is None else run["time"] for run in runs]
            tests = {
                moment: summary([run["test"][moment] for run in runs if moment in run["test"]])
                for moment in MOMENTS
                if any(moment in run["test"] for run in runs)
            }
            figures[choice] = {"time_to_best": summary(times), "never": never, "test": tests}
            figures[choice]["runs"] = runs
            row = figures[choice]["time_to_best"]
            shown = ", ".join(f"{test['mean']:.2f} after {n}" for n, test in tests.items())
            print(
                f"{choice:<31} best after {row['mean']:.1f} ± {row['error']:.1f} mean trainings, "
                f"{never} of {given.seeds} never; test {shown}",
                flush=True,
            )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
