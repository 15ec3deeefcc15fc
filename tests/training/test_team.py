"""Processes that train one network together, whole, interrupted and lost.

The oracle is one process that trains on the same batches.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Pipe
from pathlib import Path

import pytest
import torch
from loguru import logger
from safetensors.torch import load_file
from torch import Tensor

from nanonas.core import Shape
from nanonas.data.images import DataSpec
from nanonas.errors import InvalidInput, RunError
from nanonas.networks.network import Draft, Network, classifier, relu
from nanonas.training import crew, device, final, group, team
from nanonas.training.augment import Augment
from nanonas.training.checkpoint import CHECKPOINT
from nanonas.training.device import cores_of
from nanonas.training.final import FinalResult, FinalTraining
from nanonas.training.group import Group, PeerLost, bytes_for, shared_memory
from nanonas.training.measuring.pace import Pace
from nanonas.training.pictures import Pictures, final_pictures, held_out_pictures
from nanonas.training.recipe import Recipe
from nanonas.training.team import Parallelism, teams
from nanonas.training.train import Training

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE: Shape = (1, 8, 8)
RECIPE = Recipe(batch_size=64, lr=0.1, augment=Augment(crop=1, flip=True, cutout=2))
MUON = replace(
    RECIPE, optimizer="muon", schedule="linear", average=0.9, alternate_flip=True, clip_norm=0.5
)


def network(norm: str) -> Network:
    """Two convolutions, each with a norm of this kind."""
    draft = Draft(SHAPE, 10)
    x = "input"
    for filters in (6, 8):
        x = draft.add("conv", x, filters=filters, kernel=3, stride=1, groups=1, bias=False)
        x = relu(draft, draft.add(norm, x))
    return classifier(draft, x)


ALIKE = network("layer_norm")  # whose images do not depend on each other
BATCHED = network("norm")


@pytest.fixture(autouse=True)
def quick_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(1.0))


def held_out() -> Pictures:
    return held_out_pictures(DataSpec("digits"), "cpu")


def training(
    folder: Path, processes: int | None, made: Network = BATCHED, recipe: Recipe = RECIPE
) -> FinalTraining:
    train = final_pictures(DataSpec("digits"), "cpu")
    train = replace(train, rows=torch.arange(384))  # six batches of 64
    threads = None if processes is None else 1
    return FinalTraining(
        made, train, held_out, recipe, 0, folder, {}, threads=threads, processes=processes
    )


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def children() -> list[int]:
    """The processes that this one has started and not buried."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8")
    return [int(pid) for pid in listed.split()]


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinalResult]:
    """Three epochs of two processes."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final, "latency_ms", lambda module, shape, device: 1.5)
        return folder, training(folder, 2).run(3)


@pytest.mark.parametrize("recipe", [RECIPE, MUON], ids=["sgd", "muon"])
def test_processes_train_as_one_does(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same batches, augmented alike; what differs is the order in which numbers are added.

    There are more of them than fit into memory at once.
    """
    monkeypatch.setattr(team, "MOST_NUMBERS", 100)
    alone, three = (tmp_path / name for name in ("alone", "three"))
    losses: dict[Path, list[float]] = {alone: [], three: []}
    for folder, processes in ((alone, 1), (three, 3)):
        training(folder, processes, ALIKE, recipe).run(
            2,
            on_epoch=lambda done, of, loss, folder=folder: losses[folder].append(loss),  # type: ignore[misc]
        )
    assert losses[three] == pytest.approx(losses[alone], rel=1e-4)
    ours, theirs = weights(three), weights(alone)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4)


def test_the_statistics_of_batch_norms_are_those_of_all_images(tmp_path: Path) -> None:
    """Where weights hardly move: the mean of a batch is the mean of its parts' means."""
    still = replace(RECIPE, lr=1e-12)
    for processes in (1, 2):
        training(tmp_path / str(processes), processes, recipe=still).run(1)
    alone, two = (weights(tmp_path / str(processes)) for processes in (1, 2))
    means = [name for name in alone if name.endswith("running_mean")]
    assert len(means) == 2
    torch.testing.assert_close(two[means[0]], alone[means[0]], rtol=1e-4, atol=1e-6)


