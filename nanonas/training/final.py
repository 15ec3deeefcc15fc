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
from typing import Any, TypedDict

import torch
from loguru import logger
from torch import nn

from nanonas.data.backbone import WEIGHTS as BACKBONE
from nanonas.errors import RunError
from nanonas.files import read_json, write_text
from nanonas.machine import cores, described, processor
from nanonas.networks.network import Network
from nanonas.training.checkpoint import (
    CHECKPOINT,
    EARLIER,
    fitting_checkpoint,
    make_room,
    read_checkpoint,
    save_checkpoint,
)
from nanonas.training.crew import WORTH_A_TEAM, Crew, Crews
from nanonas.training.device import prepare
from nanonas.training.examination import EXAMINED, examine
from nanonas.training.joined import Joined, TunedBackbone, network_of
from nanonas.training.measuring.latency import latency_ms
from nanonas.training.measuring.pace import Timetable
from nanonas.training.pictures import Pictures
from nanonas.training.pretrained import Pretrained
from nanonas.training.recipe import Recipe, slower
from nanonas.training.team import Parallelism, ProcessLost
from nanonas.training.train import Training
from nanonas.training.weights import save_weights

RESULT = "result.json"
FILES = (CHECKPOINT, EARLIER, RESULT, "model.safetensors", "genome.json", BACKBONE, *EXAMINED)
LEAST = 0.02  # epochs that are trained, however little time there is
PLANNED = 0.95  # share of the time left that is planned for: a shared machine is not steady
MOST_EPOCHS = 1000  # that fill a time, at most: few images teach nothing more
FINE_TUNED = 100  # likewise, of a training with another's weights
LITTLE = 0.1  # of the parameters of a body, below which hardly anything of another comes along
# what is called after each epoch, and who trains in place of this process: see `FinalTraining`
OnEpoch = Callable[[int, int, float], None]
Elsewhere = Callable[["FinalTraining", int | None, float | None, OnEpoch], tuple[int, float]]
# Seconds of training after which a choice that leaves cores idle is made again: they may have been
# busy for a moment.
ONCE_MORE = (60.0, 300.0)


class BeganWith(TypedDict):
    """Whose weights a training began with."""

    name: str  # of the run or the folder that they were in
    digest: str  # of the network and its weights
    share: float  # of the parameters, in [0, 1], that began with them
    body_lr: float  # the factor of their learning rates; 0: they stayed as they were


