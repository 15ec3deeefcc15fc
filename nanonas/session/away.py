"""The final training on a node of a cluster: it trains there, with all that the node has, and is
tested here.

Each checkpoint comes here, into the folder where a training of this machine leaves its own. So a
lost node costs what it had trained since, and the run goes on from there with another one, or
without a cluster. The test images stay here.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from nanonas.data.images import DataSpec, Images, hold, laid_out
from nanonas.engine.evaluators.cluster import cause
from nanonas.engine.evaluators.joining import Cluster, Need
from nanonas.engine.evaluators.workers import ATTEMPTS, Notice
from nanonas.engine.storage.events import WORKER_LOST
from nanonas.errors import DataError, RunError, reason_for
from nanonas.files import replacing
from nanonas.machine import version_of
from nanonas.networks.network import Network
from nanonas.text import number_of

if TYPE_CHECKING:
    from nanonas.training.final import FinalTraining, OnEpoch
    from nanonas.training.pretrained import Pretrained
    from nanonas.training.recipe import Recipe

_TICK = 0.5  # seconds within which Ctrl-C is heard
_ROOM_SECONDS = 30.0  # to wait for a node that others use, before less of one is asked for
_NEWS_SECONDS = 10.0  # that a node lets a question wait for what is new


@dataclass(frozen=True)
class Job:
    """What a node needs to know: small and picklable; see `FinalTraining` for the fields."""

    network: Network
    spec: DataSpec  # of the training images
    recipe: Recipe
    seed: int
    identity: Mapping[str, Any]
    threads: int | None
    processes: int | None
    epochs: int | None
    pretrained: Pretrained | None


@dataclass(frozen=True)
class News:
    """What has happened on a node since the last ones."""

    epochs: Sequence[tuple[int, int, float]]  # as `OnEpoch` takes them
    checkpoint: bytes | None  # the file after the last of them


class Trainer:
    """A process on a node that trains a network. Called from two threads: one trains, one answers
    `news`.

    Args:
        version: of nanonas, where the search runs.
        cpus: cores that it may use.
        gpus: GPUs that it was given.
    """

    def __init__(self, version: str, cpus: int, gpus: int) -> None:
        self._version, self._cpus, self._gpus = version, cpus, gpus
        self._changed = threading.Condition()
        self._epochs: list[tuple[int, int, float]] = []
        self._checkpoint: bytes | None = None
        self._over = False

    def take(self, images: Images) -> None:
        """Takes the images to train on. Raises `RunError` where this node has another version."""
        here = version_of("nanonas")
        if here != self._version:
            raise RunError(
                f"a node has nanonas {here}, and the search {self._version}; install the same "
                "version on all nodes"
            )
        if max(self._cpus, self._gpus) > 1:  # processes that train together find them on the disk
            with suppress(OSError, DataError):
                images = laid_out(images)
        hold(images)

    def train(self, job: Job, seconds: float | None, checkpoint: bytes | None) -> tuple[int, float]:
        """Trains, as `FinalTraining.train_only`.

        Args:
            seconds: until the deadline; None: there is none.
            checkpoint: the file to go on from.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        _stay_within(self._cpus)
        try:
            with tempfile.TemporaryDirectory(prefix="nanonas-") as place:
                return self._train(job, Path(place), deadline, checkpoint)
        finally:
            with self._changed:
                self._over = True
                self._changed.notify()

    def _train(
        self, job: Job, folder: Path, deadline: float | None, checkpoint: bytes | None
    ) -> tuple[int, float]:
        from nanonas.training.checkpoint import CHECKPOINT
        from nanonas.training.final import FinalTraining
        from nanonas.training.pictures import Pictures, final_pictures

        def test() -> Pictures:
            raise RunError("the test images are not on this node")

        def tell(*epoch: tuple[int, int, float]) -> None:
            content = (folder / CHECKPOINT).read_bytes()
            with self._changed:
                self._epochs += epoch
                self._checkpoint = content
                self._changed.notify()

        if checkpoint is not None:
            (folder / CHECKPOINT).write_bytes(checkpoint)
        device = "cpu" if self._gpus == 0 else "cuda:0" if self._gpus == 1 else "cuda"
        training = FinalTraining(
            job.network,
            final_pictures(job.spec, device),
            test,
            job.recipe,
            job.seed,
            folder,
            job.identity,
            threads=job.threads,
            processes=job.processes,
            device=device,
            pretrained=job.pretrained,
        )
        ended = training.train_only(
            job.epochs, deadline, lambda done, of, loss: tell((done, of, loss))
        )
        if (folder / CHECKPOINT).exists():  # it may have diverged before there was one
            tell()
        return ended

    def news(self) -> News:
        """What is new, once there is something; none where that takes long, or at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._over or self._checkpoint is not None, _NEWS_SECONDS
            )
            news = News(tuple(self._epochs), self._checkpoint)
            self._epochs, self._checkpoint = [], None
            return news

    def process(self) -> int:
        """The number of its process."""
        return os.getpid()


class Away:
    """Final trainings on the node of a cluster that has most: an `Elsewhere` of `FinalTraining`.

    Where this machine is a node that has no less than any other, or no node has room, it trains.

    Args:
        cluster: joined.
        images: all of them; those to train on are sent, once to each node.
        gpus: whether to train on GPUs.
        notice: is told `WORKER_LOST`.
    """

    def __init__(self, cluster: Cluster, images: Images, gpus: bool, notice: Notice) -> None:
        self.cluster, self.images, self.gpus, self.notice = cluster, images, gpus, notice

    def __call__(
        self,
        training: FinalTraining,
        epochs: int | None,
        deadline: float | None,
        on_epoch: OnEpoch,
    ) -> tuple[int, float]:
        """Trains, and leaves the last checkpoint in the training's folder.

        Returns:
            as `FinalTraining.train_only`.

        Raises:
            RunError: the node was lost twice, or the cluster is; or the training cannot be done.
        """
        ended: tuple[int, float] | _Lost = _Lost()
        for _ in range(ATTEMPTS):
            ended = self._tried(training, epochs, deadline, on_epoch)
            if not isinstance(ended, _Lost):
                return ended
            self.notice(WORKER_LOST, {"for": "final training", "reason": str(ended)})
            logger.warning("the final training has lost its process on the cluster: {}", ended)
        raise RunError(
            f"the final training was lost {ATTEMPTS} times on the cluster: {ended}; its last "
            f"checkpoint is kept in {str(training.folder)!r}, and the run can be resumed, on a "
            "cluster or without one (--cluster none)"
        )

    def _tried(
        self,
        training: FinalTraining,
        epochs: int | None,
        deadline: float | None,
        on_epoch: OnEpoch,
    ) -> tuple[int, float] | _Lost:
        """As `__call__`; or how the process was lost that trained."""
        try:
            if (actor := self._found(deadline)) is None:
                return replace(training, elsewhere=None).train_only(epochs, deadline, on_epoch)
            return self._trained(actor, training, epochs, deadline, on_epoch)
        except _Lost as lost:
            return lost

    def _found(self, deadline: float | None) -> Any:
        """A process on the largest node, with all of it; where others use some of it, with the half
        of that, and so on. None: this machine is to train.
        """
        largest = self.cluster.largest(self.gpus)
        if largest is None:
            return None
        cpus, gpus = largest
        left = float("inf") if deadline is None else deadline - time.monotonic()
        patience = min(_ROOM_SECONDS, max(5.0, 0.05 * left))
        while True:
            actor = self._begun(cpus, gpus)
            try:
                if ready := self._waited([actor.process.remote()], patience):
                    self._heard(ready[0])
                    words = number_of(gpus, "GPU") if gpus else number_of(cpus, "core")
                    logger.info("the final training runs on a node of the cluster, on {}", words)
                    return actor
            except BaseException:
                self._end(actor)
                raise
            self._end(actor)
            if self.cluster.largest(self.gpus) != largest:  # nodes have joined, or were lost
                return self._found(deadline)
            if cpus == 1:
                logger.warning("no node has room for the final training: this machine trains")
                return None
            cpus, gpus = cpus // 2, (gpus + 1) // 2

    def _begun(self, cpus: int, gpus: int) -> Any:
        options = {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": 2}
        actor = self.cluster.ray.remote(num_cpus=cpus, num_gpus=gpus, **options)(Trainer)
        return actor.remote(version_of("nanonas"), cpus, gpus)

    def _trained(
        self,
        actor: Any,
        training: FinalTraining,
        epochs: int | None,
        deadline: float | None,
        on_epoch: OnEpoch,
    ) -> tuple[int, float]:
        from nanonas.training.checkpoint import CHECKPOINT

        assert training.train.spec is not None  # they are of a data set
        job = Job(
            training.network,
            training.train.spec,
            training.recipe,
            training.seed,
            training.identity,
            training.threads,
            training.processes,
            epochs,
            training.pretrained,
        )
        path = training.folder / CHECKPOINT

        def keep(news: News) -> None:
            if news.checkpoint is not None:
                with replacing(path) as part:
                    part.write_bytes(news.checkpoint)
            for epoch in news.epochs:
                on_epoch(*epoch)

        try:
            taken = actor.take.remote(self.cluster.sent(self.images))
            while not self._waited([taken], _TICK):
                pass
            self._heard(taken)
            left = None if deadline is None else deadline - time.monotonic()
            checkpoint = path.read_bytes() if path.exists() else None
            work, news = actor.train.remote(job, left, checkpoint), actor.news.remote()
            while work not in (ready := self._waited([work, news], _TICK)):
                if news in ready:
                    keep(self._heard(news))
                    news = actor.news.remote()
            ended: tuple[int, float] = self._heard(work)
            keep(self._heard(news))
            keep(self._heard(actor.news.remote()))
            return ended
        finally:
            self._end(actor)

    # --- Ray --------------------------------------------------------------------------------------

    def _waited(self, wanted: list[Any], seconds: float) -> list[Any]:
        """Those that are there, within so many seconds. Raises `RunError` where the cluster is
        lost.
        """
        until = time.monotonic() + seconds
        while True:
            self.cluster.capacity(Need())
            pause = max(0.0, min(_TICK, until - time.monotonic()))
            ready, _ = self.cluster.ray.wait(wanted, num_returns=1, timeout=pause)
            if ready or time.monotonic() >= until:
                return list(ready)

    def _heard(self, answer: Any) -> Any:
        """What a process says. Raises `RunError` for what it raises, and `_Lost`."""
        errors = self.cluster.ray.exceptions
        try:
            return self.cluster.ray.get(answer)
        except errors.RayTaskError as error:
            said = error.cause or error
            reason = str(said) if isinstance(said, RunError) else reason_for(said)
            raise RunError(f"the final training failed on the cluster: {reason}") from None
        except errors.RayError as error:
            raise _Lost(cause(error)) from None

    def _end(self, actor: Any) -> None:
        if self.cluster.answers():
            self.cluster.ray.kill(actor, no_restart=True)


class _Lost(Exception):
    """A process or its node is gone."""


def _stay_within(cpus: int) -> None:
    """Keeps this thread, and what it begins, on so many cores: those that Ray has given it."""
    if hasattr(os, "sched_setaffinity"):
        ours = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, ours[:cpus])
