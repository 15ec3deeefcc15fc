"""The way to a cluster, and what goes there: without any cluster, and without Ray."""

from __future__ import annotations

import importlib.util
import os
import pickle
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys.cluster import Heir

from nanonas.config.files import configure
from nanonas.core import Candidate, Proposal
from nanonas.data.images import DataSpec, hold, load
from nanonas.data.split import split
from nanonas.engine.evaluators import joining
from nanonas.engine.evaluators.attempt import attempt
from nanonas.engine.evaluators.cluster import cause
from nanonas.engine.evaluators.joining import Cluster, Need, joined
from nanonas.engine.evaluators.slot import Answer, Broken, Slot
from nanonas.errors import ConfigError, RunError
from nanonas.session.setup import resolved


def candidate(number: int, **known: Any) -> Candidate:
    return Candidate(number, Proposal((1, 1, 1, 2), **known), f"key{number}")


def test_without_the_extra_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(ConfigError, match=r"^--cluster needs Ray: pip install 'nanonas\[ray\]'$"),
        joined("local:2"),
    ):
        pass


class Loads(Exception):
    """Ray is loaded now, and reads the environment."""


def loads_with(address: str, **given: str) -> dict[str, str]:
    """The settings with which Ray is loaded."""
    environment = dict(given)

    def load() -> Any:
        raise Loads

    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "ray", raising=False)
        patch.setattr(os, "environ", environment)
        patch.setattr(joining, "_ray", load)
        with pytest.raises(Loads), joined(address):
            pass
    return environment


def test_a_cluster_of_this_machine_alone_has_a_token_of_its_own() -> None:
    """Another one has the token that its owner has given it, here or in a file."""
    first, second = loads_with("local"), loads_with("local:2")
    assert first["RAY_AUTH_MODE"] == second["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == len(second["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    for address in ("auto", "10.0.0.5:6379", "ray://10.0.0.5:10001"):
        assert loads_with(address) == joining._ENVIRONMENT


@pytest.mark.parametrize("address", ["local", "auto"])
def test_what_the_environment_says_stays(address: str) -> None:
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "given", "RAY_USAGE_STATS_ENABLED": "1"}
    found = loads_with(address, **given)
    assert given.items() <= found.items()
    assert found.keys() == given.keys() | joining._ENVIRONMENT.keys()


