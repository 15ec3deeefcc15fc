"""What a search would come to on this machine: three networks of its space are timed, and nothing
is begun.
"""

from __future__ import annotations

import heapq
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nanonas.config.parts import make_budget, make_heirs_budget, make_rungs
from nanonas.config.schema import Config
from nanonas.core import Budget, Floats, Genome, rng_for
from nanonas.engine.limits import Limits
from nanonas.networks.network import Network
from nanonas.runs.folder import RunFolder
from nanonas.session.begin import resolved
from nanonas.session.session import FINALS_SHARE, Session
from nanonas.session.setup import budget_seconds, make_generations
from nanonas.session.timing import Timed, timed
from nanonas.text import mebibytes, share_in_words

if TYPE_CHECKING:
    from nanonas.training.trial import Trial

QUANTILES = (0.1, 0.5, 0.9)  # by MACs: the networks that are timed
NETWORKS = 60  # random ones that a search is imagined with
_DRAWS = 2_000  # to find so many within the limits
_STREAM = 2_000_000_000  # a candidate's number that no search gets to
_MOST = 100_000  # candidates that a search is imagined with
_FEW = 0.05  # of the random networks: limits that fewer meet are called tight
_ROW = 1_500  # bytes of the store for a candidate, about


@dataclass(frozen=True)
class Forecast:
    """What a search would come to. Times are in seconds, memory and disk in MiB."""

    networks: tuple[Timed, ...]  # at `QUANTILES`
    limits: str  # on parameters and MACs
    within: float  # share of random networks that meets them
    within_measured: (
        int | None
    )  # how many of the timed ones meet those on latency and memory; None without any
    device: str
    precision: str
    workers: int
    images: int  # that a candidate trains on in an epoch
    valid_images: int
    epochs: float  # of a candidate, on average
    candidate_seconds: float  # on average
    candidates: int  # at most 100,000 are imagined
    search_seconds: float
    large: tuple[
        int, float
    ]  # candidates and seconds of a search whose networks all cost as much as the large one
    finalists_seconds: float  # with inheritance: the best few, from scratch
    final_epochs: int
    final_seconds: float  # of the winner's training
    memory: float  # of all workers
    machine_memory: (
        float | None
    )  # of the machine, or of its GPUs that are used; None where the system does not tell
    disk: float  # for weights and store
    free_disk: float
    advice: tuple[str, ...]  # one sentence for each thing that will hardly work

    @property
    def endless(self) -> bool:
        """Whether the search would go on beyond what is imagined."""
        return self.candidates >= _MOST

    @property
    def per_hour(self) -> float:
        """Trained candidates an hour."""
        return 3600 * self.candidates / max(1e-9, self.search_seconds)

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return self.search_seconds + self.finalists_seconds + self.final_seconds


def forecast(config: Config, seconds: float = 2.0) -> Forecast:
    """Times three networks as workers would train them, all workers at once, and says what the
    search will come to.

    No run is begun, and nothing is written but the data's cache. The stop rule is left out, and the
    networks are random
    ones: a search drifts to larger ones, for which there is `Forecast.large`.

    Args:
        seconds: of training, for each of the three networks.

    Raises:
        NanonasError: as `runs.begin`; also when one of the networks cannot be trained here.
    """
    budget_seconds(config.run)
    session = Session(resolved(config), quiet=True, start=time.time())
    session.check()
    return _Planner(session, seconds).forecast()


# --- timing ---------------------------------------------------------------------------------------


# --- imagining the search -------------------------------------------------------------------------


