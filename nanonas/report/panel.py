"""What a click on a candidate shows: how it came about, what became of it, and its architecture."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nanonas.analysis.findings import Findings
from nanonas.report.charts import architecture
from nanonas.report.words.candidate import Portrait, portrait

CHUNK = 1000  # candidates that are packed together


@dataclass(frozen=True)
class Panel:
    """One candidate, for the template.

    Attributes:
        parents: the numbers of the candidates that it was bred from.
        marked: whether the drawing marks layers as new or changed.
        svg: the drawing, as markup.
    """

    number: int
    planted: bool
    words: Portrait
    parents: Sequence[int]
    children: Sequence[int]
    marked: bool
    genome: str
    svg: Any


def panel(findings: Findings, number: int, children: Sequence[int]) -> Panel:
    """What there is to show of a candidate."""
    from markupsafe import Markup

    entry, step = findings.record.entries[number], findings.step(number)
    drawing = architecture.parts(findings.record.network(number), step.marks)
    return Panel(
        number,
        planted=entry.proposal.planted,
        words=portrait(findings, step),
        parents=[parent for parent in entry.proposal.parents if parent < number],
        children=children,
        marked=bool(step.marks),
        genome=f"[{', '.join(map(str, entry.genome))}]",
        svg=Markup("\n".join(drawing)),  # each piece on a line of its own: see `packed`
    )


def children_of(findings: Findings) -> list[list[int]]:
    """The candidates that were bred from each, by number."""
    children: list[list[int]] = [[] for _ in findings.record.entries]
    for entry in findings.record.entries:
        for parent in entry.proposal.parents:
            if parent < entry.number:
                children[parent].append(entry.number)
    return children


def packed(panels: Sequence[str]) -> list[str]:
    """Panels as base64 of compressed JSON, in chunks of `CHUNK`: ten thousand are 78 MB as they
    are, and 2 MB so.

    A chunk has every line once, and of each panel the places of its lines: gzip alone, which looks
    back 32 kB, does not see what one drawing has in common with another, and makes 5 MB of them.
    """
    chunks = []
    for first in range(0, len(panels), CHUNK):
        places: dict[str, int] = {}
        candidates = [
            [places.setdefault(line, len(places)) for line in panel.splitlines()]
            for panel in panels[first : first + CHUNK]
        ]
        text = json.dumps({"lines": list(places), "candidates": candidates}, ensure_ascii=False)
        chunks.append(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())
    return chunks
