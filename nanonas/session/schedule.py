"""How a search spends its time, where the user gives the time and leaves the rest to the tool.

The winner's training gets most of it: a good network that trains for long beats a better one that
trains for a moment. Where several networks of a front are trained, they share that time.
Candidates train for seconds, so the share of the search decides how many there are.

What learns fast is not what is best in the end: on CIFAR-10 the order of networks after ten seconds
is another than after minutes. So candidates see smaller images, more of them in the same time, and
the best few are trained once more, for a thirtieth of the winner's training at least. Where that
leaves fewer than two dozen candidates there is no search: then a hand-made network gets all of the
time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median

from nanonas.config.duration import Duration
from nanonas.config.schema import Config
from nanonas.core import rng_for
from nanonas.networks.cost import CostModel
from nanonas.session.finalists import OVERHEAD, STARTUP, finals_seconds
from nanonas.session.setup import Setup, cost_words
from nanonas.text import by_number, duration, number_of
from nanonas.training.final import FINE_TUNED, MOST_EPOCHS
from nanonas.training.measuring.speed import calibrate
from nanonas.training.pictures import pictures
from nanonas.training.recipe import SMALL_SIDE

TIME = Duration("30m")  # where the user gives neither time nor numbers
SEARCH_SHARE = 0.28  # of the time, at least, where there is a search: its finalists included
FINALS_SHARE = 0.4  # of that, at most, for the finalists
ENOUGH_EPOCHS = 200  # of the winner: beyond, time is better spent on the search
CANDIDATES = 66  # that the search's share is meant for: of half an hour, sixty at the least come
DRIFT = 1.2  # of the planned seconds a candidate takes: searches come to networks that cost more
FEWEST = 24  # the hand-made networks and two generations of others: fewer are no search
FINALISTS = 6  # at most
MOST_PASSES = 12  # over the images: beyond, more candidates are better than longer trainings
# How often a training goes into the winner's, at most: beyond, the order is another. Of what the
# winner is chosen by, and of what the finalists are chosen by.
HORIZON, FIRST_HORIZON = 30, 400
SHRUNK_FROM = 32  # pixels a side of images that candidates see at three quarters of their size
LEAST_STEPS = 50  # of a network of middling cost: before, accuracies say nothing
WITHOUT_SEARCH = 0.4  # final share: a bound for what hardly takes a moment
CALIBRATION = (0.03, 6.0)  # share of the time to measure this machine in, and seconds at most
_DRAWN = 24  # random networks that stand for the candidates
_STREAM = 2_000_000_002  # a candidate's number that no search gets to


@dataclass(frozen=True)
class Schedule:
    """How much of what; times in seconds."""

    total: float
    candidates: int  # about; 1: there is no search
    candidate_seconds: float  # of training, on one worker
    finalists: int  # 0: none
    finalist_seconds: float  # of training, on one worker
    final_share: float  # of the total
    final_epochs: float  # of a network of middling cost, about
    workers: int
    image_size: int | None = None  # pixels a side that candidates see; None: the images as they are
    front: int = 1  # networks that share the final trainings' time
    instead: str = "a network that is known to be good"  # what is trained where there is no search
    most_epochs: float = MOST_EPOCHS  # of a final training, however much time there is

    @property
    def searches(self) -> bool:
        """Whether there is a search."""
        return self.candidates > 1

    @property
    def final_seconds(self) -> float:
        """Of the final trainings."""
        return self.final_share * self.total if self.searches else self.total

    def at_most(self, evaluations: int) -> Schedule:
        """This one where a search ends after so many candidates; with one the winner has all of
        the time.
        """
        candidates = min(self.candidates, evaluations)
        if candidates > 1 or not self.final_share or not self.searches:
            return replace(self, candidates=candidates)
        epochs = self.front * self.final_epochs / self.final_share
        return replace(self, candidates=1, final_epochs=epochs, front=1)

    def __str__(self) -> str:
        """In a few lines, as the terminal shows it before a search."""
        number = min(self.final_epochs, self.most_epochs)
        epochs = f"about {number_of(number, 'epoch', form='.3g')}"
        if not self.searches:
            part = "" if number < self.final_epochs else " all of it,"
            return (
                f"{duration(self.total)} are too short for a search that pays for itself here "
                f"(more --time, or --final-share, begins one): {self.instead} is trained for"
                f"{part} {epochs}"
            )
        final, finals = self.final_share * self.total, 0.0
        if self.finalists:
            finals = finals_seconds(self.finalists, self.finalist_seconds, self.workers)
        size = "" if self.image_size is None else f" at {self.image_size}×{self.image_size}"
        lines = [
            f"{duration(self.total)} in all",
            f"{duration(self.total - final - finals)} of search: about "
            f"{number_of(self.candidates, 'candidate')}, {self.candidate_seconds:.3g} s of "
            f"training each{size}",
        ]
        if self.finalists:
            lines.append(
                f"{duration(finals)} for the best "
                f"{by_number(self.finalists, 'one', str(self.finalists))} of them: "
                f"{self.finalist_seconds:.3g} s each, from scratch"
            )
        if final and self.front == 1:
            lines.append(f"{duration(final)} for the winner: {epochs}")
        elif final:
            lines.append(
                f"{duration(final)} for {self.front} networks of the front, the larger the longer: "
                f"{epochs} of one of middling size"
            )
        return "\n  ".join(lines)


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
    run, training, fidelity = config.run, config.search.training, config.search.fidelity
    planned = run.time is not None or (run.evaluations is None and run.generations is None)
    if training.candidate_seconds is None and (training.epochs is not None or not planned):
        return config, None
    total = float(run.time or TIME) if planned else None
    cost = setup.cost or calibrate_here(setup, total)
    each = typical_cost(setup, cost)
    schedule = None
    if total is not None:
        smaller = _smaller(setup)
        schedule = spent(
            total,
            setup.workers,
            images=len(setup.images.x_train),
            epoch_images=len(setup.split.train),
            each=each,
            batch_size=training.batch_size,
            final_share=run.final_share if run.trains_winner else 0.0,
            candidate_seconds=training.candidate_seconds,
            finalists=fidelity.finalists,
            finalist_seconds=fidelity.finalist_seconds,
            smaller=smaller is not None,
            front=setup.final_networks,
        )
        if run.evaluations is not None:
            schedule = schedule.at_most(run.evaluations)
        size = training.candidate_image_size
        if size is None and schedule.finalists:
            size = smaller
        schedule = replace(schedule, image_size=size)
        if setup.origin is not None:
            name = f"the network of the ancestor {setup.origin.name}"
            schedule = replace(schedule, instead=name, most_epochs=FINE_TUNED)
        training = replace(
            training,
            candidate_seconds=schedule.candidate_seconds,
            candidate_image_size=size,
        )
        fidelity = replace(
            fidelity,
            finalists=schedule.finalists,
            finalist_seconds=schedule.finalist_seconds or None,
        )
        run = replace(run, time=run.time or TIME, final_share=schedule.final_share)
        if not schedule.searches:
            run = replace(run, evaluations=1)
    training = replace(training, cost=cost_words(cost), typical_cost=float(f"{each:.4g}"))
    return Config(replace(config.search, training=training, fidelity=fidelity), run), schedule


def _smaller(setup: Setup) -> int | None:
    """Three quarters of the images' sides, where they are large enough, as in the first half of a
    long training: a candidate sees nearly twice as many of them in the same time, and deep networks
    get far enough to be told from shallow ones, which learn faster at first. At half of the sides
    networks lead that halve the map late, which is no merit on whole images.

    None where candidates go on with each other's trainings, or are results themselves: a front's.
    """
    fidelity = setup.config.search.fidelity
    if fidelity.halving or fidelity.inherit or len(setup.objectives) > 1:
        return None
    side = min(setup.space.input_shape[1:])
    return round(SMALL_SIDE * side) if side >= SHRUNK_FROM else None


def calibrate_here(setup: Setup, total: float | None) -> CostModel:
    """What training costs on this machine; `total` are the seconds that there are for all."""
    share, most = CALIBRATION
    seconds = most if total is None else min(most, share * total)
    train, _ = pictures(setup.data, setup.trials()[0].device)
    recipe = replace(setup.recipe, small_images=0.0)  # whose share is no part of the model
    return calibrate(setup.space, train, recipe, seconds=seconds)


def typical_cost(setup: Setup, cost: CostModel) -> float:
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
    finalists: int | None = None,
    finalist_seconds: float | None = None,
    smaller: bool = False,
    front: int = 1,
) -> Schedule:
    """The schedule of `total` seconds.

    Args:
        workers: candidates that train at once, one core or GPU each.
        images: of an epoch of the winner's training.
        epoch_images: of an epoch of a candidate.
        each: seconds of training an image on one worker, of a network of middling cost.
        final_share: of the winner, where the user gives it; 0: no winner is trained.
        candidate_seconds: where the user gives them.
        finalists: likewise.
        finalist_seconds: likewise.
        smaller: whether candidates see smaller images where there are finalists.
        front: how many networks have a final training, in the time that is the winner's else.
    """
    final_speed = workers**0.75  # several cores train one network slower than as many networks
    final_epoch = images * each / final_speed
    share = final_share
    if share is None:
        enough = front * ENOUGH_EPOCHS * final_epoch + STARTUP
        share = min(1 - SEARCH_SHARE, enough / total)
    # of one network of middling cost; seconds of training of one worker, as all below
    final = share * final_speed * total / front
    shortest = LEAST_STEPS * batch_size * each
    longest = max(shortest, MOST_PASSES * epoch_images * each)

    def search(before: float, horizon: float) -> tuple[int, float]:
        """How many candidates there are without the finalists' seconds, and for how long each
        trains.
        """
        budget = max(0.0, (1 - share) * total - before - STARTUP) * workers / (OVERHEAD * DRIFT)
        seconds = candidate_seconds
        if seconds is None:
            least = shortest * SMALL_SIDE**2 if before and smaller else shortest
            seconds = min(max(budget / CANDIDATES, least, final / horizon), longest)
        return int(budget / seconds), seconds

    number, longer = _finals((1 - share) * total, workers, final, finalists, finalist_seconds)
    before = finals_seconds(number, longer, workers) if number else 0.0
    candidates, seconds = search(before, FIRST_HORIZON if number else HORIZON)
    if number and finalist_seconds is None and (longer < 2 * seconds or candidates < FEWEST):
        number = 0
        candidates, seconds = search(0.0, HORIZON)
    if candidate_seconds is None and final_share is None and candidates < FEWEST:
        # The one candidate hardly trains; the winner gets all that is left then.
        moment = min(shortest, 0.02 * total)
        return Schedule(total, 1, moment, 0, 0.0, WITHOUT_SEARCH, total / final_epoch, workers)
    final_epochs = share * total / final_epoch / front
    if final_share is None:  # there are the seconds until it trains, and those of the test
        final_epochs = min(final_epochs, ENOUGH_EPOCHS)
    if number == 0:
        longer = 0.0
    return Schedule(
        total,
        max(1, candidates),
        seconds,
        number,
        longer,
        share,
        final_epochs,
        workers,
        front=front,
    )


def _finals(
    search: float, workers: int, final: float, finalists: int | None, seconds: float | None
) -> tuple[int, float]:
    """How many finalists there are, and for how long each trains.

    Args:
        search: seconds of the search with them.
        final: seconds of training, of the winner.
        finalists: where the user gives them.
        seconds: likewise.
    """
    budget = max(0.0, FINALS_SHARE * search - STARTUP) * workers / OVERHEAD
    number = finalists
    if number is None:
        wanted = seconds or final / HORIZON
        number = FINALISTS if wanted * FINALISTS <= budget else int(budget / wanted)
        number = number // workers * workers or number  # none of the workers waits for the others
    if number < 2 and finalists is None:
        return 0, 0.0
    if seconds is None:
        seconds = budget / max(1, workers * math.ceil(number / workers))
        if final:
            seconds = min(seconds, final / 4)  # better known than so nobody needs it
    return (number, seconds) if number and seconds else (0, 0.0)
