"""What a run has in words, on a terminal."""

from __future__ import annotations

from dataclasses import replace

from toys.report import entries, entry, record

from nanonas.analysis.findings import Findings
from nanonas.terminal import tables


def test_what_inheritance_did_is_said_with_its_twins() -> None:
    some = entries(60)
    heirs = [e for e in some if e.candidate.proposal.inherits]
    findings = Findings(record(some))
    start = findings.head_start
    assert start is not None
    said, table = tables.inheritance(findings), tables.best_table(findings.record, 60)
    assert said == (
        f"{len(heirs)} candidates began with their parents' weights, 75% of their own; against "
        f"{start.correlation.n} "
        f"of them from scratch: {start}"
    )
    column = next(column for column in table.columns if column.header == "inherited")
    assert list(column.cells).count("75%") == len(heirs)
    assert set(column.cells) == {"75%", "–"}


def test_without_inheritance_nothing_is_said_of_it() -> None:
    some = [entry(n, (n % 3, *e.genome[1:]), 0.5) for n, e in enumerate(entries(1))]
    run = record(some)
    assert tables.inheritance(Findings(run)) is None
    assert all(column.header != "inherited" for column in tables.best_table(run, 5).columns)


def test_few_twins_say_nothing_yet() -> None:
    said = tables.inheritance(Findings(record(entries(15))))
    assert said is not None
    assert said.endswith("; fewer than 3 were trained from scratch, too")


def test_a_network_that_another_run_has_found_says_so() -> None:
    found, *_ = some = entries(3)
    proposal = replace(found.candidate.proposal, parents=(), recalled=True)
    some[0] = replace(found, candidate=replace(found.candidate, proposal=proposal))
    *_, parents = tables.best_table(record(some), 5).columns
    assert list(parents.cells).count("another run") == 1
