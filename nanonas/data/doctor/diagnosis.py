"""All that is to be said of images: for a terminal, for JSON, and as a file of groups."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nanonas.data.doctor import facts, findings
from nanonas.data.doctor.findings import Case, Finding, Severity
from nanonas.errors import DataError
from nanonas.files import write_text

# in the order in which they are said, where they ask for the same
_QUESTIONS = (
    facts.broken,
    findings.leaks,
    findings.shared_groups,
    findings.related,
    findings.contradictions,
    findings.mirroring,
    findings.duplicates,
    facts.evenness,
    facts.sizes,
    facts.modes,
)


@dataclass(frozen=True)
class Diagnosis:
    """What was found."""

    case: Case

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, those that have to be mended first."""
        found = [finding for question in _QUESTIONS for finding in question(self.case)]
        return tuple(sorted(found, key=lambda finding: -finding.severity))

    @property
    def severity(self) -> Severity:
        """That of the worst finding."""
        return max((finding.severity for finding in self.findings), default=Severity.FINE)

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: keys are as in the findings."""
        images = self.case.images
        return {
            "data": self.case.source,
            "input_shape": list(images.input_shape),
            "sizes": images.sizes,
            "classes": {
                name: dict(zip(("train", "valid", "test"), each, strict=True))
                for name, each in facts.counts(self.case).items()
            },
            "broken": list(images.broken),
            "looked_at": len(self.case.likeness.rows),
            "verdict": self.severity.words,
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity.words,
                    "sentence": finding.sentence,
                    "flag": finding.flag,
                    "examples": [list(names) for names in finding.examples],
                }
                for finding in self.findings
            ],
        }

    def write_groups(self, path: Path) -> int:
        """Writes the groups of the images as CSV, for `--groups`; returns how many there are.

        Raises:
            DataError: the images have no names.
            RunError: the file cannot be written.
        """
        groups = self.case.groups()
        if not groups:
            raise DataError(
                f"the images of {self.case.source!r} have no names to group them by; take a folder "
                "of images"
            )
        text = io.StringIO()
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(("path", "group"))
        lines.writerows(groups.items())
        write_text(path, text.getvalue())
        return len(set(groups.values()))
