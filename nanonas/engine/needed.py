"""Whose weights a search may need to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanonas.core import Candidate, Strategy


def needed(
    strategy: Strategy, untold: Sequence[Candidate], evaluated: Callable[[int], bool]
) -> frozenset[int] | None:
    """The numbers of the candidates whose weights are needed, or may be; None: of any.

    What is not among them never is again, also when the run is resumed: for its strategy is told at
    least as much before it is asked again.

    Args:
        strategy: with what it was told.
        untold: the candidates that were asked, and that it is not told yet.
        evaluated: whether the candidate of a number has its last evaluation; those that have none
            are trained, or trained again, with the weights that they begin with.
    """
    named = strategy.may_need()
    if named is None:
        return None
    begun_with = (
        number
        for candidate in untold
        if not evaluated(candidate.number)
        for number in candidate.proposal.begins_with
    )
    return named.union(begun_with, (candidate.number for candidate in untold))
