"""Several objectives at once: dominance, crowding, hypervolume, measured and expected, and who
dominates the most of it.

Everything takes losses, shape (n, objectives), one row a network; lower is better in each column,
infinite is worst, no NaN. A row dominates another when it is nowhere higher and somewhere lower;
equal rows don't dominate each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from nanonas.core import Floats, Integers

# moocore is imported where it is used: it takes as long to start as a third of numpy

_SUBSETS = 5_000  # that are compared one by one: less than a second


def ranks(losses: Floats) -> Integers:
    """Non-dominated sorting: shape (n,). 0 for the front, 1 for the front of the rest, and so on.

    Deb et al. 2002, https://doi.org/10.1109/4235.996017, III.A; O(n log n) for two objectives.
    """
    import moocore

    return np.asarray(moocore.pareto_rank(_places(losses)), dtype=np.int64)


def front(losses: Floats) -> NDArray[np.bool_]:
    """Which rows no row dominates, shape (n,); of equal rows, all."""
    import moocore

    return np.asarray(moocore.is_nondominated(_places(losses), keep_weakly=True), dtype=np.bool_)


def crowding(losses: Floats, ranks: Integers) -> Floats:
    """The crowding distance of each row within its front: shape (n,), 0 or more; infinite at the
    ends of a front.

    The distance between the next lower and the next higher loss of the front, relative to the
    front's range, summed over the objectives; an objective without a finite range above 0 adds
    nothing but its ends. Deb et al. 2002, III.B. Of equal rows all but the first have 0, and the
    distances of the others are computed without them: otherwise copies at an end would all be
    infinite (Fortin & Parizeau 2013, https://doi.org/10.1145/2463372.2463456).

    Args:
        losses: shape (n, objectives).
        ranks: the front that each row is in, shape (n,), as `ranks` returns them.
    """
    distances = np.zeros(len(losses))
    if len(losses) == 0:
        return distances
    # sorted by value, so that ties don't depend on the order of rows
    _, distinct = np.unique(losses, axis=0, return_index=True)
    rank, sums = ranks[distinct], np.zeros(len(distinct))
    for column in losses[distinct].T:
        order = np.lexsort((column, rank))  # front after front, each ascending
        ascending, gaps = column[order], np.zeros(len(order))
        starts = np.flatnonzero(np.diff(rank[order], prepend=-1))
        ends = np.append(starts[1:], len(order)) - 1
        with np.errstate(invalid="ignore"):  # between two infinities
            span = np.repeat(ascending[ends] - ascending[starts], ends - starts + 1)
            gaps[1:-1] = ascending[2:] - ascending[:-2]
        ranged = (span > 0) & np.isfinite(span)
        # A gap at an end leads into another front and may overflow; it becomes infinite anyway.
        with np.errstate(over="ignore"):
            gaps = np.divide(gaps, span, out=np.zeros(len(order)), where=ranged)
        gaps[starts] = gaps[ends] = np.inf
        sums[order] += gaps
    distances[distinct] = sums
    return distances


def hypervolume(losses: Floats, reference: Sequence[float]) -> float:
    """The volume between `reference` and the rows, which they dominate: higher is better.

    Zitzler & Thiele 1998, https://doi.org/10.1007/BFb0056872. Rows that don't lie below the
    reference in every objective add nothing.

    Args:
        losses: shape (n, objectives).
        reference: the worst corner, shape (objectives,).
    """
    import moocore

    inside = losses[(losses < reference).all(axis=1)]
    if len(inside) == 0:
        return 0.0
    if np.isinf(inside).any():
        return float("inf")
    return float(moocore.hypervolume(inside, ref=reference))


def hypervolume_subset(
    losses: Floats, number: int, reference: Sequence[float], first: Sequence[int] = ()
) -> list[int]:
    """The places of the rows that dominate the largest hypervolume together, ascending.

    All subsets are compared where there are at most 5,000. Of more rows they are chosen one by one,
    each the one that adds the most, which is at least 63 % of what the best subset adds (Guerreiro,
    Fonseca & Paquete 2016, https://doi.org/10.1162/EVCO_a_00188). Of equal subsets it is the first.

    Args:
        losses: shape (n, objectives), finite.
        number: of rows, at least as many as `first` has; of fewer rows, all are returned.
        reference: as of `hypervolume`.
        first: places of rows that are among them in any case.
    """
    chosen, others = list(first), [row for row in range(len(losses)) if row not in first]

    def volume(rows: Iterable[int]) -> float:
        """To twelve digits, so that rounding does not decide between equal subsets."""
        return float(f"{hypervolume(losses[[*chosen, *rows]], reference):.12g}")

    more = min(number - len(chosen), len(others))
    if math.comb(len(others), more) <= _SUBSETS:
        return sorted([*chosen, *max(combinations(others, more), key=volume)])
    for _ in range(more):
        left = [row for row in others if row not in chosen]
        chosen.append(max(left, key=lambda row: volume([row])))
    return sorted(chosen)


def expected_improvement(
    mean: Floats, std: Floats, losses: Floats, reference: Sequence[float] | Floats
) -> Floats:
    """By how much each of m candidates is expected to raise the hypervolume of n rows: shape (m,),
    0 or more.

    A candidate's losses are normal and independent; one with a deviation of 0 is known. What lies
    below the reference and is dominated by no row is cut into boxes. What a candidate dominates of
    a box is a product of lengths, one in each objective, so the expectation is a product of partial
    expectations of the normal distribution, and nothing has to be sampled. Emmerich et al. 2006,
    https://doi.org/10.1109/TEVC.2005.859463; by boxes: Yang et al. 2019,
    https://arxiv.org/abs/1904.12672.

    There are up to n^(objectives - 1) boxes.

    Args:
        mean: of the candidates' losses, shape (m, objectives).
        std: their standard deviations, likewise.
        losses: finite, shape (n, objectives).
        reference: the worst corner, shape (objectives,).
    """
    worst = np.asarray(reference, dtype=np.float64)
    inside = losses[(losses < worst).all(axis=1)]
    members = inside[front(inside)]
    below: list[Floats] = []  # of each objective, (edges, m): the first edge is below everything
    places = np.empty(members.shape, dtype=np.int64)  # of members, among the edges
    for objective, column in enumerate(members.T):
        edges, places[:, objective] = np.unique(column, return_inverse=True)
        edges = np.append(edges, worst[objective])
        lengths = _length_below(edges, mean[:, objective], std[:, objective])
        below.append(np.vstack([np.zeros(len(mean)), lengths]))
    return np.maximum(_added(below, places + 1), 0.0)


def _added(below: Sequence[Floats], places: Integers) -> Floats:
    """The expected improvement over members at some places, from how far each of m candidates is
    expected to lie below each edge: shape (m,).

    Slab by slab of the last objective: those that begin below a slab dominate in it as if that
    objective were not there, and the others do not.
    """
    *others, last = below
    if not others:
        nearest: Floats = last[places.min(initial=len(last) - 1)]
        return nearest
    total = np.zeros(last.shape[1])
    for start, end in pairwise([0, *np.unique(places[:, -1]), len(last) - 1]):
        dominating = places[places[:, -1] <= start, :-1]
        total += (last[end] - last[start]) * _added(others, dominating)
    return total


def _length_below(edges: Floats, mean: Floats, std: Floats) -> Floats:
    """How far m normal variables are expected to lie below each edge, where being above counts as
    0: shape (edges, m).

    Jones et al. 1998, https://doi.org/10.1023/A:1008306431147, equation 15.
    """
    from scipy.special import ndtr

    gaps = edges[:, None] - mean
    with np.errstate(invalid="ignore", over="ignore"):  # of a mean that is infinitely bad
        z = gaps / np.where(std > 0, std, 1.0)
        expected = gaps * ndtr(z) + std * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return np.maximum(np.where(std > 0, expected, gaps), 0.0)


def _places(losses: Floats) -> Floats:
    """The place of each loss among the distinct values of its column: finite, and all that
    dominance needs.

    moocore (0.3.2) ranks infinities wrongly with three objectives and more, and minus infinity
    crashes it.
    """
    places = np.empty_like(losses)
    for number, column in enumerate(losses.T):
        places[:, number] = np.unique(column, return_inverse=True)[1]
    return places
