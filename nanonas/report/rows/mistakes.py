"""The rows of what a trained network gets wrong; without any where no answers were kept."""

from __future__ import annotations

from typing import Any

from nanonas.analysis.answers import Share
from nanonas.analysis.findings import Findings
from nanonas.maths.intervals import wilson
from nanonas.report.rows.sheet import Column, Sheet

REFUSED = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # shares of the images
UNSURE = 12  # right answers that are listed
_INTERVAL = (Column("from", "percent"), Column("to", "percent"))


def by_class(findings: Findings) -> Sheet:
    """The accuracy of each class, the worst first."""
    judged, names = findings.judgement, findings.record.class_names
    rows = [
        (names[one.label], *_share(one.right))
        for one in (judged.classes if judged is not None else ())
    ]
    return Sheet(("class", "right", "of", Column("accuracy", "percent"), *_INTERVAL), rows)


def confusions(findings: Findings, most: int = 200) -> Sheet:
    """What is taken for what, the most frequent first."""
    judged, names = findings.judgement, findings.record.class_names
    rows = [
        (names[one.label], names[one.taken_for], *_share(one.wrong))
        for one in (judged.confusions[:most] if judged is not None else ())
    ]
    share = Column("of the class", "percent")
    return Sheet(("is", "taken for", "images", "of", share, *_INTERVAL), rows)


def _share(share: Share) -> tuple[Any, ...]:
    return share.images, share.of, share.value, *share.interval


def calibration(findings: Findings) -> Sheet:
    """How often it is right, by how sure it is."""
    judged = findings.judgement
    rows = []
    if judged is not None:
        found = judged.reliability
        for n, sure, right in zip(found.images, found.confidence, found.accuracy, strict=True):
            rows.append((int(n), float(sure), float(right), *wilson(float(right), int(n))))
    columns = (Column("sure to", "percent"), Column("right", "percent"), *_INTERVAL)
    return Sheet(("answers", *columns), rows)


def refusals(findings: Findings) -> Sheet:
    """The accuracy on what is left where the least sure answers are refused."""
    judged = findings.judgement
    kept = [] if judged is None else [(share, judged.when_refusing(share)) for share in REFUSED]
    rows = [(share, rest.of, rest.value, *rest.interval) for share, rest in kept]
    columns = (Column("refused", "share"), "left", Column("right", "percent"), *_INTERVAL)
    return Sheet(columns, rows)


def unsure(findings: Findings) -> Sheet:
    """The right answers that it is least sure of: images that it may get wrong the next time."""
    judged, names = findings.judgement, findings.record.class_names
    rows = [
        (one.name, names[one.label], one.confidence)
        for one in (judged.unsure_hits(UNSURE) if judged is not None else ())
    ]
    return Sheet(("image", "is", Column("sure to", "percent")), rows)
