"""What is to be said of the images themselves: how many, how large, how they were stored."""

from __future__ import annotations

import numpy as np

from nanonas.data.doctor.findings import Case, Finding, Severity, about
from nanonas.data.sources.base import CMYK, DEEP, GREY, PALETTE, TRANSPARENT, TURNED
from nanonas.maths.intervals import wilson
from nanonas.text import by_number, number_of

_FEW = 30  # images of a class to train on, below which little is learnt of it
_JUDGES = 200  # validation images, below which accuracies are vague
_UNEVEN = 3.0  # times as many images in one class as in another: worth weights
_HUGE = 25_000_000  # pixels: such an image takes a fifth of a second to decode
_TINY = 0.1  # share of images that are scaled up, above which it is worth a look
_ENOUGH = 64  # pixels a side, for most images
_SIZES = (16, 24, 32, 48, 64, 96, 128)
_MARKS = {
    DEEP: "of more than 8 bits",
    PALETTE: "with a palette",
    CMYK: "in CMYK",
    TRANSPARENT: "with transparency",
    TURNED: "turned by EXIF",
    GREY: "grey",
}


def counts(case: Case) -> dict[str, tuple[int, int, int]]:
    """Training, validation and test images of each class, by its name."""
    labels, images = case.subject.labels, case.images
    parts = [
        np.bincount(labels[rows], minlength=images.classes)
        for rows in (
            case.split.train,
            case.split.valid,
            np.arange(len(images.y_train), len(labels)),
        )
    ]
    return {
        name: (int(parts[0][place]), int(parts[1][place]), int(parts[2][place]))
        for place, name in enumerate(images.class_names)
    }


def broken(case: Case) -> list[Finding]:
    """Images that cannot be read."""
    lines = case.images.broken
    if not lines:
        return []
    some = ", ".join(line.partition(": ")[0].rpartition("/")[2] for line in lines[:3])
    more = ", …" if len(lines) > 3 else ""
    them = by_number(len(lines), "it", "them")
    return [
        Finding(
            "broken",
            Severity.MEND,
            f"{number_of(len(lines), 'image')} cannot be read ({some}{more}); repair or delete "
            f"{them}, or pass over {them}",
            "--skip-broken",
            tuple((line,) for line in lines),
        )
    ]


def sizes(case: Case) -> list[Finding]:
    """Images that are smaller than what networks see, and those that are huge; and which size to
    take, with what it costs.
    """
    known = case.known.sizes
    _, height, width = case.images.input_shape
    side = min(height, width)
    found: list[Finding] = []
    if not len(known):
        return [_image_size(side, side)]
    smaller = known.min(axis=1)
    tiny = np.flatnonzero(smaller < side)
    if len(tiny):
        share = len(tiny) / len(known)
        found.append(
            Finding(
                "tiny",
                Severity.LOOK if share >= _TINY or smaller.min() < 8 else Severity.FINE,
                f"{number_of(len(tiny), 'image')} ({about(share)}) "
                f"{by_number(len(tiny), 'has', 'have')} fewer than the {side} pixels a side that "
                f"networks see, the smallest {smaller.min()}, and "
                f"{by_number(len(tiny), 'is', 'are')} scaled up",
                "--image-size",
                tuple((case.name(int(row)),) for row in tiny[np.argsort(smaller[tiny])][:5]),
            )
        )
    huge = np.flatnonzero(known.prod(axis=1, dtype=np.int64) >= _HUGE)
    if len(huge):
        found.append(
            Finding(
                "huge",
                Severity.FINE,
                f"{number_of(len(huge), 'image')} {by_number(len(huge), 'has', 'have')} "
                f"{_HUGE / 1e6:.0f} million pixels or more, which takes long to decode, once",
                examples=tuple((case.name(int(row)),) for row in huge[:5]),
            )
        )
    return [*found, _image_size(side, int(np.quantile(smaller, 0.25)))]


def _image_size(side: int, most: int) -> Finding:
    """Which size to take for images three quarters of which have `most` pixels a side or more."""
    fitting = [size for size in _SIZES if size <= most]
    good = max((size for size in fitting if size <= _ENOUGH), default=side)
    costs = ", ".join(
        f"{size**2 / side**2:.2g} times as much with {size}"
        for size in sorted({*fitting[-2:], good, side // 2})
        if size != side and size >= _SIZES[0]
    )
    return Finding(
        "image-size",
        Severity.FINE,
        f"networks see {side} pixels a side, and three quarters of the images have {most} or more; "
        f"{good} is a good beginning{'; a candidate would cost ' if costs else ''}{costs}",
        "" if good == side else f"--image-size {good}",
    )


def modes(case: Case) -> list[Finding]:
    """How images were stored; and whether grey ones tell a class."""
    marks = case.known.marks
    if not len(marks):
        return []
    numbers = {words: int(((marks & mark) > 0).sum()) for mark, words in _MARKS.items()}
    told = [f"{number:,} {words}" for words, number in numbers.items() if number]
    said = f"stored as: {', '.join(told)}; all are brought into one form" if told else ""
    found = [Finding("modes", Severity.FINE, said)] if told else []
    if case.images.input_shape[0] == 3 and (one := _told_by_colour(case)) is not None:
        found.append(one)
    return found


def _told_by_colour(case: Case) -> Finding | None:
    """The finding that one class is grey and another colour."""
    labels = case.subject.labels
    grey = (case.known.marks & GREY) > 0
    total = np.bincount(labels, minlength=case.images.classes)
    shares = np.bincount(labels[grey], minlength=len(total)) / np.maximum(1, total)
    most, least = int(shares.argmax()), int(shares.argmin())
    if shares[most] - shares[least] < 0.5:
        return None
    names = case.images.class_names
    return Finding(
        "grey-tells-the-class",
        Severity.LOOK,
        f'{about(shares[most])} of the images of "{names[most]}" are grey, but '
        f'{about(shares[least])} of "{names[least]}", so that networks can tell them by that '
        "alone; make all of them grey, or none",
    )


def evenness(case: Case) -> list[Finding]:
    """How many images there are of each class, and to judge by."""
    by_class = counts(case)
    numbers = {name: sum(each) for name, each in by_class.items()}
    most = max(numbers, key=numbers.__getitem__)
    least = min(numbers, key=numbers.__getitem__)
    found: list[Finding] = []
    times = numbers[most] / max(1, numbers[least])
    if times >= _UNEVEN:
        found.append(
            Finding(
                "imbalance",
                Severity.LOOK,
                f'"{most}" has {times:.1f} times as many images as "{least}", {numbers[most]:,} '
                f"against {numbers[least]:,}, so that networks rather answer with the former; let "
                "rare classes count for more, or add images",
                "--balance weights",
            )
        )
    few = [name for name, (trained, _, _) in by_class.items() if trained < _FEW]
    if few:
        found.append(
            Finding(
                "few",
                Severity.LOOK,
                f"{len(few):,} of {len(by_class):,} classes {by_number(len(few), 'has', 'have')} "
                f'fewer than {_FEW} images to train on, the fewest "{least}"; add images of them',
            )
        )
    judges = len(case.split.valid)
    if judges < _JUDGES:
        low, high = wilson(0.9, judges)
        own = case.images.own_valid > 0
        found.append(
            Finding(
                "few-to-judge",
                Severity.LOOK,
                f"{number_of(judges, 'validation image')} {by_number(judges, 'judges', 'judge')} "
                f"the candidates: a measured accuracy of 90 % may be {about(low)} to "
                f"{about(high)}; {'add some' if own else 'set more apart, or add images'}",
                "" if own else "--valid-share 0.3",
            )
        )
    return found