def test_ray_that_is_loaded_keeps_the_token_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would not read another one."""
    monkeypatch.setitem(sys.modules, "ray", sys.modules[__name__])
    assert joining._token("local") == {}


def test_no_address_is_no_cluster() -> None:
    with joined(None) as cluster:
        assert cluster is None


def test_an_address_that_does_not_answer_is_said_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        start = time.monotonic()
        for written in (address, f"ray://{address}"):
            with pytest.raises(
                ConfigError, match=rf"no cluster answers at '{written}' .* refused; begin one"
            ):
                joining._require_answer(written)
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("need", "resources", "fit"),
    [
        (Need(), {"CPU": 3.0, "memory": 1e9}, 3),
        (Need(), {"memory": 1e9}, 0),
        (Need(gpus=0.25), {"CPU": 16.0, "GPU": 2.0}, 8),
        (Need(gpus=0.3), {"CPU": 16.0, "GPU": 2.0}, 6),  # three on each, a tenth left over
        (Need(gpus=0.1), {"CPU": 16.0, "GPU": 1.0}, 10),
        (Need(gpus=1.0), {"CPU": 2.0, "GPU": 8.0}, 2),
        (Need(gpus=1.0), {"CPU": 2.0}, 0),
    ],
)
def test_how_many_candidates_a_node_has_room_for(
    need: Need, resources: dict[str, float], fit: int
) -> None:
    assert need.within(resources) == fit


def test_what_is_sent_of_the_images_trains_as_they_do_and_has_no_test() -> None:
    images = load("digits")
    sent = pickle.loads(pickle.dumps(images.for_training()))
    assert len(sent.x_test) == len(sent.y_test) == 0
    assert type(sent.x_train) is np.ndarray
    assert np.array_equal(sent.x_train, images.x_train)
    ours, theirs = split(images, 3, 0.2, 500), split(sent, 3, 0.2, 500)
    assert np.array_equal(ours.train, theirs.train)
    assert np.array_equal(ours.valid, theirs.valid)
    assert (sent.fingerprint, sent.mean, sent.std) == (
        images.fingerprint,
        images.mean,
        images.std,
    )
    assert np.shares_memory(images.for_training().x_train, images.x_train)


def test_images_that_a_process_holds_need_neither_cache_nor_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from nanonas.data import images as module

    monkeypatch.setattr(module, "_held", {})
    sent = load("digits").for_training()
    spec = DataSpec("gone", pinned=Path("/nowhere"), fingerprint=sent.fingerprint)
    hold(sent)
    assert spec.load() is sent


def test_a_slot_refuses_another_version_before_it_reads_anything() -> None:
    slot = Slot("0.0.1", b"no pickle", False, None)
    said = slot.begin()
    assert isinstance(said, Broken)
    assert "and the search 0.0.1; install the same version" in said.reason


def test_a_slot_reads_and_keeps_weights_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """As `Heir` does where it is given a folder."""
    from nanonas.machine import version_of

    slot = Slot(version_of("nanonas"), pickle.dumps(Heir(Path("/nowhere"))), True, None)
    slot.begin()
    answer = slot.measure(candidate(7, inherits=(3, 4)), None, [3, 4], b"three", b"four")
    assert isinstance(answer, Answer)
    (tmp_path / "3.safetensors").write_bytes(b"three")
    (tmp_path / "4.safetensors").write_bytes(b"four")
    expected = attempt(Heir(tmp_path), candidate(7, inherits=(3, 4)), lambda: True)
    assert dict(answer.evaluation.metrics) == dict(expected.metrics)
    assert answer.weights == (tmp_path / "7.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("… The actor died because its node has died. Node Id: 1f", "its node was lost"),
        (
            "2 worker(s) were killed by the memory monitor …",
            "killed by the memory monitor of the cluster",
        ),
        (
            "… because its worker process has died. … (1) The process is killed by SIGKILL by OOM "
            "killer due to high memory usage. (2) ray stop --force is called.",
            "its process or its node was killed, as the system does when memory runs out",
        ),
    ],
)
def test_why_a_process_was_lost(said: str, reason: str) -> None:
    assert cause(RuntimeError(said)) == reason


class Nodes:
    """What a cluster has by now, as Ray says it."""

    def __init__(self) -> None:
        self.cpus = [2.0, 1.0]

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": cpus > 0, "Resources": {"CPU": cpus}} for cpus in self.cpus]


def test_a_cluster_is_lost_when_it_has_not_answered_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    answering = [True]
    monkeypatch.setattr(Cluster, "answers", lambda self: answering[0])
    nodes = Nodes()
    cluster = Cluster(nodes, "auto", None)
    assert cluster.capacity(Need()) == 3
    nodes.cpus = [2.0, 0.0, 4.0]
    assert cluster.capacity(Need()) == 3  # asked a moment ago
    clock[0] += 3
    assert cluster.capacity(Need()) == 6
    answering[0] = False
    clock[0] += 1000  # nobody asked meanwhile, so that nothing was silent
    assert cluster.capacity(Need()) == 6
    clock[0] += 15
    answering[0] = True
    assert cluster.capacity(Need()) == 6
    answering[0] = False
    for _ in range(5):
        clock[0] += 5
        assert cluster.capacity(Need()) == 6
    clock[0] += 5
    with pytest.raises(RunError, match="'auto' does not answer any more; what has arrived is kept"):
        cluster.capacity(Need())


def test_more_may_be_in_flight_on_a_cluster_than_here() -> None:
    here = configure(data="digits", workers=16, device="cpu")
    assert resolved(here).search.strategy.lag == 32
    assert resolved(here, slots=16).search.strategy.lag == 64
    given = configure(data="digits", lag=5, device="cpu")
    assert resolved(given, slots=16).search.strategy.lag == 5
