"""What networks cost, where it is weighed against their accuracy: counted exactly, or predicted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nanonas.core import (
    Candidate,
    Evaluation,
    Floats,
    Genome,
    Objective,
    Told,
    losses_of,
)
from nanonas.networks.network import Network
from nanonas.predictors.surrogate import Surrogate

_LEAST = 1e-12  # of a cost, so that its logarithm is finite
_REMEMBERED = 50_000  # genomes whose counts are kept


@dataclass(frozen=True)
class _Logarithm(Objective):
    """A cost in logarithms: a tenth less is as good a step for a small network as for a large one.

    So a front is as wide from 10,000 to 20,000 parameters as from 1 to 2 millions, and a predictor
    never comes to a cost below 0.
    """

    def loss(self, evaluation: Evaluation) -> float:
        return _logarithm(super().loss(evaluation))


@dataclass
class Costs:
    """The costs of networks as losses, in logarithms: objectives to minimise beside the accuracy.

    What can be counted on a network is known of each; of what has to be measured, a `Surrogate`
    learns from those that were.

    Args:
        objectives: the costs, one or more.
        counts: counts those on a network that can be counted, by name.
        decode: the network of a genome.
        accuracy: the surrogate that they are weighed against; those of the others learn as it does,
            from what it is told.
    """

    objectives: Sequence[Objective]
    counts: Mapping[str, Callable[[Network], float]]
    decode: Callable[[Genome], Network]
    accuracy: Surrogate = field(repr=False)
    _losses: list[_Logarithm] = field(init=False, repr=False)
    _surrogates: dict[str, Surrogate] = field(init=False, repr=False)  # by name, of the others
    # counted before, by name and genome, in logarithms
    _cache: dict[tuple[str, Genome], float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._losses = [_Logarithm(cost.name, cost.maximize) for cost in self.objectives]
        given = self.accuracy
        self._surrogates = {
            loss.name: Surrogate(given.predictor, given.read, loss, given.told, in_proposals=False)
            for loss in self._losses
            if loss.name not in self.counts
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def measured(self, told: Sequence[Told]) -> Floats:
        """Of n candidates, shape (n, costs); infinite where nothing was measured."""
        return losses_of([each.evaluation for each in told], self._losses)

    def expected(
        self, genomes: Sequence[Genome], features: Floats, pending: Sequence[Candidate]
    ) -> tuple[Floats, Floats]:
        """Mean and deviation of the costs of m networks, shape (m, costs) each; the deviation of a
        count is 0.

        Args:
            features: what was read of each genome, shape (m, …).
            pending: the candidates that were asked and not told yet.
        """
        mean = np.zeros((len(genomes), len(self.objectives)))
        std = np.zeros_like(mean)
        for column, loss in enumerate(self._losses):
            if loss.name in self.counts:
                mean[:, column] = [self._counted(loss.name, genome) for genome in genomes]
            else:
                model = self._surrogates[loss.name].fitted(pending)
                mean[:, column], std[:, column] = model.expected_losses(features)
        return mean, std

    def _counted(self, name: str, genome: Genome) -> float:
        """The logarithm of a count; infinite for a network that has none."""
        if len(self._cache) > _REMEMBERED:
            self._cache.clear()
        if (name, genome) not in self._cache:
            count = self.counts[name](self.decode(genome))
            self._cache[name, genome] = _logarithm(count)
        return self._cache[name, genome]


def _logarithm(cost: float) -> float:
    return float(np.log(max(cost, _LEAST)))
