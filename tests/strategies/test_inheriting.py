"""Who inherits what, and who gets a twin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from toys.halving import RUNGS, SPACE, driven, measured, wrapped

from nanonas.analysis.twins import HeadStart, head_start, twins
from nanonas.core import Budget, Candidate, Evaluation, Genome, Shape, State, Strategy, Told
from nanonas.engine.evaluators.serial import SerialEvaluator
from nanonas.engine.storage.store import RunStore
from nanonas.engine.study import Study
from nanonas.errors import ConfigError
from nanonas.networks.network import Network
from nanonas.spaces.nano import NanoSpace
from nanonas.strategies.aging import AgingEvolution
from nanonas.strategies.around.halving import Halving
from nanonas.strategies.around.inheriting import Inheriting

HALF = Budget(3)


def scored(candidate: Candidate) -> Evaluation:
    """As `measured`, whatever the budget: those that inherit are a tenth better."""
    budget = candidate.proposal.budget or Budget(9)
    full = Candidate(
        candidate.number,
        type(candidate.proposal)(candidate.proposal.genome, budget=budget),
        candidate.key,
    )
    evaluation = measured(full)
    if evaluation.state is State.COMPLETE and candidate.proposal.inherits:
        metrics = {**evaluation.metrics, "accuracy": evaluation.metrics["accuracy"] + 0.1}
        return Evaluation(candidate.number, State.COMPLETE, metrics, evaluation.curve)
    return evaluation


def found(told: list[Told]) -> HeadStart | None:
    return head_start(twins(told))


@pytest.mark.parametrize("name", ["aging", "evolution", "nsga2"])
def test_children_inherit_from_all_parents_that_have_weights(name: str) -> None:
    asked, evaluations, told = driven(
        Inheriting(wrapped()[name], HALF, audit_share=0.0), 80, scored
    )
    heirs = 0
    for candidate, count in zip(asked, told, strict=True):
        proposal = candidate.proposal
        trained = {e.number for e in evaluations[:count] if e.accuracy is not None}
        assert set(proposal.inherits) == {
            parent for parent in proposal.parents if parent in trained
        }
        assert proposal.budget == (HALF if proposal.inherits else None)
        heirs += bool(proposal.inherits)
    assert heirs > 30


def test_every_so_many_th_heir_has_one_twin_from_scratch() -> None:
    asked, evaluations, _ = driven(
        Inheriting(AgingEvolution(SPACE, population_size=9, lag=4), HALF, 0.25), 120, scored
    )
    heirs = [
        c
        for c in asked[:110]
        if c.proposal.inherits and evaluations[c.number].state is State.COMPLETE
    ]
    twins = [
        c
        for c in asked
        if len(c.proposal.parents) == 1 and c.key == asked[c.proposal.parents[0]].key
    ]
    early = [
        c.proposal.parents[0] for c in twins if c.proposal.parents[0] < 110
    ]  # their twins have all been asked for
    assert early == [heir.number for heir in heirs[3::4]][: len(early)]
    assert len(early) >= len(heirs) // 4 - 1
    assert all(not c.proposal.inherits and c.proposal.budget is None for c in twins)
    bias = found(list(map(Told, asked, evaluations)))
    assert bias is not None
    assert bias.correlation.n == sum(evaluations[c.number].state is State.COMPLETE for c in twins)
    gains = [
        evaluations[c.proposal.parents[0]].metrics["accuracy"]
        - evaluations[c.number].metrics["accuracy"]
        for c in twins
        if evaluations[c.number].state is State.COMPLETE
    ]
    assert bias.mean == pytest.approx(np.mean(gains))
    assert bias.error == pytest.approx(np.std(gains, ddof=1) / len(gains) ** 0.5)


def test_no_share_has_no_twins_and_no_bias_to_report() -> None:
    asked, evaluations, _ = driven(Inheriting(wrapped()["aging"], HALF, 0.0), 60, scored)
    assert len({c.key for c in asked}) == len(asked)
    assert found(list(map(Told, asked, evaluations))) is None


def test_on_the_rungs_of_halving_heirs_and_twins_begin_alike() -> None:
    asked, _, _ = driven(Halving(Inheriting(wrapped()["aging"], HALF, 0.25), RUNGS), 150, scored)
    fresh = [c for c in asked if c.proposal.resumes is None]
    twins = [
        c
        for c in fresh
        if len(c.proposal.parents) == 1 and c.key == asked[c.proposal.parents[0]].key
    ]
    assert twins
    assert any(c.proposal.inherits for c in fresh)
    assert all(c.proposal.budget == RUNGS[0] for c in fresh)
    assert len({c.identity for c in asked}) == len(asked)


def test_a_share_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"audit_share must lie in \[0, 1\], but is 2"):
        Inheriting(wrapped()["random"], None, 2)


@dataclass(frozen=True)
class Twofold:
    """The nano space with a gene more that has no effect: two genomes a network."""

    nano: NanoSpace = replace(SPACE, length=2)  # noqa: RUF009 - frozen, too
    name: str = "twofold"
    input_shape: Shape = SPACE.input_shape
    classes: int = SPACE.classes

    def sample(self, rng: np.random.Generator) -> Genome:
        return (*self.nano.sample(rng), int(rng.integers(2)))

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        return (*self.nano.mutate(genome[:-1], rng), int(rng.integers(2)))

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> Genome:
        return (*self.nano.crossover(a[:-1], b[:-1], rng), b[-1])

    def decode(self, genome: Genome) -> Network:
        return self.nano.decode(genome[:-1])


@pytest.mark.parametrize("halving", [False, True])
def test_a_network_that_was_trained_from_scratch_already_gets_no_twin_and_stops_nobody(
    tmp_path: Path, halving: bool
) -> None:
    space = Twofold()
    strategy: Strategy = Inheriting(AgingEvolution(space, population_size=9, lag=3), HALF, 0.5)  # type: ignore[arg-type]
    if halving:
        strategy = Halving(strategy, RUNGS, lag=3)
    with RunStore.begin(tmp_path / "study.db", {}) as store:
        evaluator = SerialEvaluator(lambda candidate, pulse: scored(candidate), slots=3)
        Study(space, strategy, evaluator, store, Budget(9)).run(evaluations=45)  # type: ignore[arg-type]
        asked = [
            candidate for candidate in store.candidates() if candidate.proposal.resumes is None
        ]
    assert all(
        c.proposal.parents for c in asked if c.number >= 9
    )  # bred, and not drawn because nothing else was left
    twins = [c for c in asked if c.proposal.parents and not c.proposal.inherits]
    assert len(twins) > 4
    scratch = [c.key for c in asked if not c.proposal.inherits]
    assert len(set(scratch)) == len(scratch)
