"""Which accuracies can be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys.report import SPACE, entry, record, toy_run

from nanonas.analysis.findings import Findings
from nanonas.core import Budget
from nanonas.engine.storage.events import Event
from nanonas.report.charts.progress import by_generation
from nanonas.runs.reading import read_record
from nanonas.serving.watch import Watch

RNG = np.random.default_rng(0)
SEVEN = [entry(n, SPACE.sample(RNG), 0.5 + n / 100 if n else None) for n in range(7)]


@pytest.mark.parametrize("compared", [12, None])
def test_accuracies_are_of_the_images_that_candidates_are_compared_on(
    tmp_path: Path, compared: int | None
) -> None:
    """A search whose candidates all see smaller images has them all to show; one that has them see
    smaller images on its lower rungs has the others.
    """
    rng = np.random.default_rng(0)
    budgets = [Budget(1, image_size=12, seconds=2.0), Budget(1, seconds=2.0)]
    some = [
        entry(n, SPACE.sample(rng), 0.5 + n / 100, budget=budgets[n % 4 == 3]) for n in range(12)
    ]
    run = toy_run(tmp_path / "run", some, candidate_image_size=compared)
    known = [n for n in range(12) if (n % 4 == 3) == (compared is None)]
    for seen in (read_record(run), Watch(run).look().record):
        assert [one.number for one in seen.entries if one.accuracy is not None] == known
        rows = by_generation(Findings(seen)).rows
        assert sum(row[1] for row in rows) == len(known)


def events(*kinds: str, number: int = 3) -> tuple[Event, ...]:
    details = {
        "chosen": {"number": number, "accuracy": 0.6},
        "finalists": {"number": 5, "accuracy": 0.7},
    }
    return tuple(Event(0.0, kind, details.get(kind, {})) for kind in kinds)


def test_the_winner_is_what_the_search_chose_when_it_ended() -> None:
    def winner(*kinds: str, number: int = 3) -> int:
        found = record(SEVEN, events=events(*kinds, number=number)).winner
        assert found is not None
        return found.number

    assert winner("started", "ended") == 6  # the highest figure, as earlier versions had it
    assert winner("started", "ended", "chosen") == 3
    assert winner("started", "chosen", "started") == 6  # it goes on
    assert winner("started", "chosen", "finalists") == 5
    assert winner("started", "chosen", number=7) == 6  # of a store that lost its last candidates
    assert winner("started", "chosen", number=0) == 6  # which was not judged


def test_a_search_did_not_know_what_it_would_choose() -> None:
    whole = record(SEVEN, events=events("started", "chosen"))
    assert whole.first(7).winner == whole.entries[3]
    assert whole.first(5).winner == whole.entries[4]
