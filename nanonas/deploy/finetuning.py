"""Whether an int8 file is fine-tuned, and which one is kept: decided by validation images.

The test set chooses nothing here: it judges what is kept, as it judges every file. The winner's
final training saw the validation images, too, so accuracies on them flatter; but they flatter the
network in floating point and in int8 alike, and what decides is the difference of the two. The
fine-tuning sees the other training images alone. So if anything it is at a disadvantage against
what was made without it, and where it is kept it is better.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.deploy.alone import check
from nanonas.deploy.folding import folded
from nanonas.deploy.subject import Subject
from nanonas.deploy.verdicts import FinetuningOutcome, Logits
from nanonas.training import finetuning
from nanonas.training.augment import augment_for, to_device
from nanonas.training.device import prepare
from nanonas.training.finetuning import Finetuned
from nanonas.training.pictures import Pictures
from nanonas.training.quantised import calibrated
from nanonas.training.train import logits_of

# pixels, (B, H, W, C), to logits, (B, classes), whatever their unit
Classify = Callable[[NDArray[np.uint8]], Any]
# writes int8 files into a folder: of the network itself for None
Write = Callable[[Path, Finetuned | None], Classify]

_MOST_JUDGES = 2000  # validation images that decide: the reference in integers is slow


@dataclass(frozen=True)
class Tuner:
    """Fine-tunes a network at most once, for all its int8 files.

    Args:
        subject: whose images are there.
        most: percentage points of accuracy that int8 may lose without being fine-tuned.
        seconds: to fine-tune for, at most; None: never.
    """

    subject: Subject
    most: float
    seconds: float | None

    # what came of it, by format; nothing of those that did not need it
    found: dict[str, FinetuningOutcome] = field(default_factory=dict)

    def write(
        self, kind: str, files: Sequence[str], folder: Path, work: Path, write: Write
    ) -> bool:
        """Writes a format in 8-bit integers; again with fine-tuned weights, where it loses too much
        without; and keeps what is better. Returns whether that is the second.

        Args:
            kind: the format's name.
            files: what `write` writes and is to be kept.
            folder: where they go.
            work: a folder for other files.
            write: writes files into a folder, of the subject's own network for None; says how what
                it wrote classifies.
        """
        classify = write(folder, None)
        if self.seconds is None:
            return False
        before = self._accuracy(classify)
        if 100 * (self._floats - before) <= self.most:
            return False
        logger.warning(
            "{} loses {:.2f} points on {:,} validation images, so it is fine-tuned (--finetune)",
            kind,
            100 * (self._floats - before),
            len(self._rows),
        )
        (tuned, seconds), after = self._tuned, None
        apart = work / f"tuned.{kind}"
        if tuned.after > tuned.before:
            apart.mkdir()
            after = self._accuracy(write(apart, tuned))
        kept = after is not None and after > before
        number, floats = len(self._rows), self._floats
        self.found[kind] = FinetuningOutcome(
            tuned.epochs, seconds, number, floats, before, after, kept
        )
        if kept:
            for name in files:
                shutil.copyfile(apart / name, folder / name)
        return kept

    def _accuracy(self, classify: Classify) -> float:
        """On the validation images that decide."""
        pixels, labels = self._judges
        return _right(check.logits_of(classify, pixels), labels)

    # --- what is needed for it, made once ---------------------------------------------------------

    @cached_property
    def _all(self) -> Pictures:
        """All training images."""
        images, rule = self.subject.source.images, self.subject.rule
        assert images is not None
        mean, std = torch.tensor(rule.mean), torch.tensor(rule.std)
        return Pictures(*to_device(images.x_train, images.y_train), mean, std)

    def _pictures(self, rows: Integers) -> Pictures:
        whole = self._all
        return Pictures(whole.x, whole.y, whole.mean, whole.std, torch.from_numpy(rows))

    @cached_property
    def _rows(self) -> Integers:
        """The validation images that judge, spread evenly over the classes."""
        rows = self.subject.split().valid
        by_class = rows[np.argsort(self._all.y.numpy()[rows], kind="stable")]
        number = min(_MOST_JUDGES, len(rows))
        return np.sort(by_class[np.arange(number) * len(rows) // number])

    @cached_property
    def _judges(self) -> tuple[NDArray[np.uint8], Integers]:
        """Their pixels, (N, H, W, C), and their classes, (N,)."""
        images = self.subject.source.images
        assert images is not None
        return np.ascontiguousarray(images.x_train[self._rows]), images.y_train[self._rows]

    @cached_property
    def _floats(self) -> float:
        """The accuracy of the network in floating point."""
        with _one_thread():
            logits = logits_of(self.subject.module, self._pictures(self._rows))
        return _right(logits.numpy(), self._judges[1])

    @cached_property
    def _tuned(self) -> tuple[Finetuned, float]:
        """The fine-tuned network, and the seconds that it took."""
        images, options = self.subject.source.images, self.subject.source.config.training
        assert images is not None
        assert self.seconds is not None
        began = time.monotonic()
        module = folded(self.subject.module)
        augment = augment_for(images, options.crop, options.flip, options.cutout)
        train = self._pictures(self.subject.split().train)
        how = finetuning.Finetuning(seconds=self.seconds, seed=self.subject.source.config.seed)
        with _one_thread():
            ranges = calibrated(module, self._pictures(self.subject.calibrating()))
            tuned = how.run(module, ranges, train, self._pictures(self._rows), augment)
        return tuned, time.monotonic() - began


@contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch with one thread and memory that is kept: sums, and so what comes of a fine-tuning, do
    not depend on how many cores there are; and for networks this small a second thread brings
    little, and on a busy machine costs much.
    """
    threads = torch.get_num_threads()
    prepare(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _right(logits: Logits, labels: Integers) -> float:
    return float((logits.argmax(axis=1) == labels).mean())
