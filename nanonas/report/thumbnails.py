"""Small pictures in the page: the most confident errors, and training images as a network sees
them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.analysis.findings import Findings
from nanonas.data.thumbnails import Thumbnails
from nanonas.text import percent, shortened

# characters of the pictures of a kind: a page with both kinds grows by 300 kB at most
_MOST = 150_000
_NAME = 24  # letters of a file's name below a picture; all of it is in its alternative text


@dataclass(frozen=True)
class Picture:
    """A picture with its words.

    Attributes:
        src: the PNG as a data URI.
        alt: for those who do not see it.
        lines: what stands below it.
    """

    src: str
    alt: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A training image: as it is, and augmented."""

    plain: Picture
    augmented: Picture


def errors(findings: Findings) -> list[Picture]:
    """The test images that the trained winner is most sure of and wrong, the surest first."""
    judged, kept = findings.judgement, findings.record.thumbnails
    if judged is None or kept is None:
        return []
    shown = []
    for row, pixels in zip(kept.error_rows.tolist(), kept.errors, strict=True):
        if row >= len(judged.answers) or judged.right[row]:
            return []  # of another training
        answer = judged.answer(row)
        is_, taken = judged.class_names[answer.label], judged.class_names[answer.taken_for]
        sure = percent(answer.confidence)
        alt = f"{answer.name}: {is_}, taken for {taken}, sure to {sure}"
        file = shortened(answer.name.rsplit("/", 1)[-1], _NAME) if judged.answers.names else ""
        shown.append(Picture(_png(pixels), alt, (is_, taken, f"sure to {sure}", file)))
    return _fitting(shown, (len(one.src) for one in shown))


def samples(findings: Findings) -> list[Sample]:
    """Some training images, as they are and augmented."""
    kept = findings.record.thumbnails
    if kept is None or not _labelled(kept, findings.record.class_names):
        return []
    shown = []
    for label, *pair in zip(kept.labels, kept.plain, kept.augmented, strict=True):
        name = findings.record.class_names[label]
        plain = Picture(_png(pair[0]), f"a training image of {name}", (name,))
        shown.append(Sample(plain, Picture(_png(pair[1]), f"the same, augmented: {name}")))
    return _fitting(shown, (len(one.plain.src + one.augmented.src) for one in shown))


def _labelled(kept: Thumbnails, names: Sequence[str]) -> bool:
    """Whether the labels are those of a run's classes."""
    return not len(kept.labels) or int(kept.labels.max()) < len(names)


def _fitting(shown: Sequence[Any], sizes: Iterable[int]) -> list[Any]:
    """The first of them that fit into the page together."""
    within = np.cumsum(list(sizes)) <= _MOST
    return [one for one, fits in zip(shown, within, strict=True) if fits]


def _png(pixels: NDArray[np.uint8]) -> str:
    """A PNG as a data URI, of (H, W, C) pixels."""
    from PIL import Image

    out = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(out, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
