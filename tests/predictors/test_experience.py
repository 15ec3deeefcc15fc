"""What other runs have learnt: read into a prior, heeded as far as it is borne out, and dropped
where it is worth nothing.
"""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from toys.screened import NANO, accuracy, screened

from nanonas.config.files import configure
from nanonas.config.parts import Past, make_prior, make_strategy
from nanonas.core import Budget, Candidate, Evaluation, Floats, Genome, State, Told, rng_for
from nanonas.maths.ranks import Correlation, kendall
from nanonas.networks.limits import Limits
from nanonas.predictors.experience import MOST, Lean, PastRun, Prior, Task, Trained, useless
from nanonas.predictors.gaussian import GaussianProcess
from nanonas.spaces.nano import NanoSpace
from nanonas.spaces.stages.space import StagesSpace
from nanonas.strategies.around.screened import screened_in

TASK = Task(NANO.input_shape, NANO.classes, 1000, 5000)


def past_run(seed: int, number: int = 40, task: Task = TASK, shuffled: bool = False) -> PastRun:
    """A run over `NANO` that has tried random networks."""
    rng = np.random.default_rng(seed)
    genomes = [NANO.sample(rng) for _ in range(number)]
    accuracies = [accuracy(genome) for genome in genomes]
    if shuffled:
        rng.shuffle(accuracies)
    networks = tuple(Trained(g, a, 1.0) for g, a in zip(genomes, accuracies, strict=True))
    options = {"channels": 2, "length": 6}
    return PastRun(f"run {seed}", "nano", options, task, networks)


def reference() -> Floats:
    rng = np.random.default_rng(0)
    return np.array([NANO.encode(NANO.sample(rng)) for _ in range(60)])


def prior_of(*runs: PastRun, task: Task = TASK) -> Prior:
    return Prior(runs, task, NANO.adopted, NANO.encode, NANO.groups, reference)


def drawn(number: int, seed: int = 99) -> tuple[list[Genome], Floats, Floats]:
    """Random networks that no run has tried: genomes, features and losses."""
    rng = np.random.default_rng(seed)
    genomes = [NANO.sample(rng) for _ in range(number)]
    losses = np.array([-accuracy(genome) for genome in genomes])
    return genomes, np.array([NANO.encode(genome) for genome in genomes]), losses


# --- the prior ------------------------------------------------------------------------------------


def test_what_other_runs_learnt_orders_networks_that_none_has_tried() -> None:
    _, features, losses = drawn(40)
    assert kendall(prior_of(past_run(1), past_run(2)).scores(features), losses).low > 0.3


def test_nearer_tasks_count_for_more() -> None:
    """Of two runs that say the opposite, the one whose task is this one's is believed."""
    far = Task((3, 64, 64), 100, 500_000, 5_000_000)
    right, wrong = past_run(1), past_run(1, task=far)
    losses = [-one.accuracy for one in wrong.networks]
    reverse = tuple(
        replace(one, accuracy=1 + loss) for one, loss in zip(wrong.networks, losses, strict=True)
    )
    wrong = replace(wrong, networks=reverse)
    _, features, measured = drawn(40)
    for runs in ((right, wrong), (wrong, right)):
        assert kendall(prior_of(*runs).scores(features), measured).tau > 0.3


def test_the_scale_of_accuracies_does_not_matter() -> None:
    run = past_run(1)
    lower = replace(run, networks=tuple(replace(n, accuracy=n.accuracy**3) for n in run.networks))
    _, features, _ = drawn(10)
    np.testing.assert_allclose(prior_of(run).scores(features), prior_of(lower).scores(features))


def test_genomes_that_are_none_any_more_are_passed_over() -> None:
    run = past_run(1)
    strange = (Trained((99,), 0.9, 1.0), *run.networks)
    _, features, _ = drawn(5)
    assert np.isfinite(prior_of(replace(run, networks=strange)).scores(features)).all()
    nothing = prior_of(replace(run, networks=strange[:1]))
    assert (nothing.scores(features) == 0).all()
    assert nothing.best(3) == []


