"""The order of evaluations: the best first, and the front of several objectives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanonas.core import (
    Evaluation,
    Objective,
    State,
    Told,
    losses_of,
)
from nanonas.maths.pareto import front


def ranking(evaluations: Iterable[Evaluation]) -> list[Evaluation]:
    """Complete, pruned and cut evaluations with an accuracy, best first; of equals the one with the
    lowest number.

    Those that were measured on shrunk images come after all others. Where a candidate has several
    evaluations, the last one counts.
    """
    latest = {evaluation.number: evaluation for evaluation in evaluations}
    judged = [evaluation for evaluation in latest.values() if evaluation.judged]
    return sorted(
        judged, key=lambda one: ("image_size" in one.metrics, -(one.accuracy or 0.0), one.number)
    )


def best_networks(told: Iterable[Told]) -> list[Told]:
    """The candidates that `ranking` has, the best first, each network once."""
    by_number = {evaluation.number: (candidate, evaluation) for candidate, evaluation in told}
    best: dict[str, Told] = {}
    for evaluation in ranking(evaluation for _, evaluation in by_number.values()):
        candidate, _ = by_number[evaluation.number]
        best.setdefault(candidate.key, (candidate, evaluation))
    return list(best.values())


def front_of(
    evaluations: Sequence[Evaluation], objectives: Sequence[Objective]
) -> list[Evaluation]:
    """The evaluations that none of the others dominates, in the order in which they came.

    What was pruned is among them only where everything was: else guesses of tiny networks would be.
    So it is with what was measured on shrunk images, whose accuracies say nothing beside the
    others'.
    """
    evaluations = [
        evaluation for evaluation in evaluations if "image_size" not in evaluation.metrics
    ] or evaluations
    evaluations = [
        evaluation for evaluation in evaluations if evaluation.state is not State.PRUNED
    ] or evaluations
    members = front(losses_of(evaluations, objectives))
    return [evaluation for evaluation, member in zip(evaluations, members, strict=True) if member]
