"""The winner's training: on all training images, a checkpoint an epoch, and the test set opened
once at its end.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from nanonas.errors import RunError
from nanonas.files import read_json, replacing, write_text
from nanonas.machine import cores, processor
from nanonas.networks.network import Network
from nanonas.training.device import prepare, synchronize
from nanonas.training.measuring.latency import latency_ms
from nanonas.training.modules import build_module
from nanonas.training.pictures import Pictures
from nanonas.training.recipe import Recipe
from nanonas.training.train import Training, accuracy
from nanonas.training.weights import save_weights

CHECKPOINT, RESULT = "checkpoint.pt", "result.json"
FILES = (CHECKPOINT, RESULT, "model.safetensors", "genome.json")
SPARE = 0.95  # of the time that is left is planned for: speed on a shared machine is not steady


@dataclass(frozen=True)
class FinalResult:
    """What came of a final training."""

    test_accuracy: float  # in [0, 1]
    epochs: int
    train_images: int  # an epoch
    test_images: int
    params: int
    macs: int
    latency_ms: float  # one image, median, on the device that trained; on a CPU with one thread
    seconds: float  # of training, over all sessions, the test not included
    seed: int
    lr: float  # at the top of the cycle
    device: str
    hardware: str
    torch: str


@dataclass(frozen=True)
class FinalTraining:
    """Trains one network for good.

    Args:
        train: all images but the test set's.
        test: opens the test set; called once, after the last epoch.
        folder: made where it is not there. Gets checkpoint.pt after every epoch, in the end
            model.safetensors and result.json. A checkpoint of this very training that is found
            there is continued, and any other training that is there is kept in FOLDER/earlier-1,
            FOLDER/earlier-2, …
        identity: what else makes this training the same one as a checkpoint's: the data's
            fingerprint.
        threads: None: one or all of the cores, whichever is measured to be faster.
        retries: how often a training that diverges is begun again, each time with a third of the
            learning rate.
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

    def run(
        self,
        epochs: int | None = None,
        deadline: float | None = None,
        on_epoch: Callable[[int, int, float], None] = lambda done, of, loss: None,
        again: bool = False,
    ) -> FinalResult:
        """Trains for `epochs`, or for as many as fit before `deadline` (as of `time.time()`);
        tests; saves.

        Without `epochs` their number follows from the speed measured at the start. When the
        deadline turns out to be too near, the rest of the learning rate's cycle is shortened, so
        that it always ends at its bottom. A finished training of as many epochs is only read,
        unless it is to be done `again`.

        Raises:
            RunError: the folder cannot be written, or training diverged each time.
        """
        device = str(self.train.x.device)
        training = Training(
            build_module(self.network, self.seed), self.train, self.recipe, epochs or 1, self.seed
        )
        kept = self._checkpoint()
        if kept is not None and epochs in (None, kept["asked"], kept["training"]["epochs"]):
            finished = kept["training"]["epoch"] == kept["training"]["epochs"]
            if finished and not again and (result := read_result(self.folder)):
                return result
            if not (finished and again):
                training.restore(kept["training"])
        if training.epoch == 0:
            self._make_room()
        spent = float(kept["spent"]) if kept is not None and training.epoch > 0 else 0.0
        patience = 0.5 if deadline is None else min(2.0, max(0.2, 0.05 * (deadline - time.time())))
        threads, seconds = (self.threads, None) if self.threads else self.speed(patience)
        prepare(threads or cores())
        if epochs is None and deadline is not None and training.epoch == 0:
            seconds = seconds or seconds_per_epoch(training, patience)
            training.epochs = max(1, int(SPARE * self._epochs_before(deadline, seconds)))
        start, resumed_at = time.perf_counter() - spent, training.epoch
        while training.epoch < training.epochs:
            loss = training.run_epoch(lambda: True)
            assert loss is not None  # the pulse never says stop
            if not math.isfinite(loss):
                return self._with_lower_lr(training.epoch, loss).run(epochs, deadline, on_epoch)
            now = time.perf_counter() - start
            if deadline is not None:
                left = self._epochs_before(deadline, (now - spent) / (training.epoch - resumed_at))
                training.epochs = min(training.epochs, training.epoch + max(0, int(left)))
            self._save_checkpoint(training, epochs, now)
            on_epoch(training.epoch, training.epochs, loss)
        return self._finish(training, time.perf_counter() - start, device)

    def _with_lower_lr(self, epoch: int, loss: float) -> FinalTraining:
        if self.retries == 0:
            raise RunError(
                f"final training diverged: the loss is {loss} after epoch {epoch} with lr "
                f"{self.recipe.lr:g}; "
                "train again with a lower --lr"
            )
        lower = replace(self.recipe, lr=self.recipe.lr / 3)
        logger.warning(
            "the loss is {} with lr {:g}; begun again with {:g}", loss, self.recipe.lr, lower.lr
        )
        return replace(self, recipe=lower, retries=self.retries - 1)

    def speed(self, patience: float = 2.0) -> tuple[int, float]:
        """How many threads train this network fastest, and the seconds that an epoch takes with
        them.

        Measures each for about `patience` seconds.

        More threads are faster for most networks on an idle machine; for tiny ones, and on a
        machine whose cores are busy with something else, they wait for each other and can be fifty
        times slower.
        """
        training = Training(
            build_module(self.network, self.seed), self.train, self.recipe, 1, self.seed
        )
        speeds: dict[int, float] = {}
        for threads in {1, cores()} if self.train.x.device.type == "cpu" else {cores()}:
            prepare(threads)
            speeds[threads] = seconds_per_epoch(training, patience)
        fastest = min(speeds, key=speeds.__getitem__)
        return fastest, speeds[fastest]

    def _epochs_before(self, deadline: float, seconds: float) -> float:
        """How many epochs of `seconds` fit before the deadline, with some time for the test at the
        end.
        """
        return (
            deadline - time.time() - 2.0 - 0.1 * seconds
        ) / seconds  # a forward pass is a third of a step

    def _finish(self, training: Training, spent: float, device: str) -> FinalResult:
        module = training.module
        test = self.test()
        result = FinalResult(
            test_accuracy=accuracy(module, test, self.recipe.precision),
            epochs=training.epoch,
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
        save_weights(module, self.folder / "model.safetensors")
        write_text(self.folder / RESULT, json.dumps(asdict(result), indent=1) + "\n")
        return result

    # --- the folder -------------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {
            **self.identity,
            "key": self.network.key,
            "seed": self.seed,
            "recipe": repr(self.recipe),
        }

    def _save_checkpoint(self, training: Training, asked: int | None, spent: float) -> None:
        """`asked` is the number of epochs before a deadline shortened it: by that the training is
        known again.
        """
        buffer = io.BytesIO()  # torch.save would raise errors of its own when the disk is full
        kept = {
            "identity": self._identity(),
            "asked": asked,
            "training": training.state(),
            "spent": spent,
        }
        torch.save(kept, buffer)
        with replacing(self.folder / CHECKPOINT) as part:
            part.write_bytes(buffer.getvalue())

    def _checkpoint(self) -> dict[str, Any] | None:
        """The folder's checkpoint; None where there is none of this training."""
        try:
            kept = torch.load(
                self.folder / CHECKPOINT, weights_only=True, map_location=self.train.x.device
            )
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None  # none there, or damaged: it is moved aside, not lost
        return kept if isinstance(kept, dict) and kept.get("identity") == self._identity() else None

    def _make_room(self) -> None:
        """Makes the folder, and moves the files of an earlier training in it into a folder of their
        own.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            there = [self.folder / name for name in FILES if (self.folder / name).exists()]
            if there:
                number = 1
                while (aside := self.folder / f"earlier-{number}").exists():
                    number += 1
                aside.mkdir()
                for path in there:
                    path.rename(aside / path.name)
                logger.info("the training that was in {} before is kept in {}", self.folder, aside)
        except OSError as error:
            raise RunError(
                f"the folder {str(self.folder)!r} cannot be used: {error.strerror}; choose "
                "another one, or free space "
                "and permissions"
            ) from None


def read_result(folder: Path) -> FinalResult | None:
    """What a finished training left in its folder; None where none is, or where it cannot be read."""
    try:
        return FinalResult(**(read_json(folder / RESULT) or {}))
    except TypeError:
        return None


def seconds_per_epoch(training: Training, patience: float) -> float:
    """What an epoch of `training` will take here, from about `patience` seconds of steps on a copy."""
    probe = Training(
        copy.deepcopy(training.module), training.pictures, training.recipe, 1_000_000, training.seed
    )
    ticks: list[float] = []
    first = 2  # steps that warm up

    def pulse() -> bool:
        synchronize(str(probe.device))
        ticks.append(time.perf_counter())
        return len(ticks) < first + 3 or ticks[-1] - ticks[first] < patience

    while probe.run_epoch(pulse) is not None:
        pass
    return training.steps * statistics.median(
        b - a for a, b in zip(ticks[first:], ticks[first + 1 :], strict=False)
    )


def hardware(device: str) -> str:
    """The device in words."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cores()} cores of {processor()}" if device == "cpu" else f"{device} of {processor()}"
