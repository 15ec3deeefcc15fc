"""Candidates on a Ray cluster: the same store as in one process, and what is lost is tried again.

All is skipped where Ray is missing; one cluster serves all of these tests.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from toys.cluster import Heir, Looks
from toys.engine import (
    SPACE,
    STRATEGIES,
    Lasting,
    Misbehaving,
    SteadyBest,
    Unloadable,
    UntilDeadline,
    by_number,
    jittery,
    score,
    study,
)

from nanonas.config.files import configure
from nanonas.core import Candidate, Evaluation, Measure, Proposal, State
from nanonas.data.images import DataSpec, load
from nanonas.engine.evaluators import joining
from nanonas.engine.evaluators.attempt import attempt
from nanonas.engine.evaluators.cluster import ClusterPool
from nanonas.engine.evaluators.joining import Cluster, joined
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.events import TEST_SET_OPENED, WORKER_LOST
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Why
from nanonas.errors import RunError
from nanonas.runs.folder import RunFolder, read_config
from nanonas.session.away import Away
from nanonas.session.start import begin, resume
from nanonas.spaces.nano import NanoSpace
from nanonas.strategies.aging import AgingEvolution
from nanonas.training.pictures import final_pictures, held_out_pictures
from nanonas.training.recipe import Recipe
from nanonas.training.weights import read_weights

TOTAL = 20
NODES = 4
NETWORK = NanoSpace((1, 8, 8), 10, channels=4, length=2).decode((0, 1))
TESTS = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'nanonas[ray]'"
    ),
    # Ray's own
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]


def candidate(number: int, **known: Any) -> Candidate:
    return Candidate(number, Proposal((1, 1, 1, 2), **known), f"key{number}")


@pytest.fixture(scope="session")
def nodes() -> Iterator[Any]:
    """A cluster of simulated nodes with a core each, which this process has joined."""
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:
        paths = [TESTS, TESTS.parent, *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
        patch.setenv("PYTHONPATH", ":".join(map(str, paths)))
        for name, value in joining._ENVIRONMENT.items():
            patch.setenv(name, value)
        try:
            made = Nodes(
                initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
            )
            for _ in range(NODES - 1):
                made.add_node(num_cpus=1)
        except Exception as error:  # noqa: BLE001  Ray's own, of many kinds
            pytest.skip(f"Ray starts no nodes on this machine: {error}")
        try:
            with joined(made.address) as cluster:
                made.joined = cluster
                yield made
        finally:
            made.shutdown()


@pytest.fixture
def cluster(nodes: Any) -> Cluster:
    found: Cluster = nodes.joined
    return found


def evaluate(
    cluster: Cluster, measure: Measure, numbers: int = 4, **options: Any
) -> dict[int, Evaluation]:
    """Evaluations of candidates 0 … numbers - 1."""
    with ClusterPool(cluster, measure, **options) as pool:
        for number in range(numbers):
            pool.submit(candidate(number))
        results = [pool.result(timeout=60) for _ in range(numbers)]
        assert pool.result(timeout=0) is None
    return {result.number: result for result in results if result is not None}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.1)


def begun_as(words: str) -> list[Path]:
    """The processes whose command lines have these words, where /proc says it."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # gone by now
            if words.encode() in line.read_bytes():
                found.append(line.parent)
    return found


def test_a_cluster_comes_to_the_store_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    made = study(tmp_path / "one.db", STRATEGIES["steady"](), SerialEvaluator(score))
    made.run(TOTAL)
    made.store.close()
    with ClusterPool(cluster, jittery) as pool:
        assert pool.slots == NODES
        made = study(tmp_path / "cluster.db", STRATEGIES["steady"](), pool)
        made.run(TOTAL)
        made.store.close()
    assert by_number(tmp_path / "cluster.db") == by_number(tmp_path / "one.db")


