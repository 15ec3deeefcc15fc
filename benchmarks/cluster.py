"""How busy a cluster is kept, and how many slots one coordinator can serve.

Busy: a search whose trainings take log-normal times, by a clock that nobody waits for, of a
moderate spread and with a heavy tail. A steady state (aging, and screened alike, which asks as
often) at a lag of twice the slots, of four times as many, the default of a cluster, and of more,
beside generational evolution, with the default population and with generations of twice the slots.
The share of busy slots is counted until the last candidate begins, so that the tail, which all
have, is left out.

Served: the same loop, with a store on the disk, where trainings take no time at all. What is left
is the coordinator's own work, by its parts: to breed a candidate, to commit it and its evaluation,
and the rest (telling, counting, ranking). So many candidates a second are the most that one
coordinator serves; they keep 1,000 slots busy with trainings that are longer than 1,000 divided by
it. The disk is waited for, as a run does.

    python benchmarks/cluster.py          # some minutes of one core; --folder DIR: another disk

prints two tables and writes benchmarks/results/cluster.json. Ray is not needed.
"""

from __future__ import annotations

import heapq
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from nanonas.config.files import configure
from nanonas.config.parts import make_search_space, make_strategy
from nanonas.config.trainings import make_budget
from nanonas.core import Candidate, Evaluation, State
from nanonas.engine.storage import opening
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.machine import described

SHAPE, CLASSES = (3, 32, 32), 10
LAGS = (2, 4, 8)  # candidates in flight for each slot
LAG = 4  # the default of a cluster
PARTS = ("breed", "commit", "rest", "all")  # of what an evaluation costs


@dataclass(frozen=True)
class Options:
    """Simulates searches on a cluster."""

    slots: tuple[int, ...] = (16, 64)
    """Of the simulated clusters."""
    rounds: int = 20
    """Candidates for each slot."""
    spread: tuple[float, ...] = (0.5, 1.0)
    """Of the trainings' lengths: the standard deviation of their logarithms. With 1 one in a
    hundred takes ten times as long as a middling one."""
    served: int = 1000
    """Slots that one coordinator serves."""
    screened: int = 25
    """Slots that are simulated for the screened strategy, which takes a while to choose."""
    counted: int = 60
    """Evaluations that are counted."""
    folder: Path | None = None
    """For the stores; by default that of temporary files."""
    out: Path = Path(__file__).parent / "results" / "cluster.json"
    """The file of the figures."""


@dataclass
class Simulated:
    """An evaluator whose clock is moved on to whatever ends next.

    Args:
        slots: how many candidates run at once.
        spread: of the lengths; None: they take no time.
    """

    slots: int
    spread: float | None
    clock: float = 0.0  # in the length of a middling training
    work: list[tuple[float, float]] = field(default_factory=list)  # begin and end of each
    _running: list[tuple[float, int, Candidate]] = field(default_factory=list)

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        """Starts a candidate now."""
        rng = np.random.default_rng([candidate.number, 17])
        length = 0.0 if self.spread is None else math.exp(self.spread * rng.standard_normal())
        self.work.append((self.clock, self.clock + length))
        heapq.heappush(self._running, (self.clock + length, candidate.number, candidate))

    def result(self, timeout: float | None = None) -> Evaluation | None:
        """The next one that ends."""
        if not self._running:
            return None
        self.clock, number, candidate = heapq.heappop(self._running)
        genes = np.asarray(candidate.proposal.genome, dtype=float)
        accuracy = 0.5 + 0.4 * math.tanh(float(np.sin(genes).mean()))  # something to climb
        return Evaluation(number, State.COMPLETE, {"accuracy": accuracy}, (), 1.0)

    def close(self) -> None:
        """Forgets what runs."""
        self._running.clear()

    def busy(self) -> float:
        """The share of busy slots until the last candidate began, in [0, 1]."""
        until = max(begin for begin, _ in self.work)
        done = sum(min(end, until) - begin for begin, end in self.work)
        return done / (self.slots * until)


def study(store: RunStore, evaluator: Simulated, **settings: Any) -> Study:
    """A search, as `nanonas search` makes it."""
    search = configure(**settings).search
    space = make_search_space(search, SHAPE, CLASSES)
    budget = make_budget(search.training, CLASSES)
    return Study(space, make_strategy(search, space), evaluator, store, budget)


