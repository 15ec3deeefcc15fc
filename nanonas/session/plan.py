"""A forecast of a search on this machine: three networks of its space are timed, and no run is
begun.
"""

from __future__ import annotations

import heapq
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nanonas.config.parts import begins_without, make_screens, most_kept, proposer
from nanonas.config.schema import Config
from nanonas.config.trainings import make_heirs_budget
from nanonas.core import Budget, Floats, Genome, rng_for
from nanonas.networks.cost import allowance
from nanonas.networks.limits import Count
from nanonas.networks.network import Network
from nanonas.session.ancestor import ancestor_share, with_ancestor
from nanonas.session.schedule import Schedule, scheduled
from nanonas.session.setup import Setup, resolved
from nanonas.session.timing import Timed, timed
from nanonas.text import by_number, mebibytes, number_of, share_in_words

QUANTILES = (0.1, 0.5, 0.9)  # by MACs: the networks that are timed
NETWORKS = 60  # random ones that a search is imagined with
_DRAWS = 2_000  # to find so many within the limits
_STREAM = 2_000_000_000  # a candidate's number that no search gets to
_MOST = 100_000  # candidates that a search is imagined with
_FEW = 0.05  # of the random networks: limits that fewer meet are called tight
_ROW = 1_500  # bytes of the store for a candidate, about


