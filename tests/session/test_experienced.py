"""A run that begins with experience keeps a copy of it, is a function of that, and leaves its own
after it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from toys.screened import accuracy
from toys.session import InProcess

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.config.files import configure, read_yaml, to_values
from nanonas.config.schema import Config
from nanonas.engine.storage.events import EXPERIENCE, EXPERIENCE_JUDGED
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError
from nanonas.maths.ranks import Correlation
from nanonas.predictors.experience import PastRun, Task, Trained
from nanonas.report.words.experience import experience as experience_words
from nanonas.runs import experience
from nanonas.runs.copying import backup
from nanonas.runs.experience import (
    NETWORKS,
    begun_with,
    learnt,
    leave_for,
    read_experience,
    write_experience,
)
from nanonas.runs.folder import RunFolder
from nanonas.runs.reading import read_record
from nanonas.session import judge
from nanonas.session import session as session_module
from nanonas.session.replay import Replay
from nanonas.session.session import Outcome
from nanonas.session.start import begin, resume
from nanonas.spaces.nano import NanoSpace


def tiny(out: Path, name: str, **settings: object) -> Config:
    return configure(
        **{
            "data": "digits",
            "train_images": 40,
            "space": "nano",
            "channels": 2,
            "length": 4,
            "population": 6,
            "epochs": 1,
            "precision": "float32",
            "evaluations": 10,
            "finalists": 0,
            "final_epochs": 0,
            "workers": 1,
            "device": "cpu",
            "doctor": False,
            "experience": True,
            "out": out,
            "name": name,
            **settings,
        }
    )


def taught() -> PastRun:
    """A run of the space of `tiny` whose networks can be told apart by what they are made of."""
    space = NanoSpace((1, 8, 8), 10, channels=2, length=4)
    rng = np.random.default_rng(0)
    genomes = [space.sample(rng) for _ in range(40)]
    networks = tuple(Trained(genome, accuracy(genome, space), 1.0) for genome in genomes)
    task = Task((1, 8, 8), 10, 40, 40)
    return PastRun("taught", "nano", {"channels": 2, "length": 4}, task, networks)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file of experience; searches train in this process."""
    path = tmp_path / "mine.jsonl"
    monkeypatch.setenv("NANONAS_EXPERIENCE", str(path))
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)
    return path


def genomes(outcome: Outcome) -> list[object]:
    with RunStore.read(outcome.folder.store) as store:
        return [candidate.proposal.genome for candidate in store.candidates()]


@pytest.mark.usefixtures("one_thread")
def test_a_run_is_a_function_of_the_experience_that_it_keeps(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "outputs"
    write_experience(mine, [taught()])
    begin(tiny(out, "first"))
    left = read_experience(mine)[-1]
    assert (left.space, left.options) == ("nano", {"channels": 2, "length": 4})
    assert left.task == Task((1, 8, 8), 10, 40, 40)
    assert 8 <= len(left.networks) <= 10
    assert str(tmp_path) not in mine.read_text()

    second = begin(tiny(out, "second", seed=1))  # begins with what the first has left
    assert [run.run for run in read_experience(second.folder.experience)] == ["taught", left.run]
    with RunStore.read(second.folder.store) as store:
        (noted,) = [event.details for event in store.events() if event.kind == EXPERIENCE]
        judged = [event.details for event in store.events() if event.kind == EXPERIENCE_JUDGED]
    assert noted["networks"] == 40 + len(left.networks) == noted["foretold"]["n"]
    assert noted["tasks"] == [{"input_shape": (1, 8, 8), "classes": 10}]
    assert 3 <= judged[-1]["n"] <= 10  # of those that the strategy was told
    said = experience_words(Findings(read_record(second.folder)))
    assert said is not None
    assert (
        f"what {noted['networks']} networks of 2 other runs have shown on images of 8×8×1" in said
    )
    capsys.readouterr()
    assert cli.main(["show", str(second.folder.path)]) == 0
    assert f"experience: {said}" in capsys.readouterr().out
    assert list(Replay(second.folder).candidates()) == []
    plain = begin(tiny(out, "plain", seed=1, experience=False))
    assert genomes(plain) != genomes(second)
    assert not plain.folder.experience.exists()
    assert len(read_experience(mine)) == 3  # the plain one left nothing

    # its configuration repeats it, whatever has been learnt since
    config = read_yaml(second.folder.config)
    again = configure(
        **{**_flat(config), "out": out, "name": "again", "evaluations": 10, "workers": 1}
    )
    assert genomes(begin(again)) == genomes(second)

    # more candidates come as if it had never stopped, and it leaves itself once
    copy = backup(second.folder, tmp_path / "copy").path
    longer = begin(tiny(out, "longer", seed=1, evaluations=14, experience_from=config_copy(config)))
    resumed = resume(copy, configure(**{**_flat(config), "evaluations": 14}).run)
    assert genomes(resumed) == genomes(longer)
    names = [run.run for run in read_experience(mine)]
    assert len(names) == len(set(names))

    # what networks came to that began with the weights of another one says little of others
    search = config.search
    mine.unlink()
    with RunStore.read(resumed.folder.store) as store:
        leave_for(replace(search, fidelity=replace(search.fidelity, ancestor="things")), store)
        assert not mine.exists()
        leave_for(search, store)
    assert mine.exists()


class Told:
    """A screened search of which nothing is known but what experience is worth to it."""

    worth: Correlation | None = None


def test_what_experience_is_worth_is_noted_now_and_then_and_said_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Told()
    monkeypatch.setattr(judge, "screened_in", lambda strategy: search)
    said: list[tuple[int, str]] = []

    def heard(store: RunStore, first: int, last: int) -> None:
        judged = judge.Judge(cast(Any, None), store)
        for n in range(first, last + 1):
            tau = 0.4 if n < 15 or n > 30 else -0.1
            search.worth = Correlation(tau, tau - 0.1, tau + 0.1, n) if n > 2 else None
            if sentence := judged.heard():
                said.append((n, sentence))
        judged.end()

    with RunStore.begin(tmp_path / "run.db", {"search": {}}) as store:
        heard(store, 0, 17)
        heard(store, 18, 33)  # resumed: what is known is not said again
        noted = [event.details for event in store.events() if event.kind == EXPERIENCE_JUDGED]
    assert [one["n"] for one in noted] == [10, 15, 17, 20, 30, 31, 33]
    assert [one["left_out"] for one in noted] == [
        n in range(15, 31) for n in (10, 15, 17, 20, 30, 31, 33)
    ]
    assert [n for n, _ in said] == [15, 31]
    assert "does not order these networks (τ -0.10" in said[0][1]
    assert "after all (τ +0.40" in said[1][1]


def config_copy(config: Config) -> str:
    assert config.search.strategy.experience_from is not None
    return config.search.strategy.experience_from


def _flat(config: Config) -> dict[str, object]:
    halves = to_values(config)
    return {**halves["search"], **halves["run"]}


def test_a_file_of_experience_needs_the_wish_for_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"experience_from is 'mine.jsonl' .* add --experience"):
        begin(tiny(tmp_path, "run", experience=False, experience_from="mine.jsonl"))


