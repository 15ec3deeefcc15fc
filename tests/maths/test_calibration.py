"""Calibration: the oracles are PyTorch, models with a known temperature, and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.report import answers

from nanonas.maths.calibration import (
    accuracy_when_refusing,
    confident_errors,
    error_by_luck,
    log_losses,
    reliability,
    scaling,
    softmax,
    temperature,
    unsure_hits,
)

MADE = answers(3000, classes=10)


def test_probabilities_and_losses_are_those_of_pytorch() -> None:
    logits, labels = torch.from_numpy(100 * MADE.logits), torch.from_numpy(MADE.labels)
    ours, theirs = softmax(logits.numpy(), 2.0), F.softmax(logits.double() / 2, dim=1)
    assert ours == pytest.approx(theirs.numpy(), abs=1e-12)
    expected = F.cross_entropy(logits.double(), labels, reduction="none")
    assert log_losses(logits.numpy(), MADE.labels) == pytest.approx(expected.numpy(), abs=1e-9)


def test_the_temperature_is_the_one_that_made_the_labels_most_likely() -> None:
    """Where each logit is normal with variance 1, and that of the right class has the mean 3, the
    odds are exp(3 · logit): the temperature is 1/3.
    """
    found = temperature(MADE.logits, MADE.labels)
    assert found == pytest.approx(1 / 3, rel=0.06)
    losses = [
        log_losses(MADE.logits / at, MADE.labels).mean() for at in np.linspace(0.25, 0.45, 201)
    ]
    assert np.linspace(0.25, 0.45, 201)[int(np.argmin(losses))] == pytest.approx(found, abs=1.1e-3)
    assert temperature(7 * MADE.logits, MADE.labels) == pytest.approx(7 * found, rel=1e-4)


def test_a_temperature_is_judged_by_images_that_it_was_not_fitted_to() -> None:
    found = scaling(MADE.logits, MADE.labels)
    assert found is not None
    assert found.helps
    assert (found.logits.argmax(axis=1) == MADE.logits.argmax(axis=1)).all()  # no answer changes
    # each half has one divisor, the other half's
    divisors = np.unique((MADE.logits[:, 0] / found.logits[:, 0]).round(5))
    assert len(divisors) == 2
    gain = (log_losses(MADE.logits, MADE.labels) - log_losses(found.logits, MADE.labels)).mean()
    assert found.gain == pytest.approx(gain)
    calibrated = scaling(3 * MADE.logits, MADE.labels)  # nothing is left to be gained
    assert calibrated is not None
    assert not calibrated.helps


@pytest.mark.parametrize("wrong", [0, 9])
def test_too_few_errors_say_nothing_of_a_temperature(wrong: int) -> None:
    labels = np.arange(200) % 4
    logits = np.eye(4, dtype=np.float32)[labels]
    logits[:wrong] = np.roll(logits[:wrong], 1, axis=1)
    assert scaling(logits, labels) is None


@given(
    answered=st.lists(st.tuples(st.floats(0.1, 1.0), st.booleans()), min_size=1, max_size=60),
    bins=st.integers(1, 20),
)
@settings(max_examples=60, deadline=None)
def test_the_calibration_error_is_counted_bin_by_bin(
    answered: list[tuple[float, bool]], bins: int
) -> None:
    confidence, right = (np.array(column) for column in zip(*answered, strict=True))
    found = reliability(confidence, right, bins)
    error = 0.0
    for m in range(bins):
        inside = [(c, r) for c, r in answered if min(bins - 1, np.ceil(bins * c) - 1) == m]
        if inside:
            error += abs(sum(r for _, r in inside) - sum(c for c, _ in inside)) / len(answered)
    assert found.error == pytest.approx(error)
    assert found.images.sum() == len(answered)
    assert 0 <= found.error <= 1


def test_a_calibrated_classifier_is_within_luck_nineteen_times_in_twenty() -> None:
    rng, within = np.random.default_rng(1), 0
    confidence = rng.uniform(0.4, 1.0, 300)
    luck = error_by_luck(confidence)
    for _ in range(200):
        within += reliability(confidence, rng.random(300) < confidence).error <= luck
    assert 180 <= within <= 199
    assert reliability(confidence, rng.random(300) < confidence - 0.2).error > luck


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_what_is_left_when_the_least_sure_are_refused(answered: list[tuple[float, bool]]) -> None:
    confidence, right = (np.array(column) for column in zip(*answered, strict=True))
    found = accuracy_when_refusing(confidence, right)
    order = sorted(range(len(right)), key=lambda place: confidence[place])
    for refused in range(len(right)):
        left = [right[place] for place in order[refused:]]
        assert found[refused] == pytest.approx(np.mean(left))


def test_the_surest_errors_and_the_least_sure_hits() -> None:
    confidence = softmax(MADE.logits).max(axis=1)
    right = MADE.logits.argmax(axis=1) == MADE.labels
    errors = confident_errors(MADE.logits, MADE.labels, 5)
    assert not right[errors].any()
    assert list(confidence[errors]) == sorted(confidence[~right])[::-1][:5]
    hits = unsure_hits(MADE.logits, MADE.labels, 5)
    assert right[hits].all()
    assert list(confidence[hits]) == sorted(confidence[right])[:5]
    perfect = np.eye(4, dtype=np.float32)
    assert len(confident_errors(perfect, np.arange(4), 5)) == 0
    assert len(unsure_hits(perfect, np.arange(4)[::-1], 5)) == 0
