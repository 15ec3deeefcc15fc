"""`nanonas bench`: what is counted, against brute force; every strategy on a small table; what is
said and written.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonas import cli
from nanonas.bench.bench import SHIPPED, Bench, Job, Score, Trace, checked_strategies
from nanonas.bench.files import read_table
from nanonas.bench.regret import by_query, by_second
from nanonas.bench.table import Answers, Table
from nanonas.bench.yardsticks import OPTUNA
from nanonas.config.parts import STRATEGIES
from nanonas.errors import ConfigError
from nanonas.spaces.nano import NanoSpace

NANO = NanoSpace((1, 8, 8), 10, channels=2, length=2)
ABOUT = {"format": "nanonas-table-1", "space": "nano", "options": {"channels": 2, "length": 2}}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 40 networks, as if trained twice for 3 epochs."""
    rng = np.random.default_rng(1)
    genomes = [divmod(int(number), 8) for number in rng.permutation(64)[:40]]
    path = tmp_path_factory.mktemp("tables") / "tiny.npz"
    np.savez(
        path,
        about=np.array(json.dumps({**ABOUT, "input_shape": [1, 8, 8], "classes": 10})),
        genomes=np.array(genomes, dtype=np.uint8),
        params=np.array([NANO.decode(genome).params for genome in genomes]),
        macs=np.array([NANO.decode(genome).macs for genome in genomes]),
        train_loss=rng.random((40, 2, 3)),
        val_acc=rng.random((40, 2, 3)),
        test_acc=rng.random((40, 2)),
        train_seconds=rng.uniform(1, 3, (40, 2)),
    )
    return path


# --- counting -------------------------------------------------------------------------------------


def table_of(validation: np.ndarray[Any, Any], test: np.ndarray[Any, Any]) -> Table:
    genomes = tuple(divmod(number, 8) for number in range(len(validation)))
    answers = {"val_acc": Answers(validation[:, None], np.ones(len(validation)), 3)}
    return Table("t", NANO, genomes, answers, {"test_acc": test})


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(1, 20),
    runs=st.integers(1, 4),
    noise=st.booleans(),
)
def test_scores_are_those_of_brute_force(seed: int, queries: int, runs: int, noise: bool) -> None:
    rng = np.random.default_rng(seed)
    validation, test = rng.integers(5, size=20) / 4, rng.random(20)  # ties for the best
    table = table_of(validation, test)
    traces: list[Trace] = []
    for number in range(runs):
        asked = rng.permutation(20)[: int(rng.integers(1, queries + 1))]  # some runs are shorter
        heard = validation[asked] + (rng.normal(0, 0.2, len(asked)) if noise else 0)
        traces.append(
            Trace("x", number, asked, heard, np.cumsum(rng.uniform(0.5, 2, len(asked))), 0.0)
        )
    score = Score.of("x", traces, table, validation, queries)

    best = max(validation[row] for row in table.rows)
    best_test = max(test[row] for row in table.rows)
    needed: list[int | None] = []
    regrets = np.zeros((2, runs, queries))
    for number, trace in enumerate(traces):
        hits = [
            place + 1
            for place, row in enumerate(trace.rows)
            if validation[row] == best and row in table.rows
        ]
        needed.append(hits[0] if hits else None)
        for query in range(queries):
            heard_so_far = list(trace.accuracies[: query + 1])
            incumbent = trace.rows[heard_so_far.index(max(heard_so_far))]
            regrets[:, number, query] = best - validation[incumbent], best_test - test[incumbent]
    assert score.queries_to_optimum["runs"] == needed
    assert score.queries_to_optimum["censored"] == needed.count(None)
    counted = [queries if count is None else count for count in needed]
    assert score.queries_to_optimum["mean"] == pytest.approx(np.mean(counted))
    assert score.queries_to_optimum["median"] == pytest.approx(np.median(counted))
    assert score.by_query["validation"].mean == pytest.approx(regrets[0].mean(axis=0))
    assert score.by_query["test"].mean == pytest.approx(regrets[1].mean(axis=0))


def test_regret_by_second_is_that_of_the_last_query_that_was_over() -> None:
    rng = np.random.default_rng(3)
    elapsed = [np.cumsum(rng.uniform(0.5, 3, 12)) for _ in range(4)]
    lines = [np.sort(rng.random(12))[::-1] for _ in range(4)]
    curve = by_second(lines, elapsed)
    assert curve.x[0] == max(times[0] for times in elapsed)
    assert curve.x[-1] == min(times[-1] for times in elapsed)
    for moment, mean in zip(curve.x, curve.mean, strict=True):
        held = [
            [regret for regret, at in zip(line, times, strict=True) if at <= moment][-1]
            for line, times in zip(lines, elapsed, strict=True)
        ]
        assert mean == pytest.approx(np.mean(held))


def test_a_run_that_ended_early_keeps_its_regret() -> None:
    alone = by_query([np.array([0.5, 0.25])], 4)
    assert alone.mean.tolist() == [0.5, 0.25, 0.25, 0.25]
    assert alone.low.tolist() == alone.high.tolist() == alone.mean.tolist()


