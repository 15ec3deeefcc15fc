"""Final trainings on a cluster: the oracle is the training that was never away."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from toys.ray import ThreadRay, cluster_of

from nanonas.data import images as images_module
from nanonas.data.images import DataSpec, laid_out, load
from nanonas.engine.storage.events import WORKER_LOST
from nanonas.errors import RunError
from nanonas.session import away
from nanonas.session.away import Away
from nanonas.spaces.nano import NanoSpace
from nanonas.training import crew, final
from nanonas.training.augment import Augment
from nanonas.training.final import FinalResult, FinalTraining
from nanonas.training.inheritance.parents import Parent
from nanonas.training.measuring.pace import Pace
from nanonas.training.modules import build_module
from nanonas.training.pictures import final_pictures, held_out_pictures
from nanonas.training.pretrained import Pretrained
from nanonas.training.recipe import Recipe

NETWORK = NanoSpace((1, 8, 8), 10, channels=4, length=2).decode((0, 1))
RECIPE = Recipe(batch_size=64, lr=0.2, augment=Augment(crop=1))
EPOCHS = 4

Heard = list[tuple[str, Mapping[str, Any]]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No speed is measured, and a wait for room is short."""
    monkeypatch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(1.0))
    monkeypatch.setattr(images_module, "_held", {})
    monkeypatch.setattr(away, "_ROOM_SECONDS", 0.05)