@dataclass(frozen=True)
class Forecast:
    """What a search would take. Times are in seconds, memory and disk in MiB."""

    schedule: Schedule | None  # of the time, where that is the tool's to plan
    # whose weights all begin with, and the share of its own network's parameters that do; None:
    # nobody's
    ancestor: tuple[str, float] | None
    networks: tuple[Timed, ...]  # at `QUANTILES`
    limits: str  # on parameters and MACs
    within: float  # share of random networks that meets them
    # how many of the timed networks meet the limits on latency and memory; None without any
    within_measured: int | None
    # where another device measures latency: which, and seconds that a candidate waits for it
    measured_on: tuple[str, float] | None
    device: str
    precision: str
    workers: int
    images: int  # that a candidate trains on in an epoch
    valid_images: int
    epochs: float  # of a candidate, on average; 0 where seconds bind it
    candidate_seconds: float  # on average
    candidates: int  # that are trained; at most 100,000 are imagined
    search_seconds: float
    # candidates and seconds of a search whose networks all cost as much as the large one
    large: tuple[int, float]
    finalists_seconds: float  # the best few once more, from scratch
    final_networks: int  # that are trained at the end, each once
    final_epochs: int  # of each
    final_seconds: float  # of all of these trainings
    memory: float  # of all workers
    # of the machine, or of its GPUs that are used; None where the system does not tell
    machine_memory: float | None
    # MiB of the images, decoded, and of the memory of one device, where they are too many to lie in
    # it and are read from the disk; None: they lie in it
    read_from_disk: tuple[float, float] | None
    weights: int  # networks whose weights stay at most, but for those of a front
    weights_each: float  # MiB of the largest
    disk: float  # for weights and store, at most
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
    networks are random ones: a search drifts to larger ones, for which there is `Forecast.large`.

    Args:
        seconds: of training, for each of the three networks.

    Raises:
        NanonasError: as `begin`; also when one of the networks cannot be trained here.
    """
    config, origin = with_ancestor(config)
    setup = Setup(resolved(config), origin=origin)
    setup.check()
    config, schedule = scheduled(setup)
    setup = Setup(config, setup.images, origin=origin)
    return _Planner(setup, schedule, seconds).forecast()


class _Planner:
    """The way from a setup to its forecast."""

    def __init__(self, setup: Setup, schedule: Schedule | None, seconds: float) -> None:
        self.setup, self.search, self.run = setup, setup.config.search, setup.config.run
        self.schedule = schedule
        self.space, self.strategy, self.limits = setup.space, setup.strategy, setup.limits
        options = self.search.strategy
        self.entry = proposer(options.strategy, make_screens(options) or "")
        self.drawn = self._drawn()
        within = [genome for genome, network in self.drawn if self.limits.excess(network) <= 1]
        self.genomes = within or [genome for genome, _ in self.drawn[:NETWORKS]]
        self.genomes.sort(key=lambda genome: self.space.decode(genome).macs)
        self.trials = setup.trials()
        chosen = [self.genomes[round(q * (len(self.genomes) - 1))] for q in QUANTILES]
        self.timed = timed(self.trials, chosen, seconds)

    @property
    def breeds(self) -> bool:
        """Whether candidates have parents."""
        return self.entry is None or self.entry.breeds

    def _drawn(self) -> list[tuple[Genome, Network]]:
        """Random networks: until 60 of them meet the limits, at most 2,000."""
        rng, drawn, within = rng_for(self.search.seed, _STREAM), list[tuple[Genome, Network]](), 0
        while within < NETWORKS and len(drawn) < _DRAWS:
            genome = self.space.sample(rng)
            network = self.space.decode(genome)
            drawn.append((genome, network))
            within += self.limits.excess(network) <= 1
        return drawn

    def forecast(self) -> Forecast:
        """Everything that there is to say."""
        from nanonas.training.measuring.memory import MIB, device_memory
        from nanonas.training.pictures import RESIDENT

        images, split, origin = self.setup.images, self.setup.split, self.setup.origin
        decoded = images.x_train.nbytes / MIB
        devices = {trial.device for trial in self.trials}
        total = device_memory(self.trials[0].device)
        kinds, shares = self._kinds()
        means = [seconds.mean() for seconds in map(self._seconds, kinds)]
        final_epoch = self.timed[1].epoch_seconds * len(images.x_train) / len(split.train)
        candidates, search_seconds = self._searched(self._durations())
        finalists_seconds = self._finalists_seconds(candidates, search_seconds)
        final_epochs, final_seconds = self._final(final_epoch, search_seconds + finalists_seconds)
        plain = Forecast(
            schedule=self.schedule,
            ancestor=None if origin is None else (origin.name, ancestor_share(self.setup)),
            networks=self.timed,
            limits=str(self.limits),
            within=float(np.mean([self.limits.excess(network) <= 1 for _, network in self.drawn])),
            within_measured=self._within_measured(),
            measured_on=self._measured_on(),
            device=self.setup.device,
            precision=self.search.training.precision,
            workers=len(self.trials),
            images=len(split.train),
            valid_images=len(split.valid),
            epochs=float(np.average([_epochs(kind) for kind in kinds], weights=shares)),
            candidate_seconds=float(np.average(means, weights=shares)),
            candidates=candidates,
            search_seconds=search_seconds,
            large=self._searched(self._durations(large=True)),
            finalists_seconds=finalists_seconds,
            final_networks=self.final_networks,
            final_epochs=final_epochs,
            final_seconds=final_seconds,
            memory=len(self.trials) * max(network.worker_memory for network in self.timed),
            machine_memory=None if total is None else total * len(devices),
            read_from_disk=(
                (decoded, total) if total is not None and decoded > RESIDENT * total else None
            ),
            weights=most_kept(self.setup.config, self.strategy, candidates),
            weights_each=self._weights_each(),
            disk=self._disk(candidates),
            free_disk=_free(self.run.out),
            advice=(),
        )
        return replace(plain, advice=tuple(self._advice(plain)))

    # --- what one candidate takes -----------------------------------------------------------------

    def _kinds(self) -> tuple[list[Budget], list[float]]:
        """What candidates after the first generation train for, and the share of each kind."""
        fidelity = self.search.fidelity
        kinds, weights = [self.setup.budget], [1.0]
        if fidelity.halving:  # one of so many is promoted, to a candidate of its own
            kinds = list(self.setup.rungs)
            weights = [fidelity.halving**-rung for rung in range(len(kinds))]
        elif fidelity.inherit and self.breeds:
            heirs = make_heirs_budget(self.search, self.space.classes)
            kinds, weights = [heirs, self.setup.budget], [1.0, fidelity.inherit_audit]
        return kinds, [weight / sum(weights) for weight in weights]

    def _seconds(self, budget: Budget) -> Floats:
        """What each of the random networks takes under a budget, in seconds, by MACs between those
        that were timed.
        """
        if budget.seconds is not None:
            cost, typical = self.setup.cost, self.search.training.typical_cost
            assert cost is not None  # it is measured where seconds are planned
            extra = max(timed.valid_seconds + timed.extra_seconds for timed in self.timed)
            shares = [
                allowance(cost.seconds(self.space.decode(genome)), typical, budget.seconds)
                for genome in self.genomes
            ]
            return budget.seconds * np.array(shares) + extra
        epochs, smaller = budget.epochs - budget.begin, 1.0
        if budget.image_size is not None:
            smaller = budget.image_size**2 / math.prod(self.space.input_shape[1:])
        took = [
            epochs * smaller * (budget.share * timed.epoch_seconds + timed.valid_seconds)
            + timed.extra_seconds
            for timed in self.timed
        ]
        timed_macs = [timed.network.macs for timed in self.timed]
        macs = np.array(
            [self.space.decode(genome).macs for genome in self.genomes], dtype=np.float64
        )
        beyond = np.maximum(1.0, macs / timed_macs[-1])  # larger than the largest: in proportion
        return np.interp(macs, timed_macs, took) * beyond

    def _durations(self, large: bool = False) -> list[float]:
        """Of the first candidates that are trained, random networks or all as the large one; the
        rest repeat them.
        """
        kinds, shares = self._kinds()
        place = round(QUANTILES[-1] * (len(self.genomes) - 1))
        chosen = slice(place, place + 1) if large else slice(None)
        full = self._seconds(self.setup.budget)[chosen]
        later = [self._seconds(kind)[chosen] for kind in kinds]
        rng, durations = rng_for(self.search.seed, _STREAM), list[float]()
        for number in range(10_000):
            first = number < self.search.strategy.population and not self.search.fidelity.halving
            seconds = full if first else later[rng.choice(len(later), p=shares)]
            durations.append(float(rng.choice(seconds)))
        return durations

    # --- when it ends -----------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """Seconds after which the search has to end; None without --time."""
        return None if self.run.time is None else self.run.time * self._search_share

    @property
    def _search_share(self) -> float:
        """Of the time, for the search itself."""
        return (1 - self.run.kept_share) * self.setup.search_share

    def _wanted(self, number: int) -> bool:
        """Whether a candidate is within --evaluations and --generations."""
        generations = self.setup.generations
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
        """The best few once more, from scratch; where there is --time, in what the search leaves
        of theirs.
        """
        if not self.setup.has_finals:
            return 0.0
        each = float(self._seconds(self.setup.finals_budget).mean())
        seconds = each * math.ceil(min(candidates, self.setup.finalists) / len(self.trials))
        if self.run.time is None:
            return seconds
        return min(seconds, self.run.time * (1 - self.run.kept_share) - search_seconds)

    def _final(self, epoch_seconds: float, before: float) -> tuple[int, float]:
        """Epochs of a final training, and seconds of all of them, of networks of middle size: at a
        worker's speed, or as they were planned.

        With --time they take all that is left, which is more than their share where the search ends
        early.
        """
        if self.run.time is None:
            epochs = self.run.final_epochs
            return epochs, self.final_networks * epochs * epoch_seconds
        left = self.run.time - before if self.run.trains_winner else 0.0
        if self.schedule is not None and self.schedule.final_seconds:
            fitting = self.schedule.final_epochs * left / self.schedule.final_seconds
            return int(min(fitting, self.schedule.most_epochs)), left
        return int(left / epoch_seconds / self.final_networks), left

    @property
    def final_networks(self) -> int:
        """How many networks share the time of the final trainings."""
        return self.setup.final_networks if self.schedule is None else self.schedule.front

    # --- what it needs ----------------------------------------------------------------------------

    def _disk(self, candidates: int) -> float:
        """MiB of weights, the winner's and its checkpoint among them, and of the store."""
        kept = most_kept(self.setup.config, self.strategy, candidates)
        weights = (kept + 3) * self._weights_each()
        return weights + candidates * _ROW / 2**20

    def _weights_each(self) -> float:
        """MiB of the weights of a network that is as large as the limits allow or, where they do
        not say, as the largest of the random ones.
        """
        largest = max(self.space.decode(genome).params for genome in self.genomes)
        return 4 * (self.limits.max_params or largest) / 2**20

    def _within_measured(self) -> int | None:
        if not self.limits.on_measurements:
            return None
        metrics = [{"latency": timed.latency, "memory": timed.memory} for timed in self.timed]
        return sum(self.limits.exceeded(measured) is None for measured in metrics)

    def _measured_on(self) -> tuple[str, float] | None:
        agent = self.setup.agent
        if agent is None:
            return None
        return str(agent.device), float(np.median([timed.extra_seconds for timed in self.timed]))

    # --- what to change ---------------------------------------------------------------------------

    def _advice(self, forecast: Forecast) -> list[str]:
        advice: list[str] = []
        if self.run.cluster is not None:
            advice.append(
                f"this is for {forecast.workers} worker(s) of this machine, not for the cluster "
                f"{self.run.cluster!r}, which is not asked"
            )
        if forecast.within < _FEW:
            advice.append(self._wider_limits(forecast.within))
        latencies = [timed.latency for timed in self.timed]
        memories = [timed.memory for timed in self.timed]
        for name, limit, values in (
            ("latency-ms", self.limits.max_latency_ms, latencies),
            ("memory-mb", self.limits.max_memory_mb, memories),
        ):
            value = values[len(values) // 2]
            if limit is not None and min(values) > limit:
                advice.append(
                    f"none of the timed networks meets --max-{name} {limit:g}, the best has "
                    f"{min(values):.3g}: "
                    f"--max-{name} {_up(value):g} lets about half of them in"
                )
        generation = self.strategy.generation(forecast.candidates)
        own = self.schedule is None  # else it was weighed against the winner's training
        if own and self.breeds and generation < 2 and forecast.candidates < _MOST:
            advice.append(self._longer_search(forecast.candidates))
        options = self.search.strategy
        lacks = begins_without(options.strategy, options.predictor, options.objectives)
        if options.experience and lacks is not None:
            advice.append(f"--experience asks for what other runs have shown, but {lacks}")
        if forecast.machine_memory is not None and forecast.memory > 0.9 * forecast.machine_memory:
            fitting = max(
                1, int(forecast.workers * 0.9 * forecast.machine_memory / forecast.memory)
            )
            advice.append(
                f"{number_of(forecast.workers, 'worker')} "
                f"{by_number(forecast.workers, 'needs', 'need')} {mebibytes(forecast.memory)}, but "
                f"there are {mebibytes(forecast.machine_memory)}: take --workers {fitting} or a "
                "smaller --batch-size"
            )
        if forecast.disk > forecast.free_disk:
            advice.append(
                f"weights and store need {mebibytes(forecast.disk)}, but "
                f"{mebibytes(forecast.free_disk)} of the disk are "
                "free: free some, or take --out on another disk"
            )
        return advice

    def _wider_limits(self, within: float) -> str:
        """Advice where hardly any random network meets the limits: to widen the tighter one."""
        above = "" if within else " (those above have more)"
        few = f"{share_in_words(within)} of {len(self.drawn):,} random networks have {self.limits}"
        shares: list[tuple[float, Count, Floats]] = []
        for count, limit in self.limits.counted:
            values = np.array([count.of(network) for _, network in self.drawn], dtype=np.float64)
            if np.isfinite(values).all():
                shares.append((float((values <= limit).mean()), count, values))
        if not shares:
            return f"{few}: choose a space with more operations that the target allows"
        share, count, values = min(shares, key=lambda share: share[0])
        wider = _up(float(np.quantile(values, min(1.0, share + 0.25))))
        return (
            f"{few}{above}: {count.flag} {wider:.{0 if wider >= 10 else 2}f} "
            f"lets about {share_in_words(min(1.0, share + 0.25))} in, by {count.words}"
        )

    def _longer_search(self, candidates: int) -> str:
        """What to say where there will be fewer than two populations: five are a search."""
        run = self.run
        needed = self._ends(self._durations(), lambda number: self.strategy.generation(number) < 5)
        seconds = max(needed) / self._search_share
        flags: list[str] = []
        if run.evaluations is not None and run.evaluations < len(needed):
            flags.append(f"--evaluations {len(needed)}")
        if run.generations is not None and run.generations < 5:
            flags.append("--generations 5")
        if run.time is not None and run.time < seconds:
            flags.append(f"--time {_time_flag(seconds)}")
        population = self.search.strategy.population
        return (
            f"{number_of(candidates, 'candidate')} {by_number(candidates, 'is', 'are')} fewer than "
            f"two populations of {population}: take "
            f"{' '.join(flags)} for five of them, or --population {max(2, candidates // 5)}"
        )


def _epochs(budget: Budget) -> int:
    return budget.epochs - budget.begin if budget.seconds is None else 0


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
