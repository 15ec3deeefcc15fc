"""Accidents to searches, many of them, and what came of each.

    cd tests && python -m chaos --accidents 230      # some minutes of two cores
    cd tests && python -m chaos --first 17 --accidents 1 --keep FOLDER

Each is drawn from its number alone. A line is printed for each; the exit code is 1 where anything
was lost, changed or left.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import tyro

from chaos.accidents import Accidents


@dataclass(frozen=True)
class Options:
    """Lets accidents happen."""

    accidents: int = 230
    """How many; some come when the search has ended already."""
    first: int = 0
    """The number of the first."""
    keep: Path | None = None
    """A folder where what failed is left; by default nothing is."""


def main(options: Options) -> int:
    """Lets them happen, and returns the exit code."""
    happened, disks, losses = Counter[str](), Counter[str](), list[int]()
    begin = time.monotonic()
    with ExitStack() as stack:
        place = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        accidents = stack.enter_context(Accidents(place))
        for number in range(options.first, options.first + options.accidents):
            start = time.monotonic()
            try:
                accident = accidents.happen(number)
            except Exception:  # noqa: BLE001 - the others go on
                losses.append(number)
                traceback.print_exc()
                continue
            happened[accident.search] += accident.happened
            disks[accident.disk] += accident.happened
            spent = time.monotonic() - start
            print(f"{accident}: {len(accident.seen)} reported, {spent:.1f} s", flush=True)
    seconds = time.monotonic() - begin
    print(f"{options.accidents} searches in {seconds:.0f} s, accidents to {happened.total()}:")
    for search, number in happened.most_common():
        print(f"{number:5}  {search}")
    full = ", ".join(f"{number} {disk}" for disk, number in disks.items() if disk)
    print(f"full disks among them: {full or 'none'}")
    print(f"losses: {losses or 'none'}")
    return 1 if losses else 0


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Options, description=__doc__)))
