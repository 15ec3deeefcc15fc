"""Tables: what a query is answered with, the space within a table, the simulated clock, and files
that are wrong.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.engine import by_number

from nanonas.bench.files import read_table
from nanonas.bench.table import Answers, Table, TableEvaluator, TableSpace
from nanonas.core import Budget, Candidate, Evaluation, Genome, Proposal, State
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study, Why
from nanonas.errors import ConfigError, DataError, GenomeError
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.nasbench201 import NASBench201Space
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.random import RandomSearch

NANO = NanoSpace((1, 8, 8), 10, channels=2, length=3)
ZERO, SKIP = 7, 6


def toy(
    rows: int = 60, trials: int = 1, epochs: int = 4, curves: bool = True, seed: int = 0
) -> Table:
    """Random accuracies for the first genomes of a shuffled list of all: some are isomorphic."""
    rng = np.random.default_rng(seed)
    everything = [tuple(map(int, np.unravel_index(i, (8, 8, 8)))) for i in rng.permutation(512)]
    drawn = rng.random((rows, trials, epochs, 2))
    answers = Answers(
        drawn[:, :, -1, 1], rng.uniform(1, 9, rows), epochs, drawn if curves else None
    )
    return Table("toy", NANO, tuple(everything[:rows]), {"val_acc": answers})


def candidate(number: int, genome: Genome, budget: Budget | None = None) -> Candidate:
    return Candidate(number, Proposal(genome, budget=budget), "key")


def answer(evaluator: TableEvaluator, asked: Candidate) -> Evaluation:
    evaluator.submit(asked)
    return evaluator.result() or pytest.fail("it was submitted")


# --- rows -----------------------------------------------------------------------------------------


def test_the_first_row_answers_for_all_of_its_network() -> None:
    table = toy(512)
    keys = [NANO.decode(genome).key for genome in table.genomes]
    for genome, key in zip(table.genomes, keys, strict=True):
        assert table.find(genome) == keys.index(key)
    assert list(table.rows) == sorted({keys.index(key) for key in keys})
    assert len(table.rows) < 512  # (0, zero, skip) and (0, skip, zero), and more
    assert table.find((0, ZERO, SKIP)) == table.find((0, SKIP, ZERO))


def test_a_genome_outside_is_not_found() -> None:
    table = toy(40)
    inside = {NANO.decode(genome).key for genome in table.genomes}
    for number in range(512):
        genome = tuple(map(int, np.unravel_index(number, (8, 8, 8))))
        assert (table.find(genome) is None) == (NANO.decode(genome).key not in inside)
    with pytest.raises(GenomeError):
        table.find((0, 1, 8))


def test_tables_that_cannot_be() -> None:
    answers = {"val_acc": toy(2).answers["val_acc"]}
    with pytest.raises(DataError, match="the table 'toy' has no rows"):
        Table("toy", NANO, (), answers)
    with pytest.raises(
        DataError, match="the rows 0 and 2 of the table 'toy' are the same; keep one of them"
    ):
        Table("toy", NANO, ((1, 2, 3), (1, 2, 4), (1, 2, 3)), answers)
    with pytest.raises(
        DataError, match=r"row 1 of the table 'toy' cannot be read: position 0 .* but is 9"
    ):
        Table("toy", NANO, ((1, 2, 3), (9, 2, 4)), answers)
    with pytest.raises(
        ConfigError, match="objective is 'vall_acc', but the table 'toy' has val_acc"
    ):
        TableEvaluator(toy(), "vall_acc")


# --- the space ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(2, 200), seed=st.integers(0, 1000))
def test_all_that_is_drawn_is_in_the_table(rows: int, seed: int) -> None:
    table = toy(rows, seed=seed)
    space, rng = TableSpace(table), np.random.default_rng(seed)
    for _ in range(10):
        a, b = space.sample(rng), space.sample(rng)
        child = space.mutate(a, rng)
        assert table.find(child) not in (None, table.find(a)) or len(table.rows) == 1
        assert table.find(space.crossover(a, b, rng)) is not None
        assert space.decode(child) == NANO.decode(child)
        assert space.key(child) == NANO.decode(child).key
        assert (space.encode(child) == NANO.encode(child)).all()
        assert (space.tokens(child) == NANO.tokens(child)).all()


def test_samples_are_of_every_network_alike() -> None:
    table = toy(30)
    space, rng = TableSpace(table), np.random.default_rng(0)
    drawn = [table.find(space.sample(rng)) for _ in range(30_000)]
    counts = [drawn.count(row) for row in table.rows]
    assert sum(counts) == 30_000
    expected = 30_000 / len(table.rows)
    assert max(abs(count - expected) for count in counts) < 5 * np.sqrt(expected)
    assert [table.find(genome) for genome in space.genomes()] == list(table.rows)


def test_a_network_without_neighbours_gets_any_other() -> None:
    far = Table("far", NANO, ((0, 0, 0), (1, 1, 1), (2, 2, 2)), toy(3).answers)  # three edits apart
    space, rng = TableSpace(far), np.random.default_rng(0)
    assert {space.mutate((0, 0, 0), rng) for _ in range(40)} == {(1, 1, 1), (2, 2, 2)}
    alone = TableSpace(Table("alone", NANO, ((0, 0, 0),), toy(1).answers))
    assert alone.mutate((0, 0, 0), rng) == (0, 0, 0)


# --- the evaluator --------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_the_clock_is_that_of_workers_that_are_never_idle(slots: int) -> None:
    table = toy(40)
    evaluator, seconds = TableEvaluator(table, slots=slots), table.answers["val_acc"].seconds
    # brute force: the next candidate goes to the worker that is free first
    free, expected = [0.0] * slots, {}
    for number, row in enumerate(table.rows):
        worker = free.index(min(free))
        free[worker] += seconds[row]
        expected[number] = free[worker]
    waiting, finished = list(enumerate(table.rows)), {}
    running = 0
    while waiting or running:
        while waiting and running < slots:
            number, row = waiting.pop(0)
            evaluator.submit(candidate(number, table.genomes[row]))
            running += 1
        evaluation = evaluator.result() or pytest.fail("one runs")
        running -= 1
        finished[evaluation.number] = evaluator.clock
    assert finished == pytest.approx(expected)
    assert list(finished.values()) == sorted(finished.values())
    assert evaluator.result() is None
    evaluator.submit(candidate(99, table.genomes[0]))
    evaluator.close()
    assert evaluator.result() is None


def test_a_study_on_a_table_is_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    table, clocks = toy(200, trials=3), []
    for slots in (1, 4):
        space, evaluator = TableSpace(table), TableEvaluator(table, seed=5, slots=slots)
        with RunStore.begin(tmp_path / f"{slots}.db", {"search": {}}) as store:
            strategy = AgingEvolution(space, population_size=8, lag=4)
            assert (
                Study(space, strategy, evaluator, store, Budget(4), seed=5).run(80).why
                is Why.EVALUATIONS
            )
        clocks.append(evaluator.clock)
    assert by_number(tmp_path / "1.db") == by_number(tmp_path / "4.db")
    assert clocks[0] / 4 <= clocks[1] < clocks[0] / 2


def test_a_study_asks_for_every_network_once_and_ends(tmp_path: Path) -> None:
    table = toy(25)
    space = TableSpace(table)
    with RunStore.begin(tmp_path / "s.db", {"search": {}}) as store:
        study = Study(space, RandomSearch(space), TableEvaluator(table), store, Budget(4))
        assert study.run(100).why is Why.EXHAUSTED
        asked = [table.find(c.proposal.genome) for c in store.candidates()]
        best = study.best() or pytest.fail("there is a best")
    assert sorted(asked) == list(table.rows)  # type: ignore[type-var]
    assert best.evaluation.accuracy == max(
        table.answers["val_acc"].accuracy[row, 0] for row in table.rows
    )


def test_budgets_and_stop_rules_cut_the_curve() -> None:
    table = toy(5)
    told = table.answers["val_acc"]
    accuracies = told.curves[0, 0, :, 1]  # type: ignore[index]
    evaluator, genome = TableEvaluator(table), table.genomes[0]
    for epochs in (1, 3, 4, 9):
        evaluation = answer(evaluator, candidate(0, genome, Budget(epochs)))
        length = min(epochs, 4)
        assert evaluation.state is State.COMPLETE
        assert [epoch.accuracy for epoch in evaluation.curve] == accuracies[:length].tolist()
        assert evaluation.accuracy == accuracies[length - 1]
        assert evaluation.seconds == pytest.approx(told.seconds[0] * length / 4)
    below, above = (
        Budget(4, stop_epoch=2, stop_below=accuracies[1] + shift) for shift in (0.001, -0.001)
    )
    pruned = answer(evaluator, candidate(0, genome, below))
    assert (pruned.state, pruned.accuracy, len(pruned.curve)) == (State.PRUNED, accuracies[1], 2)
    assert f"accuracy {accuracies[1]:.3f} is below" in (pruned.reason or "")
    assert answer(evaluator, candidate(0, genome, above)).state is State.COMPLETE
    whole = answer(TableEvaluator(toy(5, curves=False)), candidate(0, genome, Budget(1)))
    assert (whole.accuracy, whole.seconds, whole.curve) == (
        told.accuracy[0, 0],
        told.seconds[0],
        (),
    )


def test_one_of_several_trials_by_seed_and_number() -> None:
    accuracy = np.array([[0.1, np.nan, 0.3], [0.4, 0.5, 0.6]])
    table = Table(
        "toy", NANO, ((0, 0, 0), (1, 1, 1)), {"val_acc": Answers(accuracy, np.ones(2), 4)}
    )

    def drawn(seed: int, row: int) -> list[float | None]:
        evaluator = TableEvaluator(table, seed=seed)
        return [
            answer(evaluator, candidate(number, table.genomes[row])).accuracy
            for number in range(40)
        ]

    assert drawn(0, 0) == drawn(0, 0) != drawn(1, 0)
    assert set(drawn(0, 0)) == {0.1, 0.3}
    assert set(drawn(0, 1)) == {0.4, 0.5, 0.6}
    assert table.answers["val_acc"].means.tolist() == pytest.approx([0.2, 0.5])


def test_what_a_table_cannot_answer_is_a_failure() -> None:
    evaluator = TableEvaluator(Table("toy", NANO, ((0, 0, 0),), toy(1).answers))
    outside = answer(evaluator, candidate(3, (1, 1, 1)))
    assert (outside.number, outside.state, outside.reason) == (
        3,
        State.FAILED,
        "the table has no such network",
    )


# --- our own files --------------------------------------------------------------------------------

ABOUT = {
    "format": "nanonas-table-1",
    "space": "nano",
    "options": {"channels": 2, "length": 3},
    "input_shape": [1, 8, 8],
    "classes": 10,
}


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "about": np.array(json.dumps(ABOUT)),
        "genomes": np.array([[0, 1, 2], [0, ZERO, SKIP], [0, SKIP, ZERO]], dtype=np.uint8),
        "params": np.array([30, 20, 20]),
        "macs": np.array([300, 200, 200]),
        "train_loss": rng.random((3, 2, 4)),
        "val_acc": rng.random((3, 2, 4)),
        "test_acc": rng.random((3, 2)),
        "train_seconds": rng.uniform(1, 2, (3, 2)),
    }


def saved(path: Path, **changes: Any) -> Path:
    np.savez(
        path,
        **{name: value for name, value in {**arrays(), **changes}.items() if value is not None},
    )
    return path


def test_our_own_table(tmp_path: Path) -> None:
    table, there = read_table(saved(tmp_path / "ours.npz")), arrays()
    assert (table.name, table.space, table.rows) == ("ours", NANO, (0, 1))
    assert list(table.answers) == ["val_acc", "val_acc_trial"]
    assert table.columns["test_acc"] == pytest.approx(there["test_acc"].mean(axis=1))
    mean = answer(TableEvaluator(table), candidate(0, (0, SKIP, ZERO)))
    assert mean.accuracy == pytest.approx(there["val_acc"][1, :, -1].mean())
    assert [epoch.train_loss for epoch in mean.curve] == pytest.approx(
        there["train_loss"][1].mean(axis=0)
    )
    assert mean.seconds == pytest.approx(there["train_seconds"][1].mean())
    single = answer(TableEvaluator(table, "val_acc_trial"), candidate(0, (0, 1, 2)))
    assert single.accuracy in there["val_acc"][0, :, -1]
    assert table.answers["val_acc_trial"].means == pytest.approx(table.answers["val_acc"].means)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_acc": None}, "is no table of make_table.py .*'val_acc"),
        ({"about": np.array("{")}, "is no table of make_table.py"),
        (
            {"about": np.array(json.dumps({**ABOUT, "format": "x"}))},
            "its format is 'x' of the space 'nano'",
        ),
        (
            {"about": np.array(json.dumps({**ABOUT, "classes": 1}))},
            "classes must be a whole number of 2 or more",
        ),
        ({"params": np.ones(2)}, "the array 'params' has the shape \\(2,\\); make the table again"),
        (
            {"test_acc": np.ones((3, 3))},
            "'test_acc' must be of the shape \\(3, 2\\), but is \\(3, 3\\)",
        ),
        (
            {"val_acc": np.full((3, 2, 4), 1.5)},
            "row 0 of 'val_acc' must lie in \\[0, 1\\], but is 1.5",
        ),
        (
            {"val_acc": np.full((3, 2, 4), np.nan)},
            "row 0 of 'val_acc' must lie in \\[0, 1\\], but is nan",
        ),
        ({"train_seconds": -np.ones((3, 2))}, "row 0 of 'train_seconds' must lie in"),
        (
            {"genomes": np.array([[0, 1, 2]] * 3)},
            "the rows 0 and 1 of the table 'ours' are the same",
        ),
        (
            {"genomes": np.array([[0, 1, 8], [0, 1, 2], [0, 1, 3]])},
            "row 0 of the table 'ours' cannot be read",
        ),
    ],
)
def test_damaged_tables(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(saved(tmp_path / "ours.npz", **changes))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"there is no table '.*none.npz'; give an .npz of make_table.py, or"
    ):
        read_table(tmp_path / "none.npz")
    (tmp_path / "text.csv").write_text("arch,accuracy\n")
    with pytest.raises(DataError, match=r"text.csv' is no table; give"):
        read_table(tmp_path / "text.csv")
    cut = saved(tmp_path / "cut.npz")
    cut.write_bytes(cut.read_bytes()[:500])
    with pytest.raises(DataError, match=r"is no table of make_table.py"):
        read_table(cut)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match="is damaged or no parquet"):
        read_table(tmp_path / "cut.parquet")


# --- NAS-Bench-201 --------------------------------------------------------------------------------

CELLS = NASBench201Space()
# in the third an edge that leads nowhere
GENOMES = [(3, 0, 0, 2, 4, 1), (0, 0, 3, 0, 0, 0), (0, 2, 3, 0, 0, 0)]


def columns() -> dict[str, Any]:
    return {
        "arch": [CELLS.arch_string(genome) for genome in GENOMES],
        "val_acc_12ep": [60.0, 50.0, 51.0],
        "train_seconds_12ep": [12.0, 13.0, 14.0],
        "val_acc_200ep_trial0": [90.0, 80.0, 81.0],
        "val_acc_200ep_trial1": [91.0, None, 82.0],
        "val_acc_200ep": [90.6, 80.0, 81.5],
        "train_seconds_200ep": [200.0, 210.0, 220.0],
        "test_acc_200ep": [93.0, 83.0, 84.0],
        "params": [1000, 500, 500],
        "latency_ms_pixel3": [1.0, 2.0, 2.0],
    }


def parquet(path: Path, **changes: Any) -> Path:
    given = {name: value for name, value in {**columns(), **changes}.items() if value is not None}
    pyarrow.parquet.write_table(pyarrow.table(given), path)
    return path


def test_nas_bench_201(tmp_path: Path) -> None:
    table = read_table(parquet(tmp_path / "c.parquet"))
    assert table.genomes == tuple(GENOMES)
    assert table.find(GENOMES[2]) == 1
    assert list(table.answers) == ["val_acc_200ep", "val_acc_200ep_trial", "val_acc_12ep"]
    # as published
    assert table.answers["val_acc_200ep"].means == pytest.approx([0.906, 0.8, 0.815])
    assert table.answers["val_acc_200ep_trial"].means == pytest.approx([0.905, 0.8, 0.815])
    assert table.columns["test_acc"] == pytest.approx([0.93, 0.83, 0.84])
    short = answer(TableEvaluator(table, "val_acc_12ep"), candidate(0, GENOMES[2]))
    assert (short.accuracy, short.seconds) == (0.5, 13.0)


def test_any_subset_of_the_columns_will_do(tmp_path: Path) -> None:
    without = dict.fromkeys(columns())
    for name, objectives in (
        ("val_acc_12ep", ["val_acc_12ep"]),
        ("val_acc_200ep", ["val_acc_200ep"]),
        ("val_acc_200ep_trial0", ["val_acc_200ep", "val_acc_200ep_trial"]),
    ):
        kept = {"arch": columns()["arch"], name: columns()[name]}
        table = read_table(parquet(tmp_path / "c.parquet", **{**without, **kept}))
        assert list(table.answers) == objectives
        assert table.answers_to().means == pytest.approx(np.array(columns()[name]) / 100)
        assert table.answers_to().seconds.tolist() == [1.0] * 3
        assert table.columns.keys().isdisjoint({"test_acc"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": None}, "has no column 'arch'"),
        (
            {"arch": ["|nor_conv_3x3~0|"] * 3},
            r"the column 'arch' cannot be read: a cell must read .*3x3~0\|'",
        ),
        ({"arch": [columns()["arch"][0]] * 3}, "the rows 0 and 1 of the table 'c' are the same"),
        (
            {"val_acc_200_ep": [1.0] * 3},
            "unknown column 'val_acc_200_ep'; did you mean 'val_acc_200ep'?",
        ),
        ({"zzz": [1.0] * 3}, "unknown column 'zzz'; known are arch, val_acc_12ep"),
        (
            {"val_acc_12ep": [60.0, 101.0, 3.0]},
            r"row 1 of 'val_acc_12ep' must lie in \[0, 100\], but is 101",
        ),
        (
            {"val_acc_12ep": [60.0, None, 3.0]},
            r"row 1 of 'val_acc_12ep' must lie in \[0, 100\], but is nan",
        ),
        (
            {"val_acc_12ep": [0.6, 0.5, 0.4]},
            "'val_acc_12ep' must be in percent, but nothing in it is above 1",
        ),
        (
            {"val_acc_200ep_trial0": [90.0, None, 80.0]},
            "row 1 has none of val_acc_200ep_trial0, .*; leave the row out",
        ),
        ({"params": ["a", "b", "c"]}, "the column 'params' must hold numbers"),
        (
            dict.fromkeys(set(columns()) - {"arch", "params"}),
            "has no validation accuracies; add val_acc_12ep",
        ),
        ({name: value[:0] for name, value in columns().items()}, "the table 'c' has no rows"),
    ],
)
def test_parquet_that_cannot_be_used(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(parquet(tmp_path / "c.parquet", **changes))


def test_parquet_needs_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path / "c.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        DataError, match=r"is parquet, which needs pyarrow: pip install 'nanonas\[parquet\]'"
    ):
        read_table(path)
