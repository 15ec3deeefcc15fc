"""What a network gets wrong, against counting image by image."""

from __future__ import annotations

import numpy as np
import pytest
from toys.report import answers

from nanonas.analysis.answers import Judgement, Share
from nanonas.data.answers import Answers
from nanonas.maths.intervals import wilson

NAMES = tuple("abcdefg")
MADE = answers(201, classes=7, clearness=2.0)  # classes of 29 and 28 images
JUDGED = Judgement(MADE, NAMES)


def test_its_figures_are_those_of_counting_image_by_image() -> None:
    confusion, right, among_2 = np.zeros((7, 7), np.int64), np.zeros(7), 0
    for logits, label in zip(MADE.logits, MADE.labels, strict=True):
        first, second = np.argsort(-logits)[:2]
        confusion[label, first] += 1
        right[label] += first == label
        among_2 += label in (first, second)
    assert np.array_equal(JUDGED.confusion, confusion)
    assert JUDGED.accuracy == Share(int(right.sum()), 201)
    assert JUDGED.balanced_accuracy == pytest.approx((right / np.bincount(MADE.labels)).mean())
    assert JUDGED.top_2 == Share(among_2, 201)


def test_classes_are_sorted_and_have_wilsons_intervals() -> None:
    shares = [one.right for one in JUDGED.classes]
    assert sorted(one.label for one in JUDGED.classes) == list(range(7))
    assert [share.value for share in shares] == sorted(share.value for share in shares)
    assert shares[0].interval == wilson(shares[0].value, shares[0].of)
    assert sum(share.of for share in shares) == 201


def test_confusions_are_sorted_by_images_and_are_all_errors() -> None:
    found = JUDGED.confusions
    assert sum(one.wrong.images for one in found) == 201 - JUDGED.accuracy.images
    keys = [(one.wrong.images, one.wrong.value) for one in found]
    assert keys == sorted(keys, reverse=True)
    first = found[0]
    assert JUDGED.confusion[first.label, first.taken_for] == first.wrong.images
    assert first.wrong.of == (MADE.labels == first.label).sum()
    assert all(one.label != one.taken_for for one in found)


def test_one_of_many_equal_classes_is_always_the_worst() -> None:
    """By hand: the chance of 1 hit of 10 or fewer at an accuracy of .7, for each of two classes."""
    labels = np.repeat([0, 1], [10, 30])
    taken = labels.copy()
    taken[1:10], taken[10:13] = 1, 0
    judged = Judgement(Answers(np.eye(2, dtype=np.float32)[taken], labels), "ab")
    assert judged.accuracy.value == 0.7
    assert judged.worst_by_luck == pytest.approx(2 * (0.3**10 + 10 * 0.7 * 0.3**9))
    equal = Judgement(answers(400, 40), [""] * 40)
    assert equal.worst_by_luck > 0.05


def test_a_class_without_test_images_is_left_out() -> None:
    few = Judgement(Answers(MADE.logits[:3], MADE.labels[:3]), NAMES)
    assert sorted(one.label for one in few.classes) == [0, 1, 2]
    assert few.balanced_accuracy == pytest.approx(few.accuracy.value)
    assert few.scaling is None
    assert few.scaled_reliability is None


def test_of_few_classes_the_first_two_say_nothing() -> None:
    assert Judgement(answers(classes=4), NAMES).top_2 is None
    assert Judgement(answers(classes=5), NAMES).top_2 is not None


def test_refusing_leaves_the_surest() -> None:
    surest = np.argsort(-JUDGED.confidence, kind="stable")[:101]
    assert JUDGED.when_refusing(0.5) == Share(int(JUDGED.right[surest].sum()), 101)
    assert JUDGED.when_refusing(0.0) == JUDGED.accuracy
    assert JUDGED.when_refusing(0.9999).of == 1


def test_an_answer_has_its_name_and_its_place() -> None:
    named = Answers(MADE.logits, MADE.labels, tuple(f"{n}.png" for n in range(201)))
    (first, *_) = Judgement(named, NAMES).confident_errors(3)
    assert first.name == f"{first.row}.png"
    assert first.label == MADE.labels[first.row] != first.taken_for
    assert first.taken_for == MADE.logits[first.row].argmax()
    assert first.confidence == JUDGED.confidence.max(initial=0, where=~JUDGED.right)
    (unsure, *_) = JUDGED.unsure_hits(1)
    assert unsure.name == f"test image {unsure.row}"
    assert unsure.label == unsure.taken_for
