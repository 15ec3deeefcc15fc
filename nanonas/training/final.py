"""The winner's training: on all training images, with a checkpoint a epoch, and the test set opened once at its end."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from nanonas.errors import RunError
from nanonas.files import replacing, write_text
from nanonas.spaces.network import Network
from nanonas.training.build import build_module
from nanonas.training.cost import latency_ms
from nanonas.training.device import cores, prepare, synchronize
from nanonas.training.train import Pictures, Recipe, Training, accuracy
from nanonas.training.trial import save_weights

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
    latency_ms: float  # one image, median, on the device that trained, float32
    seconds: float  # of training, over all sessions, the test not included
    seed: int
    device: str
    hardware: str
    torch: str


@dataclass(frozen=True)
class FinalTraining:
    """Trains one network for good.

    Args:
        train: all images but the test set's.
        test: opened once, after the last epoch.
        folder: gets checkpoint.pt after every epoch, then model.safetensors and result.json. A checkpoint of the
            same training that is found there is continued.
        identity: what else makes this training the same one as a checkpoint's: the network's key and the data.
    """

    network: Network
    train: Pictures
    test: Pictures
    recipe: Recipe
    seed: int
    folder: Path
    identity: Mapping[str, Any]
    threads: int | None = None  # None: one or all of the cores, whichever is measured to be faster

    def run(
        self,
        epochs: int | None = None,
        deadline: float | None = None,
        on_epoch: Callable[[int, int, float], None] = lambda done, of, loss: None,
    ) -> FinalResult:
        """Trains for `epochs`, or for as many as fit before `deadline` (as of `time.time()`); tests; saves.

        Goes on from the folder's checkpoint if it `continues` this training; a finished one is only read.

        With a deadline the number of epochs follows from the speed measured at the start; when the machine turns out
        slower, the rest of the learning rate's cycle is shortened, so that it always ends at its bottom.

        Raises:
            RunError: the folder cannot be written, or training diverged.
        """
        device = str(self.train.x.device)
        training = Training(build_module(self.network, self.seed), self.train, self.recipe, epochs or 1, self.seed)
        spent = self._restore(training)
        if training.epoch == training.epochs and (self.folder / "result.json").exists():
            return FinalResult(**json.loads((self.folder / "result.json").read_text(encoding="utf-8")))
        threads, seconds = (self.threads, None) if self.threads else self.speed()
        prepare(threads or cores())
        if deadline is not None and training.epoch == 0:
            seconds = seconds or seconds_per_epoch(training)
            training.epochs = max(1, int(SPARE * self._epochs_before(deadline, seconds)))
        earlier, start = spent, time.perf_counter()
        resumed_at = training.epoch
        while training.epoch < training.epochs:
            loss = training.run_epoch(lambda: True)
            assert loss is not None  # the pulse never says stop
            if not math.isfinite(loss):
                raise RunError(
                    f"final training diverged: the loss is {loss} after epoch {training.epoch}; lower --lr "
                    f"(it is {self.recipe.lr}) and train again"
                )
            now = time.perf_counter() - start
            spent = earlier + now
            if deadline is not None:
                left = self._epochs_before(deadline, now / (training.epoch - resumed_at))
                training.epochs = min(training.epochs, training.epoch + max(0, int(left)))
            self._save_checkpoint(training, spent)
            on_epoch(training.epoch, training.epochs, loss)
        return self._finish(training, spent, device)

    def speed(self) -> tuple[int, float]:
        """How many threads train this network fastest, and the seconds that an epoch takes with them. Measures.

        More threads are faster for most networks on an idle machine; for tiny ones, and on a machine whose cores are
        busy with something else, they wait for each other and can be fifty times slower.
        """
        training = Training(build_module(self.network, self.seed), self.train, self.recipe, 1, self.seed)
        speeds: dict[int, float] = {}
        for threads in {1, cores()}:
            prepare(threads)
            speeds[threads] = seconds_per_epoch(training)
        fastest = min(speeds, key=speeds.__getitem__)
        return fastest, speeds[fastest]

    def _epochs_before(self, deadline: float, seconds: float) -> float:
        """How many epochs of `seconds` fit before the deadline, with the test at the end."""
        test = 3.0 + 0.5 * seconds * len(self.test) / len(self.train)  # a forward pass is a third of a step
        return (deadline - time.time() - test) / seconds

    def _finish(self, training: Training, spent: float, device: str) -> FinalResult:
        module = training.module
        result = FinalResult(
            test_accuracy=accuracy(module, self.test, self.recipe.precision),
            epochs=training.epoch,
            train_images=len(self.train),
            test_images=len(self.test),
            params=self.network.params,
            macs=self.network.macs,
            latency_ms=latency_ms(module, self.network.input_shape, device),
            seconds=spent,
            seed=self.seed,
            device=device,
            hardware=hardware(device),
            torch=torch.__version__,
        )
        save_weights(module, self.folder / "model.safetensors")
        write_text(self.folder / "result.json", json.dumps(asdict(result), indent=1) + "\n")
        return result

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def continues(self, epochs: int | None) -> bool:
        """Whether the folder holds a checkpoint of this very training, of `epochs` epochs if that is said."""
        kept = self._checkpoint()
        return kept is not None and epochs in (None, kept["training"]["epochs"])

    def _identity(self) -> dict[str, Any]:
        return {**self.identity, "key": self.network.key, "seed": self.seed, "recipe": repr(self.recipe)}

    def _save_checkpoint(self, training: Training, spent: float) -> None:
        buffer = io.BytesIO()  # torch.save would raise errors of its own when the disk is full
        torch.save({"identity": self._identity(), "training": training.state(), "spent": spent}, buffer)
        with replacing(self.folder / "checkpoint.pt") as part:
            part.write_bytes(buffer.getvalue())

    def _checkpoint(self) -> dict[str, Any] | None:
        """The folder's checkpoint; None where there is none of this training."""
        try:
            kept: dict[str, Any] = torch.load(
                self.folder / "checkpoint.pt", weights_only=True, map_location=self.train.x.device
            )
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None  # none there, or one that another program made; a damaged one is moved aside, not lost
        return kept if kept.get("identity") == self._identity() else None

    def _restore(self, training: Training) -> float:
        """Goes on from the folder's checkpoint if there is one; returns the seconds spent on it so far."""
        kept = self._checkpoint()
        if kept is None:
            return 0.0
        training.restore(kept["training"])
        return float(kept["spent"])


def seconds_per_epoch(training: Training, seconds: float = 2.0) -> float:
    """What an epoch of `training` will take here, from about `seconds` of steps on a copy that is thrown away."""
    probe = Training(copy.deepcopy(training.module), training.pictures, training.recipe, 1_000_000, training.seed)
    ticks: list[float] = []
    first = 2  # steps that warm up

    def pulse() -> bool:
        synchronize(str(probe.device))
        ticks.append(time.perf_counter())
        return len(ticks) < first + 3 or ticks[-1] - ticks[first] < seconds

    while probe.run_epoch(pulse) is not None:
        pass
    return training.steps * statistics.median(b - a for a, b in zip(ticks[first:], ticks[first + 1 :], strict=False))


def hardware(device: str) -> str:
    """The device in words."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cores()} cores of {processor()}" if device == "cpu" else f"{device} of {processor()}"


def processor() -> str:
    """The processor's own name, as far as the system tells."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
