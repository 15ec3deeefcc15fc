"""The command line from end to end, on the handwritten digits that come with nanonas.

Workers take seconds to start, so the few searches are shared by all tests of the file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toys.commands import arrived, killed

from nanonas import cli
from nanonas.api import Result
from nanonas.config.files import read_yaml
from nanonas.core import Candidate, Evaluation, Proposal, State, Told
from nanonas.engine.ranking import ranking
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError
from nanonas.networks.reference import REFERENCES
from nanonas.runs import folder as folders
from nanonas.runs import models
from nanonas.runs.genome import GenomeFile, read_genome
from nanonas.session import start as beginning
from nanonas.session.keeper import Keeper
from nanonas.terminal.progress import TrainingProgress
from nanonas.training.measuring.pace import Pace

pytestmark = pytest.mark.usefixtures("quick_measurements")

TINY = (
    "--data digits --train-images 150 --space nano --channels 3 --length 4 --population 3 --lag 2 "
    "--device cpu"
)
NO_FINAL = "--final-epochs 0"
# long enough to be killed in the middle
AGING = f"--strategy aging --evaluations 9 --epochs 15 {NO_FINAL}"


def words(line: str) -> list[str]:
    return line.split()


def search(out: Path, name: str, more: str) -> Path:
    assert cli.main(["search", *words(TINY), "--out", str(out), "--name", name, *words(more)]) == 0
    return out / name


def by_number(run: Path) -> list[object]:
    """What two equal runs have in common: everything but times and the order of arrival."""
    with RunStore.read(run / "study.db") as store:
        latest = store.latest()
        return [
            *store.candidates(),
            *(replace(latest[number], seconds=0.0) for number in sorted(latest)),
        ]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def short(out: Path) -> Path:
    """Four candidates of an evolution, and the winner's training. Nobody may change it."""
    return search(
        out, "short", "--evaluations 4 --epochs 2 --workers 1 --final-epochs 1 --keep top:2"
    )


@pytest.fixture(scope="module")
def longer(out: Path, short: Path) -> Path:
    """A copy of `short` that was gone on with, from four candidates to seven.

    Its final training is its own.
    """
    shutil.copytree(short, out / "longer")
    assert cli.main(["resume", str(out / "longer"), "--evaluations", "7", "--workers", "1"]) == 0
    return out / "longer"


@pytest.fixture(scope="module")
def aged(out: Path) -> Path:
    return search(out, "aged", f"{AGING} --workers 1")


# --- a run and its folder -------------------------------------------------------------------------


def test_a_search_leaves_a_folder_that_can_be_used(short: Path, out: Path) -> None:
    assert {path.name for path in short.iterdir() if path.suffix != ".lock"} - {
        "study.db-wal",
        "study.db-shm",
    } == {
        "config.yaml",
        "study.db",
        "weights",
        "best_genome.json",
        "log.txt",
        "report.html",
        "final",
    }
    assert {path.name for path in (short / "final").iterdir() if path.suffix != ".lock"} == {
        "checkpoint.safetensors",
        "model.safetensors",
        "genome.json",
        "predictions.npz",
        "pictures.npz",
        "result.json",
    }
    config = read_yaml(short / "config.yaml")
    assert (
        config.search.strategy.population,
        config.search.strategy.lag,
        config.run.evaluations,
    ) == (3, 2, 4)
    assert config.search.training.precision in ("float32", "bfloat16")  # as resolved

    with RunStore.read(short / "study.db") as store:
        assert [c.number for c in store.candidates()] == [0, 1, 2, 3]
        assert len(store.evaluations()) == 4
        best, second, *_ = (told.evaluation for told in ranking(store.told()))
        genome = read_genome(short / "best_genome.json")
        assert genome.genome == store.candidates()[best.number].proposal.genome
        assert [e.kind for e in store.events() if e.kind == "test set opened"] == [
            "test set opened"
        ]
    assert genome.known["candidate"] == best.number
    assert genome.known["accuracy"] == best.accuracy
    assert {path.stem for path in (short / "weights").iterdir()} == {
        str(best.number),
        str(second.number),
    }

    result = json.loads((short / "final" / "result.json").read_text(encoding="utf-8"))
    trained = read_genome(short / "final" / "genome.json")
    assert trained.genome == genome.genome
    assert trained.known["test_accuracy"] == result["test_accuracy"]
    assert (
        load_file(short / "final" / "model.safetensors").keys()
        == models.best_module(folders.RunFolder(short)).state_dict().keys()
    )
    log = (short / "log.txt").read_text(encoding="utf-8")
    assert all(f"#{number} " in log for number in range(4))


