"""What a run has in words, on a terminal."""

from __future__ import annotations

from pathlib import Path

from nanonas.analysis.twins import head_start
from toys.report import entries, entry, toy_run

from nanonas.engine.storage.store import RunStore
from nanonas.report.terminal import tables


def test_what_inheritance_did_is_said_with_its_twins(tmp_path: Path) -> None:
    some = entries(60)
    heirs = [e for e in some if e.candidate.proposal.inherits]
    told = [(e.candidate, e.evaluation) for e in some if e.evaluation is not None]
    start = head_start(told)
    assert start is not None
    with RunStore.read(toy_run(tmp_path, some).store) as store:
        said = tables.inheritance(store)
        table = tables.best_table(store, 60)
    assert said == (
        f"{len(heirs)} candidates began with their parents' weights, 75% of their own; against "
        f"{start.correlation.n} "
        f"of them from scratch: {start}"
    )
    column = next(column for column in table.columns if column.header == "inherited")
    assert list(column.cells).count("75%") == len(heirs)
    assert set(column.cells) == {"75%", "–"}


def test_without_inheritance_nothing_is_said_of_it(tmp_path: Path) -> None:
    some = [entry(n, (n % 3, *e.genome[1:]), 0.5) for n, e in enumerate(entries(1))]
    with RunStore.read(toy_run(tmp_path, some).store) as store:
        assert tables.inheritance(store) is None
        assert all(column.header != "inherited" for column in tables.best_table(store, 5).columns)


def test_few_twins_say_nothing_yet(tmp_path: Path) -> None:
    some = entries(15)
    with RunStore.read(toy_run(tmp_path, some).store) as store:
        said = tables.inheritance(store)
    assert said is not None
    assert said.endswith("; fewer than 3 were trained from scratch, too")
