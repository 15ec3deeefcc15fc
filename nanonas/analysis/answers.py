"""What a trained network gets wrong, from its answers to the test images: which classes, which
images, and whether it knows.

Shares have Wilson's 95 % intervals, each for itself: of many classes, the worst looks worse than
it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nanonas.core import Floats, Integers
from nanonas.data.answers import Answers
from nanonas.maths.calibration import (
    Flags,
    Reliability,
    Scaling,
    accuracy_when_refusing,
    confident_errors,
    error_by_luck,
    reliability,
    scaling,
    softmax,
    unsure_hits,
)
from nanonas.maths.intervals import mean_of_shares, wilson

TOP_2_CLASSES = 5  # from which on it says something that the right class is among the first two


@dataclass(frozen=True)
class Share:
    """How many of some images, with the 95 % interval of what that is a sample of."""

    images: int
    of: int

    @property
    def value(self) -> float:
        """In [0, 1]."""
        return self.images / self.of

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval, within [0, 1]."""
        return wilson(self.value, self.of)


@dataclass(frozen=True)
class ClassAccuracy:
    """How many images of a class are answered rightly."""

    label: int
    right: Share


@dataclass(frozen=True)
class Confusion:
    """How many images of a class are taken for one other class."""

    label: int
    taken_for: int
    wrong: Share


@dataclass(frozen=True)
class Answer:
    """What the network said of one image.

    Attributes:
        row: its place in the test set.
        name: its file, or its place in words.
        confidence: the probability that the network gives its answer, in [0, 1].
    """

    row: int
    name: str
    label: int
    taken_for: int
    confidence: float


@dataclass(frozen=True, eq=False)
class Judgement:
    """A network's answers to the test images, judged. Each analysis is made when it is first read.

    Args:
        answers: of the network.
        class_names: in the order of the logits.
    """

    answers: Answers
    class_names: Sequence[str]

    @cached_property
    def predicted(self) -> Integers:
        """The class that each image is taken for, (images,)."""
        predicted: Integers = self.answers.logits.argmax(axis=1)
        return predicted

    @cached_property
    def right(self) -> Flags:
        """Whether each answer is right, (images,)."""
        flags: Flags = self.predicted == self.answers.labels
        return flags

    @cached_property
    def confidence(self) -> Floats:
        """The probability of each answer by the softmax, (images,), in [0, 1]."""
        largest: Floats = softmax(self.answers.logits).max(axis=1)
        return largest

    @property
    def accuracy(self) -> Share:
        """How many answers are right."""
        return Share(int(self.right.sum()), len(self.right))

    # --- classes ----------------------------------------------------------------------------------

    @cached_property
    def confusion(self) -> Integers:
        """How many images of each class (row) are taken for each class (column)."""
        classes = self.answers.classes
        pairs = self.answers.labels * classes + self.predicted
        counts: Integers = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
        return counts

    @cached_property
    def classes(self) -> list[ClassAccuracy]:
        """The accuracy of each class that has test images, the worst first."""
        totals, hits = self.confusion.sum(axis=1), self.confusion.diagonal()
        known = [
            ClassAccuracy(int(label), Share(int(hits[label]), int(totals[label])))
            for label in np.flatnonzero(totals)
        ]
        return sorted(known, key=lambda one: (one.right.value, one.label))

    @cached_property
    def worst_by_luck(self) -> float:
        """The probability, in [0, 1], that the worst of so many classes comes out as badly as this
        where all are equally hard; at most, by Bonferroni.
        """
        from scipy.special import bdtr  # scipy.stats takes a second to import

        worst = self.classes[0].right
        of_one = float(bdtr(worst.images, worst.of, self.accuracy.value))
        return min(1.0, len(self.classes) * of_one)

    @property
    def balanced_accuracy(self) -> float:
        """The mean of the classes' accuracies, in [0, 1]: each counts the same, however many images
        it has.
        """
        return float(np.mean([one.right.value for one in self.classes]))

    @property
    def balanced_interval(self) -> tuple[float, float]:
        """The 95 % interval of that."""
        shares = np.array([one.right.value for one in self.classes])
        _, low, high = mean_of_shares(shares, np.array([one.right.of for one in self.classes]))
        return low, high

    @cached_property
    def confusions(self) -> list[Confusion]:
        """What is taken for what, the most frequent first; of equally many images, the larger share
        of its class.
        """
        totals = self.confusion.sum(axis=1)
        wrong = self.confusion * (1 - np.eye(len(totals), dtype=np.int64))
        found = [
            Confusion(int(of), int(taken), Share(int(wrong[of, taken]), int(totals[of])))
            for of, taken in np.argwhere(wrong)
        ]
        return sorted(found, key=lambda one: (-one.wrong.images, -one.wrong.value, one.label))

    @cached_property
    def top_2(self) -> Share | None:
        """How often the right class is among the first two; None for fewer than 5 classes."""
        if self.answers.classes < TOP_2_CLASSES:
            return None
        logits, labels = self.answers.logits, self.answers.labels
        of_labels = logits[np.arange(len(labels)), labels]
        above = (logits > of_labels[:, None]).sum(axis=1)
        return Share(int((above < 2).sum()), len(labels))

    # --- whether it knows -------------------------------------------------------------------------

    @cached_property
    def reliability(self) -> Reliability:
        """How often it is right, by how sure it is."""
        return reliability(self.confidence, self.right)

    @cached_property
    def calibration_luck(self) -> float:
        """The calibration error that a perfectly calibrated network stays below in 95 % of the
        cases, with these confidences and so few images.
        """
        return error_by_luck(self.confidence)

    @cached_property
    def scaling(self) -> Scaling | None:
        """A temperature, and what it does; None where there are too few errors to tell."""
        return scaling(self.answers.logits, self.answers.labels)

    @cached_property
    def scaled_reliability(self) -> Reliability | None:
        """As `reliability`, with each half of the images at the temperature that was fitted to the
        other half; None where `scaling` is.
        """
        if self.scaling is None:
            return None
        return reliability(softmax(self.scaling.logits).max(axis=1), self.right)

    @cached_property
    def kept_accuracy(self) -> Floats:
        """The accuracy on what is left, (images,): the n-th element is that without the n answers
        that it is least sure of.
        """
        return accuracy_when_refusing(self.confidence, self.right)

    def when_refusing(self, share: float) -> Share:
        """How many of the rest are right where it refuses the images that it is least sure of.

        Args:
            share: of the images that are refused, in [0, 1); one is kept at least.
        """
        kept = max(1, len(self.right) - round(share * len(self.right)))
        hits = round(float(self.kept_accuracy[-kept]) * kept)
        return Share(hits, kept)

    # --- images -----------------------------------------------------------------------------------

    def confident_errors(self, most: int) -> list[Answer]:
        """The wrong answers that it is most sure of, the surest first."""
        rows = confident_errors(self.answers.logits, self.answers.labels, most)
        return [self.answer(int(row)) for row in rows]

    def unsure_hits(self, most: int) -> list[Answer]:
        """The right answers that it is least sure of, the least sure first."""
        rows = unsure_hits(self.answers.logits, self.answers.labels, most)
        return [self.answer(int(row)) for row in rows]

    def answer(self, row: int) -> Answer:
        """What it said of one image, by its place in the test set."""
        return Answer(
            row,
            self.answers.name(row),
            int(self.answers.labels[row]),
            int(self.predicted[row]),
            float(self.confidence[row]),
        )
