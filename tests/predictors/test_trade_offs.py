"""The front of several objectives, and what networks cost."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
from toys.screened import NANO, Nearest, accuracy

from nanonas.core import (
    Candidate,
    Evaluation,
    Genome,
    Objective,
    Prediction,
    Proposal,
    State,
    Told,
    rng_for,
)
from nanonas.maths.pareto import front, hypervolume
from nanonas.predictors.costs import Costs
from nanonas.predictors.front import Front
from nanonas.predictors.surrogate import Surrogate, stacked

PARAMS, LATENCY = (Objective(name, maximize=False) for name in ("params", "latency"))
GENOMES = [NANO.sample(rng_for(7, number)) for number in range(40)]


def latency(genome: Genome) -> float:
    """In ms: any function of the network that is not its number of parameters."""
    return 1.0 + NANO.decode(genome).macs / 1000 + 0.1 * genome[0]


def told(number: int, state: State = State.COMPLETE, **metrics: float) -> Told:
    """A network of `GENOMES`, as it was measured."""
    genome = GENOMES[number]
    measured = {
        "accuracy": accuracy(genome),
        "params": float(NANO.decode(genome).params),
        "latency": latency(genome),
    }
    candidate = Candidate(number, Proposal(genome), NANO.decode(genome).key)
    return Told(candidate, Evaluation(number, state, measured | metrics))


def trade_offs(costs: list[Objective], known: list[Told]) -> Front:
    accuracies = Surrogate(Nearest, NANO.encode, Objective(), known)
    counts = {"params": attrgetter("params")}
    return Front(accuracies, Costs(costs, counts, NANO.decode, accuracies))


def losses_by_hand(some: list[Told], front: Front) -> Any:
    """Accuracies by rank, parameters by their logarithm: (networks, 2)."""
    score = front.accuracy.fitted([]).unit.score
    accuracies = np.array([-each.evaluation.metrics["accuracy"] for each in some])
    params = [np.log(each.evaluation.metrics["params"]) for each in some]
    return np.column_stack([score(accuracies), params])


def test_what_can_be_counted_is_known_and_the_rest_is_predicted() -> None:
    known = [told(number) for number in range(12)]
    costs = trade_offs([LATENCY, PARAMS], known).costs
    features = stacked([NANO.encode(genome) for genome in GENOMES])
    mean, std = costs.expected(GENOMES, features, [])
    params = [np.log(NANO.decode(genome).params) for genome in GENOMES]
    assert mean[:, 1].tolist() == params
    assert std[:, 1].tolist() == [0.0] * len(GENOMES)
    assert (std[:, 0] > 0).all()
    # `Nearest` expects of what it knows what it knows
    expected = np.log([latency(genome) for genome in GENOMES[:12]])
    np.testing.assert_allclose(mean[:12, 0], expected)


def test_a_pending_network_counts_with_the_cost_that_is_expected_of_it() -> None:
    known = [told(number) for number in range(12)]
    costs = trade_offs([LATENCY], known).costs
    # of the accuracy, which is no latency; the network is one that is known
    waiting = Proposal(GENOMES[3], predicted=Prediction(-0.9, 0.1))
    pending = [Candidate(12, waiting, "12")]
    features = stacked([NANO.encode(GENOMES[3])])
    mean, _ = costs.expected(GENOMES[3:4], features, pending)
    assert mean[0, 0] == pytest.approx(np.log(latency(GENOMES[3])))


def test_the_best_come_first_and_what_was_pruned_or_lost_is_not_among_them() -> None:
    tiny = told(20, State.PRUNED, params=1.0)
    lost = told(21, State.FAILED, params=1.0)
    known = [*(told(number) for number in range(20)), tiny, lost]
    ordered = [candidate.number for candidate in trade_offs([PARAMS], known).ordered()]
    assert sorted(ordered) == list(range(20))
    losses = losses_by_hand(known[:20], trade_offs([PARAMS], known))
    members = set(np.flatnonzero(front(losses)).tolist())
    assert set(ordered[: len(members)]) == members
    ends = {int(losses[:, 0].argmin()), int(losses[:, 1].argmin())}
    assert ends <= set(ordered[:3])
    alone = trade_offs([PARAMS], [told(n, State.PRUNED) for n in range(6)])
    assert len(alone.ordered()) == alone.known == 6


@pytest.mark.parametrize("whole", [True, False])
def test_a_network_promises_the_hypervolume_that_it_would_add(whole: bool) -> None:
    """With a predictor that has no doubt; the worst corner by hand."""

    class Sure(Nearest):
        def predict(self, features: Any) -> tuple[Any, Any]:
            mean, std = super().predict(features)
            return mean, np.zeros_like(std)

    known = [told(number) for number in range(20)]
    accuracies = Surrogate(Sure, NANO.encode, Objective(), known)
    counts = {"params": attrgetter("params")}
    weighed = Front(accuracies, Costs([PARAMS], counts, NANO.decode, accuracies))
    features = stacked([NANO.encode(genome) for genome in GENOMES])
    promised = weighed.improvements(GENOMES, features, [], whole)
    losses = losses_by_hand(known, weighed)
    members = losses[front(losses)]
    beyond = 0.1 * np.ptp(losses, axis=0)
    worst = [0.0, losses[:, 1].max() + beyond[1]]  # the score of the median is 0
    if whole:
        worst[0] = members[:, 0].max() + beyond[0]
    mean, _ = accuracies.fitted([]).expected(features)
    for place, genome in enumerate(GENOMES):
        row = [mean[place], np.log(NANO.decode(genome).params)]
        gained = hypervolume(np.vstack([members, row]), worst) - hypervolume(members, worst)
        assert promised[place] == pytest.approx(gained, abs=1e-9)
    assert (promised[:20] == 0).all()  # they are on the front, or behind it


def test_what_is_pending_leaves_less_to_gain_for_its_like() -> None:
    known = [told(number) for number in range(12)]
    weighed = trade_offs([PARAMS], known)
    features = stacked([NANO.encode(genome) for genome in GENOMES])
    alone = weighed.improvements(GENOMES, features, [], True)
    best = int(alone.argmax())
    pending = [Candidate(12, Proposal(GENOMES[best]), NANO.decode(GENOMES[best]).key)]
    assert weighed.improvements(GENOMES, features, pending, True)[best] < 0.5 * alone[best]


def test_a_front_of_many_objectives_is_cut_into_so_many_boxes_at_most() -> None:
    """Or a candidate would take hours: there are up to n^(objectives - 1) of them."""
    costs = [Objective(f"cost {number}", maximize=False) for number in range(5)]
    rng = np.random.default_rng(0)
    known = [
        told(number, State.COMPLETE, **{cost.name: float(rng.uniform(1, 9)) for cost in costs})
        for number in range(40)
    ]
    accuracies = Surrogate(Nearest, NANO.encode, Objective(), known)
    counted = {cost.name: partial(_any_count, 3.0) for cost in costs}
    weighed = Front(accuracies, Costs(costs, counted, NANO.decode, accuracies))
    features = stacked([NANO.encode(genome) for genome in GENOMES])
    assert np.isfinite(weighed.improvements(GENOMES, features, [], True)).all()


def _any_count(count: float, network: object) -> float:
    return count