def test_the_result_says_how_it_was_trained_and_is_the_same_again(
    whole: tuple[Path, FinalResult], tmp_path: Path
) -> None:
    folder, result = whole
    assert (result.threads, result.processes) == (1, 2)
    assert result.where == f"{result.hardware} (2 processes of 1 thread)"
    again = training(tmp_path, 2).run(3)
    assert replace(again, seconds=0) == replace(result, seconds=0)
    ours, theirs = weights(tmp_path), weights(folder)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def interrupted(folder: Path, processes: int, epoch: int) -> None:
    """A training of three epochs that Ctrl-C ends."""

    def stop(done: int, of: int, loss: float) -> None:
        if done == epoch:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(folder, processes).run(3, on_epoch=stop)
    assert [path.name for path in folder.iterdir()] == [CHECKPOINT]


def test_interrupted_it_goes_on_with_as_many_processes_to_the_same_end(
    whole: tuple[Path, FinalResult], tmp_path: Path
) -> None:
    interrupted(tmp_path, 2, 1)
    seen: list[int] = []
    result = training(tmp_path, None).run(3, on_epoch=lambda done, of, loss: seen.append(done))
    assert seen == [2, 3]
    assert replace(result, seconds=0) == replace(whole[1], seconds=0)
    ours, theirs = weights(tmp_path), weights(whole[0])
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    before: int, after: int, tmp_path: Path
) -> None:
    interrupted(tmp_path, before, 2)
    seen: list[int] = []
    result = training(tmp_path, after).run(3, on_epoch=lambda done, of, loss: seen.append(done))
    assert seen == [3]
    assert result.processes == after


@pytest.mark.parametrize(
    ("how", "reason"), [(signal.SIGKILL, "killed by SIGKILL"), (signal.SIGSTOP, "it hung")]
)
def test_a_lost_process_costs_an_epoch_and_no_training(
    how: signal.Signals, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "HANG_SECONDS", 1)
    said: list[str] = []
    seen: list[int] = []

    def lose(done: int, of: int, loss: float) -> None:
        seen.append(done)
        if done == 1:
            os.kill(children()[-1], how)

    sink = logger.add(said.append, format="{message}", level="WARNING")
    try:
        result = training(tmp_path, 2).run(3, on_epoch=lose)
    finally:
        logger.remove(sink)
    assert seen == [1, 2, 3]
    assert (result.epochs, result.processes) == (3, 1)
    assert said == [
        f"process 2 of 2 that trained together was lost: {reason}"
        f"{', as the system does when memory runs out' if how == signal.SIGKILL else ''}; "
        "one process goes on from the last checkpoint\n"
    ]


def test_what_a_process_raises_is_said(tmp_path: Path) -> None:
    """Here the images that it should open are gone."""
    task = training(tmp_path, 2)
    assert task.train.spec is not None
    gone = replace(task.train.spec, source=str(tmp_path / "gone.npz"), pinned=None)
    task = replace(task, train=replace(task.train, spec=gone))
    with pytest.raises(team.ProcessLost, match=r"process 2 of 2 .* was lost: .*gone\.npz"):
        task.crews.gathered(ExitStack(), Parallelism(1, 2))
    assert task.run(1).processes == 1


def test_one_process_trains_where_there_is_no_room_to_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "free_memory", lambda: 1000)
    said: list[str] = []
    handler = logger.add(said.append, format="{message}", level="WARNING")
    try:
        result = training(tmp_path, 2).run(1)
    finally:
        logger.remove(handler)
    assert result.processes == 1
    [warning] = said
    assert "could not be started: " in warning
    assert "Cannot allocate memory; one process goes on" in warning


def test_images_that_only_this_process_has_are_refused(tmp_path: Path) -> None:
    task = training(tmp_path, 2)
    task = replace(task, train=replace(task.train, spec=None))
    with pytest.raises(InvalidInput, match="2 processes of 1 thread cannot train on images that"):
        task.run(1)