def test_the_best_are_each_named_once_the_best_first() -> None:
    run = past_run(1)
    prior = prior_of(run, replace(run, run="again"))
    best = prior.best(5)
    assert len(set(best)) == 5
    assert np.mean([accuracy(one) for one in best]) > np.mean([n.accuracy for n in run.networks])
    scores = prior.scores(np.array([NANO.encode(one) for one in best]))
    assert (np.diff(scores) >= 0).all()


def test_no_more_networks_are_read_than_are_learnt_from() -> None:
    read = []

    def encode(genome: Genome) -> Floats:
        read.append(genome)
        return NANO.encode(genome)

    runs = [past_run(seed, 90) for seed in range(5)]
    prior = Prior(runs, TASK, NANO.adopted, encode, NANO.groups, reference)
    prior.best(1)
    assert len(read) == MOST
    assert read[0] == runs[-1].networks[0].genome  # the latest of equally near ones


def test_noise_is_known_before_anything_is_trained() -> None:
    def worth(*runs: PastRun) -> Correlation | None:
        return prior_of(*runs).worth

    assert useless(worth(*(past_run(seed, shuffled=True) for seed in range(3))))
    assert useless(worth(past_run(4, 60, shuffled=True)))
    for runs in ([past_run(0)], [past_run(0), past_run(1)], [past_run(seed) for seed in range(7)]):
        found = worth(*runs)
        assert found is not None
        assert found.low > 0.1
    assert worth(past_run(0, 9)) is None
    search = configure(space="nano", channels=2, length=6, experience=True).search
    noise = tuple(past_run(seed, shuffled=True) for seed in range(3))
    prior = make_prior(search, NANO, Past(noise, TASK))
    assert prior is not None
    screened = screened_in(make_strategy(search, NANO, prior=prior))
    assert screened is not None
    assert screened.prior is None


# --- leaning on it --------------------------------------------------------------------------------


def test_the_weight_goes_from_belief_to_what_is_seen() -> None:
    rng = np.random.default_rng(0)
    expected = rng.normal(size=60)

    def weight(scores: Floats) -> float:
        return Lean.of(lambda features: features[:, 0], expected[: len(scores)], scores).weight

    assert weight(expected) == 1
    assert weight(3 * expected) == 1  # never more
    assert weight(-expected) == 0
    assert weight(-expected[:3]) > 0.3  # a few networks are no proof
    assert weight(rng.normal(size=60)) < 0.4
    assert Lean.of(lambda features: features[:, 0], np.ones(5), np.arange(5.0)).centre == 1


def test_when_it_is_left_out() -> None:
    assert not useless(None)
    assert not useless(Correlation(-0.5, -1, 0.1, 9))
    assert useless(Correlation(-0.1, -0.6, 0.4, 10))
    assert not useless(Correlation(0.1, -0.1, 0.3, 29))
    assert useless(Correlation(0.1, -0.1, 0.3, 30))
    assert not useless(Correlation(0.3, 0.1, 0.5, 100))


# --- in a search ----------------------------------------------------------------------------------


def searched(prior: Prior | None, number: int, seed: int = 0) -> list[float]:
    """The accuracies of a search over `NANO`, in order."""
    strategy = screened(GaussianProcess, prior=prior)
    found: list[float] = []
    for place in range(number):
        proposal = replace(strategy.ask(place, rng_for(seed, place), []), budget=Budget(3))
        candidate = Candidate(place, proposal, NANO.key(proposal.genome), place)
        found.append(accuracy(proposal.genome))
        told = Evaluation(place, State.COMPLETE, {"accuracy": found[-1]})
        strategy.tell(Told(candidate, told, place))
    return found


def test_a_search_begins_better_with_experience() -> None:
    prior = prior_of(past_run(1), past_run(2))
    with_it = [np.mean(searched(prior, 6, seed)) for seed in range(3)]
    without = [np.mean(searched(None, 6, seed)) for seed in range(3)]
    assert min(with_it) > max(without)


