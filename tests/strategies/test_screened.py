"""The screened search beyond the contract of strategies: what is scored, what is learnt, when it
steps aside.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from toys.screened import NANO, Knowing, Nearest, accuracy, screened, train, worth
from toys.session import begun

from nanonas import cli
from nanonas.analysis.findings import Findings
from nanonas.analysis.record import read
from nanonas.bench.table import Answers, Table, TableEvaluator, TableSpace
from nanonas.config.files import configure
from nanonas.config.parts import PREDICTORS, make_strategy
from nanonas.core import (
    Budget,
    Candidate,
    Epoch,
    Evaluation,
    Evaluator,
    Floats,
    Genome,
    Objective,
    Prediction,
    Proposal,
    Pulse,
    State,
    Strategy,
    Told,
    rng_for,
)
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.requests import Request
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Progress, Study
from nanonas.errors import ConfigError, RunError
from nanonas.maths.ranks import Correlation
from nanonas.networks.limits import Limits
from nanonas.predictors.audit import audited, audited_scores
from nanonas.predictors.curves import CurveModel
from nanonas.predictors.ensemble import Ensemble
from nanonas.predictors.gaussian import GaussianProcess
from nanonas.predictors.lstm import LSTM
from nanonas.predictors.normal_scores import NormalScores
from nanonas.spaces.base import Bans
from nanonas.spaces.nano import NanoSpace
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.around.screened import Screened
from nanonas.strategies.evolution import Evolution
from nanonas.terminal import tables
from nanonas.terminal.progress import SearchProgress

BUDGET = Budget(3)


def driven(
    strategy: Screened, total: int, measure: Callable[[Candidate], Evaluation] = train
) -> Iterator[tuple[Candidate, list[Candidate]]]:
    """A search without a study: each candidate, and what was pending when it was asked for."""
    asked: list[Candidate] = []
    told = 0
    for number in range(total):
        while told < strategy.needs(number):
            strategy.tell(Told(asked[told], measure(asked[told]), asked[told].asked_after))
            told += 1
        proposal = replace(strategy.ask(number, rng_for(0, number), asked[told:]), budget=BUDGET)
        asked.append(Candidate(number, proposal, NANO.decode(proposal.genome).key, told))
        yield asked[-1], asked[told:-1]


def chosen(candidate: Candidate) -> bool:
    predicted = candidate.proposal.predicted
    return predicted is not None and predicted.chosen


def complete(candidate: Candidate) -> Evaluation:
    """Trained to its end, without a curve."""
    return Evaluation(
        candidate.number, State.COMPLETE, {"accuracy": accuracy(candidate.proposal.genome)}
    )


# --- purity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Nearest, GaussianProcess], ids=["nearest", "gaussian"])
def test_what_it_keeps_for_speed_is_no_state(make: Callable[[], Any]) -> None:
    strategy = screened(make, lag=3)
    for candidate, pending in driven(strategy, 24):
        number, fresh = candidate.number, pickle.loads(pickle.dumps(strategy))
        for part in (fresh, fresh._surrogate):
            assert part._cache == type(part._cache)()
        without = strategy.ask(number, rng_for(0, number), [])  # leaves other things behind
        for one in (strategy, fresh):
            again = replace(one.ask(number, rng_for(0, number), pending), budget=BUDGET)
            assert again == candidate.proposal
        assert fresh.ask(number, rng_for(0, number), []) == without


@pytest.mark.parametrize(
    ("make", "digest"), [(Nearest, "baa92d7393695390"), (Knowing, "5301bbaa5b73ef2b")]
)
def test_a_search_of_one_objective_proposes_what_it_always_has(
    make: Callable[[], Any], digest: str
) -> None:
    """Runs of earlier versions go on, and are replayed: these genomes were theirs."""
    genomes = [candidate.proposal.genome for candidate, _ in driven(screened(make, lag=3), 30)]
    assert hashlib.sha256(repr(genomes).encode()).hexdigest().startswith(digest)


def test_what_it_counts_as_it_is_told_is_what_all_that_was_told_comes_to() -> None:
    space = NanoSpace((1, 8, 8), 3, channels=2, length=3)  # many genomes, few networks
    strategy = screened(space=space, elite=3, lag=3)
    for _ in driven(strategy, 60, trained_in(space)):
        told = strategy._surrogate.told
        complete = [one for one in told if one.evaluation.state is State.COMPLETE]
        complete.sort(key=lambda one: (-(one.evaluation.accuracy or 0.0), one.number))
        best = {one.candidate.key: one.candidate for one in reversed(complete[:9])}
        elite = sorted(best.values(), key=[one.candidate for one in complete].index)[:3]
        assert strategy._elite() == elite
        parents = Counter(parent for one in told for parent in one.candidate.proposal.parents)
        assert strategy._bred == parents
        assert strategy._genomes == {one.candidate.proposal.genome for one in told}
        assert strategy._networks == {one.candidate.key for one in told}
        assert strategy.trust == audited(told, Objective()).get("nearest")


def trained_in(space: NanoSpace) -> Callable[[Candidate], Evaluation]:
    """As `train`, in a smaller space."""

    def measure(candidate: Candidate) -> Evaluation:
        return train(replace(candidate, proposal=Proposal(candidate.proposal.genome * 2)))

    return measure


# --- the opening ----------------------------------------------------------------------------------


def test_it_opens_with_the_largest_of_some_random_networks() -> None:
    strategy = screened(tournament=5)
    for candidate, _ in driven(strategy, 6, complete):
        rng = rng_for(0, candidate.number)
        networks = {genome: NANO.decode(genome) for genome in (NANO.sample(rng) for _ in range(5))}
        sizes = {
            genome: np.log(network.params) + np.log(network.macs + 1)
            for genome, network in networks.items()
        }
        assert candidate.proposal.genome == max(sizes, key=lambda genome: sizes[genome])
        assert not chosen(candidate)
    assert chosen(
        next(candidate for candidate, _ in driven(screened(), 7) if candidate.number == 6)
    )


def test_the_predictor_learns_during_the_opening_from_four_networks_on() -> None:
    predicted = [candidate.proposal.predicted for candidate, _ in driven(screened(), 6, complete)]
    assert [one is not None for one in predicted] == [False] * 4 + [True] * 2


# --- what is pending, seen, too large -------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"explore": 3.0}, {"reads": "tokens"}])
def test_nothing_is_chosen_that_was_seen_or_is_pending(options: dict[str, Any]) -> None:
    space = NanoSpace((1, 8, 8), 3, channels=2, length=3)  # many genomes, few networks
    strategy = screened(space=space, lag=4, **options)
    seen: Counter[str] = Counter()
    for candidate, _ in driven(strategy, 60, complete_in(space)):
        if chosen(candidate):
            assert candidate.key not in seen
        seen[candidate.key] += 1
    assert sum(seen.values()) == 60


def complete_in(space: NanoSpace) -> Callable[[Candidate], Evaluation]:
    def measure(candidate: Candidate) -> Evaluation:
        found = accuracy(candidate.proposal.genome, space)
        return Evaluation(candidate.number, State.COMPLETE, {"accuracy": found})

    return measure


def test_what_is_pending_counts_as_having_come_out_as_predicted_or_as_the_median() -> None:
    recorder = Nearest()
    strategy = screened(lambda: recorder)
    losses = np.array([-0.1, -0.2, -0.6, -0.4, -0.3, -0.5])
    rng = rng_for(1, 1)
    for number, loss in enumerate(losses):
        candidate = Candidate(number, Proposal(NANO.sample(rng)), str(number))
        strategy.tell(Told(candidate, Evaluation(number, State.COMPLETE, {"accuracy": -loss})))
    waiting = [
        Candidate(6, Proposal(NANO.sample(rng), predicted=Prediction(-0.55, 0.1)), "6"),
        Candidate(7, Proposal(NANO.sample(rng)), "7"),
    ]
    strategy.ask(8, rng_for(0, 8), waiting)
    features, scores = recorder.given[-1]
    scale = NormalScores.of(losses)
    np.testing.assert_allclose(scores, scale.score(np.array([*losses, -0.55, np.median(losses)])))
    np.testing.assert_array_equal(
        features[6:], [NANO.encode(candidate.proposal.genome) for candidate in waiting]
    )


def test_what_is_pending_moves_the_choice_away_from_its_like() -> None:
    table, space = toy()
    strategy = screened(space=space, explore=5.0)  # far from all that is known
    for told in answered(table, range(8)):
        strategy.tell(told)
    first = strategy.ask(8, rng_for(0, 8), [])
    second = strategy.ask(8, rng_for(0, 8), [Candidate(8, first, "8")])
    ranked = by_value(strategy, table, [], explore=5.0)
    assert table.find(first.genome) == ranked[0]
    assert table.find(second.genome) != ranked[0]
    believed = [(first.genome, first.predicted.mean if first.predicted else 0)]
    assert table.find(second.genome) == by_value(strategy, table, believed, explore=5.0)[0]


def test_only_what_is_allowed_is_chosen() -> None:
    def small(genome: Genome) -> bool:
        return NANO.decode(genome).params <= 250

    strategy = screened(allowed=small, samples=20)
    picked = [candidate for candidate, _ in driven(strategy, 40, complete) if chosen(candidate)]
    assert len(picked) > 15
    assert all(small(candidate.proposal.genome) for candidate in picked)
    assert not all(small(c.proposal.genome) for c, _ in driven(screened(), 40, complete))
    for candidate, _ in driven(screened(allowed=lambda genome: False), 20, complete):
        assert not chosen(candidate)  # the study says what is exhausted


# --- what is learnt -------------------------------------------------------------------------------


def learnt(told: list[Evaluation]) -> Floats:
    """The scores that a predictor is given after these evaluations."""
    recorder = Nearest()
    strategy = screened(lambda: recorder)
    for number, evaluation in enumerate(told):
        genome = NANO.sample(rng_for(1, number))
        candidate = Candidate(number, Proposal(genome, budget=BUDGET), str(number))
        strategy.tell(Told(candidate, evaluation))
    strategy.ask(len(told), rng_for(0, 0), [])
    return recorder.given[-1][1]


def test_failures_are_learnt_as_the_worst() -> None:
    reached = {0: 0.3, 1: 0.2, 3: 0.9, 4: 0.5, 6: 0.7}
    told = [
        Evaluation(n, State.COMPLETE, {"accuracy": reached[n]})
        if n in reached
        else Evaluation(n, State.FAILED)
        for n in range(7)
    ]
    losses = np.array([-reached.get(n, 0.2) for n in range(7)])
    np.testing.assert_allclose(learnt(told), NormalScores.of(losses).score(losses))


def test_the_pruned_are_learnt_with_what_their_curves_were_heading_for() -> None:
    def curve(n: int, epochs: int) -> tuple[Epoch, ...]:
        return tuple(
            Epoch(1 / (1 + e + n / 9), (0.05 * n + 0.3) * (e + 1) / 3) for e in range(epochs)
        )

    told = [
        Evaluation(n, State.COMPLETE, {"accuracy": curve(n, 3)[-1].accuracy}, curve(n, 3))
        for n in range(7)
    ]
    told += [Evaluation(7, State.PRUNED, {"accuracy": curve(7, 1)[-1].accuracy}, curve(7, 1))]
    told += [Evaluation(8, State.PRUNED, {"accuracy": 0.2})]  # without a curve: as it is
    model = CurveModel()
    model.fit([curve(n, 3) for n in range(7)])
    expected = model.predict(curve(7, 1), 3)[0]
    assert expected > curve(7, 1)[-1].accuracy + 0.1
    losses = -np.array([*(curve(n, 3)[-1].accuracy for n in range(7)), expected, 0.2])
    np.testing.assert_allclose(learnt(told), NormalScores.of(losses).score(losses))


def test_predictions_are_in_the_unit_of_the_losses() -> None:
    for candidate, _ in driven(screened(Knowing), 30, complete):
        if (predicted := candidate.proposal.predicted) and candidate.number > 15:
            assert -1 < predicted.mean < 0
            assert 0 < predicted.std < 0.5
            assert predicted.by == "knowing"


# --- the audit ------------------------------------------------------------------------------------


def wrapped(strategy: Screened, candidate: Candidate, pending: list[Candidate]) -> Proposal:
    """What the wrapped strategy proposes by itself."""
    return strategy.strategy.ask(candidate.number, rng_for(0, candidate.number), pending)


def test_each_tenth_is_the_wrapped_strategys_own_and_predicted() -> None:
    strategy = screened(Knowing, lag=2)
    for candidate, pending in driven(strategy, 45, complete):
        if candidate.number >= 6:
            assert chosen(candidate) == (candidate.number % 10 != 9)
        if candidate.number >= 6 and not chosen(candidate):
            own = wrapped(strategy, candidate, pending)
            assert replace(candidate.proposal, predicted=None, budget=None) == own
            assert candidate.proposal.predicted is not None
    without = [
        chosen(candidate) for candidate, _ in driven(screened(Knowing, audit_every=0), 25, complete)
    ]
    assert without == [False] * 6 + [True] * 19


def test_a_predictor_that_is_wrong_steps_aside_and_comes_back_when_it_is_right() -> None:
    strategy = screened(partial(Knowing, reversed_until=25), opening=10)
    stood_aside: list[int] = []
    for candidate, pending in driven(strategy, 70, complete):
        if candidate.number >= 10 and strategy.aside:
            stood_aside.append(candidate.number)
            assert not chosen(candidate)
            own = wrapped(strategy, candidate, pending)
            assert replace(candidate.proposal, predicted=None, budget=None) == own
            assert candidate.proposal.predicted is not None
    assert set(range(16, 25)) <= set(
        stood_aside
    )  # ten predictions, from the fourth network on, are a judgement
    assert max(stood_aside) < 65
    assert strategy.trust is not None
    assert strategy.trust.tau > 0
    always = screened(partial(Knowing, reversed_until=1000))
    assert sum(chosen(candidate) for candidate, _ in driven(always, 60, complete)) < 12


def test_a_predictor_that_knows_finds_better_networks() -> None:
    def best(make: Callable[[], Any]) -> float:
        return max(
            accuracy(candidate.proposal.genome)
            for candidate, _ in driven(screened(make), 40, complete)
        )

    unscreened = AgingEvolution(NANO, population_size=6)
    plain: list[Candidate] = []
    for number in range(40):
        plain.append(Candidate(number, unscreened.ask(number, rng_for(0, number), []), ""))
        unscreened.tell(Told(plain[-1], complete(plain[-1])))
    assert best(Knowing) > max(accuracy(candidate.proposal.genome) for candidate in plain)


# --- a space that is enumerated -------------------------------------------------------------------


def toy(rows: int = 60) -> tuple[Table, TableSpace]:
    """Some networks of a small space, with times that make answers arrive out of order."""
    space = NanoSpace((1, 8, 8), 10, channels=2, length=3)
    numbers = np.random.default_rng(0).permutation(512)[:rows]
    genomes = tuple(tuple(map(int, np.unravel_index(number, (8, 8, 8)))) for number in numbers)
    found = np.array([[accuracy(genome, space)] for genome in genomes])
    table = Table(
        "toy",
        space,
        genomes,
        {"val_acc": Answers(found, np.random.default_rng(1).uniform(1, 9, rows), epochs=3)},
    )
    return table, TableSpace(table)


def answered(table: Table, rows: range) -> list[Told]:
    found = table.answers_to().accuracy
    asked = [
        Candidate(n, Proposal(table.genomes[table.rows[row]]), str(n)) for n, row in enumerate(rows)
    ]
    answers = [float(found[table.find(c.proposal.genome) or 0, 0]) for c in asked]
    return [
        Told(c, Evaluation(c.number, State.COMPLETE, {"accuracy": answer}))
        for c, answer in zip(asked, answers, strict=True)
    ]


def by_value(
    strategy: Screened, table: Table, believed: list[tuple[Genome, float]], explore: float = 1.0
) -> list[int]:
    """All untried rows of the table by mean - explore × deviation, best first, by brute force."""
    told = [
        (one.candidate.proposal.genome, strategy.objective.loss(one.evaluation))
        for one in strategy._surrogate.told
    ]
    scale = NormalScores.of(np.array([loss for _, loss in told]))
    model = Nearest()
    losses = np.array([loss for _, loss in [*told, *believed]])
    model.fit(
        np.array([table.space.encode(genome) for genome, _ in [*told, *believed]]),
        scale.score(losses),
    )
    tried = {table.find(genome) for genome, _ in [*told, *believed]}
    untried = [row for row in table.rows if row not in tried]
    mean, std = model.predict(np.array([table.space.encode(table.genomes[row]) for row in untried]))
    return [untried[place] for place in np.argsort(mean - explore * std, kind="stable")]


def test_of_a_small_space_the_best_of_all_untried_networks_is_taken() -> None:
    table, space = toy()
    strategy = screened(space=space, audit_every=0)
    for number, told in enumerate(answered(table, range(30))):
        strategy.tell(told)
        if number >= 8:
            proposal = strategy.ask(number + 1, rng_for(0, number), [])
            assert table.find(proposal.genome) == by_value(strategy, table, [])[0]
            assert proposal.parents == ()


def test_it_finds_every_network_of_a_table_and_each_once(tmp_path: Path) -> None:
    table, space = toy(40)
    with RunStore.begin(tmp_path / "a.db", {"search": {}}) as store:
        Study(space, screened(space=space), TableEvaluator(table), store, BUDGET).run(
            len(table.rows)
        )
        rows = [table.find(candidate.proposal.genome) for candidate in store.candidates()]
    assert sorted(row for row in rows if row is not None) == list(table.rows)


# --- whole runs -----------------------------------------------------------------------------------


def stored(path: Path) -> list[object]:
    with RunStore.read(path) as store:
        return [
            *store.candidates(),
            *(replace(e, seconds=0.0) for _, e in sorted(store.latest().items())),
        ]


def run(
    path: Path,
    strategy: Strategy,
    evaluator: Evaluator,
    space: Any = NANO,
    total: int = 30,
    **more: Any,
) -> None:
    try:
        store = RunStore.resume(path, {"search": {}})
    except RunError:
        store = RunStore.begin(path, {"search": {}})
    with store:
        Study(space, strategy, evaluator, store, BUDGET, seed=3, **more).run(total)


@pytest.mark.parametrize("make", [Nearest, GaussianProcess], ids=["nearest", "gaussian"])
def test_one_worker_or_four_make_the_same_run(tmp_path: Path, make: Callable[[], Any]) -> None:
    table, space = toy()
    for slots in (1, 4):
        evaluator = TableEvaluator(table, slots=slots)
        run(tmp_path / f"{slots}.db", screened(make, space=space, lag=4), evaluator, space)
    assert stored(tmp_path / "1.db") == stored(tmp_path / "4.db")
    assert any(chosen(one) for one in stored(tmp_path / "1.db") if isinstance(one, Candidate))


@pytest.mark.parametrize("at", [0, 5, 11, 19, 23])
def test_a_run_cut_anywhere_resumes_to_the_same_end(tmp_path: Path, at: int) -> None:
    make = partial(screened, lag=3)
    left = iter(range(at))

    def interrupted(candidate: Candidate, pulse: Pulse) -> Evaluation:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return train(candidate)

    limits = Limits(max_params=400)
    run(tmp_path / "whole.db", make(), SerialEvaluator(train, slots=2), total=24, limits=limits)
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path / "cut.db",
            make(),
            SerialEvaluator(interrupted, slots=2),
            total=24,
            limits=limits,
        )
    run(tmp_path / "cut.db", make(), SerialEvaluator(train, slots=3), total=24, limits=limits)
    assert stored(tmp_path / "cut.db") == stored(tmp_path / "whole.db")


# --- what is shown --------------------------------------------------------------------------------


def observed(path: Path, strategy: Screened, total: int) -> list[Progress]:
    seen: list[Progress] = []
    with RunStore.begin(path, {"search": {}}) as store:
        evaluator = SerialEvaluator(lambda candidate, pulse: complete(candidate))
        Study(NANO, strategy, evaluator, store, BUDGET, seed=3).run(total, observe=seen.append)
    return seen


def test_the_progress_line_says_how_the_predictions_come_out_and_who_stands_aside(
    tmp_path: Path,
) -> None:
    seen = observed(tmp_path / "a.db", screened(partial(Knowing, reversed_until=22)), 24)
    told = [progress.told for progress in seen]
    live = SearchProgress(Console(file=io.StringIO()))
    live.begun(begun(evaluations=60))
    said = []
    for progress in seen:
        live.evaluated(progress, ())
        said.append(live._line())
    assert not any("knowing" in line for line in said[:6])  # two predictions say nothing
    for place in (8, 23):
        expected = audited(told[: place + 1], Objective())["knowing"]
        assert f" · knowing {expected}" in said[place]
    aside = [audited(told[: place + 1], Objective()).get("knowing") for place in range(24)]
    assert ["(aside)" in line for line in said] == [
        found is not None and found.worthless for found in aside
    ]
    assert "(aside)" in said[-1]
    later = SearchProgress(Console(file=io.StringIO()))
    later.begun(begun(evaluations=60, told=told[:-1]))
    later.evaluated(seen[-1], ())
    assert f" · knowing {audited(told, Objective())['knowing']} (aside)" in later._line()
    later.begun(begun(evaluations=60, worth=lambda: Correlation(-0.2, -0.4, 0.1, 12)))
    later.evaluated(seen[-1], ())
    assert " · experience τ -0.20 [-0.40, +0.10] of 12 (left out) · " in later._line()


def test_a_run_says_what_ordered_its_networks(tmp_path: Path) -> None:
    run(tmp_path / "a.db", screened(Knowing, lag=3), SerialEvaluator(train), total=24)
    with RunStore.read(tmp_path / "a.db") as store:
        findings = Findings(read(store, store.events(), "a", NANO))
        told = store.told()
    table = tables.audit_table(findings)
    shown = Console(file=io.StringIO(), width=100)
    shown.print(table)
    lines = [line.split(maxsplit=1) for line in shown.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    expected = {**audited(told, Objective()), **audited_scores(told, Objective())}
    assert set(expected) == {"knowing", "params", "macs"}
    assert {name: said.strip() for name, said in lines} == {
        name: str(one) for name, one in expected.items()
    }
    with RunStore.begin(tmp_path / "b.db", {"search": {}}) as store:
        assert tables.audit_table(Findings(read(store, store.events(), "b", NANO))).row_count == 0


# --- the configuration ----------------------------------------------------------------------------


def made(**options: Any) -> Screened:
    strategy = make_strategy(configure(strategy="screened", **options).search, NANO)
    assert isinstance(strategy, Screened)
    return strategy


def test_settings_reach_what_is_made() -> None:
    strategy = made(population=9, lag=4, max_params=300)
    assert isinstance(strategy.strategy, AgingEvolution)
    assert (strategy.strategy.population_size, strategy.strategy.lag) == (9, 4)
    assert strategy.reads == "features"
    sizes = {
        genome: NANO.decode(genome).params
        for genome in (NANO.sample(rng_for(0, n)) for n in range(30))
    }
    assert strategy.allowed is not None
    assert {genome for genome in sizes if strategy.allowed(genome)} == {
        g for g, size in sizes.items() if size <= 300
    }
    assert isinstance(made(screens="evolution").strategy, Evolution)
    kinds = {name: type(made(predictor=name).predictor()) for name in PREDICTORS}
    assert kinds == {"gaussian": GaussianProcess, "ensemble": Ensemble, "lstm": LSTM}
    assert made(predictor="lstm").reads == "tokens"


def test_without_scikit_learn_the_ensemble_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    wanted = (
        f"search --data digits --strategy screened --predictor ensemble --out {tmp_path / 'out'}"
    )
    assert cli.main(wanted.split()) == 2
    said = capsys.readouterr().err
    # before it, what was found of the images may be said, once a process
    assert said.splitlines()[-1] == (
        "nanonas: the ensemble of trees needs scikit-learn: pip install 'nanonas[surrogates]'"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_searches(tmp_path: Path, name: str) -> None:
    strategy = made(predictor=name, population=4)
    small = replace(
        strategy, predictor=quick(name, strategy), proposals=3, elite=2, mutants=3, samples=3
    )
    run(tmp_path / "a.db", small, SerialEvaluator(train), total=12)
    candidates = [one for one in stored(tmp_path / "a.db") if isinstance(one, Candidate)]
    predicted = [c.proposal.predicted for c in candidates if c.proposal.predicted]
    assert {one.by for one in predicted} == {name}
    assert any(one.chosen for one in predicted)
    assert all(np.isfinite([one.mean, one.std]).all() for one in predicted)


def quick(name: str, strategy: Screened) -> Callable[[], Any]:
    less = {"lstm": {"members": 2, "epochs": 10}, "ensemble": {"trees": 10}}.get(name, {})
    return lambda: replace(strategy.predictor(), **less)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opening": 3}, "opening must be 4 or more for a screened search, but is 3"),
        ({"tournament": 0}, "tournament must be 1 or more for a screened search, but is 0"),
        ({"proposals": 0}, "proposals must be 1 or more for a screened search, but is 0"),
        ({"samples": -1}, "samples must be 0 or more for a screened search, but is -1"),
        ({"explore": -0.5}, "explore must be 0 or more for a screened search, but is -0.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        screened(**options)
    assert str(error.value) == message


def test_the_worth_is_not_the_same_for_all() -> None:
    features = np.array([NANO.encode(NANO.sample(rng_for(0, number))) for number in range(30)])
    assert np.ptp(worth(features)) > 0.3


@dataclass
class Script:
    """Requests that come just before the candidate of a number is bred."""

    wishes: dict[int, Request]
    study: Study | None = None
    done: set[str] = field(default_factory=set)

    def waiting(self) -> list[tuple[str, Request]]:
        asked = 0 if self.study is None else len(self.study.store.candidates())
        return [
            (str(n), wish)
            for n, wish in self.wishes.items()
            if n <= asked and str(n) not in self.done
        ]

    def remove(self, name: str) -> None:
        self.done.add(name)


def test_what_is_banned_is_not_chosen_and_may_be_again_later(tmp_path: Path) -> None:
    """Without that, the best of all networks would be proposed, refused and proposed again."""

    def found(wishes: dict[int, Request]) -> list[Candidate]:
        bans, script = Bans(NANO), Script(wishes)
        with RunStore.begin(tmp_path / f"{len(wishes)}.db", {"search": {}}) as store:
            strategy, evaluator = screened(Knowing, banned=bans), SerialEvaluator(train)
            script.study = Study(
                NANO, strategy, evaluator, store, Budget(3), bans=bans, inbox=script
            )
            script.study.run(40)
            return store.candidates()

    used = Counter(
        name
        for candidate in found({})[12:24]
        for name in NANO.operations(candidate.proposal.genome)
    )
    ((liked, _),) = used.most_common(1)
    candidates = found({12: Request("ban", liked), 24: Request("allow", liked)})
    used_there = [liked in NANO.operations(candidate.proposal.genome) for candidate in candidates]
    assert any(used_there[:12])
    assert not any(used_there[12:24])
    assert any(used_there[24:])
    chosen = [
        c.proposal.predicted is not None and c.proposal.predicted.chosen for c in candidates[12:24]
    ]
    assert sum(chosen) >= 8  # and not drawn at random because everything else was refused
