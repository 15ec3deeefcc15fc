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
    latest = {evaluated.number: evaluated for evaluated in told}
    return sorted((evaluated for evaluated in latest.values() if evaluated.judged), key=place)


def place(told: Told) -> tuple[bool, float, int]:
    """What `ranking` sorts by: the lower the better."""
    return not told.comparable, -(told.evaluation.accuracy or 0.0), told.number


def best_networks(told: Iterable[Told]) -> list[Told]:
    """As `ranking`, each network once."""
    best: dict[str, Told] = {}
    for ranked in ranking(told):
        best.setdefault(ranked.candidate.key, ranked)
    return list(best.values())


def front_of(told: Sequence[Told], objectives: Sequence[Objective]) -> list[Told]:
    """Those `comparable` ones that no other dominates, in the order in which they came."""
    compared = comparable(told)
    members = front(losses_of([each.evaluation for each in compared], objectives))
    return [each for each, member in zip(compared, members, strict=True) if member]


def comparable(told: Sequence[Told]) -> list[Told]:
    """Those that may be on a front, in the order in which they came.

    Pruned candidates are among them only where all were pruned: otherwise tiny networks that guess
    would be. So are those that were judged on shrunk images, whose accuracies cannot be compared.
    """
    alike = [each for each in told if each.comparable] or list(told)
    return [each for each in alike if each.evaluation.state is not State.PRUNED] or alike
