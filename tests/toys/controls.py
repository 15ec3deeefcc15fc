"""Searches that are asked for something at certain numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nanonas.core import Strategy
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.requests import Request
from nanonas.engine.study import Study
from nanonas.errors import InvalidInput
from toys.engine import ToySpace, score, study

TOTAL = 24
PLANTED = (5, 5, 5, 4)


@dataclass(frozen=True)
class WideSpace(ToySpace):
    """A toy whose operations are its widths."""

    operation_names: tuple[str, ...] = tuple(f"wide{gene}" for gene in range(7))

    def operations(self, genome: tuple[int, ...]) -> frozenset[str]:
        return frozenset(f"wide{gene}" for gene in genome)


WIDE = WideSpace()


@dataclass
class Script:
    """Requests that come just before the candidate of a number is bred."""

    requests: dict[int, list[Request]]
    study: Study | None = None
    removed: list[str] = field(default_factory=list)

    def waiting(self) -> list[tuple[str, Request | InvalidInput]]:
        asked = 0 if self.study is None else len(self.study._candidates)
        return [
            (name, request)
            for first, requests in self.requests.items()
            for place, request in enumerate(requests)
            if first <= asked and (name := f"{first}-{place}") not in self.removed
        ]

    def remove(self, name: str) -> None:
        self.removed.append(name)


WISHES = {
    0: [Request("ban", "wide6")],
    7: [
        Request("plant", genome=PLANTED),
        Request("ban", "wide0"),
        Request("plant", genome=(5, 4, 5, 4)),
    ],
    12: [Request("ban", "wide1"), Request("ban", "no such thing")],
    17: [Request("allow", "wide6"), Request("plant", genome=PLANTED)],
}


def run(
    path: Path,
    strategy: Strategy,
    evaluator: object = None,
    wishes: object = None,
    **options: object,
) -> Study:
    script = Script(wishes or {})  # type: ignore[arg-type]
    options = {"space": WIDE, "inbox": script, **options}
    made = study(path, strategy, evaluator or SerialEvaluator(score), **options)  # type: ignore[arg-type]
    script.study = made
    try:
        made.run(TOTAL)
    finally:
        made.store.close()
    return made
