"""A run goes on with the images that it was begun with, whatever happens to their folder."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from toys.images import image_folder, pixels, png
from toys.session import InProcess

from nanonas import cli, load
from nanonas.config.files import configure
from nanonas.core import Evaluation, State, Told
from nanonas.data.images import DataSpec
from nanonas.data.images import load as load_images
from nanonas.data.preprocessing import Preprocessing
from nanonas.engine.evaluators.attempt import attempt
from nanonas.engine.storage.events import IMAGES
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress
from nanonas.errors import DataError
from nanonas.runs.folder import find, read_config
from nanonas.runs.genome import read_genome
from nanonas.runs.source import fitting, open_source
from nanonas.session import session as session_module
from nanonas.session.listener import Listener
from nanonas.session.session import Outcome
from nanonas.session.setup import Setup, resolved
from nanonas.session.start import begin
from nanonas.training import trial
from nanonas.training.augment import normalise
from nanonas.training.pictures import final_pictures, held_out_pictures, pictures
from nanonas.training.weights import read_weights

pytestmark = pytest.mark.usefixtures("cache", "quick_measurements")
TINY = ["--space", "nano", "--channels", "3", "--length", "4", "--population", "2", "--lag", "1"]
TINY += ["--device", "cpu", "--workers", "1", "--evaluations", "2", "--epochs", "1"]
TINY += ["--final-epochs", "0"]


def add(root: Path) -> None:
    for index in range(5):
        png(root / "dog" / f"new{index}.png", pixels(1, 12, 12, 3, seed=90 + index)[0])


def rename(root: Path) -> None:
    (root / "cat").rename(root / "zebra")


def relabel(root: Path) -> None:
    (root / "cat" / "03.png").rename(root / "dog" / "30.png")


CHANGES = pytest.mark.parametrize("change", [add, rename, relabel, shutil.rmtree])


@CHANGES
def test_images_stay_those_that_the_run_began_with(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = image_folder(tmp_path / "pets")
    setup = Setup(resolved(configure(data=str(root), space="nano", device="cpu")))
    spec, begun = setup.data, setup.images
    train, test = np.array(begun.x_train), np.array(begun.x_test)
    change(root)
    restarted = pickle.loads(pickle.dumps(spec))  # as a new worker gets it
    assert restarted.load().class_names == ("cat", "dog")
    assert restarted.load().fingerprint == begun.fingerprint
    for seen, expected in (
        (final_pictures(setup.data, "cpu"), train),
        (held_out_pictures(setup.data, "cpu"), test),
        (pictures(restarted, "cpu")[0], train),
    ):
        np.testing.assert_array_equal(seen.x.permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.parametrize("change", [add, rename, relabel])
def test_without_the_decoded_images_others_are_refused(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = image_folder(tmp_path / "pets")
    spec = Setup(resolved(configure(data=str(root), space="nano", device="cpu"))).data
    assert spec.pinned is not None
    shutil.rmtree(spec.pinned)
    assert spec.load().fingerprint == spec.fingerprint  # decoded anew
    change(root)
    shutil.rmtree(spec.pinned)
    with pytest.raises(DataError, match="have changed since the run was begun; bring back the old"):
        spec.load()


class Restarting(InProcess):
    """Gives each candidate what a new worker gets."""

    def result(self, timeout: float | None = None) -> Evaluation | None:
        trial._on_device.cache_clear()
        measure = pickle.loads(pickle.dumps(self.measure))
        return attempt(measure, self.queue.pop(0), lambda: True)


class Once(Listener):
    """Does something when the first candidate has been evaluated."""

    def __init__(self, do: Callable[[], object]) -> None:
        self.do = [do]

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        while self.do:
            self.do.pop()()


def searched_in_parts(root: Path, out: Path, do: Callable[[], object]) -> Outcome:
    """A search with a final training, in which something is done after the first candidate."""
    size = {"space": "nano", "channels": 3, "length": 4, "population": 2, "lag": 1}
    run = {"workers": 1, "evaluations": 4, "epochs": 1, "final_epochs": 2, "stop_epoch": 0}
    config = configure(**size, **run, data=str(root), device="cpu", out=out, name="run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "WorkerPool", Restarting)
        return begin(config, Once(do))


@CHANGES
def test_a_search_ends_with_the_images_that_it_began_with(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    """As if nobody had changed their folder while candidates were trained."""
    root, same = image_folder(tmp_path / "pets"), image_folder(tmp_path / "same" / "pets")
    changed = searched_in_parts(root, tmp_path / "changed", lambda: change(root))
    quiet = searched_in_parts(same, tmp_path / "quiet", lambda: None)
    for outcome in (changed, quiet):
        assert read_genome(outcome.folder.final / "genome.json").class_names == ("cat", "dog")
    assert changed.final is not None
    assert quiet.final is not None
    assert replace(changed.final, seconds=0) == replace(quiet.final, seconds=0)
    with RunStore.read(changed.folder.store) as one, RunStore.read(quiet.folder.store) as other:
        for mine, theirs in zip(one.evaluations(), other.evaluations(), strict=True):
            assert mine.state is State.COMPLETE
            assert (mine.metrics, mine.curve) == (theirs.metrics, theirs.curve)
    ours, theirs_ = (
        load_file(outcome.folder.final / "model.safetensors") for outcome in (changed, quiet)
    )
    assert all(torch.equal(ours[name], theirs_[name]) for name in theirs_)


@pytest.mark.parametrize("change", [add, rename, relabel])
def test_a_search_whose_decoded_images_are_gone_takes_no_others(
    tmp_path: Path, cache: Path, change: Callable[[Path], None]
) -> None:
    root = image_folder(tmp_path / "pets")

    def change_all() -> None:
        shutil.rmtree(cache)
        change(root)

    with pytest.raises(DataError, match="have changed since the run was begun; bring back the old"):
        searched_in_parts(root, tmp_path / "runs", change_all)
    with RunStore.read(tmp_path / "runs" / "run" / "study.db") as store:
        first, *later = store.evaluations()
    assert first.state is State.COMPLETE
    assert [evaluation.state for evaluation in later] == [State.FAILED] * 3
    assert all("have changed since" in (evaluation.reason or "") for evaluation in later)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished search, and its images. Nobody may change them."""
    place = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANONAS_CACHE", str(place / "cache"))
        root = image_folder(place / "pets")
        run = ["--data", str(root), "--out", str(place), "--name", "run"]
        assert cli.main(["search", *run, *TINY]) == 0
    return place / "run", root


