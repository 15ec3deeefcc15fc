"""What is to be said of images: a sentence each, with its figure, and what mends it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Integers
from nanonas.data.cache import DAMAGED, read_rows
from nanonas.data.doctor.copies import connected
from nanonas.data.doctor.films import Films, films
from nanonas.data.doctor.likeness import Likeness, Subject
from nanonas.data.images import Images
from nanonas.data.sources import Rows
from nanonas.data.split import Split
from nanonas.text import by_number, number_of

# Share of the images of a part that are copies of training images, or of images whose copies have
# another label: below the first nothing is to be done, from the second the accuracy is in doubt.
_SOME, _MANY = 0.01, 0.05
_EXAMPLES = 5
_SURELY = 0.8  # of images whose nearest is of their group: films, whatever else


class Severity(IntEnum):
    """What a finding asks for."""

    FINE = 0
    LOOK = 1
    MEND = 2

    @property
    def words(self) -> str:
        """For people."""
        return ("fine", "look at it", "mend before you search")[self]


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    kind: str  # a word, the same in each report
    severity: Severity
    sentence: str  # with the figure, without a full stop
    flag: str = ""  # what mends it, as it is typed; empty: nothing typed does
    examples: tuple[tuple[str, ...], ...] = ()  # names of images, some that belong together


@dataclass(frozen=True)
class Case:
    """Images, how they are split, and what comparing them has shown.

    Args:
        images: all of them.
        split: of the training images.
        subject: the images that are compared.
        flip: whether they are mirrored while training.
        source: as the user named it, for commands.
    """

    images: Images
    split: Split
    subject: Subject
    flip: bool
    source: str

    @cached_property
    def likeness(self) -> Likeness:
        """What comparing the images shows."""
        return self.subject.compared()

    @cached_property
    def known(self) -> Rows:
        """What is known of each image besides its pixels; nothing of those from arrays."""
        if self.images.folder is None:
            return Rows()
        try:
            return read_rows(self.images.folder)
        except (*DAMAGED, KeyError, zipfile.BadZipFile):
            return Rows()

    @cached_property
    def part(self) -> NDArray[np.int8]:
        """Of all rows: 0 for training images, 1 for validation, 2 for the test, -1 for those that
        a candidate leaves out.
        """
        part = np.full(len(self.subject.labels), -1, np.int8)
        part[self.split.train] = 0
        part[self.split.valid] = 1
        part[len(self.images.y_train) :] = 2
        return part

    def name(self, row: int) -> str:
        """What an image is called."""
        if self.known.names:
            return self.known.names[row]
        train = len(self.images.y_train)
        return f"x_train[{row}]" if row < train else f"x_test[{row - train}]"

    @cached_property
    def films(self) -> Films | None:
        """Groups that the names say, and that look alike; None where images are grouped already."""
        if not self.known.names or self.images.groups_train is not None:
            return None
        rows = self.likeness.rows
        names = [self.known.names[row] for row in rows]
        return films(names, self.subject.labels[rows], self.subject.thumbs)

    def groups(self) -> dict[str, str]:
        """A group for each image by its name: copies, and frames of one film, are in the same.

        Empty where the images have no names.
        """
        if not self.known.names:
            return {}
        rows = self.likeness.rows
        ids = self.likeness.near
        if self.films is not None:
            near, by_name = self.likeness.near, self.films.groups
            links = [
                np.stack([np.arange(len(rows)), np.unique(one, return_index=True)[1][one]], axis=1)
                for one in (_dense(near), _dense(by_name))
            ]
            ids = connected(np.concatenate(links), len(rows))
        firsts = rows[np.unique(ids, return_index=True)[1]][_dense(ids)]
        together = {self.name(row): self.name(one) for row, one in zip(rows, firsts, strict=True)}
        return {name: together.get(name, name) for name in self.known.names}


def _dense(ids: Integers) -> Integers:
    return np.asarray(np.unique(ids, return_inverse=True)[1], np.int64)


# --- copies ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Copies:
    """Sets of images that are copies of each other."""

    case: Case
    members: list[Integers] = field(default_factory=list)  # rows of each set, two or more

    @classmethod
    def of(cls, case: Case) -> _Copies:
        rows, near = case.likeness.rows, case.likeness.near
        order = np.argsort(near, kind="stable")
        _, starts, sizes = np.unique(near[order], return_index=True, return_counts=True)
        several = sizes > 1
        return cls(
            case,
            [
                rows[order[start : start + size]]
                for start, size in zip(starts[several], sizes[several], strict=True)
            ],
        )

    def leaking(self, part: int) -> list[tuple[int, int]]:
        """Images of a part that have a copy among those that are trained on, with that one: the
        winner, which the test judges, trains on validation images, too.
        """
        of, pairs = self.case.part, []
        for rows in self.members:
            trained = rows[(of[rows] < part) & ((of[rows] >= 0) | (part == 2))]
            if len(trained):
                pairs += [(int(row), int(trained[0])) for row in rows[of[rows] == part]]
        return pairs

    def of_several_classes(self) -> list[Integers]:
        """The sets whose images have different labels."""
        labels = self.case.subject.labels
        return [rows for rows in self.members if len(np.unique(labels[rows])) > 1]

    def within_training(self) -> int:
        """How many training images could be left out, and a copy would be there."""
        of = self.case.part
        return sum(max(0, int((of[rows] == 0).sum()) - 1) for rows in self.members)


def leaks(case: Case) -> list[Finding]:
    """Images that judge, and have copies among those that train."""
    copies, found = _Copies.of(case), []
    for number, part in ((2, "test"), (1, "validation")):
        pairs = copies.leaking(number)
        looked_at = int((case.part[case.likeness.rows] == number).sum())
        if not pairs or not looked_at:
            continue
        share = len(pairs) / looked_at
        severity = _by_share(share)
        own = case.images.own_valid > 0 if number == 1 else case.images.own_test
        mends, flag = _apart(case, own) if severity else ("that is little", "")
        found.append(
            Finding(
                f"{part}-leak",
                severity,
                f"{len(pairs):,} of {number_of(looked_at, f'{part} image')} ({about(share)}) "
                f"{by_number(len(pairs), 'is a copy', 'are copies')}, or nearly, of images that "
                f"are trained on, which may flatter accuracies by as much; {mends}",
                flag,
                _named(case, pairs),
            )
        )
    return found


def _apart(case: Case, own: bool) -> tuple[str, str]:
    """What keeps copies out of two parts: the end of a sentence, and the flag."""
    if own:
        return "take them out of the one folder or file, or of the other", ""
    if not case.known.names:
        return "take out one of each pair", ""
    if case.films is not None and _explains(case.films, case.likeness):
        return _GROUPED, f"--groups '{case.films.expression}'"
    return (
        "write down which belong together, and name that file",
        f"nanonas doctor {case.source} --write-groups groups.csv; --groups groups.csv",
    )


_GROUPED = "keep those that belong together in one part"


def _explains(films: Films, likeness: Likeness) -> bool:
    """Whether nearly all copies are in one group by their names."""
    near = _dense(likeness.near)
    first = np.unique(near, return_index=True)[1]
    several = np.bincount(near)[near] > 1
    equal = films.groups[several] == films.groups[first[near[several]]]
    return bool(several.any() and equal.mean() >= 0.95)


def contradictions(case: Case) -> list[Finding]:
    """Copies with different labels."""
    sets = _Copies.of(case).of_several_classes()
    if not sets:
        return []
    number = sum(len(rows) for rows in sets)
    share = number / len(case.likeness.rows)
    names = case.images.class_names
    rows = sets[0]
    both = [names[label] for label in np.unique(case.subject.labels[rows])[:2]]
    return [
        Finding(
            "label-contradictions",
            max(Severity.LOOK, _by_share(share)),
            f"{number:,} images ({about(share)}) are copies, or nearly, of images of another "
            f'class, such as of "{both[0]}" and "{both[1]}"; correct their labels, or take them '
            "out",
            examples=_named(case, sets),
        )
    ]


def duplicates(case: Case) -> list[Finding]:
    """Copies among the images that train."""
    extra = _Copies.of(case).within_training()
    trained = int((case.part[case.likeness.rows] == 0).sum())
    exact = len(case.likeness.rows) - len(np.unique(case.likeness.same))
    share = extra / max(1, trained)
    return [
        Finding(
            "duplicates",
            Severity.LOOK if share >= _MANY else Severity.FINE,
            f"{extra:,} of {trained:,} training images ({about(share)}) "
            f"{by_number(extra, 'is a further copy', 'are further copies')}, or nearly, of others; "
            f"of all images, {exact:,} {by_number(exact, 'has', 'have')} the very pixels of "
            "another",
        )
    ]


def related(case: Case) -> list[Finding]:
    """Frames of a film and the like, by their names."""
    found = case.films
    if found is None:
        return []
    return [
        Finding(
            "groups",
            Severity.MEND if found.share >= _SURELY else Severity.LOOK,
            f"by their names the images are of {found.number:,} groups, such as frames of a film, "
            f"and for {about(found.share)} the most similar image of their class is in their "
            f"group ({about(found.by_chance)} by chance), so that what judges would have "
            f"relatives in training; {_GROUPED}",
            f"--groups '{found.expression}'",
        )
    ]


def shared_groups(case: Case) -> list[Finding]:
    """Groups that the source's own parts divide."""
    train, test = case.images.groups_train, case.images.groups_test
    if train is None or test is None:
        return []
    parts = {"test": (train, test)}
    if case.images.own_valid:
        first = len(train) - case.images.own_valid
        parts["validation"] = (train[:first], train[first:])
    return [
        Finding(
            f"{part}-groups",
            Severity.MEND,
            f"{number_of(len(both), 'group')} {by_number(len(both), 'has', 'have')} images that "
            f"train and images of the {part} part, which the source has set apart itself; put each "
            "group into one part",
        )
        for part, (a, b) in parts.items()
        if len(both := np.intersect1d(a, b))
    ]


