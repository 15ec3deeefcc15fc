"""What other runs have learnt of networks, as a beginning for one that has learnt nothing yet."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nanonas.core import Floats, Genome, Shape
from nanonas.errors import GenomeError
from nanonas.maths.ranks import Correlation, kendall
from nanonas.predictors.gaussian import GaussianProcess
from nanonas.predictors.normal_scores import NormalScores

MOST = 300  # networks that a prior is fitted to: it is there within a second
_FOLDS = 5  # of the networks, each of which is foretold from the others
_BELIEVED = 8  # networks trained here that experience weighs as much as
_CERTAIN = 30  # pairs from which on an order has to be better than chance for certain


@dataclass(frozen=True)
class Task:
    """What networks were trained for."""

    input_shape: Shape  # (C, H, W)
    classes: int
    train_images: int  # that are trained on
    seen: int  # images, repeated ones too, in the training of a network of middling cost

    @property
    def features(self) -> Floats:
        """The task in numbers, shape (5,), in which 1 is a large difference."""
        channels, height, width = self.input_shape
        return np.array(
            [
                math.log2(min(height, width)) / 2,
                math.log2(self.classes) / 2,
                math.log10(self.train_images) / 1.5,
                math.log10(self.seen) / 1.5,
                float(channels > 1),
            ]
        )


@dataclass(frozen=True)
class Trained:
    """What became of one network."""

    genome: Genome
    accuracy: float  # on validation images, in [0, 1]
    seconds: float  # that it took


@dataclass(frozen=True)
class PastRun:
    """What one run has learnt of networks that all were trained alike."""

    run: str  # names it, and no other run
    space: str
    options: Mapping[str, int]  # of the space, that decide how a genome reads
    task: Task
    networks: tuple[Trained, ...]

    @property
    def scores(self) -> Floats:
        """The `NormalScores` of the losses among the run's own, (networks,): comparable between
        tasks, as accuracies are not.
        """
        losses = np.array([-network.accuracy for network in self.networks])
        return NormalScores.of(losses).score(losses)


@dataclass
class Prior:
    """What is expected of networks before any was trained here.

    The networks of other runs are made ones for these images and limits (`adopt`), and a Gaussian
    process learns their scores, from the network's features and the task's. So what held for tasks
    like this one counts for more; how much, and what of networks matters, it learns. Of more than
    `MOST` networks, those of the nearest tasks count, and of these runs the latest.

    Args:
        runs: of the same space with the same options, the oldest first; one or more.
        task: that is expected for.
        adopt: a genome of another task, for images of a shape, as one of this task; raises
            `GenomeError`.
        read: what is read of a genome: features in groups, `Space.encode`.
        groups: how many features each group has.
        reference: features of random networks, as `GaussianProcess` has them.
    """

    runs: Sequence[PastRun]
    task: Task
    adopt: Callable[[Genome, Shape], Genome]
    read: Callable[[Genome], Floats]
    groups: Sequence[int]
    reference: Callable[[], Floats]
    _learnt: _Learnt | None = field(default=None, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_learnt": None}

    def scores(self, features: Floats) -> Floats:
        """The expected score of the loss of m networks, (m,): lower is better, and 0 a network like
        others; `features` has the shape (m, features).
        """
        learnt = self._fitted()
        if learnt.model is None:
            return np.zeros(len(features))
        return learnt.model.predict(self._with(self.task, features))[0]

    @property
    def worth(self) -> Correlation | None:
        """How the runs order their own networks, each fifth of them as the others say; None where
        there are fewer than 10.

        So experience that is noise, such as that of a run whose labels were wrong, is known before
        anything is trained.
        """
        return self._fitted().worth

    @property
    def foretells_itself(self) -> bool:
        """Whether the runs order their own networks well enough to be heeded from the start."""
        return not useless(self.worth)

    def best(self, number: int) -> list[Genome]:
        """The networks of other runs of which most is expected here, the best first: each once, up
        to `number`.
        """
        learnt = self._fitted()
        if learnt.model is None:
            return []
        order = np.argsort(self.scores(learnt.features), kind="stable")
        return list(dict.fromkeys(learnt.genomes[place] for place in order))[:number]

    def _fitted(self) -> _Learnt:
        if self._learnt is None:
            self._learnt = self._fit()
        return self._learnt

    def _fit(self) -> _Learnt:
        genomes: list[Genome] = []
        rows: list[Floats] = []
        tasks: list[Floats] = []
        scores: list[float] = []
        for run in self._nearest():
            for network, score in zip(run.networks, run.scores, strict=True):
                if len(genomes) == MOST:
                    break
                try:
                    genome = self.adopt(network.genome, run.task.input_shape)
                    rows.append(self.read(genome))
                except GenomeError:  # of a space that has changed since
                    continue
                genomes.append(genome)
                tasks.append(run.task.features)
                scores.append(float(score))
        if not genomes:
            return _Learnt([], np.zeros((0, 0)), None, None)
        features, reference = np.array(rows), self._with(self.task, self.reference())
        model = GaussianProcess((*self.groups, len(tasks[0])), reference)
        both, wanted = np.column_stack([features, np.array(tasks)]), np.array(scores)
        model.fit(both, wanted)
        return _Learnt(genomes, features, model, _agreement(model, both, wanted))

    def _nearest(self) -> list[PastRun]:
        """The runs by how near their tasks are, of equally near ones the latest first."""
        here = self.task.features

        apart = [np.linalg.norm(run.task.features - here).round(6) for run in self.runs]
        order = np.lexsort((-np.arange(len(apart)), apart))
        return [self.runs[place] for place in order]

    def _with(self, task: Task, features: Floats) -> Floats:
        """The features of networks, (m, features), beside those of a task."""
        return np.column_stack([features, np.tile(task.features, (len(features), 1))])


@dataclass(frozen=True)
class _Learnt:
    """What a prior makes of the runs."""

    genomes: list[Genome]  # as this task has them
    features: Floats  # of each, (genomes, features)
    model: GaussianProcess | None  # None: there was nothing to learn from
    worth: Correlation | None  # see `Prior.worth`


def _agreement(model: GaussianProcess, features: Floats, scores: Floats) -> Correlation | None:
    """How well the scores of each fifth of n networks, (n,), are ordered by what the others say.

    By a process that has learnt no hyperparameters: those of all networks know the held out ones.
    """
    if len(scores) < 10:
        return None
    expected, folds = np.zeros(len(scores)), np.arange(len(scores)) % _FOLDS
    for fold in np.unique(folds):
        others = replace(model, tuned_on=2)
        others.fit(features[folds != fold], scores[folds != fold])
        expected[folds == fold] = others.predict(features[folds == fold])[0]
    return kendall(expected, scores)


def useless(worth: Correlation | None) -> bool:
    """Whether an order of networks is not worth to be heeded: after 10 trainings that it is no
    better than chance, after 30 that it is not certain to be better.

    Args:
        worth: of what was expected with what was measured; None: of too few.
    """
    if worth is None:
        return False
    return worth.worthless or (worth.n >= _CERTAIN and worth.low <= 0)


@dataclass(frozen=True)
class Lean:
    """How far scores are believed to follow a prior: what is left of them is learnt.

    Args:
        weight: in [0, 1].
        centre: the mean of what was expected of the networks that were trained here.
    """

    prior: Callable[[Floats], Floats]
    weight: float
    centre: float

    @classmethod
    def of(cls, prior: Callable[[Floats], Floats], expected: Floats, scores: Floats) -> Lean:
        """Regresses the scores of n trained networks, 1 or more, (n,), on what was expected.

        The slope begins at 1, as if `_BELIEVED` networks had come out as expected.

        Args:
            expected: of these networks, (n,).
        """
        centre = float(expected.mean())
        apart = expected - centre
        spread = float(apart @ apart)
        if spread == 0:
            return cls(prior, 1.0, centre)
        believed = _BELIEVED * spread / len(expected)
        weight = (float(apart @ scores) + believed) / (spread + believed)
        return cls(prior, min(1.0, max(0.0, weight)), centre)

    def __call__(self, features: Floats) -> Floats:
        """What scores of m networks, (m, features), owe to the prior: (m,)."""
        return self.weight * (self.prior(features) - self.centre)