def test_a_training_that_diverges_ends_all_processes_and_is_one_sentence(tmp_path: Path) -> None:
    wild = replace(RECIPE, lr=1e20, warmup=0.0, clip_norm=0.0)
    with pytest.raises(RunError, match=r"^final training diverged: the loss is .* 3.33333e\+19;"):
        replace(training(tmp_path, 2, recipe=wild), retries=1).run(2)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux binds to cores")
def test_processes_stay_out_of_each_others_way_while_they_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    def whole_epoch(self: Training) -> float:
        seen.append(os.sched_getaffinity(0))
        return epoch(self)

    def look(done: int, of: int, loss: float) -> None:
        seen.extend(os.sched_getaffinity(pid) for pid in (0, children()[-1]))

    epoch = Training.whole_epoch
    monkeypatch.setattr(Training, "whole_epoch", whole_epoch)
    training(tmp_path, 2).run(1, on_epoch=look)
    assert seen == [cores_of(0, 2) or before, before, cores_of(1, 2) or before]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux binds to cores")
def test_the_cores_are_divided_where_they_are_all_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {7, 2, 3, 4, 9})
    monkeypatch.setattr(device, "cores", lambda: 5)
    assert [cores_of(rank, 2) for rank in range(2)] == [{2, 3}, {4, 7, 9}]
    assert [cores_of(rank, 5) for rank in range(5)] == [{2}, {3}, {4}, {7}, {9}]
    assert cores_of(0, 6) is None
    monkeypatch.setattr(device, "cores", lambda: 3)  # a quota of time
    assert cores_of(0, 2) is None


def test_a_killed_leader_takes_its_processes_along(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from test_team import children, training

        def wait(done, of, loss):
            print(*children(), flush=True)
            time.sleep(60)

        training(Path(sys.argv[1]), 2).run(2, on_epoch=wait)
    """
    tests = Path(__file__).parents[1]
    paths = map(str, (tests.parent, tests, tests / "training"))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
    ) as leader:
        assert leader.stdout is not None
        others = [int(pid) for pid in leader.stdout.readline().split()]
        leader.kill()
    assert len(others) == 1
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in others):
        assert time.monotonic() < until
        time.sleep(0.05)


# --- what is chosen -------------------------------------------------------------------------------


def test_teams_have_images_enough_for_batch_norms_and_no_more_threads_than_cores() -> None:
    assert teams(1, 1, 128) == []
    assert teams(2, 2, 63) == []
    assert teams(2, 2, 128) == [Parallelism(1, 2)]
    assert teams(3, 3, 128) == [Parallelism(1, 3)]
    assert teams(4, 4, 1024) == [Parallelism(1, 4)]
    assert teams(16, 16, 128) == [Parallelism(4, 4), Parallelism(8, 2)]
    assert teams(64, 64, 1024) == [Parallelism(2, 32), Parallelism(4, 16)]
    assert teams(2, 64, 512) == [Parallelism(32, 2)]  # GPUs


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The teams that were tried, each in this process alone and 50 seconds an epoch fast."""
    tried: list[str] = []

    class Told:
        group = None

        def __init__(self, *arguments: object) -> None:
            tried.append(str(next(how for how in arguments if isinstance(how, Parallelism))))

        def __enter__(self) -> Told:
            return self

        def __exit__(self, *exception: object) -> None:
            self.close()

        def close(self) -> None:
            pass

        def share(self, training: Training) -> None:
            pass

        def pace(self, training: Training, patience: float) -> Pace:
            return Pace(50.0)

        def run_epoch(self, training: Training) -> float:
            return training.whole_epoch()

    monkeypatch.setattr(crew, "Team", Told)
    monkeypatch.setattr(crew, "cores", lambda: 2)
    monkeypatch.setattr(crew, "default_workers", lambda device: 2)
    return tried


@pytest.mark.parametrize(
    ("alone", "processes"), [(100.0, 2), (51.0, 1), (40.0, 1)], ids=["faster", "equal", "slower"]
)
def test_processes_are_taken_where_they_are_clearly_faster(
    alone: float,
    processes: int,
    asked: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crew, "pace_of", lambda training, patience: Pace(alone))
    result = training(tmp_path, None).run(4)
    assert asked == ["2 processes of 1 thread"]
    assert result.processes == processes


@pytest.mark.parametrize(
    ("epochs", "left"),
    [(1, None), (None, None), (None, 90.0), (1000, 90.0)],
    ids=["few", "one", "plan", "deadline"],
)
def test_processes_are_not_tried_for_a_short_training(
    epochs: int | None, left: float | None, asked: list[str], tmp_path: Path
) -> None:
    def enough(done: int, of: int, loss: float) -> None:
        raise KeyboardInterrupt

    deadline = None if left is None else time.monotonic() + left
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path, None).run(epochs, deadline, on_epoch=enough)
    assert asked == []