def mirroring(case: Case) -> list[Finding]:
    """Classes that become others when they are mirrored."""
    changed, names = case.likeness.mirrored, case.images.class_names
    if not changed:
        return []
    first = changed[0]
    others = "another class changes" if len(changed) == 2 else f"{len(changed) - 1} others change"
    more = f", and {others} so" if len(changed) > 1 else ""
    looks = (
        f'{about(first.share)} of the images of "{names[first.label]}" look like '
        f'"{names[first.like]}" when they are mirrored, and {about(first.before)} as they are'
        f"{more}"
    )
    if not case.flip:
        sentence = f"{looks}; images are not mirrored while training"
        return [Finding("mirroring", Severity.FINE, sentence)]
    sentence = f"{looks}; don't mirror images while training"
    return [Finding("mirroring", Severity.MEND, sentence, "--no-flip")]


def about(share: float) -> str:
    """A share for people, without more digits than it is worth: 0.05 %, 0.4 %, 3.3 %, 12 %."""
    digits = 0 if share >= 0.1 or not share else 1 if share >= 0.001 else 2
    return f"{100 * share:.{digits}f} %"


def _by_share(share: float) -> Severity:
    if share >= _MANY:
        return Severity.MEND
    return Severity.LOOK if share >= _SOME else Severity.FINE


def _named(case: Case, sets: Sequence[Iterable[int]]) -> tuple[tuple[str, ...], ...]:
    """The names of the first few sets of images."""
    return tuple(
        tuple(case.name(int(row)) for row in list(rows)[:_EXAMPLES]) for rows in sets[:_EXAMPLES]
    )


def warnings(case: Case) -> list[Finding]:
    """What makes the accuracies of a search wrong: leaks, contradictions, mirroring."""
    found = [*leaks(case), *contradictions(case), *mirroring(case)]
    return [finding for finding in found if finding.severity is Severity.MEND]