def test_poisoned_experience_is_dropped_and_costs_little() -> None:
    poisoned = prior_of(*(past_run(seed, shuffled=True) for seed in range(3)))
    strategy = screened(GaussianProcess, prior=poisoned)
    genomes, _, losses = drawn(40, seed=7)
    for place, (genome, loss) in enumerate(zip(genomes, losses, strict=True)):
        proposal = replace(strategy.ask(place, rng_for(0, place), []), genome=genome)
        candidate = Candidate(place, replace(proposal, budget=Budget(3)), NANO.key(genome), place)
        strategy.tell(Told(candidate, Evaluation(place, State.COMPLETE, {"accuracy": -loss})))
    assert useless(strategy.worth)
    plain = screened(GaussianProcess)
    for told in strategy._surrogate.told:
        plain.tell(told)
    assert strategy.ask(40, rng_for(0, 40), []) == plain.ask(40, rng_for(0, 40), [])


def test_what_is_asked_for_depends_on_what_was_told_alone() -> None:
    prior = prior_of(past_run(1))
    strategy = screened(GaussianProcess, prior=prior)
    for place in range(14):
        fresh = pickle.loads(pickle.dumps(strategy))
        proposal = strategy.ask(place, rng_for(0, place), [])
        assert fresh.ask(place, rng_for(0, place), []) == proposal
        candidate = Candidate(place, replace(proposal, budget=Budget(3)), "", place)
        reached = {"accuracy": accuracy(proposal.genome)}
        strategy.tell(Told(candidate, Evaluation(place, State.COMPLETE, reached)))


# --- which searches begin with it -----------------------------------------------------------------


def stages_past() -> tuple[Past, StagesSpace]:
    """A run on 32×32 pixels in colour, and the space for 8×8 in grey."""
    colour = StagesSpace((3, 32, 32), 10, limits=Limits(max_params=100_000))
    genomes = [*colour.ancestors().values()]
    genomes += [colour.sample(np.random.default_rng(seed)) for seed in range(6)]
    networks = tuple(Trained(g, 0.9 - 0.02 * n, 1.0) for n, g in enumerate(genomes))
    run = PastRun("one", "stages", {}, Task((3, 32, 32), 10, 45_000, 90_000), networks)
    grey = StagesSpace((1, 8, 8), 10, limits=Limits(max_params=50_000))
    return Past((run,), Task((1, 8, 8), 10, 1300, 9000)), grey


def test_networks_for_other_images_become_ones_for_these() -> None:
    past, space = stages_past()
    for network in past.runs[0].networks:
        adopted = space.decode(space.adopted(network.genome, (3, 32, 32)))
        assert 0.7 * 50_000 < adopted.params <= 50_000
        assert min(node.shape[-1] for node in adopted.nodes if len(node.shape) == 3) >= 1
    own = space.sample(np.random.default_rng(3))
    assert space.decode(space.adopted(own, (1, 8, 8))).key == space.decode(own).key


def test_the_first_generation_begins_with_what_is_expected_to_be_best() -> None:
    past, space = stages_past()
    search = configure(space="stages", max_params=50_000, experience=True).search
    strategy = make_strategy(search, space, prior=make_prior(search, space, past))
    pending: list[Candidate] = []
    for number in range(9):
        proposal = strategy.ask(number, rng_for(0, number), pending)
        pending.append(Candidate(number, proposal, space.key(proposal.genome)))
    assert all(one.proposal.ancestor or one.proposal.recalled for one in pending)
    assert sum(one.proposal.recalled for one in pending) > 0
    assert len({one.key for one in pending}) == 9
    prior = make_prior(search, space, past)
    assert prior is not None
    scores = prior.scores(np.array([space.encode(one.proposal.genome) for one in pending]))
    assert (np.diff(scores) >= 0).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"experience": False},
        {"strategy": "random"},
        {"objectives": ("accuracy", "params")},
        {"space": "layers"},
    ],
    ids=str,
)
def test_which_searches_have_no_use_for_it(settings: dict[str, object]) -> None:
    past, space = stages_past()
    search = configure(**{"space": "stages", "experience": True, **settings}).search
    assert make_prior(search, space, past) is None


def test_options_of_a_space_make_it_another() -> None:
    search = configure(space="nano", channels=2, length=6, experience=True).search
    past = Past((past_run(1),), TASK)
    assert make_prior(search, NANO, past) is not None
    other = configure(space="nano", channels=4, length=6, experience=True).search
    assert make_prior(other, NanoSpace((1, 8, 8), 3, channels=4, length=6), past) is None
