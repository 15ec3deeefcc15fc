"""The winner of a whole search is the network of which most is expected, and stays it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from toys.session import InProcess

import nanonas
from nanonas import cli
from nanonas.config.files import read_yaml
from nanonas.core import Told
from nanonas.engine import choosing
from nanonas.engine.choosing import LEAST, Expected
from nanonas.engine.ranking import best_networks
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import read_genome
from nanonas.runs.reading import read_record
from nanonas.session import session as session_module
from nanonas.session import setup as set_up
from nanonas.session.replay import Replay
from nanonas.session.setup import Setup
from nanonas.training.pictures import pictures
from nanonas.training.train import accuracy

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (
    "--data digits --image-size 8 --train-images 60 --space nano --channels 2 --length 3 "
    "--strategy random --epochs 1 --stop-epoch 0 --batch-size 30 --precision float32 --device cpu "
    "--keep front --final-epochs 0 --lag 2"
)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)


def search(out: Path, name: str, more: str) -> Path:
    flags = [*SMALL.split(), *more.split(), "--out", str(out), "--name", name]
    assert cli.main(["search", *flags]) == 0
    return out / name


def worst_first(told: Sequence[Told], *_: object) -> list[Expected]:
    return [Expected(one, one.evaluation.accuracy or 0.0) for one in best_networks(told)[::-1]]


def test_the_chosen_network_is_the_best_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(set_up, "expected", worst_first)
    run = search(tmp_path, "run", "--evaluations 5")
    for said in (capsys.readouterr().out, show(run, capsys)):
        assert "was chosen by the accuracy that is expected of it" in said
    record = read_record(RunFolder(run))
    highest, lowest = record.distinct[0], record.distinct[-1]
    assert record.chosen is not None
    assert record.winner == lowest != highest
    assert (record.chosen.number, record.chosen.of_highest) == (lowest.number, highest.accuracy)
    best = read_genome(run / "best_genome.json")
    assert best.known == {"candidate": lowest.number, **lowest.metrics}
    # its weights were pruned while the search went on, and are there again
    valid = pictures(Setup(read_yaml(run / "config.yaml")).data, "cpu")[1]
    assert accuracy(nanonas.load(run), valid) == lowest.accuracy
    assert [*Replay(RunFolder(run)).files()] == []


def show(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["show", str(run)]) == 0
    return capsys.readouterr().out


def test_finalists_are_those_of_which_most_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_up, "expected", worst_first)
    run = search(
        tmp_path, "run", "--strategy aging --population 3 --inherit --evaluations 5 --finalists 2"
    )
    record = read_record(RunFolder(run))
    assert record.finalists.keys() == {entry.number for entry in record.distinct[-2:]}
    assert record.winner is not None
    assert record.winner.number in record.finalists


def test_a_resumed_search_chooses_what_an_uninterrupted_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "_by_chance", lambda n: -2.0)  # whatever others tell of it
    few, many = LEAST - 4, LEAST + 4
    whole = read_record(RunFolder(search(tmp_path, "whole", f"--evaluations {many}")))
    run = search(tmp_path, "run", f"--evaluations {few}")
    assert read_record(RunFolder(run)).chosen is None  # too few
    assert cli.main(["resume", str(run), "--evaluations", str(many)]) == 0
    assert read_record(RunFolder(run)).chosen == whole.chosen is not None
