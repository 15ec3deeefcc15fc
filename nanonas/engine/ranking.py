"""The order of evaluations: the best first, and the front of several objectives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nanonas.core import Objective, State, Told, losses_of
from nanonas.maths.pareto import front


def ranking(told: Iterable[Told]) -> list[Told]:
    """What was judged (complete, pruned or cut, with an accuracy), the best first.

    Ties go to the lowest number. Accuracies on shrunk images come after all others. Where a
    candidate has several evaluations, the last one counts.
    """
    latest = {one.number: one for one in told}
    judged = [one for one in latest.values() if one.judged]
    return sorted(
        judged, key=lambda one: (not one.comparable, -(one.evaluation.accuracy or 0.0), one.number)
    )


def best_networks(told: Iterable[Told]) -> list[Told]:
    """As `ranking`, each network once."""
    best: dict[str, Told] = {}
    for one in ranking(told):
        best.setdefault(one.candidate.key, one)
    return list(best.values())


def front_of(told: Sequence[Told], objectives: Sequence[Objective]) -> list[Told]:
    """What none of the others dominates, in the order in which it came.

    What was pruned is among it only where everything was: else guesses of tiny networks would be.
    So it is with what was judged on shrunk images, whose accuracies say nothing beside the others.
    """
    whole = [one for one in told if one.comparable] or list(told)
    kept = [one for one in whole if one.evaluation.state is not State.PRUNED] or whole
    members = front(losses_of([one.evaluation for one in kept], objectives))
    return [one for one, member in zip(kept, members, strict=True) if member]
