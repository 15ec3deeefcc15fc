"""A search that begins with a trained network of other images: of the other half of the digits,
grey where these are in colour. The oracle is the run of two workers that nothing interrupts.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from toys.images import npz
from toys.session import InProcess

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.analysis.lineage import step
from nanonas.commands.plan import in_words
from nanonas.config.files import configure, read_yaml, to_values
from nanonas.config.schema import Config
from nanonas.core import Proposal
from nanonas.data.images import load
from nanonas.engine.storage.events import ANCESTOR
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError
from nanonas.networks.limits import Limits
from nanonas.report.words.candidate import portrait
from nanonas.report.words.narration import farewell
from nanonas.report.words.verdict import headline
from nanonas.runs.copying import backup
from nanonas.runs.folder import RunFolder
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.runs.origin import begun_with
from nanonas.runs.reading import read_record
from nanonas.session import session as session_module
from nanonas.session.plan import forecast
from nanonas.session.replay import Replay
from nanonas.session.session import Outcome
from nanonas.session.setup import Setup
from nanonas.session.start import begin, resume
from nanonas.spaces.stages.space import StagesSpace
from nanonas.terminal.tables import summary
from nanonas.training.final import read_result
from nanonas.training.weights import read_weights, save_tensors

pytestmark = pytest.mark.usefixtures("quick_measurements", "one_thread")

LIMIT = 8000


def half(path: Path, first: int, colour: bool) -> str:
    """Five of the ten digits."""
    digits, arrays = load("digits"), dict[str, np.ndarray]()
    for part in ("train", "test"):
        x, y = getattr(digits, f"x_{part}"), getattr(digits, f"y_{part}")
        rows = np.flatnonzero((y >= first) & (y < first + 5))
        arrays[f"x_{part}"] = x[rows].repeat(3, axis=-1) if colour else x[rows]
        arrays[f"y_{part}"] = y[rows] - first
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    return npz(path, class_names=names[first : first + 5], **arrays)


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows 0 to 4. Nobody may change it."""
    place = tmp_path_factory.mktemp("trained")
    data = half(place / "low.npz", 0, colour=False)
    space = StagesSpace((1, 8, 8), 5, limits=Limits(max_params=LIMIT))
    genome = place / "plain.json"
    GenomeFile("stages", space.ancestors()["plain"], (1, 8, 8), tuple("abcde")).write(genome)
    words = ["--data", data, "--out", str(place / "things"), "--epochs", "6", "--device", "cpu"]
    assert cli.main(["train", str(genome), *words]) == 0
    return place / "things"


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> str:
    """5 to 9, in colour."""
    return half(tmp_path_factory.mktemp("images") / "high.npz", 5, colour=True)


def tiny(others: str, out: Path, name: str, ancestor: Path | None, **settings: object) -> Config:
    return configure(
        **{
            "data": others,
            "train_images": 120,
            "max_params": LIMIT + 2000,
            "strategy": "aging",
            "population": 4,
            "lag": 2,
            "epochs": 2,
            "batch_size": 16,
            "inherit": True,
            "inherit_audit": 0.0,
            "finalists": 1,
            "precision": "float32",
            "evaluations": 7,
            "final_epochs": 1,
            "workers": 1,
            "device": "cpu",
            "doctor": False,
            "ancestor": ancestor,
            "out": out,
            "name": name,
            **settings,
        }
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, things: Path, others: str) -> Outcome:
    """Of two workers. Nobody may change it."""
    return begin(tiny(others, tmp_path_factory.mktemp("outputs"), "owls", things, workers=2))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "WorkerPool", InProcess)


def told(folder: RunFolder) -> list[tuple[Proposal, object, object]]:
    """All that a store says of candidates, but for the time that they took."""
    with RunStore.read(folder.store) as store:
        return [
            (one.candidate.proposal, one.evaluation.metrics, one.evaluation.curve)
            for one in store.told()
        ]


def test_all_begin_with_its_weights_and_it_is_the_first(
    run: Outcome, things: Path, others: str
) -> None:
    known = told(run.folder)
    first = known[0][0]
    assert (first.genome, first.recalled) == (read_genome(things / "genome.json").genome, True)
    shares = [metrics["ancestor_share"] for _, metrics, _ in known]  # type: ignore[index]
    assert min(shares) > 0
    assert shares[0] > 0.9
    with RunStore.read(run.folder.store) as store:
        candidate = store.candidates()[0]
        (noted,) = [event.details for event in store.events() if event.kind == ANCESTOR]
    assert (noted["name"], noted["share"]) == ("things", shares[0])

    config = read_yaml(run.folder.config)
    assert config.search.fidelity.ancestor == str(run.folder.ancestor)
    trial = Setup(config).trials()[0]  # that begins from scratch
    scratch = trial(candidate, lambda: True).accuracy or 0.0
    assert known[0][1]["accuracy"] > scratch + 0.1  # type: ignore[index]


def test_the_final_training_begins_with_them_and_it_is_said(run: Outcome) -> None:
    result = read_result(run.folder.final)
    assert result is not None
    assert result.began_with is not None
    assert (result.began_with["name"], result.began_with["body_lr"]) == ("things", 0.3)
    record = read_record(run.folder)
    said = "began with the weights of things, as far as they fit"
    assert said in " ".join(headline(Findings(record)))
    assert said in summary(record)
    assert "now trained with the ancestor's weights alone" in " ".join(farewell(record))
    share = record.entries[0].metrics["ancestor_share"]
    facts = portrait(Findings(record), step(record, 0)).facts
    assert f"began with the weights of things, {share:.0%} of its parameters" in facts


