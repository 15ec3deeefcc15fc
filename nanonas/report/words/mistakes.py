"""What a trained network gets wrong, for a reader who has never seen a confusion matrix."""

from __future__ import annotations

from collections.abc import Iterator

from nanonas.analysis.answers import Judgement, Share
from nanonas.analysis.findings import Findings
from nanonas.maths.calibration import BINS
from nanonas.text import number_of, percent, share_in_words

UNEVEN = 0.005  # that the balanced accuracy must be away from the accuracy to be said
_SURE = 0.05  # the probability of luck below which a class is told from the others
_RARELY = 3  # images of one confusion, below which it may be chance


def mistakes(findings: Findings) -> list[str]:
    """A few sentences on what the trained winner gets wrong, the most important first; none where
    its answers were not kept.
    """
    judged = findings.judgement
    if judged is None:
        return []
    return [_confused(judged), *_classes(judged), _sure(judged), *_refusing(judged)]


def _confused(judged: Judgement) -> str:
    n, wrong = len(judged.answers), len(judged.answers) - judged.accuracy.images
    if not wrong:
        return f"It is right on all {number_of(n, 'test image')}."
    first = judged.confusions[0]
    images = number_of(n, "test image")
    said = f"It is wrong on {wrong:,} of {images} ({share_in_words(wrong / n)})."
    if first.wrong.images < _RARELY:
        return f"{said} It confuses no two classes more than {_times(first.wrong.images)}."
    names = judged.class_names
    said += (
        f" It confuses {names[first.label]} with {names[first.taken_for]} most: "
        f"{_of(first.wrong)} of the class {names[first.label]}"
    )
    back = judged.confusion[first.taken_for, first.label]
    if back >= _RARELY:
        total = int(judged.confusion[first.taken_for].sum())
        said += f", and {_of(Share(int(back), total))} the other way round"
    return f"{said}."


def _times(number: int) -> str:
    return "once" if number == 1 else "twice"


def _of(share: Share) -> str:
    """ "14 % (5 of 35)"."""
    return f"{share_in_words(share.value)} ({share.images:,} of {share.of:,})"


def _classes(judged: Judgement) -> Iterator[str]:
    worst = judged.classes[0]
    if worst.right.value < 1 and len(judged.classes) > 1:
        low, high = worst.right.interval
        said = (
            f"The worst class is {judged.class_names[worst.label]}: right on "
            f"{_of(worst.right)} of its images, which is {percent(low)} to {percent(high)} with "
            "95 % confidence"
        )
        if judged.worst_by_luck > _SURE:
            said += "; that may be luck, for one of them is always the worst"
        yield f"{said}."
    balanced = judged.balanced_accuracy
    if abs(balanced - judged.accuracy.value) > UNEVEN:
        yield (
            f"The classes have unequal numbers of images: with each class counting the same, it is "
            f"right on {percent(balanced)} instead of {percent(judged.accuracy.value)}."
        )
    if judged.top_2 is not None and judged.top_2.images > judged.accuracy.images:
        first_two = percent(judged.top_2.value)
        yield f"The right class is among its first two answers on {first_two} of the images."


def _sure(judged: Judgement) -> str:
    """Whether it is as sure as it should be."""
    sure, right = float(judged.confidence.mean()), judged.accuracy.value
    error, luck = judged.reliability.error, judged.calibration_luck
    said = f"It is sure of its answers to {percent(sure)} on average, and right on {percent(right)}"
    figures = f"expected calibration error {percent(error)}, {BINS} bins"
    if error <= luck:
        return f"{said}: it knows how sure to be, as far as so few images tell ({figures})."
    way = "less" if sure < right else "more"
    said += f": it is {way} sure than it should be ({figures}; {percent(luck)} could be luck)."
    found, scaled = judged.scaling, judged.scaled_reliability
    if found is not None and scaled is not None and found.helps:
        said += (
            f" With its logits divided by {found.temperature:.2f} that is {percent(scaled.error)}, "
            "measured on images that this temperature was not fitted to."
        )
    elif found is None:
        said += " There are too few errors to say what would mend that."
    return said


def _refusing(judged: Judgement) -> Iterator[str]:
    tenth = judged.when_refusing(0.1)
    if tenth.value > judged.accuracy.value:
        yield (
            "Where it may refuse the tenth of the images that it is least sure of, it is right on "
            f"{percent(tenth.value)} of the rest."
        )
