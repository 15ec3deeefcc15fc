"""Whether an exported file does what the network does: what it gave is compared with what the
network's own module gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Floats, Integers
from nanonas.maths.intervals import median_interval, wilson
from nanonas.text import number_of, percent

TOLERANCE = 1e-4  # of a float32 file: differences of logits, as a share of the largest logit

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Timing:
    """How long a pass takes, in milliseconds."""

    median: float
    low: float  # of the median's 95 % interval
    high: float
    p95: float  # 95 % of the passes took no longer
    n: int  # passes
    threads: int = 1
    batch: int = 1  # images in a pass

    @classmethod
    def of(cls, milliseconds: Floats, threads: int = 1, batch: int = 1) -> Timing:
        """Of passes, (n,)."""
        median, low, high = median_interval([float(value) for value in milliseconds])
        p95 = float(np.quantile(milliseconds, 0.95))
        return cls(median, low, high, p95, len(milliseconds), threads, batch)


@dataclass(frozen=True)
class Accuracy:
    """The share of the test images that are classified correctly, and its 95 % interval."""

    share: float  # in [0, 1]
    low: float
    high: float
    n: int  # images

    @classmethod
    def of(cls, logits: Logits, labels: Integers) -> Accuracy:
        """Of logits, (N, classes), and the classes, (N,)."""
        return cls.of_share(float((logits.argmax(axis=1) == labels).mean()), len(labels))

    @classmethod
    def of_share(cls, share: float, n: int) -> Accuracy:
        """Of a share of n images."""
        return cls(share, *wilson(share, n), n)


@dataclass(frozen=True)
class FinetuningOutcome:
    """What a quantisation-aware fine-tuning came to, on validation images."""

    epochs: float
    seconds: float
    n: int  # validation images
    floats: float  # accuracy of the network in floating point, in [0, 1]
    before: float  # of its int8 file, not fine-tuned
    after: float | None  # of the fine-tuned int8 file; None: none was better with rounding
    kept: bool  # whether the fine-tuned one is exported

    @property
    def words(self) -> str:
        """In a few words."""
        for_epochs = f"fine-tuned for {number_of(self.epochs, 'epoch', form='.3g')}"
        of = f"of {number_of(self.n, 'validation image')}, {percent(self.floats)} in floating point"
        if self.kept and self.after is not None:
            return f"{for_epochs}: {percent(self.before)} → {percent(self.after)} {of}"
        return f"{for_epochs}, which was no better and is not kept: {percent(self.before)} {of}"


@dataclass(frozen=True)
class Verdict:
    """What came of one format: which files, whether they do what the network does, how fast."""

    format: str
    files: tuple[str, ...]
    bytes: int  # of all of them
    reason: str = ""  # why it failed; empty where it did not
    difference: float | None = None  # the largest of two logits
    scale: float | None = None  # the largest logit of the module, without its sign
    agreement: float | None = None  # the share of images with the same class
    accuracy: Accuracy | None = None  # None: the images have no classes
    timing: Timing | None = None
    note: str = ""  # what else there is to know
    finetuning: FinetuningOutcome | None = None  # None: it needed none

    @property
    def passed(self) -> bool:
        """Whether it may be called exported."""
        return not self.reason

    def noting(self, finetuning: FinetuningOutcome | None) -> Verdict:
        """The verdict of files that this came before; None: there was none."""
        if finetuning is None:
            return self
        note = "; ".join(part for part in (self.note, finetuning.words) if part)
        return replace(self, finetuning=finetuning, note=note)


def difference(logits: Logits, expected: Logits) -> tuple[float, float, float]:
    """The largest difference of two logits, the largest expected logit without its sign, and the
    share of images with the same class; both are (N, classes).
    """
    apart = float(np.abs(logits.astype(np.float64) - expected).max())
    agreement = float((logits.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return apart, float(np.abs(expected).max()), agreement


def wrong_floats(logits: Logits, expected: Logits, tolerance: float = TOLERANCE) -> str:
    """Why logits are not those that were expected; empty where they are.

    No logit may be further off than `tolerance` times the largest, and no class may be another
    where the expected one is ahead of the next by more than that.
    """
    if wrong := _malformed(logits, expected):
        return wrong
    apart, scale, _ = difference(logits, expected)
    allowed = tolerance * scale
    if apart > allowed:
        return (
            f"its logits are up to {apart:.2g} off, but {allowed:.2g} is allowed, {tolerance:g} of "
            f"the largest logit"
        )
    second, first = np.sort(expected, axis=1)[:, -2:].T
    clear = first - second > allowed
    other = clear & (logits.argmax(axis=1) != expected.argmax(axis=1))
    if other.any():
        return f"it gives another class for {number_of(int(other.sum()), 'image')}"
    return ""


def wrong_int8(logits: Logits, expected: Logits, labels: Integers, most: float) -> str:
    """Why a quantised network is too far off; empty where it is not.

    Args:
        labels: of the images, (N,).
        most: percentage points of accuracy that it may lose.
    """
    if wrong := _malformed(logits, expected):
        return wrong
    before, now = (int((one.argmax(axis=1) == labels).sum()) for one in (expected, logits))
    lost = 100 * (before - now) / len(labels)
    if lost > most:
        return f"it loses {lost:.2f} points of accuracy, but --int8-loss allows {most:g}"
    return ""


def _malformed(logits: Logits, expected: Logits) -> str:
    if logits.shape != expected.shape:
        return f"its logits are {logits.shape}, but must be {expected.shape}"
    if not np.isfinite(logits).all():
        return "some of its logits are no numbers"
    return ""
