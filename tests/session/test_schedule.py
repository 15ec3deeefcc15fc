"""How a search spends its time, where the user gives the time and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanonas import cli
from nanonas.config.files import configure
from nanonas.config.schema import RunConfig
from nanonas.config.trainings import make_budget, make_rungs
from nanonas.core import (
    MOST_EPOCHS,
    Budget,
    Candidate,
    Evaluation,
    Proposal,
    State,
    Told,
    rng_for,
)
from nanonas.engine.ranking import best_networks
from nanonas.engine.storage.store import RunStore
from nanonas.errors import ConfigError, RunError
from nanonas.networks.cost import DEFAULTS, MOST_ALLOWED, CostModel, allowance, cost_power
from nanonas.runs.folder import RunFolder
from nanonas.session.finalists import STARTUP, accuracies, finalists, finals_seconds
from nanonas.session.listener import Listener
from nanonas.session.schedule import (
    FEWEST,
    FIRST_HORIZON,
    HORIZON,
    SEARCH_SHARE,
    Schedule,
    scheduled,
    spent,
)
from nanonas.session.session import Session
from nanonas.session.setup import Setup, cost_words, read_cost, resolved
from nanonas.session.start import begin, resume
from nanonas.spaces.nano import NanoSpace

CIFAR: dict[str, Any] = {
    "images": 50_000,
    "epoch_images": 45_000,
    "each": 0.8e-3,
    "batch_size": 128,
}
COST = CostModel(DEFAULTS["bfloat16"])


@given(
    total=st.floats(1, 1e6),
    workers=st.integers(1, 64),
    images=st.integers(20, 1_000_000),
    each=st.floats(1e-7, 1.0),
)
@settings(max_examples=300, deadline=None)
def test_whatever_the_time_it_is_shared_out_and_not_overdrawn(
    total: float, workers: int, images: int, each: float
) -> None:
    plan = spent(
        total, workers, images=images, epoch_images=max(2, images // 2), each=each, batch_size=128
    )
    assert 0 <= plan.final_share <= 1 - SEARCH_SHARE or not plan.searches
    assert plan.candidate_seconds > 0
    if plan.searches:
        assert plan.candidates >= FEWEST
        search = (1 - plan.final_share) * total * workers
        trained = plan.candidates * plan.candidate_seconds
        assert trained + plan.finalists * plan.finalist_seconds <= search
        assert plan.finalists == 0 or plan.finalist_seconds >= 2 * plan.candidate_seconds
    else:
        assert plan.candidates == 1
        assert plan.candidate_seconds <= 0.02 * total


def test_a_day_is_mostly_the_searchs() -> None:
    plan = spent(86_400, 2, **CIFAR)
    assert plan.final_share < 0.2
    assert plan.final_epochs == pytest.approx(200)
    assert plan.candidates > 200


def test_where_little_is_enough_the_winner_has_it_and_the_seconds_around_it() -> None:
    few = {**CIFAR, "images": 200, "epoch_images": 180}
    plan = spent(600, 1, **few)
    assert plan.searches
    assert plan.final_epochs == pytest.approx(200)
    assert plan.final_share * 600 == pytest.approx(200 * 200 * few["each"] + STARTUP)


@pytest.mark.parametrize("total", [20, 200])
def test_what_is_too_short_for_a_search_is_the_hand_made_networks(total: float) -> None:
    plan = spent(total, 2, **CIFAR)
    assert not plan.searches
    assert "too short for a search that pays for itself" in str(plan)
    assert "more --time, or --final-share, begins one" in str(plan)
    assert "trained for all of it, about" in str(plan)
    assert "trained for about 0.5 epochs" in str(replace(plan, most_epochs=0.5))


@pytest.mark.parametrize("total", [600, 1800, 8000, 20_000, 86_400])
@pytest.mark.parametrize("final_share", [None, 0.5])
def test_the_winner_is_not_chosen_too_early(total: float, final_share: float | None) -> None:
    plan = spent(total, 2, **CIFAR, final_share=final_share)
    assert plan.searches
    winner = plan.final_share * total * 2**0.75  # seconds of one core
    assert winner <= 31 * max(plan.candidate_seconds, plan.finalist_seconds)
    assert winner <= HORIZON * FIRST_HORIZON * plan.candidate_seconds


def test_half_an_hour_searches() -> None:
    plan = spent(1800, 2, **CIFAR)
    assert plan.candidates >= 59
    assert plan.finalists == 4
    assert plan.final_share == 1 - SEARCH_SHARE
    one = spent(1800, 1, **CIFAR)
    assert one.finalists == 3
    assert spent(1800, 16, **CIFAR).finalists == 6


def test_smaller_images_take_less_and_make_more_candidates_where_there_are_finalists() -> None:
    whole, smaller = (spent(600, 2, **CIFAR, smaller=smaller) for smaller in (False, True))
    assert smaller.candidate_seconds == pytest.approx(0.75**2 * whole.candidate_seconds)
    assert smaller.candidates >= 1.7 * whole.candidates
    alone = (spent(600, 2, **CIFAR, finalists=0, smaller=smaller) for smaller in (False, True))
    assert len({plan.candidate_seconds for plan in alone}) == 1


def test_finalists_that_nobody_wants_are_none() -> None:
    plan = spent(1800, 2, **CIFAR, finalists=0)
    assert (plan.finalists, plan.finalist_seconds) == (0, 0.0)
    given = spent(1800, 2, **CIFAR, finalists=8, finalist_seconds=20.0)
    assert (given.finalists, given.finalist_seconds) == (8, 20.0)


def test_what_is_given_stays() -> None:
    plan = spent(1800, 2, **CIFAR, final_share=0.5, candidate_seconds=30.0)
    assert (plan.final_share, plan.candidate_seconds) == (0.5, 30.0)
    finals = finals_seconds(plan.finalists, plan.finalist_seconds, 2)
    assert plan.candidates == int((0.5 * 1800 - finals - 5) * 2 / (1.15 * 1.2) / 30)
    none = spent(600, 2, **CIFAR, final_share=0.0)
    assert none.final_share == 0
    assert none.candidates > spent(600, 2, **CIFAR).candidates


def test_the_sentence_says_what_becomes_of_the_time() -> None:
    plan = Schedule(1800, 58, 7.04, 4, 85.9, 0.75, 56.8, 2)
    assert str(plan).splitlines() == [
        "30m 00s in all",
        "  4m 07s of search: about 58 candidates, 7.04 s of training each",
        "  3m 23s for the best 4 of them: 85.9 s each, from scratch",
        "  22m 30s for the winner: about 56.8 epochs",
    ]
    assert len(str(replace(plan, finalists=0)).splitlines()) == 3


def test_the_networks_of_a_front_share_the_winners_time() -> None:
    one, three = (spent(1800, 2, **CIFAR, front=front) for front in (1, 3))
    assert three.final_share == one.final_share
    assert three.final_epochs == pytest.approx(one.final_epochs / 3)
    assert str(three).splitlines()[-1] == (
        "  21m 36s for 3 networks of the front, the larger the longer: about "
        f"{three.final_epochs:.3g} epochs of one of middling size"
    )
    day = spent(86_400, 2, **CIFAR, front=3)
    assert day.final_epochs == pytest.approx(200)  # of each
    share = spent(86_400, 2, **CIFAR).final_share  # with the seconds before and after, once
    assert day.final_share == pytest.approx(3 * share, rel=1e-2)
    alone = three.at_most(1)
    assert alone.front == 1
    assert alone.final_epochs == pytest.approx(1800 / 1296 * one.final_epochs)
    assert spent(20, 2, **CIFAR, front=3).front == 1  # without a search there is one network


# --- the configuration ----------------------------------------------------------------------------


def planned(**options: Any) -> tuple[Any, Schedule | None]:
    made = {"data": "digits", "space": "nano", "channels": 4, "device": "cpu", "workers": 1}
    return scheduled(Setup(resolved(configure(**{**made, "cost": cost_words(COST), **options}))))


@pytest.mark.usefixtures("cache")
def test_a_time_alone_becomes_seconds_and_shares() -> None:
    config, plan = planned(time="2m")
    assert plan is not None
    assert config.search.training.candidate_seconds == plan.candidate_seconds
    assert config.search.training.epochs is None
    assert config.search.fidelity.finalists == plan.finalists
    assert config.search.fidelity.finalist_seconds == (plan.finalist_seconds or None)
    assert config.run.final_share == plan.final_share
    again, _ = scheduled(Setup(config))
    assert again == config  # so that a run repeats from its config.yaml


@pytest.mark.usefixtures("cache")
def test_without_a_time_or_a_number_it_is_half_an_hour() -> None:
    config, plan = planned()
    assert plan is not None
    assert config.run.time == plan.total == 1800


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("options", [{"epochs": 2, "time": "1m"}, {"evaluations": 3}], ids=str)
def test_what_needs_no_plan_has_none(options: dict[str, Any]) -> None:
    config, plan = planned(**options)
    assert plan is None
    assert config.search.training.candidate_seconds is None


@pytest.mark.usefixtures("cache")
def test_with_too_little_time_there_is_one_candidate() -> None:
    slow = CostModel({kind: 1e4 * seconds for kind, seconds in COST.coefficients.items()})
    config, plan = planned(time="20s", cost=cost_words(slow))
    assert plan is not None
    assert not plan.searches
    assert config.run.evaluations == 1
    again, repeated = scheduled(Setup(config))
    assert again == config
    assert str(repeated) == str(plan)


def test_a_cost_model_is_kept_in_words() -> None:
    read = read_cost(cost_words(COST), 128)
    assert read.coefficients == pytest.approx(COST.coefficients, rel=1e-3)
    with pytest.raises(ConfigError, match="leave it out, and it is measured"):
        read_cost(("values/norm",), 128)


# --- budgets in seconds ---------------------------------------------------------------------------


def test_budgets_are_bound_by_seconds_where_there_are_some() -> None:
    search = configure(candidate_seconds=8.0, halving=2, rungs=3).search
    assert make_budget(search.training, 10) == Budget(1, seconds=8.0)
    rungs = make_rungs(search, NanoSpace())
    assert [rung.seconds for rung in rungs] == [2.0, 2.0, 4.0]
    assert [(rung.begin, rung.epochs) for rung in rungs] == [(0, 1), (1, 2), (2, 4)]
    assert Budget(1, seconds=8.0).length == "8 s"


@pytest.mark.usefixtures("cache")
def test_a_costly_network_gets_fewer_epochs_for_the_same_seconds() -> None:
    config = resolved(
        configure(data="digits", space="nano", channels=8, device="cpu", cost=cost_words(COST))
    )
    setup = Setup(config)
    trial = setup.trials()[0]
    small, large = setup.space.decode((7, 7, 7, 7)), setup.space.decode((0, 0, 0, 0))
    budget = Budget(1, seconds=0.5)
    epochs = [trial._epochs(network, budget, 1000, False) for network in (small, large)]
    assert epochs[0] > epochs[1]
    assert epochs[1] * 1000 * COST.seconds(large) == pytest.approx(0.5, rel=1e-2)
    assert trial._epochs(small, Budget(1, seconds=1e9), 1000, False) == MOST_EPOCHS
    # what it should have gone on with is missing: all of it
    half = Budget(2, begin=1, seconds=0.25)
    assert trial._epochs(large, half, 1000, False) == pytest.approx(epochs[1])
    assert trial._epochs(large, half, 1000, True) == pytest.approx(epochs[1] / 2)
    with pytest.raises(RunError, match="needs a cost model"):
        replace(trial, cost=None)._epochs(small, budget, 1000, False)


@pytest.mark.usefixtures("cache")
def test_a_costly_network_trains_for_longer_but_sees_fewer_images() -> None:
    config = resolved(
        configure(data="digits", space="nano", channels=8, device="cpu", cost=cost_words(COST))
    )
    setup = Setup(config)
    small, large = setup.space.decode((7, 7, 7, 7)), setup.space.decode((0, 0, 0, 0))
    costs = [COST.seconds(network) for network in (small, large)]
    assert costs[1] > 1.5 * costs[0]
    trial = replace(setup.trials()[0], typical=costs[0])
    seconds = 7000 * costs[0]
    budget = Budget(1, seconds=seconds)
    epochs = [trial._epochs(network, budget, 1000, False) for network in (small, large)]
    assert epochs[0] * 1000 * costs[0] == pytest.approx(seconds)
    assert epochs[0] > epochs[1]
    assert epochs[1] * 1000 * costs[1] > seconds
    assert allowance(1e9, 1.0, 100.0) == MOST_ALLOWED[1]
    assert allowance(1e-9, 1.0, 100.0) == MOST_ALLOWED[0]
    assert allowance(5.0, None, 100.0) == 1


@given(each=st.floats(0.5, 2), typical=st.floats(1e-5, 1e-2), images=st.lists(st.floats(1, 1e8)))
def test_seconds_grow_with_the_cost_between_equal_epochs_and_equal_seconds(
    each: float, typical: float, images: list[float]
) -> None:
    powers = [cost_power(number) for number in sorted(images)]
    assert powers == sorted(powers, reverse=True)  # the longer, the nearer to equal seconds
    assert all(0 <= power <= 1 for power in powers)
    equal_epochs = allowance(each * typical, typical, 100 * typical)
    assert equal_epochs == pytest.approx(each)
    half_an_hour = 2_000_000 * typical  # of a winner: forty epochs of 50,000 images
    assert allowance(each * typical, typical, half_an_hour) == pytest.approx(1)


# --- whole searches -------------------------------------------------------------------------------

TINY = {"data": "digits", "space": "nano", "channels": 3, "length": 4, "device": "cpu"}
SHORT: dict[str, Any] = {
    **TINY,
    "population": 4,
    "lag": 2,
    "candidate_seconds": 0.05,
    "cost": cost_words(COST),
    "final_epochs": 0,
}


def stored(folder: Path) -> list[tuple[Any, ...]]:
    """What was tried, for how long, and what came of it."""
    with RunStore.read(folder / "study.db") as store:
        rows = sorted(store.told(), key=lambda told: told.number)
        return [(t.candidate.proposal, t.evaluation.accuracy, t.evaluation.curve) for t in rows]


@pytest.mark.usefixtures("cache", "quick_measurements")
def test_budgets_in_seconds_give_the_same_search_whatever_the_workers_and_interruptions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**SHORT, "out": tmp_path}
    begin(configure(**options, evaluations=6, workers=1, name="one"))
    begin(configure(**options, evaluations=6, workers=2, name="two"))
    begin(configure(**options, evaluations=3, workers=1, name="again"))
    resume(tmp_path / "again", replace(RunConfig(), evaluations=6, workers=1, final_epochs=0))
    whole = stored(tmp_path / "one")
    assert len(whole) == 6
    assert all(proposal.budget == Budget(1, seconds=0.05) for proposal, _, _ in whole)
    assert stored(tmp_path / "two") == whole == stored(tmp_path / "again")
    capsys.readouterr()
    assert cli.main(["show", str(tmp_path / "one")]) == 0
    assert "0.05 s a candidate" in capsys.readouterr().out


@pytest.mark.usefixtures("cache", "quick_measurements")
def test_with_too_little_time_a_hand_made_network_is_trained(tmp_path: Path) -> None:
    slow = CostModel({kind: 1e4 * seconds for kind, seconds in COST.coefficients.items()})
    outcome = begin(
        configure(
            data="digits",
            max_params=3000,
            device="cpu",
            workers=1,
            time="20s",
            cost=cost_words(slow),
            out=tmp_path,
            name="short",
        )
    )
    assert outcome.best.proposal.ancestor == "residual"
    assert outcome.final is not None
    assert len(stored(tmp_path / "short")) == 1


@pytest.mark.usefixtures("cache", "quick_measurements")
def test_the_best_few_are_trained_for_longer_before_one_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {**SHORT, "finalists": 3, "finalist_seconds": 0.2, "out": tmp_path}
    options |= {"evaluations": 6, "workers": 1}
    whole = begin(configure(**options, name="whole"))
    with RunStore.read(tmp_path / "whole" / "study.db") as store:
        told, known = store.told(), accuracies(store)
    assert set(known) == {one.number for one in best_networks(told)[:3]}
    best = max(known, key=lambda number: (known[number], -number))
    assert whole.best.number == best
    assert whole.evaluation.accuracy == known[best]
    assert (tmp_path / "whole" / "finalists" / f"{best}.safetensors").exists()
    assert cli.main(["show", str(tmp_path / "whole")]) == 0

    begin(configure(**{**options, "evaluations": 3}, name="again"))
    resume(tmp_path / "again", replace(RunConfig(), evaluations=6, workers=2, final_epochs=0))
    with RunStore.read(tmp_path / "again" / "study.db") as store:
        after = accuracies(store)
    assert {number: after[number] for number in known} == known


def test_the_best_hand_made_network_is_a_finalist() -> None:
    def told(number: int, accuracy: float, ancestor: str = "") -> Told:
        proposal = Proposal((number,), ancestor=ancestor)
        evaluation = Evaluation(number, State.COMPLETE, {"accuracy": accuracy})
        return Told(Candidate(number, proposal, str(number)), evaluation)

    bred = [told(number, 0.9 - number / 100) for number in range(4)]
    made = [told(5, 0.5, "plain"), told(6, 0.6, "resnet")]
    assert [one.number for one in finalists([*bred, *made], 3)] == [0, 1, 6]
    assert [one.number for one in finalists([*bred, told(7, 0.895, "split")], 3)] == [0, 7, 1]
    assert [one.number for one in finalists(bred, 3)] == [0, 1, 2]


@pytest.mark.usefixtures("cache", "quick_measurements")
def test_where_there_is_no_search_no_worker_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: Any, **__: Any) -> None:
        raise AssertionError("a short time has none for workers")

    monkeypatch.setattr("nanonas.session.session.WorkerPool", begun)
    options: dict[str, Any] = {**TINY, "evaluations": 1, "workers": 2, "out": tmp_path}
    options |= {"candidate_seconds": 0.05, "finalists": 0, "cost": cost_words(COST)}
    begin(configure(**options, time="30s", final_share=0.5), final=False)
    with pytest.raises(AssertionError, match="none for workers"):
        begin(configure(**options, final_epochs=0))


def test_candidates_see_smaller_images_and_finalists_see_them_whole(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    options = {"candidate_seconds": 2.0, "finalist_seconds": 20.0, "finalists": 2}
    config, plan = planned(time="5m", **options)
    assert config.search.training.candidate_image_size is None  # digits have 8 pixels a side
    monkeypatch.setattr("nanonas.session.schedule.SHRUNK_FROM", 8)
    config, plan = planned(time="5m", **options)
    assert plan is not None
    assert plan.image_size == config.search.training.candidate_image_size == 6
    assert " each at 6×6\n" in str(plan)
    several = {"strategy": "nsga2", "objectives": ("accuracy", "params")}
    for whole in (several, {"halving": 2}, {"inherit": True}):
        config, _ = planned(time="5m", **options, **whole)
        assert config.search.training.candidate_image_size is None


@pytest.mark.usefixtures("cache")
def test_a_smaller_image_is_no_reason_for_less_time() -> None:
    options = {"candidate_seconds": 2.0, "candidate_image_size": 8, "finalist_seconds": 9.0}
    config = resolved(configure(data="digits", cost=cost_words(COST), device="cpu", **options))
    setup = Setup(config)
    assert setup.budget == Budget(1, image_size=8, seconds=2.0)
    assert setup.finals_budget == Budget(1, seconds=9.0)
    whole = setup.space.decode(setup.space.ancestors()["residual"])
    small = setup.space.at(4).decode(setup.space.ancestors()["residual"])
    c = COST.seconds(whole)
    trial = replace(setup.trials()[0], typical=2 * c)
    epochs = trial._epochs(small, setup.budget, 1000, False, whole)
    assert epochs * 1000 * COST.seconds(small) == pytest.approx(2 * allowance(c, 2 * c, 2.0))
    too_large = replace(config.search.training, candidate_image_size=9)
    with pytest.raises(ConfigError, match="the images have 8 pixels on their smaller side"):
        Setup(replace(config, search=replace(config.search, training=too_large))).check()
    with pytest.raises(ConfigError, match="take 8 or less, or leave it out"):
        Setup(resolved(configure(data="digits", candidate_image_size=32, device="cpu"))).check()


@pytest.mark.usefixtures("cache")
def test_finalists_that_are_late_may_take_some_of_the_winners_time(tmp_path: Path) -> None:
    options = {"candidate_seconds": 1.0, "finalists": 2, "cost": cost_words(COST), "out": tmp_path}

    def deadlines(**more: Any) -> tuple[float | None, float | None, float | None]:
        config = resolved(configure(**TINY, **options, time="100s", final_share=0.5, **more))
        with RunStore.begin(tmp_path / str(len(more)) / "study.db", {"search": {}}) as store:
            folder = RunFolder(tmp_path)
            session = Session(Setup(config), store, folder, Listener(), start=1000.0)
            return session._search_deadline(), session._deadline(), session._finals_deadline()

    search = 50 - finals_seconds(2, 4.0, 1)
    assert deadlines(finalist_seconds=4.0, workers=1) == (1000 + search, 1050.0, 1060.0)
    assert deadlines() == (1050.0, 1050.0, 1050.0)


@pytest.mark.usefixtures("cache")
def test_a_candidate_is_given_up_after_many_times_what_is_predicted(tmp_path: Path) -> None:
    def timeout(budget: Budget, **more: Any) -> float | None:
        config = resolved(configure(**TINY, out=tmp_path, workers=1, **more))
        folder = RunFolder(tmp_path / str(len(list(tmp_path.iterdir()))))
        with RunStore.begin(folder.store, {"search": {}}) as store:
            session = Session(Setup(config), store, folder, Listener(), start=0.0)
            setup, trial = session.setup, session.setup.trials()[0]
            genome = setup.space.sample(rng_for(0, 0))
            asked, given = Proposal(genome, budget=budget), config.run.candidate_timeout
            most = session._timeout(trial, given, Candidate(0, asked, ""))
            if most is not None and given is None:
                each = COST.seconds(setup.space.decode(genome))
                train, valid = len(setup.split.train), len(setup.split.valid)
                if budget.seconds is None:
                    expected = budget.epochs * each * (train * budget.share + valid)
                    assert most == pytest.approx(10 * expected + 60, rel=0.01)
                else:
                    assert most >= 10 * budget.seconds + 60
            return most

    cost = {"cost": cost_words(COST)}
    assert timeout(Budget(4, share=0.5), **cost) is not None
    assert timeout(Budget(1, seconds=2.0), **cost) is not None
    assert timeout(Budget(4)) is None
    assert timeout(Budget(4), candidate_timeout=7.0) == 7.0
    assert timeout(Budget(1, seconds=2.0), candidate_timeout=7.0, **cost) == 7.0
