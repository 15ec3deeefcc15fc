"""Quantisation-aware fine-tuning: a trained network learns to do with 8-bit integers what it did
without.

It is trained with rounded weights and maps (see `quantised`) on the labels and on what the network
itself answers in floating point (Hinton et al. 2015, https://arxiv.org/abs/1503.02531), by Adam
for one cycle of the learning rate. It is judged on validation images some times on the way, and
what was best is kept, the beginning included.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from nanonas.training.augment import Augment, normalise
from nanonas.training.modules import NetworkModule
from nanonas.training.pictures import Pictures
from nanonas.training.quantised import QuantisedModule, Ranges
from nanonas.training.recipe import one_cycle
from nanonas.training.train import accuracy

EPOCHS = 20.0  # at most


@dataclass(frozen=True)
class Finetuned:
    """What came of it."""

    module: NetworkModule  # the weights, not rounded; in eval mode
    ranges: Ranges  # the ends of its maps
    epochs: float  # that were trained
    before: float  # accuracy on the validation images with rounding, in [0, 1]
    after: float  # of what is kept: `before` or more


@dataclass(frozen=True)
class Finetuning:
    """How a network is fine-tuned.

    Args:
        epochs: how many at most, above 0.
        seconds: how long at most, above 0. Where that is shorter, the cycle of the learning rate is
            as well, and what comes of it depends on the machine's speed; otherwise on the
            arguments alone.
        seed: of the order of the images and of augmentation.
        batch_size: images in a step.
        lr: of weights at the top of the cycle.
        ends_lr: of the logarithms of the ends of maps.
        warmup: share of the cycle on the way up, in [0, 1).
        taught: share of the loss that is the distance from the network's own answers, in [0, 1];
            the rest is that from the labels.
        looks: how often it is judged.
        clock: tells seconds.
    """

    epochs: float = EPOCHS
    seconds: float = math.inf
    seed: int = 0
    batch_size: int = 64
    lr: float = 1e-3
    # A network of 32K parameters for CIFAR-10 with badly scaled channels had 52.8 % of 2,000 test
    # images in floating point, 49.7 % in integers, and 54.1 % after 100 steps of this; 51.9 % where
    # the ends stayed as calibrated (one seed).
    ends_lr: float = 3e-2
    warmup: float = 0.1
    # as above: 53.9 % by the labels alone, 53.6 % by the network's answers alone; on digits these
    # were within the error of 438 images
    taught: float = 0.5
    looks: int = 8
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def run(
        self,
        module: NetworkModule,
        ranges: Ranges,
        train: Pictures,
        valid: Pictures,
        augment: Augment,
    ) -> Finetuned:
        """Fine-tunes a copy of a network.

        Args:
            module: trained, in eval mode, norms folded into layers.
            ranges: the ends of its maps to begin with; see `quantised.calibrated`.
            train: 1 image or more.
            valid: 1 image or more, none of them among those to train on.
            augment: of the images to train on.
        """
        student = QuantisedModule(module, ranges)
        best = _Best(student, valid)
        before = best.accuracy
        optimizer = self._optimizer(student)
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        batches = _Batches(train, augment, self.batch_size, self.seed)
        total = max(1, round(self.epochs * batches.an_epoch))
        step, looked, began = 0, 0, self.clock()
        while (progress := max(step / total, (self.clock() - began) / self.seconds)) < 1:
            if progress >= (looked + 1) / self.looks:
                looked += 1
                best.look()
            for peak, group in zip(peaks, optimizer.param_groups, strict=True):
                group["lr"] = peak * one_cycle(progress, self.warmup)
            images, labels = batches.next()
            optimizer.zero_grad()
            self._loss(student, module, images, labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
        best.look()
        student.load_state_dict(best.state)
        epochs = step / batches.an_epoch
        return Finetuned(student.floating(), student.ranges(), epochs, before, best.accuracy)

    def _optimizer(self, student: QuantisedModule) -> torch.optim.Adam:
        weights = list(student.layers.parameters())
        return torch.optim.Adam(
            [{"params": weights, "lr": self.lr}, {"params": [student.stretch], "lr": self.ends_lr}]
        )

    def _loss(
        self, student: QuantisedModule, teacher: NetworkModule, images: Tensor, labels: Tensor
    ) -> Tensor:
        with torch.no_grad():
            expected = teacher(images).softmax(dim=1)
        logits = student(images)
        return self.taught * F.cross_entropy(logits, expected) + (
            1 - self.taught
        ) * F.cross_entropy(logits, labels)


class _Best:
    """What a module was when it did best, from now on."""

    def __init__(self, module: QuantisedModule, valid: Pictures) -> None:
        self.module, self.valid, self.accuracy = module, valid, -1.0
        self.look()

    def look(self) -> None:
        """Keeps what the module is, if it does better than what is kept."""
        if (now := accuracy(self.module, self.valid)) > self.accuracy:
            self.state, self.accuracy = copy.deepcopy(self.module.state_dict()), now


class _Batches:
    """Augmented, normalised images, batch by batch, in a new order each epoch."""

    def __init__(self, pictures: Pictures, augment: Augment, size: int, seed: int) -> None:
        self.pictures, self.augment = pictures, augment
        self.an_epoch = max(1, round(len(pictures) / size))
        self._generator = torch.Generator().manual_seed(seed)
        self._left: list[Tensor] = []

    def next(self) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) and (B,)."""
        pictures = self.pictures
        if not self._left:
            order = torch.randperm(len(pictures), generator=self._generator)
            self._left = list(order.tensor_split(self.an_epoch))
        batch = self._left.pop()
        rows = batch if pictures.rows is None else pictures.rows[batch]
        images = self.augment(pictures.x, rows, self._generator)
        return normalise(images, pictures.mean, pictures.std), pictures.y[rows]