# --- running --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [*STRATEGIES, *OPTUNA])
def test_every_strategy_finds_the_best_when_it_may_ask_for_all(path: Path, strategy: str) -> None:
    table = read_table(path)
    means = table.answers_to().means
    whole = Job(strategy, seed=1, queries=len(table.rows), population=4, objective=None).run(table)
    assert sorted(whole.rows) == list(table.rows)  # each network once
    assert whole.accuracies == pytest.approx(means[whole.rows])
    assert whole.elapsed == pytest.approx(np.cumsum(table.answers_to().seconds[whole.rows]))
    score = Score.of(strategy, [whole], table, means, len(table.rows))
    assert score.by_query["validation"].mean[-1] == 0
    assert score.queries_to_optimum["censored"] == 0
    begun = Job(strategy, seed=1, queries=10, population=4, objective=None).run(table)
    assert begun.rows.tolist() == whole.rows[:10].tolist()  # reproducible


def test_workers_change_nothing(path: Path, tmp_path: Path) -> None:
    results = []
    for workers in (1, 2):
        bench = Bench(
            path,
            ("random", "aging"),
            seeds=2,
            queries=12,
            workers=workers,
            out=tmp_path / str(workers),
        )
        result = bench.run()
        assert json.loads((tmp_path / str(workers) / "bench.json").read_text()) == result
        results.append(
            {name: {**score, "cpu_seconds": 0} for name, score in result["strategies"].items()}
        )
    assert results[0] == results[1]


def test_what_is_said_and_written(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = f"--table {path} --strategies random local --seeds 2 --queries 30 --workers 1".split()
    assert cli.main(["bench", *given, "--objective", "val_acc_trial", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    rows = len(read_table(path).rows)
    assert (
        f"{rows} networks of tiny, objective val_acc_trial: 2 strategies × 2 seeds × 30 queries"
        in said
    )
    result = json.loads((tmp_path / "bench.json").read_text())
    means = [score["queries_to_optimum"]["mean"] for score in result["strategies"].values()]
    assert means == sorted(means)
    places = [said.rindex(f"\n {name} ") for name in result["strategies"]]
    assert places == sorted(places)
    assert all(f"{mean:.1f} [" in said for mean in means)
    assert (tmp_path / "regret.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--strategies", "agin"],
            "the strategy 'agin' is unknown (--strategies); did you mean 'aging'?",
        ),
        (
            ["--objective", "accuracy"],
            "objective is 'accuracy', but the table 'tiny' has val_acc, val_acc_trial",
        ),
        (["--seeds", "0"], "--seeds must be 1 or more, but is 0"),
        (["--workers", "0"], "--workers must be 1 or more, but is 0"),
        (["--table", "none.npz"], "there is no table 'none.npz'; give"),
    ],
)
def test_bad_arguments(
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert (
        cli.main(["bench", "--table", str(path), "--out", str(tmp_path / "out"), *arguments]) == 2
    )
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_optuna_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked_strategies(()) == [*STRATEGIES, *OPTUNA]
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert checked_strategies(()) == list(STRATEGIES)
    with pytest.raises(ConfigError) as error:
        checked_strategies(["optuna-tpe"])
    assert (
        str(error.value) == "the strategy 'optuna-tpe' needs optuna: pip install 'nanonas[bench]'"
    )


def test_matplotlib_is_optional(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    Bench(path, ("random",), seeds=1, queries=5, workers=1, out=tmp_path).run()
    said = " ".join(capsys.readouterr().out.split())
    assert "a picture of the regret needs matplotlib: pip install 'nanonas[plots]'" in said
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bench.json"]


# --- the table that comes along -------------------------------------------------------------------


def test_the_shipped_table_tells_networks_apart() -> None:
    table = read_table(SHIPPED)
    assert len(table.rows) == len(table.genomes) == 1000
    trials, test = table.answers_to("val_acc_trial").accuracy, table.columns["test_acc"]
    means = trials.mean(axis=1)
    assert trials.std(axis=1, ddof=1).mean() < 0.5 * means.std()
    assert np.corrcoef(means, test)[0, 1] > 0.9
    assert means.max() - np.median(means) > 0.1
    networks = [table.space.decode(genome) for genome in table.genomes[:20]]
    assert [network.params for network in networks] == table.columns["params"][:20].tolist()
    assert [network.macs for network in networks] == table.columns["macs"][:20].tolist()


@pytest.mark.slow
def test_the_table_can_be_made_again(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "make_table.py"
    out = tmp_path / "two.npz"
    scratch = tmp_path / "done.jsonl"
    command = [sys.executable, str(script), "--networks", "2", "--workers", "1", "--out", str(out)]
    command += ["--scratch", str(scratch)]
    assert subprocess.run(command, capture_output=True, timeout=100).returncode == 0
    made, shipped = read_table(out), read_table(SHIPPED)
    assert made.genomes == shipped.genomes[:2]
    told = [table.answers_to("val_acc_trial").accuracy[:2] for table in (made, shipped)]
    assert told[0] == pytest.approx(told[1], abs=0.15)  # the same on a CPU of the same kind

    lines = scratch.read_text().splitlines()  # interrupted, it goes on with what is there
    changed = {**json.loads(lines[0]), "test": 0.125}
    scratch.write_text("\n".join([json.dumps(changed), *lines[1:5], lines[5][:30]]) + "\n")
    before = made.columns["test_acc"]
    assert subprocess.run(command, capture_output=True, timeout=100).returncode == 0
    after = read_table(out).columns["test_acc"]
    row = made.genomes.index(tuple(changed["genome"]))
    assert after[row] != before[row]
    assert after[1 - row] == before[1 - row]
