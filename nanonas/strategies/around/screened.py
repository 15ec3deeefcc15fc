"""Any strategy, with a predictor in front of it: many networks are proposed, the most promising one
is trained.
"""

from __future__ import annotations

import copy
import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from nanonas.core import (
    Candidate,
    Floats,
    Genome,
    Objective,
    Predictor,
    Proposal,
    State,
    Strategy,
    Told,
)
from nanonas.errors import ConfigError
from nanonas.maths.ranks import Correlation
from nanonas.predictors.audit import audited
from nanonas.predictors.curves import CurveModel
from nanonas.predictors.lstm import padded
from nanonas.predictors.normal_scores import NormalScores
from nanonas.predictors.surrogate import Model, finite
from nanonas.spaces.base import Space

_LEAST = 4  # trained networks that a predictor can learn from
_MUTANTS = 5  # their streams are apart from every candidate's
_ENUMERABLE = 20_000  # genomes of a space that are all scored
# pairs of a scored and a trained network: what the predictor compares for one candidate
_AT_ONCE = 1_000_000


@dataclass
class Screened:
    """Trains only what a predictor finds promising among many proposals of `strategy` and the
    neighbours of the best.

    The first `opening` candidates are the largest of a few random networks each: parameters and
    MACs are the best scores that cost nothing (White et al. 2022,
    https://iclr-blog-track.github.io/2022/03/25/zero-cost-proxies/). From then on, for every
    candidate, the predictor learns from all that was told and scores proposals of the wrapped
    strategy, mutants of the best networks and fresh random ones; or the whole space, where it is
    small enough to enumerate. The one with the lowest confidence bound, mean - `explore` ×
    deviation of its loss, is trained (Srinivas et al. 2010, https://arxiv.org/abs/0912.3995). What
    is pending counts as having come out as predicted, so that candidates in flight at once stay apart (the
    "kriging believer" of Ginsbourger et al. 2010, https://doi.org/10.1007/978-3-642-10701-6_6).
    Losses are `NormalScores`, so that no outlier steers the search. A candidate that its stop rule
    has pruned is learnt from with the accuracy that its learning curve was heading for.

    Every prediction is written into its proposal before the training. While those predictions order
    the networks no better than chance, the predictor steps aside: the wrapped strategy is asked,
    and the predictions go on, so that the predictor can earn its place again. Every twentieth
    candidate is the wrapped strategy's own in any case: among candidates that were all chosen for
    looking good, the correlation says little.

    Args:
        predictor: makes a new one; what it has learnt is never a part of the state.
        reads: what the predictor reads of a genome: `space.encode` or, a sequence model,
            `space.tokens`.
        explore: the weight of the deviation in the confidence bound, 0 or more.
        opening: how many candidates are trained before the predictor chooses; 4 or more.
        tournament: random networks of which the largest opens, 1 or more; 1 is a random opening.
        proposals: how many are asked of the wrapped strategy for one candidate.
        elite: of how many of the best networks mutants are scored, and `mutants` how many of each.
        samples: how many random networks are scored.
        audit_every: each so-many-th candidate is the wrapped strategy's own; 0: none.
        allowed: whether a genome is within the limits; None: all are.
        banned: whether a genome may not be proposed now, which may change from candidate to
            candidate; None: none is.

    Raises:
        ConfigError: `opening` or another number is too small.
    """

    space: Space
    strategy: Strategy
    predictor: Callable[[], Predictor]
    objective: Objective = field(default_factory=Objective)
    reads: Literal["features", "tokens"] = "features"
    explore: float = 1.0
    opening: int = 5
    tournament: int = 8
    proposals: int = 24
    elite: int = 8
    mutants: int = 24
    samples: int = 24
    audit_every: int = 20
    allowed: Callable[[Genome], bool] | None = None
    banned: Callable[[Genome], bool] | None = None
    _told: list[Told] = field(default_factory=list, repr=False)
    _cache: dict[Any, Any] = field(
        default_factory=dict, repr=False
    )  # nothing that could not be computed again

    def __post_init__(self) -> None:
        least = {
            "opening": _LEAST,
            "tournament": 1,
            "proposals": 1,
            "elite": 0,
            "mutants": 0,
            "samples": 0,
        }
        for name, value in {**least, "audit_every": 0, "explore": 0}.items():
            if getattr(self, name) < value:
                raise ConfigError(
                    f"{name} must be {value} or more for a screened search, but is "
                    f"{getattr(self, name)}"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    def needs(self, number: int) -> int:
        return self.strategy.needs(number)

    def generation(self, number: int) -> int:
        return self.strategy.generation(number)

    def tell(self, told: Told) -> None:
        self._told.append(told)
        predicted, resumes = told.candidate.proposal.predicted, told.candidate.proposal.resumes
        # Where a training goes on, a prediction is not ours: earlier versions made it by the curve.
        chosen = predicted is not None and predicted.chosen and resumes is None
        if told.number < self.opening or chosen:  # the wrapped strategy did not propose it
            told = replace(told, informed_by=0)
        self.strategy.tell(told)

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        own = self.strategy.ask(number, rng, pending)
        losses = self._losses(self._told)
        known = int(np.isfinite(losses).sum())
        if number < self.opening and (
            known or not len(losses)
        ):  # when all fail, the wrapped strategy knows what to do
            own = self._largest(own, rng)
        if known < _LEAST:
            return own
        model = self._fitted(losses, pending)
        by_turns = self.audit_every > 0 and number % self.audit_every == self.audit_every - 1
        if number < self.opening or by_turns or self.aside:
            return replace(
                own,
                predicted=model.prediction(self._stacked([self._row(own.genome)]), chosen=False),
            )
        options, features = self._options(number, rng, pending, known)
        mean, std = model.expected(features)
        bounds = mean - self.explore * std
        taken = {
            self._key(candidate.proposal.genome)
            for candidate in (*(told.candidate for told in self._told), *pending)
        }
        for place in np.argsort(bounds, kind="stable"):
            genome = options[place].genome
            if self._key(genome) not in taken and self._may(genome):
                option: Proposal = options[place]
                return replace(option, predicted=model.prediction(features[[place]], chosen=True))
        return replace(
            own, predicted=model.prediction(self._stacked([self._row(own.genome)]), chosen=False)
        )

    @property
    def trust(self) -> Correlation | None:
        """How the predictions so far came out; None while there are fewer than 3."""
        return next(iter(audited(self._told, self.objective).values()), None)

    @property
    def aside(self) -> bool:
        """Whether the predictions so far were no better than chance."""
        return self.trust is not None and self.trust.worthless

    def _may(self, genome: Genome) -> bool:
        """Whether a genome may be proposed now."""
        if self.banned is not None and self.banned(genome):
            return False
        return self.allowed is None or self.allowed(genome)

    # --- what is scored ---------------------------------------------------------------------------

    def _largest(self, own: Proposal, rng: np.random.Generator) -> Proposal:
        """A random network that is larger than `tournament - 1` others, of those that are allowed."""
        drawn = [own.genome, *(self.space.sample(rng) for _ in range(self.tournament - 1))]
        fitting = [genome for genome in drawn if self._may(genome)]
        return Proposal(max(fitting or drawn[:1], key=self._size), budget=own.budget)

    def _size(self, genome: Genome) -> float:
        network = self.space.decode(genome)
        return float(np.log(network.params) + np.log(network.macs + 1))

    def _options(
        self, number: int, rng: np.random.Generator, pending: Sequence[Candidate], known: int
    ) -> tuple[list[Proposal], Floats]:
        """What may be trained, and what the predictor reads of it."""
        everything = self._everything()
        if everything is not None:
            options, features = everything
            most = max(1000, _AT_ONCE // known)
            if len(options) <= most:
                return options, features
            some = rng.choice(len(options), most, replace=False)
            return [options[n] for n in some], features[some]
        options = [self.strategy.ask(number, rng, pending) for _ in range(self.proposals)]
        options += [Proposal(self.space.sample(rng)) for _ in range(self.samples)]
        rows = [self._row(option.genome) for option in options]
        for parent in self._elite():
            children, read = self._children(parent)
            options, rows = options + children, rows + read
        return options, self._stacked(rows)

    def _everything(self) -> tuple[list[Proposal], Floats] | None:
        """The whole space within the limits, each network once, where it is small enough to
        enumerate.
        """
        if "everything" not in self._cache:
            genomes = self.space.genomes()
            some = [] if genomes is None else list(islice(genomes, _ENUMERABLE + 1))
            self._cache["everything"] = None
            if 0 < len(some) <= _ENUMERABLE:
                distinct = {self._key(genome): genome for genome in reversed(some)}.values()
                fitting = [
                    genome for genome in distinct if self.allowed is None or self.allowed(genome)
                ]
                rows = [self._row(genome) for genome in fitting]
                if fitting:
                    self._cache["everything"] = (
                        [Proposal(genome) for genome in fitting],
                        self._stacked(rows),
                    )
        found: tuple[list[Proposal], Floats] | None = self._cache["everything"]
        return found

    def _elite(self) -> list[Candidate]:
        """The best networks so far, each once, best first."""
        usable = [told for told in self._told if told.evaluation.state is State.COMPLETE]
        ordered = heapq.nsmallest(
            3 * self.elite,
            usable,
            key=lambda told: (self.objective.loss(told.evaluation), told.number),
        )
        best: dict[str, Candidate] = {}
        for told in ordered:
            best.setdefault(told.candidate.key, told.candidate)
        return list(best.values())[: self.elite]

    def _children(self, parent: Candidate) -> tuple[list[Proposal], list[Any]]:
        """Mutants of one network, one edit away mostly: the same whenever it is asked, so that they
        are read once.

        Each time that a child of it has been trained there are some more, so that they never run
        out.
        """
        trained = sum(parent.number in told.candidate.proposal.parents for told in self._told)
        children, rows = self._cache.setdefault(("children", parent.number), ([], []))
        while len(children) < self.mutants + 2 * trained:
            rng = np.random.default_rng([parent.number, len(children), _MUTANTS])
            genome = self.space.mutate(parent.proposal.genome, rng)
            children.append(Proposal(genome, (parent.number,)))
            rows.append(self._row(genome))
        wanted = self.mutants + 2 * trained
        return children[:wanted], rows[:wanted]

    # --- what is learnt ---------------------------------------------------------------------------

    def _losses(self, told: Sequence[Told]) -> Floats:
        """Of n candidates, shape (n,); infinite where nothing was measured."""
        losses = np.array(
            [np.inf if one.lost else self.objective.loss(one.evaluation) for one in told]
        )
        for n in reversed(range(len(told))):  # what went on is known by what it has become
            resumes = told[n].candidate.proposal.resumes
            if resumes is not None and np.isfinite(losses[n]):
                losses[resumes] = losses[n]  # a strategy hears of every number
        pruned = [n for n, one in enumerate(told) if one.evaluation.state is State.PRUNED]
        if not pruned or self.objective.name != "accuracy":
            return losses
        curves = CurveModel()
        evaluations = [one.evaluation for one in told]
        curves.fit([e.curve for e in evaluations if e.state is State.COMPLETE and e.curve])
        for n in pruned:
            curve, budget = told[n].evaluation.curve, told[n].candidate.proposal.budget
            if curve and budget is not None:
                losses[n] = -curves.predict(curve, budget.epochs)[0]
        return losses

    def _fitted(self, losses: Floats, pending: Sequence[Candidate]) -> Model:
        """The predictor, with all that was told, and what is pending as it was expected."""
        key = len(losses), tuple(pending)
        if self._cache.get("model", (None,))[0] != key:
            rows = self._cache.setdefault("told", [])
            rows += [self._row(told.candidate.proposal.genome) for told in self._told[len(rows) :]]
            losses = finite(losses)
            scores = NormalScores.of(losses)
            believed = [self._believed(candidate, losses) for candidate in pending]
            rows = [*rows, *(self._row(candidate.proposal.genome) for candidate in pending)]
            n, predictor = self._begun(rows)
            if n < len(rows):
                predictor.update(self._stacked(rows), scores.score(np.append(losses, believed)))
            self._cache["model"] = key, Model(predictor, scores)
        model: Model = self._cache["model"][1]
        return model

    def _believed(self, candidate: Candidate, losses: Floats) -> float:
        """What a pending candidate counts as: as predicted, or as what it goes on from."""
        predicted, resumes = candidate.proposal.predicted, candidate.proposal.resumes
        if predicted is not None:
            return predicted.mean
        known = np.median(losses) if resumes is None else losses[resumes]
        return float(known)

    def _begun(self, rows: Sequence[Any]) -> tuple[int, Predictor]:
        """A predictor fitted to the first n that were told: anew after every tenth of it, for what
        takes long to learn.

        It depends on how much was told alone, not on who asked for what in between.
        """
        n = len(self._told) - len(self._told) % max(1, len(self._told) // 10)
        losses = self._losses(self._told[:n])
        if np.isfinite(losses).sum() < _LEAST:  # what came since is all there is to learn from
            n, losses = len(self._told), self._losses(self._told)
        if self._cache.get("begun", (None,))[0] != n:
            losses = finite(losses)
            predictor = self.predictor()
            predictor.fit(self._stacked(rows[:n]), NormalScores.of(losses).score(losses))
            self._cache["begun"] = n, predictor
        n, begun = self._cache["begun"]
        return n, copy.copy(begun)

    def _row(self, genome: Genome) -> Any:
        """What the predictor reads of one genome."""
        return self.space.tokens(genome) if self.reads == "tokens" else self.space.encode(genome)

    def _stacked(self, rows: Sequence[Any]) -> Floats:
        return padded(rows).astype(np.float64) if self.reads == "tokens" else np.array(rows)

    def _key(self, genome: Genome) -> str:
        """Equal for genomes of one network."""
        known = self._cache.setdefault("keys", {})
        if genome not in known:
            known[genome] = self.space.key(genome)
        key: str = known[genome]
        return key
