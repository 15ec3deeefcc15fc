"""The final training of a network: on all training images, with a checkpoint per epoch; the test
set is opened once, at the end.
"""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from nanonas.errors import RunError
from nanonas.files import read_json, replacing, write_text
from nanonas.machine import cores, processor
from nanonas.networks.network import Network
from nanonas.training.beginning import fresh_module
from nanonas.training.device import prepare, synchronize
from nanonas.training.measuring.latency import latency_ms
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe, slower
from nanonas.training.train import Training, accuracy
from nanonas.training.weights import save_weights

CHECKPOINT, RESULT = "checkpoint.pt", "result.json"
FILES = (CHECKPOINT, RESULT, "model.safetensors", "genome.json")
LEAST = 0.02  # epochs that are trained, however little time there is
PLANNED = 0.95  # share of the time left that is planned for: a shared machine is not steady


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
        threads: of PyTorch; None: one or all cores, whichever is measured to be faster.
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
        device = str(self.train.x.device)
        training = self._begun(epochs or 1)
        checkpoint = self._checkpoint()
        spent = 0.0  # seconds of training in earlier sessions
        if checkpoint is not None:
            state = checkpoint["training"]
            finished = state["epoch"] >= state["epochs"]
            if epochs in (None, checkpoint["asked"], state["epochs"]):
                if finished and not again and (result := read_result(self.folder)):
                    return result
                if not (finished and again):
                    training.restore(state)
            if training.epoch > 0:
                spent = float(checkpoint["spent"])
        if training.epoch == 0:
            self._make_room()
        patience = (
            0.5 if deadline is None else min(2.0, max(0.2, 0.05 * (deadline - time.monotonic())))
        )
        threads, seconds = (self.threads, None) if self.threads else self.speed(patience)
        prepare(threads or cores())
        if epochs is None and deadline is not None and training.epoch == 0:
            seconds = seconds or seconds_per_epoch(training, patience)
            fitting = PLANNED * self._epochs_before(deadline, seconds)
            training.epochs = int(fitting) if fitting >= 1 else max(LEAST, fitting)
        start = time.perf_counter() - spent
        since, before = training.epoch, spent  # what the pace is measured from
        while training.epoch < training.epochs:
            loss = training.run_epoch(lambda: True)
            assert loss is not None  # the pulse never stops it
            if not math.isfinite(loss):
                return self._with_lower_lr(training.epoch, loss).run(epochs, deadline, on_epoch)
            trained = time.perf_counter() - start  # seconds, over all sessions
            if training.small:  # the epochs to come take longer than those behind
                since, before = training.epoch, trained
            elif deadline is not None and training.epoch > since:
                pace = (trained - before) / (training.epoch - since)
                left = max(0, int(self._epochs_before(deadline, pace)))
                training.epochs = min(training.epochs, training.epoch + left)
            self._save_checkpoint(training, epochs, trained)
            on_epoch(training.epoch, math.ceil(training.epochs), loss)
        return self._finish(training, time.perf_counter() - start, device)

    def _begun(self, epochs: int) -> Training:
        module = fresh_module(self.network, self.seed, self.train, self.recipe)
        return Training(module, self.train, self.recipe, epochs, self.seed)

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

    def speed(self, patience: float = 2.0) -> tuple[int, float]:
        """The fastest number of threads for this network, and the seconds per epoch with it.

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

    def _finish(self, training: Training, spent: float, device: str) -> FinalResult:
        """Tests and saves the trained network."""
        module = training.result
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

    def _save_checkpoint(self, training: Training, asked: int | None, spent: float) -> None:
        """Replaces the folder's checkpoint.

        Args:
            training: after an epoch.
            asked: the number of epochs in the call of `run`, by which the training is recognised
                even when a deadline shortened it.
            spent: seconds of training so far.
        """
        checkpoint = {
            "identity": self._identity(),
            "asked": asked,
            "training": training.state(),
            "spent": spent,
        }
        buffer = io.BytesIO()  # torch.save raises its own errors when the disk is full
        torch.save(checkpoint, buffer)
        with replacing(self.folder / CHECKPOINT) as part:
            part.write_bytes(buffer.getvalue())

    def _checkpoint(self) -> dict[str, Any] | None:
        """The folder's checkpoint of this training; None without one."""
        try:
            checkpoint = torch.load(
                self.folder / CHECKPOINT, weights_only=True, map_location=self.train.x.device
            )
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None  # missing or damaged; a damaged one is moved aside, not lost
        if isinstance(checkpoint, dict) and checkpoint.get("identity") == self._identity():
            return checkpoint
        return None

    def _make_room(self) -> None:
        """Creates the folder, and moves the files of an earlier training into a folder in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            earlier = [self.folder / name for name in FILES if (self.folder / name).exists()]
            if earlier:
                number = 1
                while (aside := self.folder / f"earlier-{number}").exists():
                    number += 1
                aside.mkdir()
                for path in earlier:
                    path.rename(aside / path.name)
                logger.info("the training that was in {} before is kept in {}", self.folder, aside)
        except OSError as error:
            raise RunError(
                f"the folder {str(self.folder)!r} cannot be used: {error.strerror}; choose "
                "another one, or free space and permissions"
            ) from None


def read_result(folder: Path) -> FinalResult | None:
    """The result of a finished training in its folder; None if it is missing or damaged."""
    try:
        return FinalResult(**(read_json(folder / RESULT) or {}))
    except TypeError:
        return None


def seconds_per_epoch(
    training: Training, patience: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """A forecast of the seconds that an epoch of `training` takes on this machine, on average over
    those on smaller images and the others.

    Args:
        training: left as it is: a copy of its network is trained.
        patience: seconds of steps to measure, about.
        clock: what tells the seconds; `time.process_time` for those of the processor.
    """
    recipe, whole = training.recipe, replace(training.recipe, small_images=0.0)
    if not training.small:
        return _seconds_per_epoch(training, whole, patience, clock)
    small = replace(recipe, small_images=1.0)
    on_small, on_whole = (
        _seconds_per_epoch(training, each, patience / 2, clock) for each in (small, whole)
    )
    return recipe.small_images * on_small + (1 - recipe.small_images) * on_whole


def _seconds_per_epoch(
    training: Training, recipe: Recipe, patience: float, clock: Callable[[], float]
) -> float:
    module = copy.deepcopy(training.module)
    probe = Training(module, training.pictures, recipe, 1_000_000, training.seed)
    ticks: list[float] = []  # times at which steps began
    warm_up = 2  # steps

    def pulse() -> bool:
        synchronize(str(probe.device))
        ticks.append(clock())
        return len(ticks) < warm_up + 3 or ticks[-1] - ticks[warm_up] < patience

    while probe.run_epoch(pulse) is not None:
        pass
    steps = zip(ticks[warm_up:], ticks[warm_up + 1 :], strict=False)
    return training.steps * statistics.median(end - begin for begin, end in steps)


def hardware(device: str) -> str:
    """The device in words, such as "2 cores of AMD EPYC"."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    if device == "cpu":
        return f"{cores()} cores of {processor()}"
    return f"{device} of {processor()}"
