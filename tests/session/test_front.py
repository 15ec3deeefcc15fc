"""Several objectives from end to end: the front in the run's folder, on the screen, and as networks
to go on with.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nanonas import cli, nano_nas
from nanonas.config.files import read_yaml
from nanonas.config.parts import OBJECTIVES
from nanonas.core import Candidate, Evaluation, Proposal, State, Told
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.runs.folder import RunFolder, find
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.runs.models import trained_module
from nanonas.session.keeper import Keeper
from nanonas.text import count
from nanonas.training import final

TINY = (
    "--data digits --train-images 150 --space nano --channels 3 --length 4 --population 4 --lag 2 "
    "--device cpu "
    "--stop-epoch 0 --epochs 2 --keep front --final-epochs 0 --strategy nsga2 --objectives "
    "accuracy params"
)
BOTH = (OBJECTIVES["accuracy"].objective, OBJECTIVES["params"].objective)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run and what its search said. Nobody may change it."""
    out = tmp_path_factory.mktemp("outputs")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        words = [
            *TINY.split(),
            "--workers",
            "1",
            "--evaluations",
            "10",
            "--out",
            str(out),
            "--name",
            "run",
        ]
        assert cli.main(["search", *words]) == 0
    return out / "run", said.getvalue()


def front(run: Path) -> list[Evaluation]:
    """The members, by comparing each with each; the most accurate first."""
    with RunStore.read(run / "study.db") as store:
        ranked = [told.evaluation for told in ranking(store.told())]

    def beaten(e: Evaluation) -> bool:
        mine = (-e.metrics["accuracy"], e.metrics["params"])
        others = [(-other.metrics["accuracy"], other.metrics["params"]) for other in ranked]
        return any(a <= mine[0] and p <= mine[1] and (a, p) != mine for a, p in others)

    return [e for e in ranked if not beaten(e)]


def numbers(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if path.stem.isdigit()}


def test_the_folder_has_a_genome_and_the_weights_of_each_member(searched: tuple[Path, str]) -> None:
    run, _ = searched
    members = front(run)
    assert len(members) > 1  # of ten, with a budget of one: weights would be gone otherwise
    assert numbers(run / "front") == numbers(run / "weights") == {str(e.number) for e in members}
    for member in members:
        file = read_genome(run / "front" / f"{member.number}.json")
        assert file.known == {"candidate": member.number, **member.metrics}
        assert file.network().params == member.metrics["params"]
    assert read_genome(run / "best_genome.json") == read_genome(
        run / "front" / f"{members[0].number}.json"
    )
    assert read_yaml(run / "config.yaml").search.strategy.objectives == ("accuracy", "params")
    assert sum(p.numel() for p in trained_module(run).parameters()) == members[0].metrics["params"]


def test_search_and_show_print_the_front(
    searched: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, said = searched
    members = front(run)
    assert cli.main(["show", str(run), "--top", "1"]) == 0
    for text in (said, capsys.readouterr().out):
        table = text.split("the front: the best trade-offs of accuracy and params")[1].splitlines()[
            2:
        ]
        for line, member in zip(table[: len(members)], members, strict=True):
            metrics = member.metrics
            shown = [
                str(member.number),
                f"{member.accuracy:.2%}",
                count(metrics["params"]),
                count(metrics["macs"]),
            ]
            assert line.split()[:4] == shown
        assert "/front/NUMBER.json" in text.replace("\n", "")
    assert " · front of " in said


def test_a_member_can_be_trained(
    searched: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
    smallest = front(searched[0])[-1]
    shutil.copytree(searched[0], tmp_path / "run")
    genome = tmp_path / "run" / "front" / f"{smallest.number}.json"
    assert cli.main(["train", str(genome), "--epochs", "1", "--device", "cpu"]) == 0
    assert "test accuracy" in capsys.readouterr().out
    trained = genome.parent / genome.stem / "final" / "genome.json"
    assert read_genome(trained).genome == read_genome(genome).genome


def test_resumed_the_front_is_that_of_all_sessions_and_what_somebody_put_there_stays(
    searched: tuple[Path, str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(searched[0], run)
    for name in ("999", "mine"):  # the first as if killed before it was removed
        shutil.copy(run / "best_genome.json", run / "front" / f"{name}.json")
    assert cli.main(["resume", str(run), "--evaluations", "12", "--workers", "1"]) == 0
    assert {path.stem for path in (run / "front").iterdir()} == {
        "mine",
        *(str(e.number) for e in front(run)),
    }


def test_who_leaves_the_front_loses_its_file_and_its_weights(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.weights.mkdir(parents=True)
    RunStore.begin(folder.store, {}).close()

    def describe(candidate: Candidate, known: Mapping[str, Any]) -> GenomeFile:
        genome, named = candidate.proposal.genome, {"candidate": candidate.number, **known}
        return GenomeFile(
            "nano", genome, (1, 8, 8), ("a", "b"), {"channels": 3, "length": 4}, "digits", named
        )

    keeper = Keeper(folder, describe, 1, objectives=BOTH)
    for number, (accuracy, params, expected) in enumerate(
        [
            (0.5, 500, {0}),
            (0.4, 300, {0, 1}),
            (0.45, 300, {0, 2}),
            (0.6, 900, {0, 2, 3}),
            (0.7, 200, {4}),
        ]
    ):
        (folder.weights / f"{number}.safetensors").touch()
        candidate = Candidate(number, Proposal((number, 0, 0, 0)), "key")
        metrics = {"accuracy": accuracy, "params": params}
        keeper.hear(Told(candidate, Evaluation(number, State.COMPLETE, metrics)))
        keeper.prune()
        assert numbers(folder.front) == numbers(folder.weights) == {str(n) for n in expected}
        assert {e.number for e in keeper.front} == expected


def test_from_python_nsga2_has_objectives_of_its_own(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "data": "digits",
        "channels": 3,
        "workers": 1,
        "device": "cpu",
        "precision": "float32",
    }
    model = nano_nas(
        "nsga2",
        population_size=2,
        generations=1,
        epochs=1,
        train_images=150,
        out=tmp_path,
        quiet=True,
        **settings,
    )
    run = find(tmp_path)
    assert read_yaml(run.config).search.strategy.objectives == ("accuracy", "params")
    assert (
        sum(p.numel() for p in model.parameters()) == read_genome(run.best_genome).known["params"]
    )


def test_by_default_a_predictor_chooses_among_proposals_of_nsga2(tmp_path: Path) -> None:
    words = TINY.replace("--strategy nsga2", "--workers 1 --evaluations 9").split()
    with contextlib.redirect_stdout(io.StringIO()):
        assert cli.main(["search", *words, "--out", str(tmp_path), "--name", "run"]) == 0
    run = tmp_path / "run"
    options = read_yaml(run / "config.yaml").search.strategy
    assert (options.strategy, options.screens) == ("screened", "nsga2")
    assert numbers(run / "front") == {str(e.number) for e in front(run)}
    with RunStore.read(run / "study.db") as store:
        predicted = [candidate.proposal.predicted for candidate in store.candidates()]
    assert any(one is not None and one.chosen for one in predicted)


def test_several_objectives_are_not_for_every_strategy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--strategy", "aging", "--objectives", "accuracy", "params", "--out", str(tmp_path)]
    assert cli.main(["search", *flags]) == 2
    assert capsys.readouterr().err == (
        "nanonas: the command line: search.objectives is accuracy, params (--objectives), but the "
        "strategy 'aging' has "
        "one; for several take --strategy nsga2 or screened\n"
    )
    assert list(tmp_path.iterdir()) == []