@pytest.mark.usefixtures("in_process")
def test_one_worker_interrupted_without_the_source_comes_to_the_same(
    run: Outcome, things: Path, others: str, tmp_path: Path
) -> None:
    shutil.copytree(things, tmp_path / "things")
    config = tiny(others, tmp_path, "parted", tmp_path / "things", evaluations=3, final_epochs=0)
    parted = begin(config).folder
    shutil.rmtree(tmp_path / "things")
    whole = read_yaml(run.folder.config).run
    again = resume(parted.path, replace(whole, workers=1))
    assert told(again.folder) == told(run.folder)
    ours, theirs = (read_weights(one.folder.final / "model.safetensors")[0] for one in (again, run))
    assert all(tensor.equal(ours[name]) for name, tensor in theirs.items())
    assert again.final is not None
    assert again.final.began_with == read_result(run.folder.final).began_with  # type: ignore[union-attr]


def test_a_replay_derives_the_same_and_its_best_is_trained_again(run: Outcome) -> None:
    replay = Replay(run.folder)
    assert list(replay.candidates()) == []
    assert list(replay.files()) == []
    (repeat,) = replay.trainings(1)
    assert repeat.equal


@pytest.mark.usefixtures("in_process")
def test_its_configuration_repeats_it_from_a_copy(run: Outcome, tmp_path: Path) -> None:
    copy = RunFolder(backup(run.folder, tmp_path / "copy").path)
    halves = to_values(read_yaml(copy.config))
    names = {"out": tmp_path, "name": "again", "workers": 1, "evaluations": 2, "final_epochs": 0}
    again = begin(configure(**{**halves["search"], **halves["run"], **names})).folder
    assert told(again) == told(run.folder)[:2]
    with RunStore.read(again.store) as store:
        origin = begun_with(again, store)
    assert origin is not None
    assert origin.name == "things"


def test_the_winner_is_trained_again_as_it_was(run: Outcome, tmp_path: Path) -> None:
    words = ["--out", str(tmp_path / "again"), "--epochs", "1", "--device", "cpu"]
    copy = backup(run.folder, tmp_path / "copy").path
    assert cli.main(["train", str(copy), *words]) == 0
    ours, theirs = (read_result(place) for place in (tmp_path / "again", run.folder.final))
    assert ours is not None
    assert theirs is not None
    assert (ours.began_with, ours.test_accuracy) == (theirs.began_with, theirs.test_accuracy)


@pytest.mark.parametrize(("damage", "what"), [("changed", "was changed"), ("gone", "is gone")])
def test_a_copy_that_is_not_whole_is_no_beginning(
    run: Outcome, tmp_path: Path, damage: str, what: str
) -> None:
    copy = RunFolder(backup(run.folder, tmp_path / "copy", link=False).path)
    weights = copy.ancestor / "model.safetensors"
    if damage == "gone":
        weights.unlink()
    else:
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    with pytest.raises(RunError, match=f"{what}; bring it back from a copy of the run"):
        resume(copy.path)


@pytest.mark.usefixtures("in_process")
def test_the_space_is_that_of_the_ancestor(
    others: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("nanonas.session.ancestor.say", said.append)
    fast = {"evaluations": 1, "final_epochs": 0, "finalists": 0, "inherit": False}
    nano = {"space": "nano", "channels": 4, "length": 3, "max_params": None, **fast}
    first = begin(tiny(others, tmp_path, "nano", None, **nano)).folder
    child = begin(tiny(others, tmp_path, "child", first.path, max_params=None, **fast)).folder
    found = read_yaml(child.config).search.space
    assert (found.space, found.channels, found.length) == ("nano", 4, 3)
    assert said == ["searches the space nano, which is that of the ancestor nano"]
    assert told(child)[0][1]["ancestor_share"] == 1  # type: ignore[index]  # the classes are the same
    for settings, words in (
        ({"space": "layers"}, "space is layers, but the ancestor nano was found with space nano"),
        ({"channels": 6}, "channels is 6, but the ancestor nano was found with channels 4"),
    ):
        with pytest.raises(ConfigError, match=f"{words}: leave --"):
            begin(tiny(others, tmp_path, "no", first.path, **settings))
    assert not (tmp_path / "no").exists()


def test_what_cannot_be_begun_with(others: str, things: Path, tmp_path: Path) -> None:
    """And nothing is left of it."""
    with pytest.raises(ConfigError, match=r"things has .* on these images, where at most 900 par"):
        begin(tiny(others, tmp_path, "no", things, max_params=900))
    with pytest.raises(RunError, match="nowhere' does not exist; name a run's folder, the folder"):
        begin(tiny(others, tmp_path, "no", tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="ancestor is empty; name a run's folder"):
        begin(tiny(others, tmp_path, "no", ""))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"body_lr is 0\.1, but nothing begins with the weights"):
        begin(tiny(others, tmp_path, "no", None, body_lr=0.1))
    shutil.copytree(things, tmp_path / "damaged")
    tensors, about = read_weights(tmp_path / "damaged" / "model.safetensors")
    del tensors[next(iter(tensors))]
    save_tensors(tensors, tmp_path / "damaged" / "model.safetensors", about)
    with pytest.raises(RunError, match="damaged' have nothing for "):
        begin(tiny(others, tmp_path, "no", tmp_path / "damaged"))
    assert not (tmp_path / "no").exists()


def test_a_plan_says_it(run: Outcome) -> None:
    config = read_yaml(run.folder.config)
    planned = forecast(replace(config, run=replace(config.run, workers=1)), seconds=0.01)
    share = read_record(run.folder).entries[0].metrics["ancestor_share"]
    assert planned.ancestor == ("things", share)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(in_words(planned))
    said = " ".join(console.export_text().split())
    assert "all networks begin with the weights of things, as far as they fit" in said
    assert f"the first candidate, has {100 * share:.2f} % of its parameters from there" in said
