"""The best of a search with inheritance, trained from scratch: what they are worth without a head
start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nanonas.analysis.record import FINALISTS, finalists_of
from nanonas.core import Budget, Candidate, Evaluation, Evaluator, Proposal, State, Told
from nanonas.engine.ranking import best_networks, ranking
from nanonas.engine.storage.store import RunStore

FINALS_SHARE = 0.15  # of the search's time, for the finalists
_COSTS = ("params", "macs", "latency", "latency_low", "latency_high", "memory")


def finalists(told: Sequence[Told], number: int) -> list[Told]:
    """The best networks of a search, each once, the best first."""
    return best_networks(told)[:number]


def train_finalists(
    chosen: Sequence[Told],
    budget: Budget,
    evaluator: Evaluator,
    store: RunStore,
    deadline: float | None,
    observe: Callable[[Candidate, Evaluation, Evaluation], None],
) -> list[Told]:
    """Trains networks from scratch and returns those that were trained to the end, the best first.

    What came out is an event of the run. Finalists that an earlier session has trained are not
    trained again; nor are those that the search itself has trained so, for the same seed would come
    to the same.

    Args:
        budget: of each of them.
        evaluator: whose workers keep the weights apart from the search's.
        deadline: as of `time.time()`; what runs then counts for nothing.
        observe: called with a finalist, its evaluation in the search, and the one from scratch.
    """
    known = accuracies(store)
    trained = {
        candidate.number: Evaluation(
            candidate.number,
            State.COMPLETE,
            {**_counts(evaluation), "accuracy": known[candidate.number]},
        )
        for candidate, evaluation in chosen
        if candidate.number in known
    }
    for candidate, evaluation in chosen:
        if candidate.number not in trained and from_scratch(candidate, evaluation, budget):
            trained[candidate.number] = evaluation
            store.event(FINALISTS, {"number": candidate.number, "accuracy": evaluation.accuracy})
    for candidate, _ in chosen:
        if candidate.number not in trained:
            scratch = Proposal(candidate.proposal.genome, (candidate.number,), budget)
            evaluator.submit(replace(candidate, proposal=scratch), deadline)
    by_number = {candidate.number: (candidate, evaluation) for candidate, evaluation in chosen}
    for _ in range(len(chosen) - len(trained)):
        result = evaluator.result()
        assert result is not None  # without a time limit there always is one
        candidate, evaluation = by_number[result.number]
        result = replace(result, metrics={**_counts(evaluation), **result.metrics})
        observe(candidate, evaluation, result)
        if result.state is State.COMPLETE and result.accuracy is not None:
            trained[result.number] = result
            store.event(FINALISTS, {"number": result.number, "accuracy": result.accuracy})
    return [
        (by_number[evaluation.number][0], evaluation) for evaluation in ranking(trained.values())
    ]


def from_scratch(candidate: Candidate, evaluation: Evaluation, budget: Budget) -> bool:
    """Whether a search has trained a candidate as a finalist is trained."""
    proposal = candidate.proposal
    return (
        proposal.from_scratch and proposal.budget == budget and evaluation.state is State.COMPLETE
    )


def accuracies(store: RunStore) -> dict[int, float]:
    """The validation accuracy in [0, 1] from scratch of each finalist that a run has had, by
    number.
    """
    return finalists_of(store.events())


def _counts(evaluation: Evaluation) -> dict[str, float]:
    """What a network is, however it is trained."""
    return {name: evaluation.metrics[name] for name in _COSTS if name in evaluation.metrics}
