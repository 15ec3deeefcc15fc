"""A team of processes that train one network together: its leader starts the others, tells them
what to do, and ends them.

The leader sends, over a pipe to each: its job, and once that has answered, any of EPOCH, PACE and
STATE. While they train they only exchange numbers; see `Group`.
"""

from __future__ import annotations

import io
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from nanonas.data.images import DataSpec
from nanonas.errors import InvalidInput, RunError
from nanonas.networks.network import Network
from nanonas.processes import Child, begun, cause_of_death, last_line, started
from nanonas.training.device import cores_of, prepare, staying_on
from nanonas.training.group import Group, PeerLost, bytes_for, shared_memory
from nanonas.training.measuring.pace import Pace, pace_of
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures, final_pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training

HELLO, READY = "hello", "ready"
EPOCH, PACE, STATE = "epoch", "pace", "state"
LEAST_IMAGES = 32  # of a batch in each process: the statistics of batch norms need them
MOST_NUMBERS = 4_000_000  # that are added up at once: 16 MB, twice in each process
START_SECONDS = 60.0  # that the processes may take to start


class ProcessLost(RunError):
    """A process of a team has ended, or hangs."""


@dataclass(frozen=True)
class Parallelism:
    """How a training uses the cores, or the GPUs."""

    threads: int  # of each process
    processes: int = 1

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return threads if self.processes == 1 else f"{self.processes} processes of {threads}"


