"""The best of a search, trained once more: what they are worth without the weights that they began
with, or when they train for longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from nanonas.analysis.record import finalists_of
from nanonas.core import Budget, Candidate, Evaluation, Evaluator, Proposal, State, Told
from nanonas.engine.evaluators.attempt import Unkept
from nanonas.engine.ranking import best_networks, ranking
from nanonas.engine.storage.events import FINALIST
from nanonas.engine.storage.store import RunStore
from nanonas.errors import RunError

FINALS_SHARE = 0.15  # of the search's time, for finalists that train as long as candidates
FINALS_GRACE = 0.2  # of the winner's time, that finalists may take where they are late
STARTUP = 5.0  # seconds until workers train
OVERHEAD = 1.15  # of a candidate's seconds: validation, building, what is predicted too low
_COSTS = ("params", "macs", "latency", "latency_low", "latency_high", "memory", "flash", "ram")


def finalists(told: Sequence[Told], number: int, expected: Iterable[Told] = ()) -> list[Told]:
    """The best networks of a search, each once, the best first: those of which something is
    expected, then the others by their figures.

    The best hand-made one is the last of them where none is among the best: what was bred from it
    has to be better after a longer training, too.

    Args:
        expected: one candidate for each network of which something is expected, the most first.
    """
    networks = {one.candidate.key: one for one in expected}
    for one in best_networks(told):
        networks.setdefault(one.candidate.key, one)
    ranked = list(networks.values())
    chosen, others = ranked[:number], ranked[number:]
    if any(one.candidate.proposal.ancestor for one in chosen):
        return chosen
    made = next((one for one in others if one.candidate.proposal.ancestor), None)
    return chosen if made is None else [*chosen[:-1], made]


def finals_seconds(number: int, seconds: float, workers: int) -> float:
    """How long so many finalists take, in seconds, each of so many seconds of training."""
    return STARTUP + OVERHEAD * seconds * math.ceil(number / workers)


def train_finalists(
    chosen: Sequence[Told],
    budget: Budget,
    evaluator: Evaluator,
    store: RunStore,
    deadline: float | None,
    observe: Callable[[Candidate, Evaluation, Evaluation], None],
    gone: Collection[int] = (),
) -> list[Told]:
    """Trains networks from scratch and returns those that were trained to the end, the best first.

    What came out is an event of the run. Finalists that an earlier session has trained are not
    trained again; nor are those that the search itself has trained so, for the same seed would come
    to the same.

    Args:
        budget: of each of them.
        evaluator: whose workers keep the weights apart from the search's.
        deadline: as of `time.monotonic()`; what runs then counts for nothing.
        observe: called with a finalist, its evaluation in the search, and the one from scratch.
        gone: the numbers of those that are trained in any case, for their weights were not kept.

    Raises:
        RunError: a finalist's weights, or the store, cannot be written.
    """
    known = accuracies(store)
    by_number = {told.number: told for told in chosen}
    from_search = {number: told.candidate for number, told in by_number.items()}
    scratch = {number: _from_scratch(told.candidate, budget) for number, told in by_number.items()}
    trained: dict[int, Evaluation] = {}
    for number, told in by_number.items():
        if number in gone:
            continue
        if number in known:
            metrics = {**_counts(told.evaluation), "accuracy": known[number]}
            trained[number] = Evaluation(number, State.COMPLETE, metrics)
        elif from_scratch(told, budget):
            trained[number] = told.evaluation
            details = {"number": number, "accuracy": told.evaluation.accuracy}
            store.event(FINALIST, details)
    for number in by_number:
        if number not in trained:
            evaluator.submit(scratch[number], deadline)
    for _ in range(len(chosen) - len(trained)):
        result = evaluator.result()
        assert result is not None  # without a time limit there always is one
        if isinstance(result, Unkept):
            raise RunError(result.reason)
        told = by_number[result.number]
        result = replace(result, metrics={**_counts(told.evaluation), **result.metrics})
        observe(told.candidate, told.evaluation, result)
        if result.state is State.COMPLETE and result.accuracy is not None:
            trained[result.number] = result
            store.event(FINALIST, {"number": result.number, "accuracy": result.accuracy})
    ranked = ranking(Told(scratch[number], trained[number]) for number in trained)
    return [Told(from_search[told.number], told.evaluation) for told in ranked]


def _from_scratch(candidate: Candidate, budget: Budget) -> Candidate:
    """The candidate as a finalist: its network again, beginning without the weights of others."""
    proposal = Proposal(candidate.proposal.genome, (candidate.number,), budget)
    return replace(candidate, proposal=proposal)


def from_scratch(told: Told, budget: Budget) -> bool:
    """Whether a search has trained a candidate as a finalist is trained."""
    proposal, state = told.candidate.proposal, told.evaluation.state
    return proposal.from_scratch and proposal.budget == budget and state is State.COMPLETE


def accuracies(store: RunStore) -> dict[int, float]:
    """The validation accuracy in [0, 1] from scratch of each finalist that a run has had, by
    number.
    """
    return finalists_of(store.events())


def _counts(evaluation: Evaluation) -> dict[str, float]:
    """What a network is, however it is trained."""
    return {name: evaluation.metrics[name] for name in _COSTS if name in evaluation.metrics}
