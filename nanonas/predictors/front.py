"""The front of several objectives, and what a network is expected to add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanonas.core import Candidate, Floats, Genome, State
from nanonas.maths.pareto import crowding, expected_improvement, front, ranks
from nanonas.predictors.costs import Costs
from nanonas.predictors.surrogate import Surrogate, stacked

_MARGIN = 0.1  # of the losses' range: so far beyond them nothing is gained any more
_BOXES = 10_000  # that what a front leaves is cut into, at most


@dataclass
class Front:
    """The best trade-offs between an accuracy, which a surrogate predicts, and costs.

    Accuracies count by their rank, as the predictor has learnt them, and costs by their logarithm:
    neither depends on a unit. By rank, costs would stretch where many networks were trained, and
    so draw more there.

    The worst corner of the hypervolume follows what was trained, and lies beyond it by a tenth of
    its range, so that the ends of the front are worth something, too (Ishibuchi et al. 2018,
    https://doi.org/10.1162/evco_a_00226). Its accuracy is the median, for tiny networks that guess
    are on every front, and many candidates would be their like. For some candidates it is that of
    the worst member instead: else the small end of the front would be given up as the median rises.

    Args:
        accuracy: predicts it; it is told every evaluation.
        costs: of the same evaluations.
    """

    accuracy: Surrogate
    costs: Costs
    # of so many that were told: those that can be on a front, and their losses
    _cache: tuple[int, list[Candidate], Floats] | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    @property
    def known(self) -> int:
        """Of how many candidates all losses are known."""
        return len(self._trained()[0])

    def ordered(self) -> list[Candidate]:
        """Those candidates, the best first: by non-dominated sorting and, within a front, by the
        room around them.
        """
        candidates, losses = self._trained()
        rank = ranks(losses)
        return [candidates[place] for place in np.lexsort((-crowding(losses, rank), rank))]

    def improvements(
        self,
        genomes: Sequence[Genome],
        features: Floats,
        pending: Sequence[Candidate],
        whole: bool,
    ) -> Floats:
        """What each of m networks is expected to add to the front's hypervolume: shape (m,).

        Needs `LEAST` candidates whose losses are known.

        Args:
            features: what the surrogate reads of each, shape (m, …).
            pending: the candidates that were asked and not told yet; they count as they are
                expected to come out.
            whole: whether accuracies below the median count, too.
        """
        _, known = self._trained()
        score = self.accuracy.fitted(pending).unit.score
        losses = np.column_stack([score(known[:, 0]), known[:, 1:]])
        if pending:
            waiting = [candidate.proposal.genome for candidate in pending]
            read = stacked([self.accuracy.read(genome) for genome in waiting])
            losses = np.concatenate([losses, self._expected(waiting, read, pending)[0]])
        members = _roomiest(losses[front(losses)])
        worst = losses.max(axis=0) + _MARGIN * np.ptp(losses, axis=0)
        worst[0] = members[:, 0].max() + _MARGIN * np.ptp(losses[:, 0]) if whole else 0.0
        mean, std = self._expected(genomes, features, pending)
        return expected_improvement(mean, std, members, worst)

    def _expected(
        self, genomes: Sequence[Genome], features: Floats, pending: Sequence[Candidate]
    ) -> tuple[Floats, Floats]:
        """Mean and deviation of the losses of m networks, shape (m, objectives) each: the score of
        the accuracy, and the costs.
        """
        mean, std = self.accuracy.fitted(pending).expected(features)
        costs, doubts = self.costs.expected(genomes, features, pending)
        return np.column_stack([mean, costs]), np.column_stack([std, doubts])

    def _trained(self) -> tuple[list[Candidate], Floats]:
        """The candidates that can be on a front, and their losses, (candidates, objectives): of the
        accuracy what it has become, and the costs.

        The pruned are among them only where all were pruned: no size makes up for guessing.
        """
        told = self.accuracy.told
        if self._cache is None or self._cache[0] != len(told):
            losses = np.column_stack([self.accuracy.losses, self.costs.measured(told)])
            known = np.flatnonzero(np.isfinite(losses).all(axis=1)).tolist()
            complete = [n for n in known if told[n].evaluation.state is State.COMPLETE]
            places = complete or known
            self._cache = len(told), [told[n].candidate for n in places], losses[places]
        return self._cache[1:]


def _roomiest(members: Floats) -> Floats:
    """Of a front's losses, (members, objectives), as many as can be cut into boxes, or all: those
    with the most room around them.
    """
    most = int(_BOXES ** (1 / (members.shape[1] - 1)))
    if len(members) <= most:
        return members
    room = crowding(members, np.zeros(len(members), dtype=np.int64))
    return members[np.argsort(-room, kind="stable")[:most]]
