"""A predictor that is kept fitted to what was told, with what is pending as it was expected."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanonas.core import (
    Candidate,
    Floats,
    Genome,
    Integers,
    Objective,
    Prediction,
    Predictor,
    State,
    Told,
)
from nanonas.maths.ranks import Correlation, kendall
from nanonas.predictors.audit import WINDOW
from nanonas.predictors.curves import Curve, CurveModel
from nanonas.predictors.experience import Lean, Prior, useless
from nanonas.predictors.lstm import padded
from nanonas.predictors.normal_scores import NormalScores

LEAST = 4  # trained networks that a predictor can learn from
# Networks that it learns from, at most: to read one takes up to a millisecond, which a resumed run
# waits for.
MOST = 5000

# What a predictor reads of one genome: shape (features,), or (steps, fields) for a sequence model.
Read = Callable[[Genome], NDArray[Any]]


@dataclass(frozen=True)
class Model:
    """A fitted predictor, whose losses are scores."""

    predictor: Predictor
    unit: NormalScores
    lean: Lean | None = None  # on experience, to whose rest the predictor is fitted

    def expected(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and deviation of the scores of m networks, shape (m,) each."""
        mean, std = self.predictor.predict(features)
        return (mean if self.lean is None else mean + self.lean(features)), std

    def expected_losses(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and deviation of the losses themselves, shape (m,) each."""
        return self.unit.expected(*self.expected(features))

    def prediction(self, features: Floats, chosen: bool) -> Prediction:
        """Of one network, shape (1, …), in the unit of the losses."""
        mean, std = self.expected_losses(features)
        return Prediction(float(mean[0]), float(std[0]), self.predictor.name, chosen)


@dataclass
class Surrogate:
    """A predictor of one objective's loss, for a strategy that tells it every evaluation.

    Losses are `NormalScores`, so that no outlier steers the search. A candidate that its stop rule
    has pruned is learnt from with the accuracy that its learning curve was heading for; one whose
    training went on, with what it has become. What is pending counts as having come out as
    predicted, so that candidates in flight at once stay apart (the "kriging believer" of
    Ginsbourger et al. 2010, https://doi.org/10.1007/978-3-642-10701-6_6).

    Of more than `MOST` networks it learns from the best, for half of `MOST`, and from each
    so-many-th of all.

    Where there is experience of other runs, the predictor learns what it does not explain, and it
    is heeded as far as what was told bears it out (`Lean`); not at all while its order of the
    networks is `useless`.

    The state is what was told; what was learnt from it can be learnt again, and is not pickled.

    Args:
        predictor: makes a new one.
        read: what it reads of a genome, `space.encode` or, for a sequence model, `space.tokens`.
        told: every evaluation so far, in number order.
        in_proposals: whether the predictions that proposals carry are of this objective; else what
            is pending counts as this surrogate expects it.
        prior: the experience of other runs; None: there is none. Takes features.
    """

    predictor: Callable[[], Predictor]
    read: Read
    objective: Objective
    told: list[Told] = field(default_factory=list, repr=False)
    in_proposals: bool = True
    prior: Prior | None = None
    _cache: _Cache = field(default_factory=lambda: _Cache(), init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": _Cache()}

    @property
    def known(self) -> int:
        """Of how many candidates the loss is known."""
        return int(np.isfinite(self.losses).sum())

    def fitted(self, pending: Sequence[Candidate]) -> Model:
        """The predictor, fitted to all that was told and to what is pending.

        Needs `LEAST` candidates whose loss is known.
        """
        key = len(self.told), tuple(pending)
        if self._cache.model is None or self._cache.model[0] != key:
            self._cache.model = key, self._fit(pending)
        return self._cache.model[1]

    def _fit(self, pending: Sequence[Candidate]) -> Model:
        losses = _finite(self.losses)  # (told,)
        unit = NormalScores.of(losses)
        believed = self._believed(pending, losses)
        fitted_to, predictor = self._begun()
        lean = self._lean(self.losses)
        if fitted_to < len(self.told) + len(pending):
            chosen = _chosen(losses, MOST)
            rows = [self.read(candidate.proposal.genome) for candidate in pending]
            scores = unit.score(np.append(losses[chosen], believed))
            features = stacked([*self._rows(chosen), *rows])
            predictor.update(features, scores if lean is None else scores - lean(features))
        return Model(predictor, unit, lean)

    def _believed(self, pending: Sequence[Candidate], losses: Floats) -> list[float]:
        """The losses that pending candidates count with."""
        if self.in_proposals or not pending:
            return [_believed(candidate, losses) for candidate in pending]
        rows = [self.read(candidate.proposal.genome) for candidate in pending]
        expected, _ = self._fit(()).expected_losses(stacked(rows))
        return [float(loss) for loss in expected]

    def _rows(self, chosen: Integers) -> list[NDArray[Any]]:
        """What was read of some that were told, by number."""
        rows = self._cache.rows
        for number in chosen:
            if number not in rows:
                rows[number] = self.read(self.told[number].candidate.proposal.genome)
        return [rows[number] for number in chosen]

    def _begun(self) -> tuple[int, Predictor]:
        """A predictor fitted to the first n that were told, and n: fitted anew after every tenth of
        the candidates, for what takes long to learn.

        It depends on how much was told alone, not on what was asked in between.
        """
        n = len(self.told) - len(self.told) % max(1, len(self.told) // 10)
        if self._cache.begun is None or self._cache.begun[0] != n:
            losses = self._losses(self.told[:n])
            if np.isfinite(losses).sum() < LEAST:  # what came since is all there is to learn from
                n, losses = len(self.told), self.losses
            lean = self._lean(losses)
            losses, predictor = _finite(losses), self.predictor()
            chosen = _chosen(losses, MOST)
            scores = NormalScores.of(losses).score(losses[chosen])
            features = stacked(self._rows(chosen))
            predictor.fit(features, scores if lean is None else scores - lean(features))
            self._cache.begun = n, predictor
        n, begun = self._cache.begun
        return n, copy.copy(begun)

    @property
    def worth(self) -> Correlation | None:
        """How the experience orders the first `WINDOW` networks whose loss is known; None without
        experience, or while there are fewer than 3. Later ones were chosen by what it says.
        """
        return self._worth(self.losses)

    def _worth(self, losses: Floats) -> Correlation | None:
        places = np.flatnonzero(np.isfinite(losses))[:WINDOW]
        if self.prior is None or len(places) < 3:
            return None
        return kendall(self._experienced(places), losses[places])

    def _lean(self, losses: Floats) -> Lean | None:
        """How far scores follow the experience, by the first n losses, (n,)."""
        if self.prior is None or useless(self._worth(losses)):
            return None
        places = np.flatnonzero(np.isfinite(losses))[:WINDOW]
        scores = NormalScores.of(losses[places]).score(losses[places])
        return Lean.of(self.prior.scores, self._experienced(places), scores)

    def _experienced(self, places: Integers) -> Floats:
        """What experience says of some that were told, by number: (places,)."""
        assert self.prior is not None
        known = self._cache.experienced
        if new := [number for number in places if number not in known]:
            scores = self.prior.scores(stacked(self._rows(np.array(new))))
            known.update(zip(new, scores.tolist(), strict=True))
        return np.array([known[number] for number in places])

    @property
    def losses(self) -> Floats:
        """Of every candidate, shape (told,); infinite where nothing was measured."""
        cache = self._cache
        if cache.losses is None or len(cache.losses) != len(self.told):
            for told in self.told[len(cache.outcomes.measured) :]:
                cache.outcomes.take(told, self.objective)
            cache.losses = cache.outcomes.losses(self.objective)
        return cache.losses

    def _losses(self, told: Sequence[Told]) -> Floats:
        """Of n candidates, shape (n,); infinite where nothing was measured."""
        outcomes = _Outcomes()
        for each in told:
            outcomes.take(each, self.objective)
        return outcomes.losses(self.objective)


@dataclass
class _Outcomes:
    """What decides the losses of the candidates so far, in number order from the first on."""

    measured: list[float] = field(default_factory=list)  # losses; infinite where there is none
    # the numbers of a candidate and of that whose training it went on with
    resumed: list[tuple[int, int]] = field(default_factory=list)
    pruned: list[tuple[int, Told]] = field(default_factory=list)  # each with its number
    # the latest of those that were trained to the end
    curves: deque[Curve] = field(default_factory=lambda: deque(maxlen=MOST))

    def take(self, told: Told, objective: Objective) -> None:
        """Takes in the next evaluation."""
        number, evaluation = len(self.measured), told.evaluation
        if (resumes := told.candidate.proposal.resumes) is not None:
            self.resumed.append((number, resumes))
        if evaluation.state is State.PRUNED:
            self.pruned.append((number, told))
        elif evaluation.state is State.COMPLETE:
            self.curves.append(evaluation.curve)
        self.measured.append(np.inf if told.lost else objective.loss(evaluation))

    def losses(self, objective: Objective) -> Floats:
        """Of n candidates, shape (n,); infinite where nothing was measured."""
        losses = np.array(self.measured)
        for number, resumes in reversed(self.resumed):
            if np.isfinite(losses[number]):
                losses[resumes] = losses[number]  # a strategy is told every number
        if not self.pruned or objective.name != "accuracy":
            return losses
        model = CurveModel()
        model.fit([curve for curve in self.curves if curve])
        for number, told in self.pruned:
            curve, budget = told.evaluation.curve, told.candidate.proposal.budget
            if curve and budget is not None:
                losses[number] = -model.predict(curve, budget.epochs)[0]
        return losses


@dataclass
class _Cache:
    """What follows from what was told, so that it is not computed for every candidate anew."""

    outcomes: _Outcomes = field(default_factory=_Outcomes)  # of those told
    losses: Floats | None = None  # likewise
    rows: dict[int, NDArray[Any]] = field(default_factory=dict)  # what was read of those told
    experienced: dict[int, float] = field(default_factory=dict)  # what experience says of them
    begun: tuple[int, Predictor] | None = None  # fitted to so many of those told
    model: tuple[tuple[int, tuple[Candidate, ...]], Model] | None = None  # of (told, pending)


def stacked(rows: Sequence[NDArray[Any]]) -> Floats:
    """What was read of m genomes, one or more, in one array: (m, features), or (m, steps, fields)
    with shorter sequences padded.
    """
    if rows[0].ndim == 1:
        return np.array(rows)
    return padded(rows).astype(np.float64)


def _chosen(losses: Floats, most: int) -> Integers:
    """The places of up to `most` of n losses, ascending: the best, and every so-many-th of all. The
    latter stay the same until n has doubled.
    """
    n = len(losses)
    if n <= most:
        return np.arange(n)
    best, stride = most // 2, 1
    while n > stride * (most - best):
        stride *= 2
    return np.union1d(np.argsort(losses, kind="stable")[:best], np.arange(0, n, stride))


def _finite(losses: Floats) -> Floats:
    """A failure is a result as bad as the worst."""
    worst = losses[np.isfinite(losses)].max()
    return np.where(np.isfinite(losses), losses, worst)


def _believed(candidate: Candidate, losses: Floats) -> float:
    """The loss that a pending candidate counts with: as predicted, or of what it goes on from.

    Args:
        losses: of those told, shape (n,).
    """
    predicted, resumes = candidate.proposal.predicted, candidate.proposal.resumes
    if predicted is not None:
        return predicted.mean
    return float(np.median(losses) if resumes is None else losses[resumes])
