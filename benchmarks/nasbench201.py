"""NAS-Bench-201, whose best network is known: how soon is it found, how well are networks ranked,
what does that cost?

    python benchmarks/nasbench201.py search --table cifar10.parquet   # queries to the best network
    python benchmarks/nasbench201.py choose --table cifar10.parquet   # who is called the best
    python benchmarks/nasbench201.py rank --table cifar10.parquet     # Kendall's tau of predictors
    python benchmarks/nasbench201.py speed --table cifar10.parquet    # evaluations a second
    python benchmarks/nasbench201.py cost                             # of the brain; needs no table

Networks that compute the same count once; the lowest index answers for all of them, and a tie at
the top counts either way. `search` queries the mean validation accuracy after 200 epochs and, for
what noise does, one random trial of it and the accuracy after 12 epochs; test accuracies are looked
at when all is over. `rank` learns from 78, 156 and 469 random cells' validation accuracies and is
compared with the test accuracies of all other cells, those left out that are isomorphic to a cell
learnt from: by the table's classes, as everybody has it, and without all that compute the same as
well (the table has dead cells, for one, in five classes). `choose` compares the test accuracies of
the network with the highest figure and of that of which most is expected, as a search chooses it:
on the table itself, and where figures are as noisy as those of ImageNet16-120. Figures go to
results/nasbench201.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from throughput import surroundings

from nanonas.bench.bench import Job
from nanonas.bench.files import read_table
from nanonas.bench.table import Answers, Table, TableSpace
from nanonas.config.files import configure
from nanonas.config.parts import PREDICTORS, make_process, make_space, make_strategy
from nanonas.config.schema import SearchConfig
from nanonas.core import Budget, Candidate, Evaluation, Proposal, State, Told, rng_for
from nanonas.engine.choosing import expected
from nanonas.maths.intervals import bootstrap
from nanonas.predictors.lstm import padded

RESULT = Path(__file__).parent / "results" / "nasbench201.json"
OBJECTIVES = ("val_acc_200ep", "val_acc_200ep_trial", "val_acc_12ep")


def summary(values: Sequence[float]) -> dict[str, float]:
    """Mean with its standard error, median and extremes."""
    array = np.array(values, dtype=np.float64)
    figures = {
        "mean": array.mean(),
        "error": array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else float("nan"),
        "median": np.median(array),
        "min": array.min(),
        "max": array.max(),
    }
    return {name: round(float(value), 4) for name, value in figures.items()}


# --- search ---------------------------------------------------------------------------------------


def one_search(path: Path, job: Job) -> dict[str, Any]:
    """Queries until the network with the best test accuracy, and the test accuracy of what would be
    chosen.
    """
    table = _table(path)
    trace = job.run(table)
    rows, test = np.array(table.rows), table.columns["test_acc"]
    hit = trace.queries_to(rows[test[rows] >= test[rows].max()])
    chosen = {
        n: round(100 * float(test[trace.chosen[n - 1]]), 4)
        for n in (25, 50, 100)
        if n <= len(trace.rows)
    }
    return {"queries": hit, "test": chosen, "cpu_seconds": round(trace.cpu_seconds, 2)}


_tables: dict[Path, Table] = {}


def _table(path: Path) -> Table:
    if path not in _tables:
        _tables[path] = read_table(path)
    return _tables[path]


def search(given: argparse.Namespace) -> dict[str, Any]:
    """Each strategy and objective with each seed."""
    figures: dict[str, Any] = {}
    for objective in given.objectives:
        seeds = given.seeds if objective == given.objectives[0] else given.noisy_seeds
        for strategy in given.strategies:
            jobs = [Job(strategy, seed, given.queries, 30, objective) for seed in range(seeds)]
            with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
                runs = list(pool.map(one_search, [given.table] * seeds, jobs, chunksize=1))
            hits = [run["queries"] for run in runs]
            entry = {
                "seeds": seeds,
                "queries_to_best_test": summary(
                    [given.queries if hit is None else hit for hit in hits]
                ),
                f"not_within_{given.queries}": hits.count(None),
                "test_of_best_by_validation": {
                    n: summary([run["test"][n] for run in runs])
                    for n in (25, 50, 100)
                    if n <= given.queries
                },
                "cpu_seconds_a_run": summary([run["cpu_seconds"] for run in runs]),
                "queries": hits,
            }
            figures[f"{strategy}, {objective}"] = entry
            shown = ", ".join(
                f"{v['mean']:.3f} after {n}" for n, v in entry["test_of_best_by_validation"].items()
            )
            to = entry["queries_to_best_test"]
            print(
                f"{strategy:<10} {objective:<20} {to['mean']:6.1f} ± {to['error']:.1f} queries "
                f"(median {to['median']:.0f}, {hits.count(None)} of {seeds} never); test {shown}",
                flush=True,
            )
    return figures


# --- choose ---------------------------------------------------------------------------------------

NOISY = "as of ImageNet16-120"  # what queries are answered with on a table that is made noisy
# the best test accuracy of ImageNet16-120, which is judged by 3,000 images; there a network of the
# best hundred of CIFAR-10 lies about so many times as far behind the best
_BEST_16, _IMAGES_16, _STRETCH = 0.473, 3000, 2.5


def noisy(table: Table, seed: int) -> Table:
    """A table whose test accuracies are stretched like ImageNet16-120's, and whose validation
    accuracies are these, as so few images as there measure them.
    """
    test = table.columns["test_acc"]
    truth = np.maximum(_BEST_16 - _STRETCH * (test.max() - test), 1 / 120)
    drawn = np.random.default_rng([seed, _IMAGES_16]).binomial(_IMAGES_16, truth) / _IMAGES_16
    seconds = next(iter(table.answers.values())).seconds
    answers = {NOISY: Answers(drawn[:, None], seconds, 200)}
    return Table(table.name, table.space, table.genomes, answers, {"test_acc": truth})


def one_choice(path: Path, job: Job) -> dict[int, tuple[float, float]]:
    """Test accuracies in percent, by the number of queries: of the network with the highest figure,
    and of that of which most is expected.
    """
    table = _table(path)
    if job.objective == NOISY:
        table = noisy(table, job.seed)
    trace = job.run(table)
    told = [
        Told(
            Candidate(number, Proposal(table.genomes[row]), table.key(table.genomes[row])),
            Evaluation(number, State.COMPLETE, {"accuracy": float(accuracy)}),
        )
        for number, (row, accuracy) in enumerate(zip(trace.rows, trace.accuracies, strict=True))
    ]
    test, process = table.columns["test_acc"], make_process(TableSpace(table))
    found = {}
    for n in (25, 50, 100):
        highest = trace.chosen[min(n, len(told)) - 1]
        most = expected(told[:n], process, table.space.encode)
        chosen = trace.rows[most[0].number] if most else highest
        found[n] = (100 * float(test[highest]), 100 * float(test[chosen]))
    return found


def choose(given: argparse.Namespace) -> dict[str, Any]:
    """Each strategy and objective, or with `--noisy` that of the noisy table, with each seed."""
    figures: dict[str, Any] = {}
    for objective in [NOISY] if given.noisy else given.objectives:
        for strategy in given.strategies:
            jobs = [Job(strategy, seed, 100, 30, objective) for seed in range(given.seeds)]
            with ProcessPoolExecutor(given.workers, mp_context=get_context("spawn")) as pool:
                runs = list(pool.map(one_choice, [given.table] * len(jobs), jobs, chunksize=1))
            entry = figures[f"{strategy}, {objective}"] = dict[str, Any]()
            for n in (25, 50, 100):
                pairs = np.array([run[n] for run in runs])  # (seeds, 2)
                gain = [float(one[0]) for one in bootstrap(np.diff(pairs, axis=1))]
                entry[str(n)] = {
                    "highest": summary(pairs[:, 0].tolist()),
                    "expected": summary(pairs[:, 1].tolist()),
                    "gain": dict(zip(("mean", "low", "high"), np.round(gain, 4), strict=True)),
                    "better": int((pairs[:, 1] > pairs[:, 0]).sum()),
                    "worse": int((pairs[:, 1] < pairs[:, 0]).sum()),
                }
                highest, most = pairs.mean(axis=0)
                print(
                    f"{strategy:<10} {objective:<20} after {n:>3}: {highest:.3f} by figure, "
                    f"{most:.3f} by expectation, {gain[0]:+.3f} [{gain[1]:+.3f}, {gain[2]:+.3f}]",
                    flush=True,
                )
    return {"seeds": given.seeds, **figures}


# --- rank -----------------------------------------------------------------------------------------


def rank(given: argparse.Namespace) -> dict[str, Any]:
    """Kendall's tau-b with the test accuracies of cells not learnt from, over `draws` random
    training sets.
    """
    from scipy.stats import kendalltau

    table = _table(given.table)
    space = table.space
    valid, test = table.answers_to("val_acc_200ep").means, table.columns["test_acc"]
    keys = np.unique([table.key(genome) for genome in table.genomes], return_inverse=True)[1]
    classes = np.asarray(table.columns.get("isomorphism_class", keys))
    features = np.array([space.encode(genome) for genome in table.genomes])
    tokens = padded([space.tokens(genome) for genome in table.genomes])
    read = {"features": features, "tokens": tokens}
    predictors = {
        name: (PREDICTORS[name].make(SearchConfig(), space), PREDICTORS[name].reads)
        for name in given.predictors
    }
    params = np.array([space.decode(genome).params for genome in table.genomes], dtype=np.float64)
    left_out = {"the table's classes": (classes,), "classes and networks": (classes, keys)}
    taus: dict[str, dict[str, dict[int, list[float]]]] = {
        name: {how: {n: [] for n in given.cells} for how in left_out}
        for name in (*given.predictors, "parameters")
    }
    for draw in range(given.draws):
        for n in given.cells:
            learnt = np.random.default_rng([draw, n]).choice(len(table.genomes), n, replace=False)
            worth = {"parameters": params}
            for name, (make, reads) in predictors.items():
                predictor = make()
                predictor.fit(read[reads][learnt], -valid[learnt])
                worth[name] = -predictor.predict(read[reads])[0]
            for how, kinds in left_out.items():
                others = ~np.logical_or.reduce([np.isin(kind, kind[learnt]) for kind in kinds])
                for name, value in worth.items():
                    taus[name][how][n].append(float(kendalltau(value[others], test[others])[0]))
    for how in left_out:
        print(f"isomorphs left out: by {how}")
        for name, by_how in taus.items():
            by_n = [
                f"{n}: {np.mean(values):.3f} ± {np.std(values):.3f}"
                for n, values in by_how[how].items()
            ]
            print(f"  {name:<11} {'   '.join(by_n)}", flush=True)
    figures = {
        how: {
            name: {n: summary(values) for n, values in by_how[how].items()}
            for name, by_how in taus.items()
        }
        for how in left_out
    }
    return {"draws": given.draws, "tau by what is left out": figures}


# --- speed ----------------------------------------------------------------------------------------


def speed(given: argparse.Namespace) -> dict[str, Any]:
    """Evaluations a CPU second of plain evolution: what a longer search takes beyond one of 1,000,
    on one core.
    """
    table, figures = _table(given.table), dict[str, Any]()
    for strategy in ("evolution", "aging"):
        spent = {
            queries: [
                Job(strategy, seed, queries, 30, OBJECTIVES[0]).run(table).cpu_seconds
                for seed in range(5)
            ]
            for queries in (1000, 1300)
        }
        rates = [
            300 / (longer - shorter)
            for shorter, longer in zip(spent[1000], spent[1300], strict=True)
        ]
        figures[strategy] = {
            "evaluations_per_second": summary(rates),
            "to_1000": summary(spent[1000]),
        }
        print(
            f"{strategy:<10} {np.median(rates):6.0f} evaluations a second with a history of 1,000 "
            "to 1,300",
            flush=True,
        )
    return figures


# --- cost -----------------------------------------------------------------------------------------


def cost(given: argparse.Namespace) -> dict[str, Any]:
    """CPU milliseconds of ask and tell for one candidate, one after the other, with a history of so
    many.
    """
    figures: dict[str, Any] = {}
    for name in given.spaces:
        config = configure(space=name, strategy=given.strategies[0], lag=1).search
        space = make_space(config.space, (3, 32, 32), 10)
        for history in given.history:
            strategy = make_strategy(config, space)
            rng = np.random.default_rng(0)
            spent: list[float] = []
            for number in range(history + given.repetitions + 1):
                start = time.process_time()
                asked = (
                    strategy.ask(number, rng_for(0, number), [])
                    if number >= history
                    else Proposal(space.sample(rng))
                )
                asking = time.process_time() - start
                proposal = Proposal(asked.genome, asked.parents, Budget(1), asked.predicted)
                network = space.decode(proposal.genome)
                accuracy = float(np.log(network.params) / 20 + 0.02 * rng.standard_normal())
                evaluation = Evaluation(
                    number, State.COMPLETE, {"accuracy": accuracy, "params": network.params}
                )
                candidate = Candidate(number, proposal, network.key)
                start = time.process_time()
                strategy.tell(Told(candidate, evaluation))
                spent.append(asking + time.process_time() - start)
            first, *steady = (1000 * seconds for seconds in spent[history:])
            figures[f"{name}, {history}"] = {
                "milliseconds": summary(steady),
                "first_after_resume": round(first, 1),
            }
            print(
                f"{name:<12} history {history:>6}: {np.median(steady):7.1f} ms (first {first:.0f} "
                "ms)",
                flush=True,
            )
    return figures


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["search", "choose", "rank", "speed", "cost"])
    parser.add_argument("--table", type=Path, help="NAS-Bench-201 as parquet, for all but cost")
    parser.add_argument("--strategies", nargs="+", default=["screened"])
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES))
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument(
        "--noisy-seeds", type=int, default=50, help="for all objectives but the first"
    )
    parser.add_argument(
        "--noisy", action="store_true", help="choose: where figures are as noisy as ImageNet16's"
    )
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cells", nargs="+", type=int, default=[78, 156, 469])
    parser.add_argument(
        "--predictors", nargs="+", default=["gaussian", "ensemble", "lstm"], help="for rank"
    )
    parser.add_argument("--spaces", nargs="+", default=["nasbench201", "nano", "layers"])
    parser.add_argument("--history", nargs="+", type=int, default=[100, 1000, 10000])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args(arguments)
    if given.table is None and given.what != "cost":
        parser.error(
            f"{given.what} needs --table, NAS-Bench-201 as a parquet file; see benchmarks/README.md"
        )
    about = {
        "command": shlex.join(["python", "benchmarks/nasbench201.py", *arguments]),
        **surroundings(),
    }
    start = time.monotonic()
    measures = {"search": search, "choose": choose, "rank": rank, "speed": speed, "cost": cost}
    figures = measures[given.what](given)
    results = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
    results[f"{given.what}, noisy" if given.noisy else given.what] = {
        **about,
        "minutes": round((time.monotonic() - start) / 60, 1),
        "figures": figures,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
