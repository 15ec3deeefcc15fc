"""Several networks of a front are trained at the end of a run: which, for how long, once each, and
where they are found afterwards.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from toys.session import InProcess

from nanonas import cli, load
from nanonas.analysis.hypervolume import chosen
from nanonas.api import Result
from nanonas.config.files import configure
from nanonas.config.schema import Config
from nanonas.deploy.subject import subject_at
from nanonas.engine.storage.events import TEST_SET_OPENED
from nanonas.engine.storage.store import RunStore
from nanonas.errors import NanonasError, RunError
from nanonas.runs.checking import Stored, differences
from nanonas.runs.folder import RunFolder, find, search_seconds, total_seconds
from nanonas.runs.genome import read_genome
from nanonas.runs.reading import read_record
from nanonas.serving.watch import Watch
from nanonas.session import session as session_module
from nanonas.session.listener import Listener
from nanonas.session.setup import Setup
from nanonas.session.start import begin, counted, resume
from nanonas.session.winner import time_shares
from nanonas.training.final import FinalResult, read_result

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")

SMALL = {
    "data": "digits",
    "train_images": 60,
    "space": "nano",
    "channels": 3,
    "length": 3,
    "strategy": "nsga2",
    "population": 4,
    "lag": 1,
    "stop_epoch": 0,
    "epochs": 1,
    "evaluations": 10,
    "final_epochs": 2,
    "front": 3,
    "workers": 1,
    "device": "cpu",
    "precision": "float32",
    "name": "run",
}


@pytest.fixture(scope="module", autouse=True)
def in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "WorkerPool", InProcess)
        yield


def config(out: Path, **more: object) -> Config:
    return configure(**{**SMALL, "out": out, **more})


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, in_this_process: None) -> RunFolder:
    """A run that has trained three networks of its front. Nobody may change it."""
    return begin(config(tmp_path_factory.mktemp("outputs"))).folder


@pytest.fixture
def run(kept: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(kept.path, tmp_path / "run")))


def wanted(run: RunFolder, number: int = 3) -> list[int]:
    """Which networks are to be trained, the winner first."""
    record = read_record(run)
    assert record.winner is not None
    told = [entry.told for entry in record.entries if entry.told is not None]
    valid, classes = record.images["valid"], record.space.classes
    members = chosen(told, record.objectives, record.winner.number, number, valid, classes)
    return [member.number for member in members]


def opened(run: RunFolder) -> list[str]:
    """What the test set was opened for."""
    with RunStore.read(run.store) as store:
        events = store.events()
    return [str(event.details["for"]) for event in events if event.kind == TEST_SET_OPENED]


def results(run: RunFolder) -> dict[str, FinalResult]:
    """What came of each final training, however it used the machine."""
    places = [run.final, *run.finals_of_front.values()]
    read = {str(place.relative_to(run.path)): read_result(place) for place in places}
    return {
        name: replace(one, seconds=0, threads=0, processes=0)
        for name, one in read.items()
        if one is not None
    }


def test_each_is_trained_and_tested_once_and_the_most_accurate_is_the_winner(
    kept: RunFolder,
) -> None:
    winner, *others = wanted(kept)
    assert len(others) == 2
    assert opened(kept) == ["the winner", *(f"front, #{number}" for number in others)]
    assert list(results(kept)) == ["final", *(f"front/{n}/final" for n in sorted(others))]
    assert {one.epochs for one in results(kept).values()} == {2}
    for number in others:
        genome = read_genome(kept.front / f"{number}.json")
        assert read_genome(kept.final_of(number) / "genome.json").genome == genome.genome
    record = read_record(kept)
    assert record.winner is not None
    assert [entry.number for entry, _ in record.trained_front] == [winner, *others]
    assert record.trained_front[0][1] == record.final
    assert total_seconds(kept, 0.0) > 0


class Killed(Listener):
    """Ends the session as Ctrl-C does, after an epoch of a training."""

    def __init__(self, training: int) -> None:
        self.left = training

    def training(self, label: str) -> None:
        self.left -= 1

    def epoch(self, done: int, of: int, loss: float) -> None:
        if self.left == 0:
            raise KeyboardInterrupt


class Heard(Listener):
    """Keeps how many epochs each training had, by its label."""

    def __init__(self) -> None:
        self.epochs: dict[str, int] = {}

    def training(self, label: str) -> None:
        self.label, self.epochs[label] = label, 0

    def epoch(self, done: int, of: int, loss: float) -> None:
        self.epochs[self.label] += 1


def test_killed_in_the_second_it_goes_on_with_the_second(kept: RunFolder, tmp_path: Path) -> None:
    _, second, third = wanted(kept)
    with pytest.raises(KeyboardInterrupt, match="nanonas resume"):
        begin(config(tmp_path), Killed(2))
    run = find(tmp_path)
    assert opened(run) == ["the winner"]
    heard = Heard()
    outcome = resume(run.path, listener=heard)
    assert heard.epochs == {
        "training the winner": 0,
        f"training #{second} of the front": 1,
        f"training #{third} of the front": 2,
    }
    assert results(run) == results(kept)
    assert opened(run) == opened(kept)
    assert outcome.final == read_result(run.final)


def test_of_a_smaller_front_all_are_trained_and_it_is_said(kept: RunFolder) -> None:
    there = len(wanted(kept, 1000))
    members = [int(path.stem) for path in kept.front.glob("*.json")]
    assert set(wanted(kept, 1000)) == set(members)
    assert there > 3
    assert session_module._chosen_in_words([7, 3, 5], 3) == (
        "final training of the winner, #7, and of the front #3, #5"
    )
    assert session_module._chosen_in_words([7, 3], 3) == (
        "final training of the winner, #7, and of the front #3: there are no more than 2 networks "
        "of the 3 that --front asks for"
    )
    assert session_module._chosen_in_words([7], 3) == (
        "final training of the winner, #7, alone: there is no more than 1 network of the 3 that "
        "--front asks for"
    )


def test_the_time_that_is_left_is_shared_out_by_what_images_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[tuple[float, float]] = []  # seconds for one, and until the run's end

    def train(genome: object, folder: Path, *more: Any, deadline: float, **_: Any) -> Any:
        end = start + 3600
        left.append((deadline - time.monotonic(), end - time.monotonic()))
        return SimpleNamespace(seconds=spent)

    monkeypatch.setattr(session_module, "train", train)
    made, spent = config(tmp_path, time="1h"), 0.0
    start = time.monotonic()
    run = begin(made).folder
    numbers = wanted(run)
    genomes = [read_genome(run.best_genome)]
    genomes += [read_genome(run.front / f"{number}.json") for number in numbers[1:]]
    shares = time_shares(Setup(config(tmp_path)), genomes)
    assert shares == pytest.approx([genome.network().macs ** 0.5 for genome in genomes])
    for place, (seconds, rest) in enumerate(left):
        assert seconds == pytest.approx(rest * shares[place] / sum(shares[place:]), abs=1)
    assert left[-1][0] == pytest.approx(left[-1][1], abs=1)  # the last has all that is left
    # what an earlier session has spent on the first two is not there once more
    left.clear()
    spent, searched = 900.0, search_seconds(run)
    start = time.monotonic()
    resume(run.path)
    assert left[-1][0] == pytest.approx(left[-1][1] - searched - 2 * spent, abs=1)


def test_the_shares_leave_the_least_to_learn() -> None:
    """Where what a network still lacks falls with the inverse of the images that it has seen."""
    costs = [1.0, 4.0, 9.0]
    setup: Any = SimpleNamespace(cost=SimpleNamespace(seconds=lambda network: network))
    genomes: Any = [SimpleNamespace(network=lambda cost=cost: cost) for cost in costs]
    shares = time_shares(setup, genomes)
    assert shares == [1, 2, 3]

    def lacking(shares: Sequence[float]) -> float:
        return sum(cost * sum(shares) / share for cost, share in zip(costs, shares, strict=True))

    rng = np.random.default_rng(0)
    others = rng.dirichlet([1, 1, 1], size=200)
    assert all(lacking(other) >= lacking(shares) for other in others)


def test_a_trained_network_of_the_front_is_exported_loaded_and_shown(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    winner, number, _ = wanted(run)
    result = read_result(run.final_of(number))
    assert result is not None
    monkeypatch.chdir(run.path)
    here = Path("front") / str(number)
    for subject in (
        subject_at(run.front / str(number)),
        subject_at(run.final_of(number)),
        subject_at(run.path, candidate=number),
        subject_at(here),
    ):
        assert subject.weights.absolute() == run.final_of(number) / "model.safetensors"
        assert subject.result == result
        assert subject.untouched  # it is known as the run's, with its images
    assert subject_at(run.path).weights == run.final / "model.safetensors"
    model = load(run.front / str(number))
    assert sum(p.numel() for p in model.parameters()) == result.params
    with pytest.raises(NanonasError):
        load(run.front / str(winner))  # which lies in the run itself
    assert cli.main(["show", str(run.path), "--top", "1"]) == 0
    said = capsys.readouterr().out
    table = said.split("trained networks of the front")[1].split("the winner lies in")[0]
    shown = [line.split()[0] for line in table.splitlines() if line.strip()[:1].isdigit()]
    assert shown == [str(n) for n in wanted(run)]
    frame = Result(run.path).trained_front
    assert list(frame["#"]) == wanted(run)
    assert list(frame["test accuracy"])[1] == result.test_accuracy


def test_what_has_left_the_front_is_not_of_the_trained_front(run: RunFolder) -> None:
    winner, number, other = wanted(run)
    watch = Watch(run)
    assert len(watch.look().record.trained_front) == 3
    (run.front / f"{number}.json").unlink()
    for record in (read_record(run), watch.look().record):
        assert [entry.number for entry, _ in record.trained_front] == [winner, other]


def test_what_had_no_final_training_of_its_own_is_said(run: RunFolder) -> None:
    """The winner lies in final/, others were not trained, or are no candidates."""
    for number in (best_number(run), 999):
        with pytest.raises(
            RunError, match=rf"{number}' is no network .* --candidate {number} --to"
        ):
            load(run.front / str(number))


def best_number(run: RunFolder) -> int:
    return int(read_genome(run.best_genome).known["candidate"])


def test_damage_to_one_of_them_is_found(run: RunFolder) -> None:
    _, number, other = wanted(run)
    (run.final_of(number) / "model.safetensors").unlink()
    (run.final_of(other) / "model.safetensors").write_bytes(b"")
    with RunStore.read(run.store) as store:
        found = differences(run, Stored.of(store), counted(), ())
    said = [str(one) for one in found]
    assert len(said) == 2
    for at, words in (
        (number, "is missing, though its network was trained"),
        (other, "cannot be read"),
    ):
        assert any(f"front/{at}/final/model.safetensors" in one and words in one for one in said)