def busy(place: Path, slots: int, rounds: int, spread: float) -> dict[str, float]:
    """The share of busy slots of each contender."""
    opening.SYNCHRONOUS = "OFF"  # the clock is not the disk's
    contenders: dict[str, dict[str, Any]] = {
        **{
            f"aging, lag {times * slots}": {"strategy": "aging", "lag": times * slots}
            for times in LAGS
        },
        "evolution, population 20": {"strategy": "evolution"},
        f"evolution, population {2 * slots}": {"strategy": "evolution", "population": 2 * slots},
    }
    shares: dict[str, float] = {}
    for name, settings in contenders.items():
        evaluator = Simulated(slots, spread)
        with RunStore.begin(place / f"{spread} {slots} {name}" / "study.db", {}) as store:
            study(store, evaluator, space="nano", epochs=10, **settings).run(rounds * slots)
        shares[name] = evaluator.busy()
        print(f"{spread:6g} {slots:6} {name:28} {shares[name]:6.1%}")
    return shares


@dataclass
class Stopwatch:
    """Seconds that are spent in functions, of this process' work and on the wall."""

    work: float = 0.0
    wall: float = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*given: Any, **named: Any) -> Any:
            work, wall = time.process_time(), time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                self.work += time.process_time() - work
                self.wall += time.perf_counter() - wall

        return timed


def served(
    place: Path, strategy: str, slots: int, counted: int, asked_for: int
) -> dict[str, float]:
    """What an evaluation costs the coordinator, in milliseconds, once it breeds from what it was
    told by two rounds of all slots; and how many a second that makes.

    Args:
        slots: that are simulated, at the default lag of a cluster.
        counted: evaluations.
        asked_for: slots that the last column of the table is for.
    """
    opening.SYNCHRONOUS = "FULL"
    total = (LAG + 2) * slots + counted
    breeding, commits = Stopwatch(), Stopwatch()
    marks: list[tuple[float, ...]] = []
    with RunStore.begin(place / strategy / "study.db", {}) as store:
        made = study(store, Simulated(slots, None), strategy=strategy, epochs=10, lag=LAG * slots)
        last = total - slots  # arrivals, after which nothing is bred any more
        arrivals = iter(range(total))

        def observe(_: object) -> None:
            if next(arrivals) in (last - counted, last):
                marks.append((time.process_time(), breeding.work, commits.work, commits.wall))

        made._breeding.breed = breeding.around(made._breeding.breed)  # type: ignore[method-assign]
        for name in ("asked", "arrived"):
            setattr(store, name, commits.around(getattr(store, name)))
        made.run(total, observe=observe)
    work, breed, saving, commit = (
        1000 * (end - begin) / counted for begin, end in zip(*marks, strict=True)
    )
    # other processes may be at work here: only the disk is timed by the wall's clock
    rest = work - breed - saving
    whole = breed + commit + rest
    parts = {"breed": breed, "commit": commit, "rest": rest, "all": whole}
    print(
        f"{strategy:10} {slots:6}"
        + "".join(f"{parts[name]:9.2f}" for name in PARTS)
        + f"{1000 / whole:12.1f} {asked_for * whole / 1000:14.1f} s"
    )
    return {**parts, "a second": 1000 / whole}


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = Path(folder)
        print(f"{'spread':>6} {'slots':>6} {'strategy':28} {'busy':>6}")
        shares = {
            str(spread): {
                str(slots): busy(place, slots, options.rounds, spread) for slots in options.slots
            }
            for spread in options.spread
        }
        print(
            f"\n{'strategy':10} {'slots':>6}{'breed':>9}{'commit':>9}{'rest':>9}{'ms, all':>9}"
            f"{'a second':>12} {'shortest':>14}"
        )
        costs = {
            strategy: served(place, strategy, slots, options.counted, options.served)
            for strategy, slots in (("aging", options.served), ("screened", options.screened))
        }
    result = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": described(),
        "settings": {
            "rounds": options.rounds,
            "lag_served": LAG,
            "served": options.served,
            "screened": options.screened,
            "counted": options.counted,
        },
        "busy": shares,
        "milliseconds_an_evaluation": {
            strategy: {name: parts[name] for name in PARTS} for strategy, parts in costs.items()
        },
        "candidates_a_second": {strategy: parts["a second"] for strategy, parts in costs.items()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