@dataclass(frozen=True)
class FinalResult:
    """The outcome of a final training."""

    test_accuracy: float  # in [0, 1]
    epochs: float  # the last one is a part of one where there was no time for all of it
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
    temperature: float | None = None  # to divide logits by; None: there is no need, or not known
    balanced_accuracy: float | None = None  # the mean of the classes' own; None: not known
    began_with: BeganWith | None = None  # None: it was trained from scratch

    def accuracy_by(self, metric: str) -> float:
        """On the test images, in [0, 1], by a run's metric: "accuracy" or "balanced_accuracy"; of
        an earlier version that did not keep the latter, the former.
        """
        balanced = self.balanced_accuracy if metric == "balanced_accuracy" else None
        return self.test_accuracy if balanced is None else balanced

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
        folder: created if it is missing. It gets checkpoint.safetensors after every epoch, and in
            the end model.safetensors, result.json and the files of `examine`. A checkpoint of this
            very training is continued; the files of any other are moved to FOLDER/earlier-1, ….
        identity: what else must be equal for a checkpoint to be of this training, such as the
            fingerprint of the data.
        threads: of PyTorch in each process; None: whatever is measured to be fastest.
        processes: that train together, each its part of every batch; None: one where `threads` are
            given, else whatever is measured to be fastest.
        device: of the training images; "cuda" stands for all GPUs. None: the one they are on.
        retries: how often a training that diverges is restarted, each time with a third of the
            learning rates.
        about: metadata to store with the weights.
        elsewhere: trains in place of this process, on another machine: called with this training,
            `epochs`, `deadline` and `on_epoch` of `run`; it leaves the last checkpoint in the
            folder, and returns what `train` does. The test is made here.
        pretrained: whose weights it begins with; None: it begins from scratch.
        backbone: what learns with it: then it begins with `pretrained`, `train` and `test` are what
            the backbone sees, as of `joined.as_pixels`, and the folder gets the weights of both.
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
    elsewhere: Elsewhere | None = None
    pretrained: Pretrained | None = None
    backbone: TunedBackbone | None = None

    def run(
        self,
        epochs: int | None = None,
        deadline: float | None = None,
        on_epoch: OnEpoch = lambda done, of, loss: None,
        again: bool = False,
    ) -> FinalResult:
        """Trains, saves and tests the network.

        The learning rate's cycle always ends at its bottom: when the deadline turns out to be too
        near, the rest of the cycle is shortened. Where `epochs` is None it also becomes longer when
        there turns out to be more time, and cores that were not worth their while at the start are
        tried again. A finished training of as many epochs is only read, unless `again`.

        Args:
            epochs: None: as many as fit before the deadline, by the speed measured at the start,
                the last of them in part; `MOST_EPOCHS` at most, with the weights of another network
                `FINE_TUNED`.
            deadline: as of `time.monotonic()`; None: none.
            on_epoch: called after each epoch with the epochs done, the epochs planned, and the
                training loss.
            again: whether to repeat a finished training.

        Raises:
            RunError: the folder cannot be written, or training diverged each time.
        """
        checkpoint = self._checkpoint()
        if checkpoint is not None:
            if epochs not in (None, checkpoint["asked"], checkpoint["training"]["epochs"]):
                checkpoint = None
            elif _finished(checkpoint) and not again and (result := read_result(self.folder)):
                return result
            elif _finished(checkpoint) and again:
                checkpoint = None
        if checkpoint is None:
            make_room(self.folder, FILES)
            self._warn_where_little_fits()
        if self.elsewhere is not None and not (checkpoint and _finished(checkpoint)):
            epoch, loss = self.elsewhere(self, epochs, deadline, on_epoch)
            if not math.isfinite(loss):
                return self._with_lower_lr(epoch, loss).run(epochs, deadline, on_epoch)
            return replace(self, elsewhere=None).run(epochs, deadline, on_epoch)
        training, loss, spent, how = self._trained(checkpoint, epochs, deadline, on_epoch)
        if not math.isfinite(loss):
            lower = self._with_lower_lr(training.epoch, loss)
            same = replace(lower, threads=how.threads, processes=how.processes)
            return same.run(epochs, deadline, on_epoch)
        return self._finish(training, spent, how, checkpoint)

    def train_only(
        self, epochs: int | None, deadline: float | None, on_epoch: OnEpoch
    ) -> tuple[int, float]:
        """As `run`, but neither tests nor begins again: its last checkpoint, with the latency, is
        for another process, which does.

        Returns:
            the epochs that are done, and the last training loss, which is not finite where training
            diverged.
        """
        training, loss, spent, how = self._trained(self._checkpoint(), epochs, deadline, on_epoch)
        if math.isfinite(loss):
            self._save_checkpoint(training, epochs, spent, how, self._latency_ms(training))
        return training.epoch, loss

    def _trained(
        self,
        checkpoint: dict[str, Any] | None,
        epochs: int | None,
        deadline: float | None,
        on_epoch: OnEpoch,
    ) -> tuple[Training, float, float, Parallelism]:
        """As `_train`; where a process of several is lost, by one."""
        try:
            with ExitStack() as stack:
                return self._train(stack, checkpoint, epochs, deadline, on_epoch)
        except ProcessLost as lost:
            logger.warning("{}; one process goes on from the last checkpoint", lost)
        alone = replace(self, processes=1)
        return alone._trained(self._checkpoint(), epochs, deadline, on_epoch)

    def _train(
        self,
        stack: ExitStack,
        checkpoint: dict[str, Any] | None,
        epochs: int | None,
        deadline: float | None,
        on_epoch: OnEpoch,
    ) -> tuple[Training, float, float, Parallelism]:
        """Trains to the end, or until the loss is not finite any more.

        Args:
            stack: ends the processes.

        Returns:
            the training, its last loss, the seconds that it took, over all sessions, and how the
            machine was used at last.
        """
        crew = self._crew(stack, checkpoint, epochs, deadline)
        training = self.crews.begun(epochs or 1, crew.team)
        table, tries = Timetable(crew.pace), list(ONCE_MORE)
        spent, loss = 0.0, 0.0
        if checkpoint is not None:
            with fitting_checkpoint(self.folder):
                training.restore(checkpoint["training"])
            spent = float(checkpoint["spent"])
        elif epochs is None and deadline is not None:
            fitting = table.epochs(0, PLANNED * self._left(deadline, table))
            training.epochs = max(LEAST, self._at_most(_whole_or_part(fitting)))
        if crew.team is not None:
            crew.team.share(training)
        begin = time.perf_counter()
        while training.epoch < training.epochs:
            small, before = training.small, time.perf_counter()
            loss = training.whole_epoch() if crew.team is None else crew.team.run_epoch(training)
            if not math.isfinite(loss):
                break
            now = time.perf_counter()
            table.note(small, now - before)
            if deadline is not None and epochs is None and tries and now - begin > tries[0]:
                tries.pop(0)
                other = self._chosen_again(crew, stack, deadline)
                if other is not crew:
                    training = self._handed_over(training, crew, other)
                    crew, table = other, Timetable(other.pace)
            if deadline is not None and training.epoch < training.epochs:
                self._replan(training, table, deadline, epochs is None)
            self._save_checkpoint(training, epochs, spent + time.perf_counter() - begin, crew.how)
            on_epoch(training.epoch, math.ceil(training.epochs), loss)
        return training, loss, spent + time.perf_counter() - begin, crew.how

    def _left(self, deadline: float, table: Timetable) -> float:
        """Seconds before the deadline, without those of the test."""
        # A forward pass takes a third of a step; a test set is smaller than the training set.
        test = 2.0 + (0.0 if table.pace is None else 0.1 * table.pace.whole)
        return deadline - time.monotonic() - test

    def _replan(self, training: Training, table: Timetable, deadline: float, fills: bool) -> None:
        """Shortens the learning rate's cycle where the machine has become slower than it was, and,
        for a training that `fills` the time, lengthens it where there is more.
        """
        left, done = self._left(deadline, table), training.epoch
        fitting = table.epochs(done, left)
        if fitting < training.epochs:
            training.epochs = max(done, _whole_or_part(fitting))
        elif fills:
            longer = self._at_most(_whole_or_part(table.epochs(done, PLANNED * left)))
            training.epochs = max(training.epochs, longer)

    def _at_most(self, epochs: float) -> float:
        """What fits into a time, or less where more would be for nothing, or do harm: what the
        weights of another network are worth is forgotten, on few images above all.
        """
        return min(epochs, MOST_EPOCHS if self.pretrained is None else FINE_TUNED)

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

    @property
    def crews(self) -> Crews:
        """Who may train."""
        what = (self.network, self.train, self.recipe, self.seed)
        how = (self.device, self.threads, self.processes)
        return Crews(*what, *how, self.pretrained, self.backbone)

    def _crew(
        self,
        stack: ExitStack,
        checkpoint: dict[str, Any] | None,
        epochs: int | None,
        deadline: float | None,
    ) -> Crew:
        """The threads and processes that train: those asked for, those of the checkpoint where it
        is this machine's, so that the numbers are those of a training that was not interrupted, or
        whatever is measured to be fastest.

        Args:
            stack: ends the processes.
        """
        if checkpoint is not None and _finished(checkpoint):  # it is only tested
            return Crew(Parallelism(checkpoint["threads"], checkpoint["processes"]))
        left = math.inf if deadline is None else deadline - time.monotonic()
        crews, how, patience = self.crews, self._known(checkpoint), _patience(deadline)
        if how is None:
            crew = crews.fastest(stack, patience, epochs, left)
        else:
            crew = crews.gathered(stack, how)
        prepare(crew.how.threads)
        if crew.pace is None and epochs is None and deadline is not None:
            crew = crews.timed(crew, patience)
        return crew

    def _chosen_again(self, crew: Crew, stack: ExitStack, deadline: float) -> Crew:
        """Whatever trains fastest now, where a crew leaves cores idle: they were busy, perhaps,
        when it was chosen.
        """
        left, given = deadline - time.monotonic(), (self.threads, self.processes)
        if not crew.leaves_cores_idle or left <= WORTH_A_TEAM or given != (None, None):
            return crew
        other = self.crews.fastest(stack, _patience(deadline), None, left)
        if other.how == crew.how:
            if other.team is not None:
                other.team.close()
            other = crew
        prepare(other.how.threads)
        return other

    def _handed_over(self, training: Training, crew: Crew, other: Crew) -> Training:
        """A training that another crew goes on with."""
        logger.info("{} go on, in place of {}", other.how, crew.how)
        if crew.team is not None:
            crew.team.close()
        handed = self.crews.begun(training.epochs, other.team)
        handed.restore(training.state())
        if other.team is not None:
            other.team.share(handed)
        return handed

    def _known(self, checkpoint: dict[str, Any] | None) -> Parallelism | None:
        """How the machine is used, where that needs no measuring."""
        if (asked := self.crews.asked) is not None:
            return asked
        if checkpoint is None or checkpoint.get("on") != self._on:
            return None
        before = Parallelism(checkpoint["threads"], checkpoint["processes"])
        possible = before.threads * before.processes <= cores()  # else it was changed by hand
        return before if possible and self.processes in (None, before.processes) else None

    @property
    def _on(self) -> list[Any]:
        """What a choice of threads and processes depends on, besides what else the machine does."""
        return [self.train.device.type, cores()]

    # --- the end ----------------------------------------------------------------------------------

    def _finish(
        self,
        training: Training,
        spent: float,
        how: Parallelism,
        checkpoint: dict[str, Any] | None,
    ) -> FinalResult:
        """Tests and saves the trained network.

        Args:
            checkpoint: that this began with; one of a finished training knows where that was.
        """
        done = checkpoint if checkpoint is not None and _finished(checkpoint) else {}
        module, device = training.result, str(self.train.device)
        used = how.threads * how.processes
        prepare(min(used, cores()) if done else used)  # it may have been another machine
        test = examine(module, self.train, self.test(), self.recipe)
        result = FinalResult(
            test_accuracy=test.accuracy,
            epochs=min(training.epoch, training.epochs),
            train_images=len(self.train),
            test_images=len(test.answers),
            params=self.network.params,
            macs=self.network.macs,
            latency_ms=done.get("latency_ms") or self._latency_ms(training),
            seconds=spent,
            seed=self.seed,
            lr=self.recipe.lr,
            device=done.get("device") or device,
            hardware=done.get("hardware") or hardware(device),
            torch=torch.__version__,
            threads=how.threads,
            processes=how.processes,
            temperature=test.temperature,
            balanced_accuracy=test.balanced_accuracy,
            began_with=self._began_with(),
        )
        self._save(module)
        test.write(self.folder)
        write_text(self.folder / RESULT, json.dumps(asdict(result), indent=1) + "\n")
        return result

    def _save(self, module: nn.Module) -> None:
        """Writes the trained weights into the folder."""
        about = self.about
        if self.backbone is not None:
            assert isinstance(module, Joined)
            self.backbone.save(module, self.folder)
            rule = self.backbone.rule_in(self.folder).to_json()
            about = {**about, "preprocessing": json.dumps(rule)}
        save_weights(network_of(module), self.folder / "model.safetensors", about)

    def _latency_ms(self, training: Training) -> float:
        return latency_ms(
            network_of(training.result), self.network.input_shape, str(self.train.device)
        )

    # --- the folder -------------------------------------------------------------------------------

    def _checkpoint(self) -> dict[str, Any] | None:
        """That of this training, if there is one."""
        return read_checkpoint(self.folder, self._identity(), self.train.device)

    def _warn_where_little_fits(self) -> None:
        """Says where next to nothing of a pretrained network comes along."""
        if self.pretrained is None or (share := self.crews.beginning()[1].of_body) >= LITTLE:
            return
        rest = "the rest is trained from scratch"
        if self.recipe.body_lr == 0:
            rest += ", and there is next to no body to freeze"
        logger.warning(
            "of the network's body {:.1%} begins with the weights of {}, for the two networks have "
            "little in common: {}; train that network itself, or begin with one that is more alike",
            share,
            self.pretrained.name,
            rest,
        )

    def _began_with(self) -> BeganWith | None:
        """What the result says of the weights that it began with."""
        if self.pretrained is None:
            return None
        _, begun = self.crews.beginning()
        return {
            "name": self.pretrained.name,
            "digest": self.pretrained.digest,
            "share": begun.share,
            "body_lr": self.recipe.body_lr,
        }

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have in common with this training to be continued."""
        began = {} if self.pretrained is None else {"began_with": self.pretrained.digest}
        tuned = {} if self.backbone is None else self.backbone.identity
        return {
            **self.identity,
            **began,
            **tuned,
            "key": self.network.key,
            "seed": self.seed,
            "recipe": self.recipe.identity,
        }

    def _save_checkpoint(
        self,
        training: Training,
        asked: int | None,
        spent: float,
        how: Parallelism,
        latency_ms: float | None = None,
    ) -> None:
        """Replaces the folder's checkpoint.

        Args:
            training: after an epoch.
            asked: the number of epochs in the call of `run`, by which the training is recognised
                even when a deadline shortened it.
            spent: seconds of training so far.
            how: the machine was used.
            latency_ms: where it was measured.
        """
        device = str(self.train.device)
        checkpoint = {
            "identity": self._identity(),
            "asked": asked,
            "training": training.state(),
            "spent": spent,
            "on": self._on,
            "threads": how.threads,
            "processes": how.processes,
            "device": device,
            "hardware": hardware(device),
            "latency_ms": latency_ms,
        }
        save_checkpoint(self.folder, checkpoint)


def read_result(folder: Path) -> FinalResult | None:
    """The result of a finished training in its folder; None if it is missing or damaged."""
    try:
        return FinalResult(**(read_json(folder / RESULT) or {}))
    except TypeError:
        return None


def _finished(checkpoint: Mapping[str, Any]) -> bool:
    """Whether all epochs are done."""
    return bool(checkpoint["training"]["epoch"] >= checkpoint["training"]["epochs"])


def hardware(device: str) -> str:
    """The device in words, such as "2 cores of AMD EPYC"."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    if device == "cpu":
        return described()["hardware"]
    return f"{device} of {processor()}"


def _whole_or_part(epochs: float) -> float:
    """So many epochs, of which the last is a part where there is no time for all of it: where there
    are few, a whole one is much of the time.
    """
    return math.floor(100 * epochs) / 100


def _patience(deadline: float | None) -> float:
    """Seconds to measure each crew for."""
    if deadline is None:
        return 0.5
    return min(2.0, max(0.2, 0.05 * (deadline - time.monotonic())))
