"""How a search spends its time, where the user gives the time and leaves the rest to the tool.

The winner's training gets most of it: a good network that trains for long beats a better one that
trains for a moment. Candidates are compared at equal seconds of training, so one of them costs what
another costs, and the share of the search decides how many there are.

What learns fast is not what is best in the end: on CIFAR-10 the order of networks after ten seconds
is another than after minutes. So a candidate trains for a thirtieth of the winner's training at
least, and where that leaves fewer than a dozen candidates there is no search: then a hand-made
network gets all of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from nanonas.config.duration import Duration
from nanonas.config.schema import Config
from nanonas.core import rng_for
from nanonas.networks.cost import CostModel
from nanonas.session.setup import Setup, cost_words
from nanonas.text import duration
from nanonas.training.measuring.speed import calibrate
from nanonas.training.pictures import pictures

TIME = Duration("30m")  # where the user gives neither time nor numbers
SEARCH_SHARE = 0.2  # of the time, at least, where there is a search
ENOUGH_EPOCHS = 200  # of the winner: beyond, time is better spent on the search
CANDIDATES = 60  # that the search's share is meant for
FEWEST = 12  # the hand-made networks and a few others: fewer are no search
MOST_PASSES = 12  # over the images: beyond, more candidates are better than longer trainings
HORIZON = 30  # times a candidate's training, the winner's at most: beyond, the order is another
LEAST_STEPS = 50  # of a network of middling cost: before, accuracies say nothing
STARTUP = 5.0  # seconds until the workers train
WITHOUT_SEARCH = 0.4  # final share: a bound for what hardly takes a moment
OVERHEAD = 1.15  # of a candidate's seconds: validation, building, what is predicted too low
CALIBRATION = (0.03, 6.0)  # share of the time to measure this machine in, and seconds at most
_DRAWN = 24  # random networks that stand for the candidates
_STREAM = 2_000_000_002  # a candidate's number that no search gets to


@dataclass(frozen=True)
class Schedule:
    """How much of what; times in seconds."""

    total: float
    candidates: int  # about; 1: there is no search
    candidate_seconds: float  # of training, on one worker
    final_share: float  # of the total
    final_epochs: float  # of a network of middling cost, about
    workers: int

    @property
    def searches(self) -> bool:
        """Whether there is a search."""
        return self.candidates > 1

    def __str__(self) -> str:
        """In a sentence or two, as the terminal shows it before a search."""
        final = self.final_share * self.total
        epochs = f"about {self.final_epochs:.3g} epochs"
        if not self.searches:
            return (
                f"{duration(self.total)} are too short for a search that pays for itself here: the "
                f"first hand-made network is trained for all of it, {epochs}; more --time, or "
                "--final-share, begins one"
            )
        return (
            f"{duration(self.total)} in all: {duration(self.total - final)} of search, about "
            f"{self.candidates:,} candidates of {self.candidate_seconds:.3g} s of training each, "
            f"then {duration(final)} for the winner, {epochs}"
        )


def scheduled(setup: Setup) -> tuple[Config, Schedule | None]:
    """The configuration with its time planned; None where there was nothing to plan: the user gives
    epochs, or ends the search by numbers alone.

    What the user gives stays: the seconds of a candidate, the share of the winner. Measures this
    machine for some seconds, unless the configuration holds such a measurement.

    Args:
        setup: of a configuration as `resolved`.

    Raises:
        NanonasError: as `Setup` and `calibrate`.
    """
    config = setup.config
    run, training = config.run, config.search.training
    planned = run.time is not None or (run.evaluations is None and run.generations is None)
    if training.candidate_seconds is None and (training.epochs is not None or not planned):
        return config, None
    total = float(run.time or TIME) if planned else None
    cost = setup.cost or calibrate_here(setup, total)
    each = _typical(setup, cost)
    schedule = None
    if total is not None:
        schedule = spent(
            total,
            setup.workers,
            images=len(setup.images.x_train),
            epoch_images=len(setup.split.train),
            each=each,
            batch_size=training.batch_size,
            final_share=run.final_share if run.trains_winner else 0.0,
            candidate_seconds=training.candidate_seconds,
        )
        training = replace(training, candidate_seconds=schedule.candidate_seconds)
        run = replace(run, time=run.time or TIME, final_share=schedule.final_share)
        if not schedule.searches:
            run = replace(run, evaluations=1)
    training = replace(training, cost=cost_words(cost))
    return Config(replace(config.search, training=training), run), schedule


def calibrate_here(setup: Setup, total: float | None) -> CostModel:
    """What training costs on this machine; `total` are the seconds that there are for all."""
    share, most = CALIBRATION
    seconds = most if total is None else min(most, share * total)
    train, _ = pictures(setup.data, setup.trials()[0].device)
    recipe = replace(setup.recipe, small_images=0.0)  # whose share is no part of the model
    return calibrate(setup.space, train, recipe, seconds=seconds)


def _typical(setup: Setup, cost: CostModel) -> float:
    """Seconds of training an image, of a network of middling cost among those that will be."""
    rng = rng_for(setup.config.search.seed, _STREAM)
    genomes = [*setup.space.ancestors().values()]
    genomes += [setup.space.sample(rng) for _ in range(_DRAWN)]
    networks = [setup.space.decode(genome) for genome in genomes]
    within = [network for network in networks if setup.limits.excess(network) <= 1]
    return median(cost.seconds(network) for network in within or networks)


def spent(
    total: float,
    workers: int,
    *,
    images: int,
    epoch_images: int,
    each: float,
    batch_size: int,
    final_share: float | None = None,
    candidate_seconds: float | None = None,
) -> Schedule:
    """The schedule of `total` seconds.

    Args:
        workers: candidates that train at once, one core or GPU each.
        images: of an epoch of the winner's training.
        epoch_images: of an epoch of a candidate.
        each: seconds of training an image on one worker, of a network of middling cost.
        final_share: of the winner, where the user gives it; 0: no winner is trained.
        candidate_seconds: where the user gives them.
    """
    final_speed = workers**0.75  # several cores train one network slower than as many networks
    final_epoch = images * each / final_speed
    shortest = LEAST_STEPS * batch_size * each
    longest = max(shortest, MOST_PASSES * epoch_images * each)
    share = final_share
    if share is None:
        share = min(1 - SEARCH_SHARE, ENOUGH_EPOCHS * final_epoch / total)
    # seconds of training, of all candidates
    budget = max(0.0, (1 - share) * total - STARTUP) * workers / OVERHEAD
    seconds = candidate_seconds
    if seconds is None:
        near_enough = share * final_speed * total / HORIZON
        seconds = min(max(budget / CANDIDATES, shortest, near_enough), longest)
    candidates = int(budget / seconds)
    if candidate_seconds is None and final_share is None and candidates < FEWEST:
        # The one candidate hardly trains; the winner gets all that is left then.
        moment = min(shortest, 0.02 * total)
        return Schedule(total, 1, moment, WITHOUT_SEARCH, total / final_epoch, workers)
    final_epochs = share * total / final_epoch
    return Schedule(total, max(1, candidates), seconds, share, final_epochs, workers)
