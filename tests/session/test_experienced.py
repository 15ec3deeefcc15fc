"""A run that begins with experience keeps a copy of it, is a function of that, and leaves its own
after it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toys.screened import accuracy
from toys.session import InProcess

from nanonas.config.files import configure, read_yaml, to_values
from nanonas.config.schema import Config
from nanonas.engine.storage.events import EXPERIENCE
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError
from nanonas.predictors.experience import PastRun, Task, Trained
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
def test_a_run_is_a_function_of_the_experience_that_it_keeps(mine: Path, tmp_path: Path) -> None:
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
    assert noted["networks"] == 40 + len(left.networks)
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
    begin(tiny(tmp_path, "elsewhere", space="layers"))
    monkeypatch.setenv("NANONAS_EXPERIENCE", "off")
    begin(tiny(tmp_path, "off"))
    words = "".join(said)
    assert "a random search is what others are compared with" in words
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