class _Planner:
    """The way from a session to its plan."""

    def __init__(self, session: Session, seconds: float) -> None:
        self.session, self.search, self.run = session, session.config.search, session.config.run
        self.space, self.strategy = session.space, session.strategy
        self.limits = Limits(self.search.max_params, self.search.max_macs)
        self.drawn = self._drawn()
        within = [genome for genome, network in self.drawn if self.limits.excess(network) <= 1]
        self.genomes = within or [genome for genome, _ in self.drawn[:NETWORKS]]
        self.genomes.sort(key=lambda genome: self.space.decode(genome).macs)
        self.trials: list[Trial] = session.trials(RunFolder(self.run.out))
        chosen = [self.genomes[round(q * (len(self.genomes) - 1))] for q in QUANTILES]
        self.timed = timed(self.trials, chosen, seconds)

    def _drawn(self) -> list[tuple[Genome, Network]]:
        """Random networks: until 60 of them meet the limits, at most 2,000."""
        rng, found, within = rng_for(self.search.seed, _STREAM), list[tuple[Genome, Network]](), 0
        while within < NETWORKS and len(found) < _DRAWS:
            genome = self.space.sample(rng)
            found.append((genome, self.space.decode(genome)))
            within += self.limits.excess(found[-1][1]) <= 1
        return found

    def forecast(self) -> Forecast:
        from nanonas.data.split import split
        from nanonas.training.measuring.memory import device_memory

        search, images = self.search, self.session.images
        parts = split(images, search.seed, search.valid_share, search.train_images)
        devices = {trial.device for trial in self.trials}
        total = device_memory(self.trials[0].device)
        kinds, shares = self._kinds()
        means = [seconds.mean() for seconds in map(self._seconds, kinds)]
        final_epoch = self.timed[1].epoch_seconds * len(images.x_train) / len(parts.train)
        candidates, search_seconds = self._searched(self._durations())
        finalists_seconds = self._finalists_seconds(candidates, search_seconds)
        final_epochs, final_seconds = self._final(final_epoch, search_seconds + finalists_seconds)
        found = Forecast(
            networks=self.timed,
            limits=str(self.limits),
            within=float(np.mean([self.limits.excess(network) <= 1 for _, network in self.drawn])),
            within_measured=self._within_measured(),
            device=self.session.device,
            precision=search.precision,
            workers=len(self.trials),
            images=len(parts.train),
            valid_images=len(parts.valid),
            epochs=float(np.average([kind.epochs - kind.begin for kind in kinds], weights=shares)),
            candidate_seconds=float(np.average(means, weights=shares)),
            candidates=candidates,
            search_seconds=search_seconds,
            large=self._searched(self._durations(large=True)),
            finalists_seconds=finalists_seconds,
            final_epochs=final_epochs,
            final_seconds=final_seconds,
            memory=len(self.trials) * max(one.worker_memory for one in self.timed),
            machine_memory=None if total is None else total * len(devices),
            disk=self._disk(candidates),
            free_disk=_free(self.run.out),
            advice=(),
        )
        return replace(found, advice=tuple(self._advice(found)))

    # --- what one candidate takes -----------------------------------------------------------------

    def _kinds(self) -> tuple[list[Budget], list[float]]:
        """What candidates after the first generation train for, and how large a share each kind is."""
        search, full = self.search, make_budget(self.search, self.space.classes)
        kinds, weights = [full], [1.0]
        if search.halving:  # one of so many is promoted, to a candidate of its own
            kinds = list(make_rungs(search, self.space))
            weights = [search.halving**-rung for rung in range(len(kinds))]
        elif search.inherit and search.strategy != "random":  # whose candidates have no parents
            kinds, weights = (
                [make_heirs_budget(search, self.space.classes), full],
                [1.0, search.inherit_audit],
            )
        return kinds, [weight / sum(weights) for weight in weights]

    def _seconds(self, budget: Budget) -> Floats:
        """What each of the random networks takes under a budget, in seconds, by MACs between those
        that were timed.
        """
        epochs, smaller = budget.epochs - budget.begin, 1.0
        if budget.image_size is not None:
            smaller = budget.image_size**2 / math.prod(self.space.input_shape[1:])
        took = [
            epochs * smaller * (budget.share * one.epoch_seconds + one.valid_seconds)
            + one.extra_seconds
            for one in self.timed
        ]
        known = [one.network.macs for one in self.timed]
        macs = np.array(
            [self.space.decode(genome).macs for genome in self.genomes], dtype=np.float64
        )
        beyond = np.maximum(1.0, macs / known[-1])  # larger than the largest: in proportion
        return np.interp(macs, known, took) * beyond

    def _durations(self, large: bool = False) -> list[float]:
        """Of the first candidates that are trained, random networks or all as the large one; the
        rest repeat them.
        """
        kinds, shares = self._kinds()
        place = round(QUANTILES[-1] * (len(self.genomes) - 1))
        chosen = slice(place, place + 1) if large else slice(None)
        full = self._seconds(make_budget(self.search, self.space.classes))[chosen]
        later = [self._seconds(kind)[chosen] for kind in kinds]
        rng, found = rng_for(self.search.seed, _STREAM), list[float]()
        for number in range(10_000):
            first = number < self.search.population and not self.search.halving
            seconds = full if first else later[rng.choice(len(later), p=shares)]
            found.append(float(rng.choice(seconds)))
        return found

    # --- when it ends -----------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """Seconds after which the search has to end; None without --time."""
        total = budget_seconds(self.run)
        return None if total is None else total * self._search_share

    @property
    def _search_share(self) -> float:
        """Of the time, for the search itself."""
        return (1 - self.run.final_share) * (1 - FINALS_SHARE * self.session.has_finals)

    def _wanted(self, number: int) -> bool:
        """Whether a candidate is within --evaluations and --generations."""
        generations = make_generations(self.run)
        if self.run.evaluations is not None and number >= self.run.evaluations:
            return False
        return generations is None or self.strategy.generation(number) < generations

    def _searched(self, durations: Sequence[float]) -> tuple[int, float]:
        """How many candidates are trained, and when the search ends."""
        ends = self._ends(durations, self._wanted, self.deadline)
        if self.deadline is not None and self._wanted(len(ends)):
            return len(ends), self.deadline
        return len(ends), max(ends, default=0.0)

    def _ends(
        self,
        durations: Sequence[float],
        wanted: Callable[[int], bool],
        deadline: float | None = None,
    ) -> list[float]:
        """When each candidate that is trained has been evaluated, in seconds from the start: the
        study's own order.

        One is begun when a worker is free and when all that its strategy needs to hear is there.
        """
        free, heard, start = [0.0] * len(self.trials), [0.0], 0.0  # `heard`: when so many are told
        ends: list[float] = []
        for number in range(_MOST):
            if not wanted(number):
                break
            start = max(start, heapq.heappop(free), heard[self.strategy.needs(number)])
            took = durations[number % len(durations)]
            if deadline is not None and start >= deadline:
                break
            heapq.heappush(free, start + took)
            heard.append(max(heard[-1], start + took))
            if deadline is None or start + took <= deadline:
                ends.append(start + took)
        return ends

    def _finalists_seconds(self, candidates: int, search_seconds: float) -> float:
        """With inheritance: the best few from scratch; where there is --time, in what the search
        leaves of theirs.
        """
        if not self.session.has_finals:
            return 0.0
        each = float(self._seconds(make_budget(self.search, self.space.classes)).mean())
        seconds = each * math.ceil(min(candidates, self.search.finalists) / len(self.trials))
        total = budget_seconds(self.run)
        return (
            seconds
            if total is None
            else min(seconds, total * (1 - self.run.final_share) - search_seconds)
        )

    def _final(self, epoch_seconds: float, before: float) -> tuple[int, float]:
        """Epochs and seconds of the winner's training, of a network of middle size at a worker's
        speed.

        With --time it takes all that is left, which is more than its share where the search ends
        early.
        """
        total = budget_seconds(self.run)
        if total is None:
            return self.run.final_epochs, self.run.final_epochs * epoch_seconds
        left = total - before if self.run.final_share > 0 else 0.0
        return int(left / epoch_seconds), left

    # --- what it needs ----------------------------------------------------------------------------

    def _disk(self, candidates: int) -> float:
        """MiB of weights, the winner's and its checkpoint among them, and of the store."""
        params = float(np.mean([self.space.decode(genome).params for genome in self.genomes]))
        kept = (
            candidates
            if self.search.inherit or self.search.halving
            else min(candidates, self.run.keep_weights)
        )
        return ((kept + 3) * 4 * params + candidates * _ROW) / 2**20

    def _within_measured(self) -> int | None:
        costs = self.trials[0].costs
        if costs.max_latency_ms is None and costs.max_memory_mb is None:
            return None
        return sum(
            costs.excess({"latency": one.latency, "memory": one.memory}) is None
            for one in self.timed
        )

    # --- what to change ---------------------------------------------------------------------------

    def _advice(self, found: Forecast) -> list[str]:
        said: list[str] = []
        if found.within < _FEW:
            said.append(self._wider_limits(found.within))
        costs, middle = self.trials[0].costs, self.timed[len(self.timed) // 2]
        for name, limit, values, value in (
            (
                "latency-ms",
                costs.max_latency_ms,
                [one.latency for one in self.timed],
                middle.latency,
            ),
            ("memory-mb", costs.max_memory_mb, [one.memory for one in self.timed], middle.memory),
        ):
            if limit is not None and min(values) > limit:
                said.append(
                    f"none of the timed networks meets --max-{name} {limit:g}, the best has "
                    f"{min(values):.3g}: "
                    f"--max-{name} {_up(value):g} lets about half of them in"
                )
        generation = self.strategy.generation(found.candidates)
        if self.search.strategy != "random" and generation < 2 and found.candidates < _MOST:
            said.append(self._longer_search(found.candidates))
        if found.machine_memory is not None and found.memory > 0.9 * found.machine_memory:
            fitting = max(1, int(found.workers * 0.9 * found.machine_memory / found.memory))
            said.append(
                f"{found.workers} workers need {mebibytes(found.memory)}, but there are "
                f"{mebibytes(found.machine_memory)}: take --workers {fitting} or a smaller "
                "--batch-size"
            )
        if found.disk > found.free_disk:
            said.append(
                f"weights and store need {mebibytes(found.disk)}, but "
                f"{mebibytes(found.free_disk)} of the disk are "
                "free: free some, or take --out on another disk"
            )
        return said

    def _wider_limits(self, within: float) -> str:
        """What to say where hardly a random network meets the limits: the tighter one is to be
        wider.
        """
        names = [
            ("params", "parameters", self.limits.max_params),
            ("macs", "MACs", self.limits.max_macs),
        ]
        found: list[tuple[float, str, str, Floats]] = []
        for name, word, limit in names:
            if limit is not None:
                values = np.array(
                    [getattr(network, name) for _, network in self.drawn], dtype=np.float64
                )
                found.append((float((values <= limit).mean()), name, word, values))
        share, name, word, values = min(found, key=lambda one: one[0])
        above = "" if within else " (those above have more)"
        wider = _up(float(np.quantile(values, min(1.0, share + 0.25))))
        return (
            f"{share_in_words(within)} of {len(self.drawn):,} random networks have "
            f"{self.limits}{above}: --max-{name} "
            f"{wider:.0f} lets about {share_in_words(min(1.0, share + 0.25))} in, by {word}"
        )

    def _longer_search(self, candidates: int) -> str:
        """What to say where there will be fewer than two populations: five are a search."""
        run, needed = (
            self.run,
            self._ends(self._durations(), lambda number: self.strategy.generation(number) < 5),
        )
        seconds = max(needed) / self._search_share
        flags: list[str] = []
        if run.evaluations is not None and run.evaluations < len(needed):
            flags.append(f"--evaluations {len(needed)}")
        if run.generations is not None and run.generations < 5:
            flags.append("--generations 5")
        if (total := budget_seconds(run)) is not None and total < seconds:
            flags.append(f"--time {_time_flag(seconds)}")
        return (
            f"{candidates} candidates are fewer than two populations of {self.search.population}: "
            "take "
            f"{' '.join(flags)} for five of them, or --population {max(2, candidates // 5)}"
        )


def _free(folder: Path) -> float:
    """MiB that are free on the disk that a folder is on, or would be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**20


def _up(value: float) -> float:
    """The next higher number of two digits: 1234 -> 1300."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit) * unit:.6g}")


def _time_flag(seconds: float) -> str:
    return f"{math.ceil(seconds)}s" if seconds <= 120 else f"{math.ceil(seconds / 60)}m"


# --- in words -------------------------------------------------------------------------------------
