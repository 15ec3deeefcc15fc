"""Accidents by number: each is drawn from its number alone, brought about, and looked at.

A search is begun; somebody reads its store meanwhile. Then the accident happens. When all processes
of the search are gone, it is resumed as its user would do it, and as often as it takes. In the end

- all evaluations that the reader saw before are there, with the same values,
- store, weights, front and winner are those of the search that nothing happened to,
- no process of it is left, and no file that was only to last for a moment.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

from chaos.accident import Accident
from chaos.kinds import KINDS, OUTSIDE
from chaos.nursery import Nursery
from chaos.searches import PRETENDED, REAL, outcome

_REAL_SHARE = 0.1  # of the accidents, of those that come from outside


class Accidents:
    """All of them. A context manager.

    Args:
        place: a folder for what they leave, which is looked at when one fails.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._expected: dict[str, Any] = {}

    def __enter__(self) -> Accidents:
        self.nursery = Nursery().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self.nursery.__exit__(*exception)

    def happen(self, number: int) -> Accident:
        """One of them, and what comes after it. Raises `AssertionError` for a loss."""
        accident = self.drawn(number)
        expected = self._uninterrupted(accident.search)
        try:
            KINDS[accident.kind](accident)
            accident.gone()
            accident.recover()
            accident.check(expected)
        finally:
            if os.path.ismount(accident.run.parent):
                subprocess.run(["umount", str(accident.run.parent)], check=True)
        shutil.rmtree(accident.place)
        return accident

    def drawn(self, number: int) -> Accident:
        """What is to happen: all kinds by turns, and anything else by chance."""
        rng, kind = random.Random(number), list(KINDS)[number % len(KINDS)]
        names = list(PRETENDED)
        if kind in OUTSIDE and number >= len(KINDS) and rng.random() < _REAL_SHARE:
            names = list(REAL)
        place = self.place / f"accident-{number}"
        return Accident(number, place, self.nursery, kind, rng.choice(names), rng)

    def _uninterrupted(self, search: str) -> Any:
        """What the search comes to when nothing happens to it."""
        if search not in self._expected:
            place, rng = self.place / search.replace(" ", "-"), random.Random(0)
            calm = Accident(0, place, self.nursery, "nothing", search, rng)
            calm.begin()
            assert calm.wait() == 0, calm.printed
            self._expected[search] = outcome(calm.run)
        return self._expected[search]