@pytest.mark.timeout(300)
def test_a_cluster_of_this_machine_alone_lasts_as_long_as_its_search(tmp_path: Path) -> None:
    """It comes to what worker processes come to, and nothing of it goes on."""
    search = (
        "nanonas search --data digits --train-images 200 --space nano --channels 4 --length 2 "
        "--strategy aging --population 3 --epochs 1 --precision float32 --lag 2 --evaluations 4 "
        f"--final-epochs 0 --device cpu --no-doctor --out {tmp_path}"
    )
    with TemporaryDirectory(prefix="r") as place:  # sockets want short names
        environment = {**os.environ, "RAY_TMPDIR": place}
        for where in ("--cluster local:2 --name there", "--workers 1 --name here"):
            words = shlex.split(f"{search} {where}")
            said = subprocess.run(
                [sys.executable, "-m", *words],
                env=environment,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            assert not said.returncode, said.stderr
        assert (Path(place) / "ray").exists()
        wait_until(lambda: not begun_as(place))
    there, here = (by_number(tmp_path / name / "study.db") for name in ("there", "here"))
    assert there == here


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_search_on_a_cluster_is_the_search_of_one_machine(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trainings for real, children with their parents' weights, the winner's on one node; it goes
    on without a cluster.
    """
    monkeypatch.setattr(Cluster, "largest", lambda self, gpus: (1, 0))
    search: dict[str, Any] = {
        "data": "digits",
        "train_images": 200,
        "space": "nano",
        "channels": 4,
        "length": 3,
        "strategy": "aging",
        "population": 3,
        "inherit": True,
        "finalists": 1,
        "epochs": 1,
        "precision": "float32",
        "lag": 3,
        "final_epochs": 0,
        "device": "cpu",
        "doctor": False,
        "out": tmp_path,
    }
    begin(configure(**search, evaluations=8, workers=1, name="here"))
    finals = {**search, "final_epochs": 1}
    outcome = begin(configure(**finals, evaluations=6, cluster="auto", name="there"))
    assert outcome.final is not None
    assert outcome.final.hardware.startswith("1 core of")
    there = tmp_path / "there"
    with RunStore.read(there / "study.db") as store:
        assert [event.kind for event in store.events()].count(TEST_SET_OPENED) == 1
    changed: dict[str, Any] = {"evaluations": 8, "cluster": None, "workers": 1, "final_epochs": 0}
    resume(there, replace(read_config(RunFolder(there)).run, **changed))
    assert by_number(there / "study.db") == by_number(tmp_path / "here" / "study.db")
    candidates = [one for one in by_number(there / "study.db") if isinstance(one, Candidate)]
    assert any(one.proposal.inherits for one in candidates)
    for weights in (tmp_path / "here" / "weights").iterdir():
        ours, said = read_weights(weights)
        theirs, said_there = read_weights(there / "weights" / weights.name)
        assert said == said_there
        assert ours.keys() == theirs.keys()
        assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


def test_weights_travel_to_children_and_back(cluster: Cluster, tmp_path: Path) -> None:
    """No folder is shared: the measure's own is nowhere."""
    for number in (0, 1):
        (tmp_path / f"{number}.safetensors").write_bytes(b"%d" % number)
    expected = tmp_path / "here"
    expected.mkdir()
    for number in (0, 1):
        (expected / f"{number}.safetensors").write_bytes(b"%d" % number)
    child = candidate(2, inherits=(1, 0))
    evaluation = attempt(Heir(expected), child, lambda: True)
    with ClusterPool(cluster, Heir(Path("/nowhere")), weights=tmp_path) as pool:
        pool.submit(child)
        result = pool.result(timeout=60)
    assert result is not None
    assert dict(result.metrics) == dict(evaluation.metrics)
    kept = (tmp_path / "2.safetensors").read_bytes()
    assert kept == (expected / "2.safetensors").read_bytes()


def test_images_are_read_where_they_lie(cluster: Cluster) -> None:
    """In the object store, which nobody may write into; the test images stay here."""
    images = load("digits")
    spec = DataSpec("nowhere", fingerprint=images.fingerprint)
    (result,) = evaluate(cluster, Looks(spec), numbers=1, images=images).values()
    assert dict(result.metrics) == {
        "sum": float(images.x_train.sum()),
        "test": 0.0,
        "copied": 0.0,
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_final_training_on_a_node_is_that_of_this_machine(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of a node train together, from images that were sent. The first one is lost,
    and another one goes on.
    """
    from nanonas.training.final import FinalTraining

    cluster: Cluster = nodes.joined
    monkeypatch.setattr(Cluster, "largest", lambda self, gpus: (2, 0))
    images, heard, results, processes = load("digits"), list[str](), [], list[int]()
    spec = DataSpec("digits").pinned_to(images)
    elsewhere = Away(cluster, images, False, lambda kind, details: heard.append(kind))
    begun = elsewhere._begun

    def noted(cpus: int, gpus: int) -> Any:
        actor = begun(cpus, gpus)
        processes.append(cluster.ray.get(actor.process.remote(), timeout=60))
        return actor

    def on_epoch(done: int, of: int, loss: float) -> None:
        if done == 1:
            os.kill(processes[0], signal.SIGKILL)

    monkeypatch.setattr(elsewhere, "_begun", noted)
    third = nodes.add_node(num_cpus=2)
    train = final_pictures(spec, "cpu")
    gone = replace(train, spec=replace(spec, source="gone", pinned=Path("/nowhere")))
    for name, shown, there in (("here", train, None), ("there", gone, elsewhere)):
        training = FinalTraining(
            NETWORK,
            shown,
            lambda: held_out_pictures(spec, "cpu"),
            Recipe(batch_size=64, lr=0.2),
            0,
            tmp_path / name,
            {},
            threads=1,
            processes=2,
            elsewhere=there,
        )
        result = training.run(12, on_epoch=on_epoch if there else lambda done, of, loss: None)
        results.append(replace(result, seconds=0.0, latency_ms=0.0))
    nodes.remove_node(third)
    assert results[0] == results[1]
    assert results[1].processes == 2
    assert heard == [WORKER_LOST]
    assert len(processes) == 2
    ours, _ = read_weights(tmp_path / "here" / "model.safetensors")
    theirs, _ = read_weights(tmp_path / "there" / "model.safetensors")
    assert all(bool((ours[name] == theirs[name]).all()) for name in ours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "times", "begun", "reason"),
    [
        ("kill", 1, 2, None),
        ("kill", 9, 2, "its worker died twice: its process or its node was killed"),
        ("hang", 9, 1, "no batch for 1 s: it hung, and was killed"),
    ],
)
def test_what_a_measurement_does_costs_its_candidate_at_most(
    how: str, times: int, begun: int, reason: str | None, cluster: Cluster, tmp_path: Path
) -> None:
    heard: list[tuple[str, Mapping[str, object]]] = []
    results = evaluate(
        cluster,
        Misbehaving(1, how, tmp_path, times),
        hang_seconds=1.0,
        notice=lambda kind, details: heard.append((kind, details)),
    )
    assert len(list(tmp_path.glob("begun-*"))) == begun
    assert [details["number"] for kind, details in heard] == [1] * (how == "kill")
    one = results.pop(1)
    assert (one.reason or "").startswith(reason or "")
    assert one.state is (State.COMPLETE if reason is None else State.FAILED)
    assert {e.state for e in results.values()} == {State.COMPLETE}
    if how == "hang":
        assert "in misbehave" in (one.traceback or "")


@pytest.mark.slow
def test_a_measure_that_no_node_can_load_fails_with_the_reason(cluster: Cluster) -> None:
    results = evaluate(cluster, Unloadable(), numbers=1)
    assert results[0].reason == (
        "no worker could start: ModuleNotFoundError: No module named 'a_module_that_is_not_there'"
    )


@pytest.mark.slow
def test_slots_follow_the_nodes_and_a_lost_node_costs_no_candidate(
    nodes: Any, tmp_path: Path
) -> None:
    heard: list[Mapping[str, object]] = []
    with ClusterPool(
        nodes.joined, UntilDeadline(0), notice=lambda kind, details: heard.append(details)
    ) as pool:
        assert pool.slots == NODES
        another = nodes.add_node(num_cpus=2)
        for number in range(NODES + 2):
            pool.submit(candidate(number), time.monotonic() + 40)
        wait_until(lambda: pool.result(timeout=0.2) is None and pool.slots == NODES + 2)
        wait_until(
            lambda: pool.result(timeout=0.2) is None and all(slot.task for slot in pool._slots)
        )
        nodes.remove_node(another, allow_graceful=False)
        results = [pool.result(timeout=60) for _ in range(NODES + 2)]
        assert {r.state for r in results if r is not None} == {State.CUT}
        assert {r.number for r in results if r is not None} == set(range(NODES + 2))
        wait_until(lambda: pool.result(timeout=0.2) is None and pool.slots == NODES)
    assert len(heard) == 2
    assert all("its node was" in str(details["reason"]) for details in heard)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nodes_that_are_lost_and_join_leave_the_store_of_one_process(
    nodes: Any, tmp_path: Path
) -> None:
    """Two nodes join, one after the other, and each is lost while candidates run on it."""

    def strategy() -> AgingEvolution:
        return AgingEvolution(SPACE, population_size=5, lag=16)

    heard: list[str] = []
    others: list[Any] = []  # nodes that are there besides
    losses = total = 0
    until = time.monotonic() + 200

    def observe(progress: Progress) -> None:
        """Loses the node that has joined when all slots but that of this candidate are at work."""
        nonlocal losses
        free = sum(not (slot.ready and slot.task) for slot in pool._slots)
        if others and len(pool._slots) == NODES + 2 and free <= 1:
            nodes.remove_node(others.pop(), allow_graceful=False)
            losses += 1

    with ClusterPool(
        nodes.joined, Lasting(0.3), notice=lambda kind, details: heard.append(kind)
    ) as pool:
        made = study(tmp_path / "cluster.db", strategy(), pool)
        while losses < 2:
            assert time.monotonic() < until, "the nodes that joined got nothing to do"
            if not others:
                others.append(nodes.add_node(num_cpus=2))
            total += 24
            made.run(total, observe=observe)
        made.run(total + 12)
        made.store.close()
    made = study(tmp_path / "one.db", strategy(), SerialEvaluator(score))
    made.run(total + 12)
    made.store.close()
    assert heard.count(WORKER_LOST) >= 2
    assert by_number(tmp_path / "cluster.db") == by_number(tmp_path / "one.db")


@pytest.mark.slow
def test_the_deadline_reaches_the_nodes(cluster: Cluster, tmp_path: Path) -> None:
    with ClusterPool(cluster, UntilDeadline(2)) as pool:
        made = study(tmp_path / "d.db", SteadyBest(SPACE), pool)
        made.run(2)
        end = made.run(deadline=time.monotonic() + 2)
        states = [e.state for _, e in sorted(made.store.latest().items())]
        made.store.close()
    assert end.why is Why.DEADLINE
    assert states[:2] == [State.COMPLETE] * 2
    assert set(states[2:]) == {State.CUT}


DRIVER = """
import sys
from pathlib import Path
from toys.engine import SteadyBest, SPACE, jittery, study
from nanonas.engine.evaluators import joining
from nanonas.engine.evaluators.cluster import ClusterPool
from nanonas.errors import RunError

joining._LOST_SECONDS = 3.0
with joining.joined(sys.argv[1]) as cluster, ClusterPool(cluster, jittery) as pool:
    made = study(Path(sys.argv[2]), SteadyBest(SPACE), pool)
    try:
        made.run(int(sys.argv[3]), observe=lambda progress: print(progress.evaluated, flush=True))
    except RunError as error:
        print(error, flush=True)
"""


@contextmanager
def lone_cluster() -> Iterator[Any]:
    """A cluster of one node with two cores, for processes that tests begin."""
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ":".join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
        head = {"num_cpus": 2, "include_dashboard": False}
        made = Nodes(initialize_head=True, head_node_args=head)
        try:
            yield made
        finally:
            made.shutdown()


def driver(lone: Any, path: Path, evaluations: int) -> subprocess.Popen[str]:
    """A process that searches on a cluster, and says how many are evaluated each time one is."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, lone.address, str(path), str(evaluations)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("who", ["driver", "head"])
def test_a_run_whose_coordinator_or_head_is_lost_goes_on_on_a_cluster_and_without(
    who: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.db"
    with ExitStack() as stack:
        lone = stack.enter_context(lone_cluster())
        with driver(lone, path, 100_000) as lost:
            assert lost.stdout is not None
            for _ in range(5):
                lost.stdout.readline()
            if who == "driver":
                lost.send_signal(signal.SIGKILL)
            else:
                lone.head_node.kill_gcs_server()
            said = lost.communicate(timeout=90)[0]
        if who == "head":
            assert "does not answer any more; what has arrived is kept" in said
            stack.close()
            lone = stack.enter_context(lone_cluster())
        with RunStore.read(path) as store:
            there = len(store.latest())
        assert there >= 5
        with driver(lone, path, there + TOTAL) as second:
            said = second.communicate(timeout=90)[0]
            assert said.split()[-1] == str(there + TOTAL)
    total = there + 2 * TOTAL
    for name in ("a.db", "one.db"):
        made = study(tmp_path / name, SteadyBest(SPACE), SerialEvaluator(score))
        made.run(total)
        made.store.close()
    assert by_number(path) == by_number(tmp_path / "one.db")


@pytest.mark.slow
def test_a_closed_pool_leaves_no_process(cluster: Cluster, tmp_path: Path) -> None:
    pool = ClusterPool(cluster, score)
    pool.submit(candidate(0))
    assert pool.result(timeout=60) is not None
    processes = cluster.ray.get([slot.actor.process.remote() for slot in pool._slots if slot.ready])
    assert processes
    pool.close()
    pool.close()
    wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
    with pytest.raises(RunError, match="is closed: make a new one"):
        pool.submit(candidate(1))