def training(
    folder: Path,
    ray: ThreadRay | None = None,
    heard: Heard | None = None,
    pretrained: Pretrained | None = None,
) -> FinalTraining:
    spec = DataSpec("digits").pinned_to(load("digits"))
    there = None
    if ray is not None:

        def notice(kind: str, details: Mapping[str, Any]) -> None:
            if heard is not None:
                heard.append((kind, details))

        there = Away(cluster_of(ray), load("digits"), False, notice)
    return FinalTraining(
        NETWORK,
        final_pictures(spec, "cpu"),
        lambda: held_out_pictures(DataSpec("digits"), "cpu"),
        RECIPE,
        0,
        folder,
        {"data": spec.fingerprint},
        threads=1,
        elsewhere=there,
        pretrained=pretrained,
    )


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinalResult]:
    """The training of this machine."""
    folder = tmp_path_factory.mktemp("here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
        return folder, training(folder).run(EPOCHS)


def require_equal(folder: Path, result: FinalResult, here: tuple[Path, FinalResult]) -> None:
    """The same result, files and weights."""
    assert replace(result, seconds=0.0) == replace(here[1], seconds=0.0)
    assert {path.name for path in folder.iterdir()} == {path.name for path in here[0].iterdir()}
    ours, theirs = (load_file(one / "model.safetensors") for one in (folder, here[0]))
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_a_training_on_a_cluster_is_the_training_of_this_machine(
    tmp_path: Path, here: tuple[Path, FinalResult]
) -> None:
    ray, seen = ThreadRay([(1, 0), (2, 0)]), list[int]()
    task = training(tmp_path, ray)
    result = task.run(EPOCHS, on_epoch=lambda done, of, loss: seen.append(done))
    require_equal(tmp_path, result, here)
    assert seen == list(range(1, EPOCHS + 1))
    assert [actor.options["num_cpus"] for actor in ray.actors] == [2]
    assert all(actor.ended for actor in ray.actors)
    assert task.run(EPOCHS) == result  # finished: it is only read
    assert len(ray.actors) == 1


def test_the_weights_that_it_begins_with_go_along(tmp_path: Path) -> None:
    parent = Parent(NETWORK, build_module(NETWORK, seed=7).state_dict())
    begins_with = Pretrained(parent, "things", same_classes=False)
    own = training(tmp_path / "own", pretrained=begins_with).run(1)
    ray = ThreadRay([(2, 0)])
    away = training(tmp_path / "away", ray, pretrained=begins_with).run(1)
    require_equal(tmp_path / "away", away, (tmp_path / "own", own))
    assert len(ray.actors) == 1
    assert own.began_with is not None


def test_a_lost_node_costs_what_came_after_its_last_checkpoint(
    tmp_path: Path, here: tuple[Path, FinalResult]
) -> None:
    heard: Heard = []
    ray = ThreadRay([(2, 0)])
    seen: list[int] = []

    def on_epoch(done: int, of: int, loss: float) -> None:
        seen.append(done)
        if done == 2:
            ray.actors[0].lose("its node has died")

    result = training(tmp_path, ray, heard).run(EPOCHS, on_epoch=on_epoch)
    require_equal(tmp_path, result, here)
    assert len(ray.actors) == 2
    assert seen == sorted(set(seen)), "an epoch was trained that was there"
    assert len(ray.sent) == 1
    assert heard == [(WORKER_LOST, {"for": "final training", "reason": "its node was lost"})]


def test_after_two_losses_it_ends_with_a_sentence_and_can_be_resumed(
    tmp_path: Path, here: tuple[Path, FinalResult]
) -> None:
    ray, heard = ThreadRay([(2, 0)]), Heard()

    def on_epoch(done: int, of: int, loss: float) -> None:
        ray.actors[-1].lose("its node has died")

    with pytest.raises(RunError, match=r"lost 2 times on the cluster: its node was lost; its last"):
        training(tmp_path, ray, heard).run(EPOCHS, on_epoch=on_epoch)
    assert [kind for kind, _ in heard] == [WORKER_LOST] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    seen: list[int] = []
    result = training(tmp_path).run(EPOCHS, on_epoch=lambda done, of, loss: seen.append(done))
    assert seen == [] or seen[0] > 1
    require_equal(tmp_path, result, here)


def test_what_the_training_raises_there_is_a_sentence_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is tried again: it would come to the same."""
    ray = ThreadRay([(2, 0)])
    versions = iter(["0.0.1", "0.0.2"])
    monkeypatch.setattr(away, "version_of", lambda name: next(versions))
    with pytest.raises(RunError, match=r"nanonas 0\.0\.2, and the search 0\.0\.1; install"):
        training(tmp_path, ray).run(1)
    assert len(ray.actors) == 1
    assert ray.actors[0].ended


def test_a_training_that_diverges_there_begins_again_with_a_lower_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = ThreadRay([(2, 0)])
    wild = replace(training(tmp_path, ray), recipe=replace(RECIPE, lr=1e12, clip_norm=0.0))
    monkeypatch.setattr(final, "slower", lambda recipe, factor: RECIPE)
    assert wild.run(1).lr == RECIPE.lr
    assert len(ray.actors) == 2


def test_ctrl_c_ends_the_process_there_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    ray = ThreadRay([(2, 0)])

    def on_epoch(done: int, of: int, loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, ray).run(EPOCHS, on_epoch=on_epoch)
    assert ray.actors[0].ended
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_the_deadline_is_kept_there(tmp_path: Path) -> None:
    ray = ThreadRay([(2, 0)])
    result = training(tmp_path, ray).run(deadline=time.monotonic() - 1)
    assert result.epochs == final.LEAST
    assert len(ray.actors) == 1


@pytest.mark.parametrize(
    ("nodes", "busy", "gpus", "asked"),
    [
        ([(2, 0), (16, 0), (8, 0)], 0, False, [16]),
        ([(16, 0)], 5, False, [16, 8]),
        ([(4, 0)], 4, False, [4, 2, 1]),  # no room anywhere
        ([(16, 0), (4, 2)], 0, True, [4]),
        ([(16, 0)], 0, True, []),
    ],
)
def test_the_largest_node_is_taken_as_far_as_it_is_free(
    nodes: list[tuple[int, int]], busy: int, gpus: bool, asked: list[int]
) -> None:
    ray = ThreadRay(nodes, busy)
    elsewhere = Away(cluster_of(ray), load("digits"), gpus, lambda kind, details: None)
    elsewhere._found(None)
    assert [actor.options["num_cpus"] for actor in ray.actors] == asked
    assert {actor.options["num_gpus"] for actor in ray.actors} <= {2 if gpus else 0}


def test_where_this_machine_is_the_largest_node_it_trains(
    tmp_path: Path, here: tuple[Path, FinalResult]
) -> None:
    ray = ThreadRay([(2, 0), (2, 0)], host=socket.gethostname())
    result = training(tmp_path, ray).run(EPOCHS)
    require_equal(tmp_path, result, here)
    assert not ray.actors


def test_images_of_another_machine_are_found_by_their_path() -> None:
    """As processes that train together find them."""
    images = load("digits")
    there = laid_out(images.for_training())
    assert there.folder is not None
    assert laid_out(images.for_training()).folder == there.folder
    spec = DataSpec("gone", pinned=there.folder, fingerprint=images.fingerprint)
    found = final_pictures(spec, "cpu")
    assert bool((found.x == final_pictures(DataSpec("digits"), "cpu").x).all())
    assert found.spec == spec
    assert len(there.x_test) == 0
