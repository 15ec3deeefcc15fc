"""Which accuracies can be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys.report import SPACE, entry, toy_run

from nanonas.analysis.findings import Findings
from nanonas.core import Budget
from nanonas.report.charts.progress import by_generation
from nanonas.runs.reading import read_record
from nanonas.serving.watch import Watch


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
    for record in (read_record(run), Watch(run).look().record):
        assert [one.number for one in record.entries if one.accuracy is not None] == known
        rows = by_generation(Findings(record)).rows
        assert sum(row[1] for row in rows) == len(known)