@pytest.mark.usefixtures("one_thread")
def test_a_copy_that_was_changed_is_no_beginning(mine: Path, tmp_path: Path) -> None:
    begin(tiny(tmp_path, "first"))
    run = begin(tiny(tmp_path, "second", seed=1)).folder
    run.experience.write_text(run.experience.read_text() + "\n")
    with RunStore.read(run.store) as store, pytest.raises(RunError, match="was changed; bring it"):
        begun_with(run, store, read_yaml(run.config).search)
    run.experience.unlink()
    with pytest.raises(RunError, match="is gone; bring it back from a copy"):
        resume(run.path)


@pytest.mark.usefixtures("one_thread")
def test_who_begins_without_experience_in_spite_of_the_wish_hears_why(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("nanonas.session.start.say", said.append)
    write_experience(mine, [taught()])
    begin(tiny(tmp_path, "random", strategy="random"))
    begin(tiny(tmp_path, "several", objectives=("accuracy", "params"), evaluations=4))
    begin(tiny(tmp_path, "elsewhere", space="layers"))
    monkeypatch.setenv("NANONAS_EXPERIENCE", "off")
    begin(tiny(tmp_path, "off"))
    words = "".join(said)
    assert "a random search is what others are compared with" in words
    assert "1 other run have shown; with several objectives nothing is chosen by that" in words
    assert "no other run over the space 'layers' is known" in words
    assert "NANONAS_EXPERIENCE is off" in words


@pytest.mark.usefixtures("one_thread")
def test_a_damaged_file_of_the_user_is_left_alone_and_stops_no_search(
    mine: Path, tmp_path: Path
) -> None:
    mine.write_text("nonsense")
    outcome = begin(tiny(tmp_path, "run"))
    assert mine.read_text() == "nonsense"
    assert not read_yaml(outcome.folder.config).search.strategy.experience
    with pytest.raises(RunError, match="cannot be read"):
        begin(tiny(tmp_path, "other", experience_from=str(mine)))


@pytest.mark.usefixtures("one_thread")
def test_of_a_long_run_the_best_and_some_others_stay(mine: Path, tmp_path: Path) -> None:
    run = begin(tiny(tmp_path, "run", evaluations=14, experience=False)).folder
    search = read_yaml(run.config).search
    with RunStore.read(run.store) as store, pytest.MonkeyPatch.context() as patch:
        whole = learnt(store, search)
        patch.setattr(experience, "NETWORKS", 8)
        some = learnt(store, search)
        patch.setattr(experience, "LEAST", 20)
        assert learnt(store, search) is None
    assert whole is not None
    assert some is not None
    assert len(whole.networks) <= min(14, NETWORKS)
    assert some.networks[:4] == whole.networks[:4]  # the best
    assert some.networks[-1] == whole.networks[-1]
    assert len(some.networks) == min(8, len(whole.networks))
    accuracies = [one.accuracy for one in some.networks]
    assert (np.diff(accuracies) <= 0).all()
    assert RunFolder(run.path) == run