def test_the_newest_run_of_a_folder_is_meant_by_the_folder(
    tmp_path: Path, short: Path, aged: Path
) -> None:
    for run in (aged, short):  # by when they were begun, not by when they were copied
        shutil.copytree(run, tmp_path / run.name)
    newest = max((short, aged), key=lambda run: folders._created(run))
    assert folders.find(tmp_path).path == tmp_path / newest.name
    assert folders.find(tmp_path / "short").path == tmp_path / "short"


def test_the_newest_best_genome_lies_beside_the_runs(tmp_path: Path, short: Path) -> None:
    shutil.copytree(short, tmp_path / "run")
    assert cli.main(["resume", str(tmp_path / "run"), "--evaluations", "4", *words(NO_FINAL)]) == 0
    beside, inside = (
        read_genome(folder / "best_genome.json") for folder in (tmp_path, tmp_path / "run")
    )
    assert beside == inside


def test_show_says_what_was_found(short: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", str(short), "--top", "2"]) == 0
    said = capsys.readouterr().out
    assert (
        "aging screened by gaussian over the space 'nano' on digits, seed 0, 2 epochs a candidate"
        in said
    )
    assert "4 candidates: " in said
    assert "4 candidates are evaluated" in said
    assert "test accuracy" in said
    assert "  It is wrong on " in said
    assert "expected calibration error" in said
    assert cli.main(["show", str(short / "best_genome.json")]) == 0
    shown = capsys.readouterr().out
    lines = (
        read_genome(short / "best_genome.json")
        .make_space()
        .describe(read_genome(short / "best_genome.json").genome)
    )
    for line in lines:
        assert line.split(": ")[1] in said
        assert line.split(": ")[1] in shown


def test_train_takes_a_run_and_keeps_what_was_there(tmp_path: Path, short: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    before = (run / "final" / "model.safetensors").read_bytes()
    assert cli.main(["train", str(run), "--epochs", "1", "--seed", "5", "--device", "cpu"]) == 0
    assert (run / "final" / "earlier-1" / "model.safetensors").read_bytes() == before
    assert json.loads((run / "final" / "result.json").read_text(encoding="utf-8"))["seed"] == 5
    with RunStore.read(run / "study.db") as store:
        assert [e.details["for"] for e in store.events() if e.kind == "test set opened"] == [
            "the winner",
            "train, 1 epoch, seed 5",
        ]


def test_the_trained_network_is_there_while_another_training_is_not_at_its_end(
    tmp_path: Path,
    short: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    before, accuracy = models.trained_module(run).state_dict(), Result(run).test_accuracy

    def stop(*said: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingProgress, "epoch", stop)
    assert cli.main(["train", str(run), "--epochs", "2", "--device", "cpu"]) == 130
    assert not (run / "final" / "model.safetensors").exists()
    found = models.trained_module(run).state_dict()
    assert all(bool((found[name] == before[name]).all()) for name in before)
    assert Result(run).test_accuracy == accuracy is not None
    capsys.readouterr()
    assert cli.main(["show", str(run)]) == 0
    assert str(run / "final" / "earlier-1") in capsys.readouterr().out.replace("\n", "")
    genome = read_genome(run / "final" / "earlier-1" / "genome.json")
    replace(genome, genome=genome.genome[::-1]).write(run / "best_genome.json")  # another winner
    assert Result(run).test_accuracy is None


def test_train_takes_a_genome_and_the_same_again_is_only_read(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(short / "best_genome.json", tmp_path / "mine.json")
    command = ["train", str(tmp_path / "mine.json"), "--epochs", "1", "--device", "cpu"]
    assert cli.main(command) == 0
    folder = tmp_path / "mine" / "final"
    written = (folder / "model.safetensors").stat().st_mtime_ns
    first = capsys.readouterr().out
    assert "test accuracy" in first
    assert cli.main(command) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    assert cli.main([*command, "--out", str(tmp_path / "elsewhere")]) == 0
    ours, theirs = (
        load_file(place / "model.safetensors") for place in (tmp_path / "elsewhere", folder)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_spaces_lists_every_space_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["spaces"]) == 0
    said = capsys.readouterr().out
    for word in ("layers", "nano", "sep_conv5x5", "Conv2D", "leaky_relu"):
        assert word in said


# --- the same run, however it was run -------------------------------------------------------------


def test_extended_on_one_worker_or_run_at_once_on_two_it_is_the_same_evolution(
    out: Path, longer: Path
) -> None:
    whole = search(out, "whole", f"--evaluations 7 --epochs 2 --workers 2 {NO_FINAL}")
    assert by_number(longer) == by_number(whole)
    assert len(by_number(whole)) == 14


def test_resuming_keeps_what_the_short_run_had(short: Path, longer: Path) -> None:
    assert by_number(longer)[:4] == by_number(short)[:4]
    with RunStore.read(longer / "study.db") as store:
        best = ranking(store.told())[0]
        assert read_genome(longer / "best_genome.json").known["candidate"] == best.number
        kinds = [event.kind for event in store.events()]
        assert kinds.count("started") == 2
        assert kinds.count("resumed") >= 1


def test_the_best_genome_is_another_when_the_best_was_cut_and_turns_out_worse(
    tmp_path: Path,
) -> None:
    folder = folders.RunFolder(tmp_path / "run")
    folder.weights.mkdir(parents=True)
    RunStore.begin(folder.store, {}).close()

    def describe(candidate: Candidate, known: Mapping[str, Any]) -> GenomeFile:
        options = {"channels": 3, "length": 4}
        named = {"candidate": candidate.number, **known}
        return GenomeFile(
            "nano", candidate.proposal.genome, (1, 8, 8), ("a", "b"), options, "digits", named
        )

    keeper = Keeper(folder, describe, 2)
    for number, state, accuracy in (
        (0, State.COMPLETE, 0.5),
        (1, State.CUT, 0.9),
        (2, State.COMPLETE, 0.8),
        (1, State.COMPLETE, 0.7),
    ):
        candidate = Candidate(number, Proposal((number, 0, 0, 0)), "key")
        keeper.hear(Told(candidate, Evaluation(number, state, {"accuracy": accuracy})))
        keeper.prune()
    assert read_genome(folder.best_genome).known == {"candidate": 2, "accuracy": 0.8}


def test_resuming_what_is_reached_already_changes_nothing(tmp_path: Path, short: Path) -> None:
    shutil.copytree(short, tmp_path / "run")
    before = by_number(short)
    assert cli.main(["resume", str(tmp_path / "run"), "--evaluations", "2"]) == 0
    assert by_number(tmp_path / "run") == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing kills like that here")
def test_killed_on_two_workers_and_resumed_it_is_the_same_aging_evolution(
    tmp_path: Path, aged: Path
) -> None:
    run = tmp_path / "killed"
    _, said = killed(run, [*words(TINY), *words(AGING), "--workers", "2"], after=2)
    assert 2 <= arrived(run) < 9, said
    assert cli.main(["resume", str(run), "--workers", "1"]) == 0
    assert by_number(run) == by_number(aged)
    with RunStore.read(run / "study.db") as store:
        assert all(e.state in (State.COMPLETE, State.PRUNED) for e in store.evaluations())


# --- bad input ------------------------------------------------------------------------------------


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What nanonas says, in one line, when it ends with 2; what it has found, where no test before
    has had it said, and what it has planned may stand before.
    """
    capsys.readouterr()
    assert cli.main([str(argument) for argument in arguments]) == 2
    *planned, said = capsys.readouterr().err.splitlines(keepends=True)
    before = ("  ", "digits: ")
    assert all(line.endswith(" in all\n") or line.startswith(before) for line in planned)
    assert said.startswith("nanonas: ")
    assert said.endswith("\n")
    return said.removeprefix("nanonas: ").rstrip("\n")


def refused(capsys: pytest.CaptureFixture[str], out: Path, flags: str) -> str:
    """What a search says that cannot even begin: it leaves no folder behind."""
    said = complaint(
        capsys, "search", *words(TINY), "--out", out, "--name", "refused", *words(flags)
    )
    assert not (out / "refused").exists()
    return said


def test_a_verb_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "serch") == "'serch' is no verb of nanonas; did you mean 'search'?"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--population 1",
            (
                "the command line: search.population is 1, but must be greater than or equal to 2 "
                "(--population)"
            ),
        ),
        (
            "--time soon",
            "--time is 'soon', but must be a duration above 0 such as 90s, 30m or 1h30m",
        ),
        ("--time 0", "--time is '0', but must be a duration above 0 such as 90s, 30m or 1h30m"),
        ("--add-rate -1", None),
        ("--space layers --add-rate 0 --remove-rate 0 --change-rate 0 --skip-rate 0", None),
        ("--train-images 3", "train_images must be 10, one for each class, or more, but is 3"),
        ("--data no-such-place", None),
        ("--device tpu", "device 'tpu' is not one of auto, cpu, cuda, cuda:N and mps"),
        ("--device cuda:99", None),
        ("--image-size 4", None),
        (
            "--config no-such.yaml",
            "there is no configuration file 'no-such.yaml'; see configs/ for examples",
        ),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, flags: str, said: str | None
) -> None:
    complained = refused(capsys, tmp_path, flags)
    assert said is None or complained == said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = refused(capsys, tmp_path, "--device cuda")
    assert (
        said
        == "device 'cuda' was asked for, but PyTorch sees no CUDA GPU here; use --device auto or "
        "--device cpu"
    )


def test_a_key_that_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("search: {populaton: 3}", encoding="utf-8")
    said = refused(capsys, tmp_path, f"--config {tmp_path / 'c.yaml'}")
    assert (
        said == f"{tmp_path / 'c.yaml'} has an unknown key 'search.populaton'; did you mean "
        "'population'?"
    )


def test_a_folder_with_one_class(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images" / "only"
    folder.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    said = refused(capsys, tmp_path, f"--data {tmp_path / 'images'}")
    assert str(tmp_path / "images") in said
    assert "class" in said


def test_limits_that_no_network_meets(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text(
        "of somebody who named a folder that was there", encoding="utf-8"
    )
    said = complaint(
        capsys, "search", *words(TINY), "--out", tmp_path, "--name", "mine", "--max-params", 10
    )
    assert (tmp_path / "mine" / "notes.txt").exists()
    assert said.startswith(
        "the limits are exhausted: 10,020 of 10,020 draws from the space 'nano' exceed at most 10"
    )
    assert said.endswith("so raise the limits or choose another space")


def test_a_name_that_is_taken(capsys: pytest.CaptureFixture[str], short: Path) -> None:
    before = by_number(short)
    said = complaint(capsys, "search", *words(TINY), "--out", short.parent, "--name", "short")
    assert (
        said
        == f"there is a run in {short}/study.db already: resume it, or choose another folder for a "
        "new one"
    )
    assert by_number(short) == before


@pytest.mark.parametrize("verb", ["resume", "show", "train"])
def test_a_folder_without_a_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: str
) -> None:
    said = complaint(capsys, verb, tmp_path)
    assert said == f"'{tmp_path}' holds no run; begin a run with `nanonas search --out {tmp_path}`"
    assert "does not exist" in complaint(capsys, verb, tmp_path / "nowhere")


def test_a_run_keeps_its_search(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, short: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    values = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    values["search"]["lr"] = 0.5
    (run / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    said = complaint(capsys, "resume", run, "--evaluations", 5)
    assert "search.lr = 0.3, not 0.5" in said
    assert by_number(run) == by_number(short)


def test_a_run_that_lost_its_configuration_finds_it_in_the_store(
    tmp_path: Path, short: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    before = read_yaml(run / "config.yaml").search
    (run / "config.yaml").unlink()
    assert cli.main(["resume", str(run)]) == 0
    assert read_yaml(run / "config.yaml").search == before
    assert by_number(run) == by_number(short)


def begun_without(run: Path, *keys: str) -> None:
    """Makes the run as if a version of nanonas had begun it that did not have these keys yet."""
    values = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    with sqlite3.connect(run / "study.db") as db:
        stored = json.loads(db.execute("SELECT config FROM run").fetchone()[0])
        for key in keys:
            del values["search"][key], stored["search"][key]
        db.execute("UPDATE run SET config = ?, checksum = NULL", [json.dumps(stored)])
    db.close()
    (run / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def test_a_run_of_an_older_version_is_shown_and_gone_on_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, short: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    begun_without(run, "objectives", "rungs")
    assert cli.main(["show", str(run)]) == 0
    config = (run / "config.yaml").read_text(encoding="utf-8")
    (run / "config.yaml").write_text(
        config.replace("search:", "search:\n  rungs: 5"), encoding="utf-8"
    )
    assert "search.rungs = 3, not 5: a run keeps its search" in complaint(capsys, "resume", run)
    (run / "config.yaml").write_text(config, encoding="utf-8")
    assert cli.main(["resume", str(run)]) == 0
    assert by_number(run) == by_number(short)


def test_a_run_that_was_begun_with_keys_that_are_gone_is_shown_and_gone_on_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, short: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    values = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    gone = {"warm_pool": 7, "acquisition": "ei"}
    with sqlite3.connect(run / "study.db") as db:
        stored = json.loads(db.execute("SELECT config FROM run").fetchone()[0])
        stored["search"] |= gone
        db.execute("UPDATE run SET config = ?, checksum = NULL", [json.dumps(stored)])
    db.close()
    (run / "config.yaml").write_text(
        yaml.safe_dump(values | {"search": values["search"] | gone}), encoding="utf-8"
    )
    capsys.readouterr()
    assert cli.main(["show", str(run)]) == 0
    assert "has search.warm_pool = 7, which this version of nanonas ignores: " in (
        capsys.readouterr().err
    )
    assert cli.main(["report", str(run)]) == 0
    (run / "config.yaml").unlink()  # the store has the same keys
    assert cli.main(["resume", str(run)]) == 0
    assert by_number(run) == by_number(short)


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path, short: Path) -> None:
    shutil.copytree(short, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "study.db").write_bytes(b"")
    os.utime(tmp_path / "bad" / "study.db", (0, 0))
    assert folders.find(tmp_path).path == tmp_path / "good"


def test_deleted_weights_are_one_sentence(tmp_path: Path, short: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    shutil.rmtree(run / "final")
    shutil.rmtree(run / "weights")
    with pytest.raises(
        RunError, match=r"the weights '.*safetensors' cannot be read: .*; train the network again"
    ):
        models.trained_module(run)


def test_other_images_are_refused_on_resume(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, short: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    with sqlite3.connect(run / "study.db") as db:
        db.execute(
            'UPDATE event SET details = \'{"fingerprint": "other"}\', checksum = NULL '
            "WHERE kind = 'images'"
        )
    db.close()
    assert "have changed since the run" in complaint(capsys, "resume", run, "--evaluations", 5)


@pytest.mark.parametrize("verb", ["train", "show"])
@pytest.mark.parametrize("where", ["beside", "in a run"])
def test_a_broken_genome(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, short: Path, verb: str, where: str
) -> None:
    source = tmp_path / "best_genome.json"
    if where == "in a run":
        shutil.copytree(short, tmp_path / "run")
        source = tmp_path / "run" / "best_genome.json"
    whole = (short / "best_genome.json").read_text(encoding="utf-8")
    source.write_text(whole[: len(whole) // 2], encoding="utf-8")
    said = complaint(capsys, verb, source if where == "beside" else source.parent)
    assert said.startswith(f"{source} is not JSON: ")


def test_a_genome_of_other_images(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, short: Path
) -> None:
    values = json.loads((short / "best_genome.json").read_text(encoding="utf-8"))
    values["input_shape"] = [3, 32, 32]
    (tmp_path / "g.json").write_text(json.dumps(values), encoding="utf-8")
    said = complaint(capsys, "train", tmp_path / "g.json", "--epochs", 1)
    assert said.startswith(
        "the genome is of a network for 10 classes of images 32×32×3, but digits has 10 classes of"
    )
    assert said.endswith("; name its own data with --data, or search anew")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--epochs", "0"], "--epochs must be 1 or more, but is 0"),
        (["train", "--seed", "-1"], "--seed must be 0 or more, but is -1"),
        (["show", "--top", "0"], "--top must be 1 or more, but is 0"),
        (["train", "--body-lr", "it's"], '--body-lr must be a number, but is "it\'s"'),
        (["train", "--epochs", "1.5"], "--epochs must be a whole number, but is '1.5'"),
    ],
)
def test_a_number_that_cannot_be(
    capsys: pytest.CaptureFixture[str], short: Path, arguments: list[str], said: str
) -> None:
    assert complaint(capsys, *arguments, short) == said


def test_ctrl_c_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(config: object, listener: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(beginning, "begin", pressed)
    assert cli.main(["search", *words(TINY)]) == 130
    said = capsys.readouterr().err
    assert said.startswith("\nstopped; ")
    assert len(said.strip()) > len("stopped; ")


def test_compare_trains_everybody_and_goes_on_where_it_was(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = REFERENCES["baseline"]
    monkeypatch.setattr(
        "nanonas.session.compare.REFERENCES", {"resnet18": small, "baseline": small}
    )
    shutil.copytree(short, tmp_path / "run")
    command = [
        "compare",
        str(tmp_path / "run"),
        *words("--epochs 2 --seeds 2 --random 1 --time-per-network 10m"),
    ]
    assert cli.main(command) == 0
    said = capsys.readouterr().out
    assert said.index("about") < said.index("training 1 of 2")  # the estimate comes first
    rows = json.loads((tmp_path / "run" / "compare" / "table.json").read_text())
    assert [row["network"] for row in rows] == ["found", "resnet18", "baseline", "random 1"]
    for row in rows:
        accuracies = [training["test_accuracy"] for training in row["trainings"]]
        assert row["test_accuracy"] == pytest.approx(statistics.mean(accuracies))
        assert row["spread"] == pytest.approx(statistics.stdev(accuracies))
        assert row["epochs"] == 2
    assert rows[0]["search_seconds"] > 0
    assert cli.main(command) == 0  # what is trained is only read
    assert json.loads((tmp_path / "run" / "compare" / "table.json").read_text())[1:] == rows[1:]


def test_compare_keeps_to_its_time(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = REFERENCES["baseline"]
    monkeypatch.setattr(
        "nanonas.session.compare.REFERENCES", {"resnet18": small, "baseline": small}
    )
    monkeypatch.setattr("nanonas.training.crew.pace_of", lambda training, patience: Pace(10.0))
    shutil.copytree(short, tmp_path / "run")
    assert (
        cli.main(
            [
                "compare",
                str(tmp_path / "run"),
                *words("--epochs 9 --seeds 1 --random 0 --time-per-network 5s"),
            ]
        )
        == 0
    )
    rows = json.loads((tmp_path / "run" / "compare" / "table.json").read_text())
    assert {row["epochs"] for row in rows} == {0.5}  # half of the images, once
    assert {row["trainings"][0]["train_images"] for row in rows} == {round(0.5 * 1438)}