# --- adding up ------------------------------------------------------------------------------------


def in_a_group(size: int, numbers: int, do: Callable[[Group], object]) -> list[object]:
    """What each member of a group returns, or raises; here each is a thread."""
    pipes = [Pipe() for _ in range(size - 1)]
    memory = shared_memory(bytes_for(size, numbers))
    links = [[ours for ours, _ in pipes], *([theirs] for _, theirs in pipes)]
    device = torch.device("cpu")
    groups = [Group(rank, size, links[rank], device, memory, numbers) for rank in range(size)]
    os.close(memory)
    found: list[object] = [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = do(groups[rank])
        except PeerLost as error:
            found[rank] = error
        for link in links[rank]:
            link.close()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("forbidden", [False, True])
def test_memory_is_shared_in_a_file_where_the_system_has_no_other(
    monkeypatch: pytest.MonkeyPatch, forbidden: bool
) -> None:
    def refused(name: str) -> int:
        raise PermissionError(name)

    if forbidden:
        monkeypatch.setattr(os, "memfd_create", refused, raising=False)
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    memory = shared_memory(10_000)
    with mmap.mmap(memory, 10_000) as one, mmap.mmap(memory, 10_000) as other:
        one[5000:5003] = b"abc"
        assert other[5000:5003] == b"abc"
    assert os.fstat(memory).st_nlink == 0  # nothing is left behind
    os.close(memory)


def test_room_is_taken_before_anything_is_written_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a disk or the memory is full, a process that writes into a mapped file is killed."""
    memory = shared_memory(100_000)
    assert os.fstat(memory).st_blocks * 512 >= 100_000
    os.close(memory)

    def full(handle: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left"):
        shared_memory(1000)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("numbers", [4, 10, 64])
def test_sums_are_equal_in_all_processes(size: int, numbers: int) -> None:
    rounds = [
        torch.randn(size, 10, generator=torch.Generator().manual_seed(seed)) for seed in range(50)
    ]

    def add(member: Group) -> Tensor:
        own = [values[member.rank].clone() for values in rounds]
        for values in own:
            member.add(values)
        return torch.stack(own)

    first, *others = in_a_group(size, numbers, add)
    assert isinstance(first, Tensor)
    torch.testing.assert_close(first, torch.stack(rounds).sum(dim=1))
    assert all(isinstance(other, Tensor) and torch.equal(other, first) for other in others)


def test_all_go_on_if_all_say_so() -> None:
    assert in_a_group(3, 1, lambda member: member.meet()) == [True] * 3
    assert in_a_group(3, 1, lambda member: member.meet(member.rank != 2)) == [False] * 3
    assert in_a_group(3, 1, lambda member: member.meet(member.rank != 0)) == [False] * 3


def test_nobody_waits_for_who_is_gone() -> None:
    found = in_a_group(3, 1, lambda member: member.rank == 1 or member.meet())
    assert found[1] is True
    assert all(isinstance(found[rank], PeerLost) for rank in (0, 2))
