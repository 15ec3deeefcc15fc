"""The final training of a network: on all training images, with a checkpoint per epoch; the test
set is opened once, at the end.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from nanonas.errors import RunError
from nanonas.files import read_json, write_text
from nanonas.machine import cores, processor
from nanonas.networks.network import Network
from nanonas.training.beginning import fresh_module
from nanonas.training.checkpoint import CHECKPOINT, make_room, read_checkpoint, save_checkpoint
from nanonas.training.device import default_workers, prepare, slots
from nanonas.training.measuring.latency import latency_ms
from nanonas.training.measuring.pace import seconds_per_epoch
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe, slower
from nanonas.training.team import START_SECONDS, Parallelism, ProcessLost, Team, teams
from nanonas.training.train import Training, accuracy
from nanonas.training.weights import save_weights

RESULT = "result.json"
FILES = (CHECKPOINT, RESULT, "model.safetensors", "genome.json")
LEAST = 0.02  # epochs that are trained, however little time there is
PLANNED = 0.95  # share of the time left that is planned for: a shared machine is not steady
WORTH_A_TEAM = 120.0  # seconds of training below which processes are not tried: they take some
CLEARLY = 1.03  # times as fast as one process: what several must be to be taken


@dataclass(frozen=True)
class FinalResult:
    """The outcome of a final training."""

    test_accuracy: float  # in [0, 1]
    epochs: float  # whole ones, but for a training that had no time for one
    train_images: int  # per epoch
    test_images: int
    params: int
    macs: int
    latency_ms: float  # of one image, median, on the device that trained; on a CPU with one thread
    seconds: float  # of training, over all sessions, without the test
    seed: int
    lr: float  # at the top of the cycle
    device: str
    hardware: str  # the device in words
    torch: str  # the version
    threads: int = 0  # of each process; 0: not known, for the result is of an earlier version
    processes: int = 1  # that trained together

    @property
    def where(self) -> str:
        """The hardware and what was used of it, such as "2 cores of AMD EPYC (2 threads)"."""
        used = f" ({Parallelism(self.threads, self.processes)})" if self.threads else ""
        return self.hardware + used


@dataclass(frozen=True)
class FinalTraining:
    """The final training of one network.

    Args:
        network: to build and train.
        train: all images but the test set's.
        test: opens the test set; called once, after the last epoch.
        recipe: the hyperparameters.
        seed: of the initialisation and the training.
        folder: created if it is missing. It gets checkpoint.pt after every epoch, and in the end
            model.safetensors and result.json. A checkpoint of this very training is continued; the
            files of any other training are moved to FOLDER/earlier-1, FOLDER/earlier-2, …
        identity: what else must be equal for a checkpoint to be of this training, such as the
            fingerprint of the data.
        threads: of PyTorch in each process; None: whatever is measured to be fastest.
        processes: that train together, each its part of every batch; None: one where `threads` are
            given, else whatever is measured to be fastest.
        device: of the training images; "cuda" stands for all GPUs. None: the one they are on.
        retries: how often a training that diverges is restarted, each time with a third of the
            learning rates.
        about: metadata to store with the weights.
    """

    network: Network
    train: Pictures
    test: Callable[[], Pictures]
    recipe: Recipe
    seed: int
    folder: Path
    identity: Mapping[str, Any]
    threads: int | None = None
    processes: int | None = None
    device: str | None = None
    retries: int = 2
    about: Mapping[str, str] = field(default_factory=dict)

    def run(
        self,
        epochs: int | None = None,
        deadline: float | None = None,
        on_epoch: Callable[[int, int, float], None] = lambda done, of, loss: None,
        again: bool = False,
    ) -> FinalResult:
        """Trains, saves and tests the network.

        The learning rate's cycle always ends at its bottom: when the deadline turns out to be too
        near, the rest of the cycle is shortened. A finished training of as many epochs is only
        read, unless `again`.

        Args:
            epochs: None: as many as fit before the deadline, by the speed measured at the start;
                less than one where one is too much.
            deadline: as of `time.monotonic()`; None: none.
            on_epoch: called after each epoch with the epochs done, the epochs planned, and the
                training loss.
            again: whether to repeat a finished training.

        Raises:
            RunError: the folder cannot be written, or training diverged each time.
        """
        checkpoint = read_checkpoint(self.folder, self._identity(), self.train.x.device)
        if checkpoint is not None:
            kept = checkpoint["training"]
            finished = kept["epoch"] >= kept["epochs"]
            if epochs not in (None, checkpoint["asked"], kept["epochs"]):
                checkpoint = None
            elif finished and not again and (result := read_result(self.folder)):
                return result
            elif finished and again:
                checkpoint = None
        if checkpoint is None:
            make_room(self.folder, FILES)
        try:
            with ExitStack() as stack:
                crew = self._crew(stack, checkpoint, epochs, deadline)
                training, loss, spent = self._train(crew, checkpoint, epochs, deadline, on_epoch)
        except ProcessLost as lost:
            logger.warning("{}; one process goes on from the last checkpoint", lost)
            return replace(self, processes=1).run(epochs, deadline, on_epoch)
        if not math.isfinite(loss):
            lower = self._with_lower_lr(training.epoch, loss)
            same = replace(lower, threads=crew.how.threads, processes=crew.how.processes)
            return same.run(epochs, deadline, on_epoch)
        return self._finish(training, spent, crew.how)

    def _train(
        self,
        crew: _Crew,
        checkpoint: dict[str, Any] | None,
        epochs: int | None,
        deadline: float | None,
        on_epoch: Callable[[int, int, float], None],
    ) -> tuple[Training, float, float]:
        """Trains to the end, or until the loss is not finite any more.

        Returns:
            the training, its last loss, and the seconds that it took, over all sessions.
        """
        training = self._begun(epochs or 1, crew.team)
        spent, loss = 0.0, 0.0
        if checkpoint is not None:
            training.restore(checkpoint["training"])
            spent = float(checkpoint["spent"])
        elif epochs is None and deadline is not None:
            assert crew.seconds is not None
            fitting = PLANNED * self._epochs_before(deadline, crew.seconds)
            training.epochs = int(fitting) if fitting >= 1 else max(LEAST, fitting)
        if crew.team is not None:
            crew.team.share(training)
        start = time.perf_counter() - spent
        since, before = training.epoch, spent  # what the pace is measured from
        while training.epoch < training.epochs:
            loss = training.whole_epoch() if crew.team is None else crew.team.run_epoch(training)
            if not math.isfinite(loss):
                break
            trained = time.perf_counter() - start  # seconds, over all sessions
            if training.small:  # the epochs to come take longer than those behind
                since, before = training.epoch, trained
            elif deadline is not None and training.epoch > since:
                pace = (trained - before) / (training.epoch - since)
                left = max(0, int(self._epochs_before(deadline, pace)))
                training.epochs = min(training.epochs, training.epoch + left)
            self._save_checkpoint(training, epochs, trained, crew.how)
            on_epoch(training.epoch, math.ceil(training.epochs), loss)
        return training, loss, time.perf_counter() - start

    def _begun(self, epochs: int, team: Team | None = None) -> Training:
        module = fresh_module(self.network, self.seed, self.train, self.recipe)
        group = None if team is None else team.group
        return Training(module, self.train, self.recipe, epochs, self.seed, group=group)

    def _with_lower_lr(self, epoch: int, loss: float) -> FinalTraining:
        """This training with a third of the learning rates. Raises `RunError` after `retries`."""
        if self.retries == 0:
            raise RunError(
                f"final training diverged: the loss is {loss} after epoch {epoch} with lr "
                f"{self.recipe.lr:g}; train again with a lower --lr"
            )
        lower = slower(self.recipe, 3)
        logger.warning(
            "the loss is {} with lr {:g}; begun again with {:g}", loss, self.recipe.lr, lower.lr
        )
        return replace(self, recipe=lower, retries=self.retries - 1)

    # --- how the machine is used ------------------------------------------------------------------

    def _crew(
        self,
        stack: ExitStack,
        checkpoint: dict[str, Any] | None,
        epochs: int | None,
        deadline: float | None,
    ) -> _Crew:
        """The threads and processes that train: those asked for, those of the checkpoint where it
        is this machine's, so that the numbers are those of a training that was not interrupted, or
        whatever is measured to be fastest.

        Args:
            stack: ends the processes.
        """
        left = math.inf if deadline is None else deadline - time.monotonic()
        patience = 0.5 if deadline is None else min(2.0, max(0.2, 0.05 * left))
        how = self._known(checkpoint)
        if how is None:
            crew = self._fastest(stack, patience, epochs, left)
        else:
            crew = _Crew(how)
            if how.processes > 1:
                crew = _Crew(how, None, stack.enter_context(self._team(how)))
        prepare(crew.how.threads)
        to_plan = checkpoint is None and epochs is None and deadline is not None
        if crew.seconds is None and to_plan:
            crew = replace(crew, seconds=self._pace(crew.team, patience))
        return crew

    def _known(self, checkpoint: dict[str, Any] | None) -> Parallelism | None:
        """How the machine is used, where that needs no measuring."""
        if self.threads is not None or self.processes not in (None, 1):
            processes = self.processes or 1
            return Parallelism(self.threads or max(1, cores() // processes), processes)
        if checkpoint is None or checkpoint.get("on") != self._on:
            return None
        before = Parallelism(checkpoint["threads"], checkpoint["processes"])
        return before if self.processes in (None, before.processes) else None

    @property
    def _on(self) -> list[Any]:
        """What a choice of threads and processes depends on, besides what else the machine does."""
        return [self.train.x.device.type, cores()]

    def _team(self, how: Parallelism, patience: float = START_SECONDS) -> Team:
        devices = slots(self.device or str(self.train.x.device), how.processes)
        return Team(self.network, self.train, self.recipe, self.seed, how, devices, patience)

    def _pace(self, team: Team | None, patience: float) -> float:
        training = self._begun(1, team)
        return (seconds_per_epoch if team is None else team.pace)(training, patience)

    def _fastest(self, stack: ExitStack, patience: float, epochs: int | None, left: float) -> _Crew:
        """Whatever trains fastest: one thread, all of them, or processes.

        Args:
            stack: ends the processes.
            patience: seconds to measure each for, about.
            epochs: to train; None: as many as fit, or one.
            left: seconds until the deadline, if there is one; else infinite.
        """
        threads, seconds = self.speed(patience)
        best = _Crew(Parallelism(threads), seconds)
        fills_the_time = epochs is None and left < math.inf
        if min(left, math.inf if fills_the_time else (epochs or 1) * seconds) < WORTH_A_TEAM:
            return best
        if self.processes is not None or self.train.spec is None:
            return best
        units = default_workers(self.device or str(self.train.x.device))
        for how in teams(units, cores(), min(self.recipe.batch_size, len(self.train))):
            prepare(how.threads)
            try:
                team = stack.enter_context(self._team(how, min(START_SECONDS, 0.1 * left)))
                seconds = self._pace(team, patience)
            except (ProcessLost, OSError) as lost:  # or no shared memory
                logger.debug("{} are not used: {}", how, lost)
                continue
            logger.debug(
                "{}: {:.1f} s an epoch; {}: {:.1f} s", best.how, best.seconds, how, seconds
            )
            loser: Team | None = team
            if best.seconds is not None and CLEARLY * seconds < best.seconds:
                best, loser = _Crew(how, seconds, team), best.team
            if loser is not None:
                loser.close()
        return best

    def speed(self, patience: float = 2.0) -> tuple[int, float]:
        """The fastest number of threads for this network in one process, and the seconds per epoch
        with it.

        More threads are faster for most networks on an idle machine; for tiny networks, and on
        cores that are busy, they wait for each other and can be fifty times slower.

        Args:
            patience: seconds to measure for, about, with each number of threads.
        """
        training = self._begun(1)
        candidates = {1, cores()} if self.train.x.device.type == "cpu" else {cores()}
        speeds: dict[int, float] = {}
        for threads in candidates:
            prepare(threads)
            speeds[threads] = seconds_per_epoch(training, patience)
        fastest = min(speeds, key=speeds.__getitem__)
        return fastest, speeds[fastest]

    def _epochs_before(self, deadline: float, seconds: float) -> float:
        """How many epochs of `seconds` fit before the deadline, with time for the test."""
        # A forward pass takes a third of a step; a test set is smaller than the training set.
        test = 2.0 + 0.1 * seconds
        return (deadline - time.monotonic() - test) / seconds

    # --- the end ----------------------------------------------------------------------------------

    def _finish(self, training: Training, spent: float, how: Parallelism) -> FinalResult:
        """Tests and saves the trained network."""
        module, device = training.result, str(self.train.x.device)
        prepare(how.threads * how.processes)
        test = self.test()
        result = FinalResult(
            test_accuracy=accuracy(module, test, self.recipe.precision),
            epochs=min(training.epoch, training.epochs),
            train_images=len(self.train),
            test_images=len(test),
            params=self.network.params,
            macs=self.network.macs,
            latency_ms=latency_ms(module, self.network.input_shape, device),
            seconds=spent,
            seed=self.seed,
            lr=self.recipe.lr,
            device=device,
            hardware=hardware(device),
            torch=torch.__version__,
            threads=how.threads,
            processes=how.processes,
        )
        save_weights(module, self.folder / "model.safetensors", self.about)
        write_text(self.folder / RESULT, json.dumps(asdict(result), indent=1) + "\n")
        return result

    # --- the folder -------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with this training to be continued."""
        return {
            **self.identity,
            "key": self.network.key,
            "seed": self.seed,
            "recipe": self.recipe.identity,
        }

    def _save_checkpoint(
        self, training: Training, asked: int | None, spent: float, how: Parallelism
    ) -> None:
        """Replaces the folder's checkpoint.

        Args:
            training: after an epoch.
            asked: the number of epochs in the call of `run`, by which the training is recognised
                even when a deadline shortened it.
            spent: seconds of training so far.
            how: the machine was used.
        """
        checkpoint = {
            "identity": self._identity(),
            "asked": asked,
            "training": training.state(),
            "spent": spent,
            "on": self._on,
            "threads": how.threads,
            "processes": how.processes,
        }
        save_checkpoint(self.folder, checkpoint)


@dataclass(frozen=True)
class _Crew:
    """Who trains."""

    how: Parallelism
    seconds: float | None = None  # per epoch; None: not measured
    team: Team | None = None  # of several processes


def read_result(folder: Path) -> FinalResult | None:
    """The result of a finished training in its folder; None if it is missing or damaged."""
    try:
        return FinalResult(**(read_json(folder / RESULT) or {}))
    except TypeError:
        return None


def hardware(device: str) -> str:
    """The device in words, such as "2 cores of AMD EPYC"."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    if device == "cpu":
        return f"{cores()} cores of {processor()}"
    return f"{device} of {processor()}"