def teams(units: int, cores: int, batch: int) -> list[Parallelism]:
    """The teams that are worth a trial: one process a unit, and half as many where there are more
    cores than that.

    Args:
        units: cores or GPUs that can work at the same time.
        cores: of the machine.
        batch: images in one step; no process has less than `LEAST_IMAGES`.
    """
    most = min(units, batch // LEAST_IMAGES)
    numbers = [most, most // 2] if cores > most >= 4 else [most]
    return [Parallelism(max(1, cores // number), number) for number in numbers if number > 1]


@dataclass(frozen=True)
class Job:
    """What a process of a team needs to know: small and picklable."""

    network: Network
    spec: DataSpec
    rows: NDArray[np.int64] | None  # of the images; None: all
    recipe: Recipe
    seed: int
    rank: int
    how: Parallelism
    device: str
    numbers: int  # that are added up at once
    cores: set[int] | None  # to stay on; None: any
    port: int  # by which NCCL's processes find each other; 0 without it
    body: frozenset[str]  # as of `Training`

    def training(self, connection: Connection, memory: int) -> Training:
        """This process's part of the training."""
        prepare(self.how.threads)
        found = final_pictures(self.spec, self.device)
        rows = None if self.rows is None else torch.from_numpy(self.rows).to(self.device)
        pictures = Pictures(found.x, found.y, found.mean, found.std, rows)
        device = torch.device(self.device)
        size = self.how.processes
        module = build_module(self.network, self.seed)
        group = Group(self.rank, size, [connection], device, memory, self.numbers, self.port)
        what = (module, pictures, self.recipe, 1, self.seed)
        return Training(*what, group=group, body=self.body)


class Team:
    """The processes that train a network together with this one, which leads. A context manager:
    `close` ends them.

    Args:
        network: that is trained.
        pictures: this process's, with the `spec` that they are from.
        recipe: the hyperparameters.
        seed: of the training.
        how: with two processes or more.
        devices: one for each process, the first that of `pictures`.
        patience: seconds that the others may take to start.
        body: as of `Training`.

    Raises:
        ProcessLost: one did not start.
        InvalidInput: images without a `spec`, which other processes cannot open.
    """

    def __init__(
        self,
        network: Network,
        pictures: Pictures,
        recipe: Recipe,
        seed: int,
        how: Parallelism,
        devices: list[str],
        patience: float = START_SECONDS,
        body: frozenset[str] = frozenset(),
    ) -> None:
        spec = pictures.spec
        if spec is None:
            raise InvalidInput(
                f"{how} cannot train on images that only this process has; train in one process"
            )
        self.how = how
        self._children: list[Child] = []
        self._group: Group | None = None
        rows = None if pictures.rows is None else pictures.rows.cpu().numpy()
        numbers = min(max(network.params, 1024), MOST_NUMBERS)  # all gradients, if they are few
        size, on_cpu = how.processes, pictures.device.type == "cpu"
        cores = [cores_of(rank, size) if on_cpu else None for rank in range(size)]
        self._cores = cores[0]
        memory = -1
        try:
            memory = shared_memory(bytes_for(size, numbers)) if on_cpu else -1
            port = 0 if on_cpu else _free_port()
            for _ in range(1, size):
                handles = [memory] if on_cpu else []
                self._children.append(started(f"{__name__}:serve", how.threads, handles))
            self._hear(HELLO, time.monotonic() + patience)
            for rank in range(1, size):
                place = (rank, how, devices[rank], numbers, cores[rank], port, body)
                self._send(rank, Job(network, spec, rows, recipe, seed, *place))
            self._hear(READY, time.monotonic() + patience)
            links = [child.connection for child in self._children]
            self._group = Group(0, size, links, pictures.device, memory, numbers, port)
        except OSError as error:  # no memory, or too many processes or files
            self.close()
            raise ProcessLost(f"{how} could not be started: {error}") from None
        except BaseException:
            self.close()
            raise
        finally:
            if memory >= 0:
                os.close(memory)

    @property
    def group(self) -> Group:
        """For the leader's own `Training`."""
        assert self._group is not None
        return self._group

    def pace(self, training: Training, patience: float) -> Pace:
        """As `pace_of`, of the whole team. Raises `ProcessLost`."""
        self._tell(PACE)
        with self._together():
            return pace_of(training, patience)

    def share(self, training: Training) -> None:
        """Makes all begin where the leader's training stands. Raises `ProcessLost`."""
        buffer = io.BytesIO()
        torch.save(training.state(), buffer)
        self._tell(STATE, buffer.getvalue())

    def run_epoch(self, training: Training) -> float:
        """Trains for one epoch and returns the mean training loss. Raises `ProcessLost`."""
        self._tell(EPOCH, training.epochs)
        with self._together():
            return training.whole_epoch()

    def close(self) -> None:
        """Ends the other processes at once. May be called twice."""
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.bury()
        self._children.clear()
        if self._group is not None:
            self._group.close()
            self._group = None

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _tell(self, kind: str, content: Any = None) -> None:
        for rank in range(1, self.how.processes):
            self._send(rank, (kind, content))

    def _send(self, rank: int, message: object) -> None:
        try:
            self._children[rank - 1].connection.send(message)
        except OSError:
            raise self._lost(rank) from None

    def _hear(self, word: str, until: float) -> None:
        """Waits for a word of each of the others."""
        for rank, child in enumerate(self._children, 1):
            try:
                if child.connection.poll(max(0.0, until - time.monotonic())):
                    assert child.connection.recv() == word
                    continue
            except (EOFError, OSError):
                pass
            raise self._lost(rank)

    @contextmanager
    def _together(self) -> Iterator[None]:
        try:
            with staying_on(self._cores):
                yield
        except PeerLost as lost:
            raise self._lost(lost.place + 1) from None

    def _lost(self, rank: int) -> ProcessLost:
        """Why a process is gone, in words. The team is at its end."""
        child = self._children[rank - 1]
        hung = child.process.poll() is None and not _ends(child)
        code = child.bury()
        said = last_line(child.last_words) if code > 0 else ""
        reason = "it hung" if hung else said or cause_of_death(code)
        self.close()
        return ProcessLost(
            f"process {rank + 1} of {self.how.processes} that trained together was lost: {reason}"
        )


def _ends(child: Child) -> bool:
    """Whether a process ends by itself: a broken pipe comes a moment before the exit code."""
    with suppress(Exception):
        child.process.wait(timeout=2)
    return child.process.poll() is not None


def _free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def serve(handle: str, parent: str, memory: str = "-1") -> None:
    """The life of a process of a team that does not lead it.

    Args:
        handle: of its end of the pipe to the leader.
        parent: the leader's process.
        memory: what is shared, on a CPU.
    """
    connection = begun(handle, parent)
    try:
        connection.send(HELLO)
        job: Job = connection.recv()
        training = job.training(connection, int(memory))
        connection.send(READY)
        with staying_on(job.cores):
            _obey(connection, training)
    except (EOFError, OSError, PeerLost):
        os._exit(1)  # the leader is gone


def _obey(connection: Connection, training: Training) -> NoReturn:
    """Does what the leader says, until it is gone."""
    while True:
        kind, content = connection.recv()
        if kind == PACE:
            pace_of(training, math.inf)
        elif kind == STATE:
            training.restore(
                torch.load(io.BytesIO(content), weights_only=True, map_location=training.device)
            )
        elif kind == EPOCH:
            training.epochs = content
            training.whole_epoch()
