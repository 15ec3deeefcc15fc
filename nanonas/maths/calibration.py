"""How sure a classifier is, and how sure it should be: functions on logits and labels.

The confidence of an answer is the largest probability of the softmax. It is calibrated where
answers of a confidence of 80 % are right in 80 % of the cases. Guo et al. 2017,
https://arxiv.org/abs/1706.04599.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Floats, Integers
from nanonas.maths.intervals import Z

Logits = NDArray[np.floating[Any]]  # (n, classes)
Flags = NDArray[np.bool_]  # (n,)

BINS = 15  # of equal width, as in the paper
LEAST = 10  # right answers, and wrong ones, without which a temperature means nothing
TEMPERATURES = (0.05, 20.0)  # that are looked through
_STEPS = 24  # of the bisection: to a millionth
_MOST = 5000  # images that a temperature is fitted to: it is known to 1 % then
_DRAWS = 200  # of right and wrong, that say what luck does


def softmax(logits: Logits, temperature: float = 1.0) -> Floats:
    """Probabilities, (n, classes), of logits divided by a temperature above 0."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    probabilities: Floats = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def log_losses(logits: Logits, labels: Integers) -> Floats:
    """The negative log-likelihood of each label, (n,), in nats."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    losses: Floats = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return losses


# --- calibration ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Reliability:
    """Answers in bins of equal width of their confidence; empty bins are left out.

    Attributes:
        images: (bins,), how many answers each bin has.
        confidence: (bins,), the mean of their confidences.
        accuracy: (bins,), the share of them that is right.
    """

    images: Integers
    confidence: Floats
    accuracy: Floats

    @property
    def error(self) -> float:
        """The expected calibration error, in [0, 1]: the mean over all answers of the distance
        between their bin's confidence and its accuracy.
        """
        gaps = np.abs(self.accuracy - self.confidence)
        return float((self.images * gaps).sum() / self.images.sum())


def reliability(confidence: Floats, right: Flags, bins: int = BINS) -> Reliability:
    """Answers in bins of their confidence, (m / bins, (m + 1) / bins].

    Args:
        confidence: (n,), in [0, 1].
        right: (n,), whether each answer is right.
    """
    places = _places(confidence, bins)
    images = np.bincount(places, minlength=bins)
    known = images > 0
    sums = (np.bincount(places, values, bins)[known] for values in (confidence, right))
    mean_confidence, accuracy = (total / images[known] for total in sums)
    return Reliability(images[known], mean_confidence, accuracy)


def error_by_luck(confidence: Floats, bins: int = BINS) -> float:
    """The expected calibration error that a perfectly calibrated classifier stays below in 95 % of
    the cases, with these confidences: so few answers never fill the bins evenly.

    Right and wrong are drawn by the confidences, always the same (Bröcker & Smith 2007,
    https://doi.org/10.1175/WAF993.1).
    """
    rng = np.random.default_rng(0)
    places = _places(confidence, bins)
    sums = np.bincount(places, confidence, bins)
    errors = []
    for _ in range(_DRAWS):
        right = rng.random(len(confidence)) < confidence
        errors.append(np.abs(np.bincount(places, right, bins) - sums).sum() / len(confidence))
    return float(np.quantile(errors, 0.95))


def _places(confidence: Floats, bins: int) -> Integers:
    """The bin of each confidence, (n,)."""
    places: Integers = (np.ceil(bins * confidence) - 1).clip(0, bins - 1).astype(np.int64)
    return places


# --- temperature ----------------------------------------------------------------------------------


def temperature(logits: Logits, labels: Integers) -> float:
    """The number that logits are to be divided by so that the labels are most likely, within
    `TEMPERATURES`.

    The mean loss is convex in the temperature's inverse, so its slope is bisected. Of more than
    5,000 images every so-many-th is read.
    """
    places = np.linspace(0, len(labels) - 1, min(len(labels), _MOST)).astype(np.int64)
    logits, labels = np.asarray(logits[places], np.float64), labels[places]
    of_labels = logits[np.arange(len(labels)), labels].mean()
    low, high = np.log(TEMPERATURES)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        expected = (softmax(logits, float(np.exp(middle))) * logits).sum(axis=1).mean()
        if expected > of_labels:  # too sure
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


@dataclass(frozen=True, eq=False)
class Scaling:
    """What dividing the logits by a temperature does, judged by images that it was not fitted to.

    Attributes:
        temperature: fitted to all images.
        logits: (n, classes): each half of the images divided by the temperature that was fitted to
            the other half.
        gain: what that takes off the mean loss, in nats.
        half: half of the 95 % interval of the gain.
    """

    temperature: float
    logits: Floats
    gain: float
    half: float

    @property
    def helps(self) -> bool:
        """Whether it takes off more than luck explains."""
        return self.gain > self.half


def scaling(logits: Logits, labels: Integers) -> Scaling | None:
    """A temperature, and what it does, by two-fold cross-fitting; None where fewer than `LEAST`
    answers are right, or wrong, in either half.

    The halves are drawn at random, always the same.
    """
    n = len(labels)
    folds = np.random.default_rng(0).permutation(n) % 2
    right = logits.argmax(axis=1) == labels
    few = min(min(right[folds == fold].sum(), (~right[folds == fold]).sum()) for fold in (0, 1))
    if 2 * few < LEAST:
        return None
    scaled = np.empty(logits.shape)
    for fold in (0, 1):
        own, other = folds == fold, folds != fold
        scaled[own] = logits[own] / temperature(logits[other], labels[other])
    gains = log_losses(logits, labels) - log_losses(scaled, labels)
    half = Z * float(gains.std(ddof=1)) / n**0.5
    return Scaling(temperature(logits, labels), scaled, float(gains.mean()), half)


# --- which answers --------------------------------------------------------------------------------


def confident_errors(logits: Logits, labels: Integers, most: int) -> Integers:
    """The images that were answered wrongly, the most confident first: their places, (k,) with
    k up to `most`.
    """
    wrong = np.flatnonzero(logits.argmax(axis=1) != labels)
    confidence = softmax(logits[wrong]).max(axis=1) if len(wrong) else np.empty(0)
    order: Integers = wrong[np.argsort(-confidence, kind="stable")][:most]
    return order


def unsure_hits(logits: Logits, labels: Integers, most: int) -> Integers:
    """The images that were answered rightly, the least confident first: their places, (k,)."""
    hits = np.flatnonzero(logits.argmax(axis=1) == labels)
    confidence = softmax(logits[hits]).max(axis=1) if len(hits) else np.empty(0)
    order: Integers = hits[np.argsort(confidence, kind="stable")][:most]
    return order


def accuracy_when_refusing(confidence: Floats, right: Flags) -> Floats:
    """The accuracy on what is left, (n,), where the n-th element is that with the n least confident
    answers refused.

    El-Yaniv & Wiener 2010, https://www.jmlr.org/papers/v11/el-yaniv10a.html.
    """
    order = np.argsort(confidence, kind="stable")[::-1]  # the surest first
    kept = np.arange(1, len(right) + 1)
    accuracies: Floats = (np.cumsum(right[order]) / kept)[::-1]
    return accuracies