@pytest.fixture
def copied(tmp_path: Path, searched: tuple[Path, Path]) -> tuple[Path, Path]:
    """A copy of it whose images lie in another folder, too."""
    run, root = searched
    shutil.copytree(run, tmp_path / "run")
    shutil.copytree(root, tmp_path / "pets")
    config = tmp_path / "run" / "config.yaml"
    text = config.read_text(encoding="utf-8").replace(str(root), str(tmp_path / "pets"))
    config.write_text(text, encoding="utf-8")
    return tmp_path / "run", tmp_path / "pets"


@pytest.mark.parametrize("verb", ["train", "compare"])
@pytest.mark.parametrize("change", [add, rename, relabel])
def test_a_run_is_not_trained_on_other_images_unless_they_are_named(
    copied: tuple[Path, Path],
    verb: str,
    change: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, root = copied
    change(root)
    assert cli.main([verb, str(run), "--epochs", "1", "--device", "cpu"]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"have changed since the run in {run} was begun; bring back the old ones" in said
    if verb == "train":
        named = ["--data", str(root), "--epochs", "1", "--device", "cpu"]
        assert cli.main([verb, str(run), *named]) == 0


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_trained_network_has_the_names_of_its_images_and_their_whole_path(
    copied: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    run, _ = copied
    image_folder(tmp_path / "others", ("apple", "pear"))
    for path in (tmp_path / "others").rglob("*.png"):  # so that mean and deviation are others
        with Image.open(path) as image:
            image.point(lambda value: value // 3).save(path)
    monkeypatch.chdir(tmp_path)
    source = run / "best_genome.json" if suffix else run
    options = ["--data", "others", "--epochs", "1", "--device", "cpu", "--out", "trained"]
    assert cli.main(["train", str(source), *options]) == 0
    genome = read_genome(tmp_path / "trained" / "genome.json")
    _, about = read_weights(tmp_path / "trained" / "model.safetensors")
    assert genome.preprocessing == Preprocessing.from_json(json.loads(about["preprocessing"]))
    assert genome.class_names == ("apple", "pear")
    assert genome.data == str((tmp_path / "others").resolve())
    module = load(tmp_path / "trained")
    weights = load_file(tmp_path / "trained" / "model.safetensors")
    assert not module.training
    assert all(torch.equal(module.state_dict()[name], weights[name]) for name in weights)


@pytest.mark.parametrize("trained", [False, True], ids=["searched", "trained"])
def test_a_network_is_fed_when_its_images_are_gone(
    copied: tuple[Path, Path], tmp_path: Path, cache: Path, trained: bool
) -> None:
    run, root = copied
    images = load_images(str(root))
    files, spec = sorted(root.glob("cat/*")), DataSpec(str(root))
    if trained:
        options = ["--epochs", "1", "--device", "cpu", "--out", str(tmp_path / "trained")]
        assert cli.main(["train", str(run), *options]) == 0
    pictures, stored = final_pictures(spec, "cpu"), images.x_train[0].tobytes()
    place = next(
        n for n, path in enumerate(files) if stored == np.asarray(Image.open(path)).tobytes()
    )
    chosen = tmp_path / files[place].name
    shutil.copy(files[place], chosen)
    shutil.rmtree(root)
    shutil.rmtree(cache)
    model = load(tmp_path / "trained" if trained else run)
    rule = model.preprocessing
    assert rule is not None
    assert rule.class_names == ("cat", "dog")
    assert rule.pixels(chosen).tobytes() == stored
    x = normalise(pictures.x[:1], pictures.mean, pictures.std)
    with torch.no_grad():
        logits = model(torch.from_numpy(rule.batch([chosen])))
        torch.testing.assert_close(logits, model(x), rtol=1e-4, atol=1e-4)
    if trained:
        _, about = read_weights(tmp_path / "trained" / "model.safetensors")
        assert Preprocessing.from_json(json.loads(about["preprocessing"])) == rule
    with RunStore.read(run / "study.db") as store:
        notes = next(event.details for event in store.events() if event.kind == IMAGES)
    assert Preprocessing.from_json(notes["preprocessing"]) == rule


def test_a_run_keeps_the_list_of_the_images_that_it_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(tmp_path / "pets")
    bad = root / "cat" / "03.png"
    bad.write_bytes(b"")
    begun = ["search", "--data", str(root), "--out", str(tmp_path), "--name", "run", *TINY]
    assert cli.main(begun) != 0
    assert "--skip-broken passes over" in " ".join(capsys.readouterr().err.split())
    assert cli.main([*begun, "--skip-broken"]) == 0
    line = f"{bad}: it is no image that Pillow knows"
    run = tmp_path / "run"
    assert (run / "broken_images.txt").read_text(encoding="utf-8") == f"{line}\n"
    with RunStore.read(run / "study.db") as store:
        notes = next(event.details for event in store.events() if event.kind == IMAGES)
    assert notes["broken"] == [line]
    assert cli.main(["resume", str(run), "--evaluations", "3", "--workers", "1"]) == 0
    found = fitting(open_source(run)).images
    assert found is not None
    assert found.broken == (line,)
    genome = ["train", str(run / "best_genome.json"), "--epochs", "1", "--device", "cpu"]
    assert cli.main(genome) != 0
    assert cli.main([*genome, "--skip-broken"]) == 0


def test_images_that_were_moved_are_named_on_resume(
    copied: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, root = copied
    more = ["resume", str(run), "--evaluations", "3", "--workers", "1"]
    root.rename(tmp_path / "moved")
    assert cli.main(more) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"are not in '{root}' any more; where they were moved, name their new place" in said
    image_folder(tmp_path / "others", ("apple", "pear"))
    assert cli.main([*more, "--data", str(tmp_path / "others")]) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"the images in '{tmp_path / 'others'}' have changed since the run" in said
    assert cli.main([*more, "--data", str(tmp_path / "moved")]) == 0
    assert read_config(find(run)).search.data.data == str((tmp_path / "moved").resolve())
    with RunStore.read(run / "study.db") as store:
        assert len(store.evaluations()) == 3
    assert cli.main(["train", str(run), "--epochs", "1", "--device", "cpu"]) == 0
    assert cli.main([*more[:2], "--evaluations", "4", "--workers", "1"]) == 0
