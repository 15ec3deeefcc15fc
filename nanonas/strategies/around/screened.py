"""Any strategy, with a predictor in front of it: many networks are proposed, the most promising one
is trained.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

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
from nanonas.networks.network import Network
from nanonas.predictors.audit import Audit
from nanonas.predictors.costs import Costs
from nanonas.predictors.experience import Prior, useless
from nanonas.predictors.front import Front
from nanonas.predictors.surrogate import LEAST, Model, Surrogate, stacked
from nanonas.spaces.base import Space

_MUTANTS = 5  # their streams are apart from every candidate's
_ENUMERABLE = 20_000  # genomes of a space that are all scored
# pairs of a scored and a trained network: what the predictor compares for one candidate
_AT_ONCE = 1_000_000
# Each so-many-th candidate may be less accurate than most, where a front has several objectives.
_WHOLE_EVERY = 5


@dataclass
class Screened:
    """Trains only what a predictor finds promising: among many proposals of `strategy`, and among
    the neighbours of the best networks, or of those on the front of several objectives.

    The first `opening` candidates are the largest of a few random networks each: parameters and
    MACs are the best scores that cost nothing (White et al. 2022,
    https://iclr-blog-track.github.io/2022/03/25/zero-cost-proxies/). From then on, for every
    candidate, the predictor learns from all that was told (see `Surrogate`) and scores proposals of
    the wrapped strategy, mutants of the best networks and fresh random ones; or the whole space,
    where it is small enough to enumerate and there is one objective. The one with the lowest
    confidence bound, mean - `explore` × deviation of its loss, is trained (Srinivas et al. 2010,
    https://arxiv.org/abs/0912.3995).

    With several objectives it is the one from which the front's hypervolume is expected to gain
    most (Emmerich et al. 2006, https://doi.org/10.1109/TEVC.2005.859463), with the accuracy by rank
    and costs by their logarithm. Accuracies below the median count for every fifth candidate alone:
    see `Front`.

    Where there is experience of other runs, the first candidates are those that it finds the best
    of a few, instead of the largest, and the predictor begins with it; while its order of the
    networks is `useless`, it is left out.

    Every prediction is written into its proposal before the training. While those predictions order
    the networks no better than chance, the predictor steps aside: the wrapped strategy is asked,
    and the predictions go on, so that the predictor can earn its place again. Every twentieth
    candidate is a proposal of the wrapped strategy in any case: among candidates that were all
    chosen for looking good, the correlation says little.

    Args:
        strategy: proposes networks to score; one that was told nothing yet.
        predictor: makes a new one; what it has learnt is never a part of the state.
        reads: what the predictor reads of a genome: `space.encode` or, a sequence model,
            `space.tokens`.
        objectives: what to get the best of. The first is predicted, and is what predictions are
            judged by; others are costs to minimise.
        counts: counts those costs on a network that can be counted, by name; others are measured,
            and predicted.
        explore: the weight of the deviation in the confidence bound, 0 or more; one objective.
        opening: how many candidates are trained before the predictor chooses; 4 or more.
        tournament: random networks of which the largest opens, 1 or more; 1 is a random opening.
        proposals: how many are asked of the wrapped strategy for one candidate.
        elite: of how many of the best networks mutants are scored, and `mutants` how many of each.
        samples: how many random networks are scored.
        audit_every: each so-many-th candidate is a proposal of the wrapped strategy; 0: none.
        allowed: whether a genome is within the limits; None: all are.
        banned: whether a genome may not be proposed now, which may change from candidate to
            candidate; None: none is.
        prior: the experience of other runs, for one objective and a predictor that reads features;
            None: there is none.

    Raises:
        ConfigError: `opening` or another number is too small.
    """

    space: Space
    strategy: Strategy
    predictor: Callable[[], Predictor]
    objectives: Sequence[Objective] = (Objective(),)
    counts: Mapping[str, Callable[[Network], float]] = field(default_factory=dict)
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
    prior: Prior | None = None
    _surrogate: Surrogate = field(init=False, repr=False)
    _front: Front | None = field(default=None, init=False, repr=False)  # of several objectives
    # of what was told, so that no candidate waits until all of that has been looked through
    _audit: Audit = field(init=False, repr=False)
    _genomes: set[Genome] = field(default_factory=set, init=False, repr=False)
    _networks: set[str] = field(default_factory=set, init=False, repr=False)  # their keys
    _bred: Counter[int] = field(default_factory=Counter, init=False, repr=False)  # by the parent
    # loss, number and candidate of the best that were trained to the end, the best first
    _best: list[tuple[float, int, Candidate]] = field(default_factory=list, init=False, repr=False)
    _cache: _Cache = field(default_factory=lambda: _Cache(), init=False, repr=False)

    def __post_init__(self) -> None:
        least = {
            "opening": LEAST,
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

        read = self.space.tokens if self.reads == "tokens" else self.space.encode
        self._surrogate = Surrogate(self.predictor, read, self.objective, prior=self.prior)
        self._audit = Audit(self.objective)
        if len(self.objectives) > 1:
            costs = Costs(self.objectives[1:], self.counts, self.space.decode, self._surrogate)
            self._front = Front(self._surrogate, costs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": _Cache()}

    @property
    def objective(self) -> Objective:
        """The one that predictions are judged by: the accuracy."""
        return self.objectives[0]

    def needs(self, number: int) -> int:
        return self.strategy.needs(number)

    def generation(self, number: int) -> int:
        return self.strategy.generation(number)

    def tell(self, told: Told) -> None:
        self._take(told)
        predicted, resumes = told.candidate.proposal.predicted, told.candidate.proposal.resumes
        # Where a training goes on, a prediction is not ours: earlier versions made it by the curve.
        chosen = predicted is not None and predicted.chosen and resumes is None
        if told.number < self.opening or chosen:  # the wrapped strategy did not propose it
            told = replace(told, informed_by=0)
        self.strategy.tell(told)

    def _take(self, told: Told) -> None:
        """Takes in what its own choices follow from."""
        candidate, evaluation = told.candidate, told.evaluation
        self._surrogate.told.append(told)
        self._audit.tell(told)
        self._genomes.add(candidate.proposal.genome)
        self._networks.add(candidate.key)
        self._bred.update(set(candidate.proposal.parents))
        if evaluation.state is State.COMPLETE:
            insort(self._best, (self.objective.loss(evaluation), candidate.number, candidate))
            del self._best[3 * self.elite :]  # some are one network, tried more than once

    def may_need(self) -> frozenset[int] | None:
        if self._front is not None:  # what has left its elite may come back: room decides, too
            return None
        # A network leaves the elite when better ones come, and none goes that stood before it.
        parents = self.strategy.may_need()
        return None if parents is None else parents.union(best.number for best in self._elite())

    @property
    def most_needed(self) -> int | None:
        parents = self.strategy.most_needed
        return None if parents is None or self._front is not None else parents + self.elite

    def ask(self, number: int, rng: np.random.Generator, pending: Sequence[Candidate]) -> Proposal:
        proposal = self.strategy.ask(number, rng, pending)
        told, known = self._surrogate.told, (self._front or self._surrogate).known
        opens = number < self.opening
        if opens and (known or not told):  # when all fail, the wrapped strategy knows what to do
            proposal = self._most_promising(proposal, rng)
        if known < LEAST:
            return proposal
        audits = self.audit_every > 0 and number % self.audit_every == self.audit_every - 1
        if opens or audits or self.aside:
            return self._predicted(proposal, pending)
        options, features = self._options(number, rng, pending, known)
        model = self._surrogate.fitted(pending)
        if self._front is None:
            promises = self._acquisition(model, options, features)
        else:
            wanted, whole = [option.genome for option in options], number % _WHOLE_EVERY == 0
            promises = -self._front.improvements(wanted, features, pending, whole)
        genomes = self._genomes, {candidate.proposal.genome for candidate in pending}
        networks = self._networks, {candidate.key for candidate in pending}
        for place in np.argsort(promises, kind="stable"):
            option: Proposal = options[place]
            taken = any(option.genome in some for some in genomes) or any(
                self._network(option.genome) in some for some in networks
            )
            if not taken and self._may(option.genome):
                predicted = model.prediction(features[[place]], chosen=True)
                return replace(option, predicted=predicted)
        return self._predicted(proposal, pending)

    def _acquisition(self, model: Model, options: Sequence[Proposal], features: Floats) -> Floats:
        """What each option promises, the lower the better: (options,).

        Dividing what an option could gain by its predicted seconds is no better: see
        benchmarks/acquisition.py.
        """
        mean, std = model.expected(features)  # (options,) each
        return mean - self.explore * std

    def _predicted(self, proposal: Proposal, pending: Sequence[Candidate]) -> Proposal:
        """A proposal that was not chosen by the predictor, with what it expects of it."""
        features = stacked([self._surrogate.read(proposal.genome)])
        model = self._surrogate.fitted(pending)
        return replace(proposal, predicted=model.prediction(features, chosen=False))

    @property
    def trust(self) -> Correlation | None:
        """How the predictions so far came out; None while there are fewer than 3."""
        return next(iter(self._audit.correlations().values()), None)

    @property
    def aside(self) -> bool:
        """Whether the predictions so far were no better than chance."""
        trust = self.trust
        return trust is not None and trust.worthless

    def _may(self, genome: Genome) -> bool:
        """Whether a genome may be proposed now."""
        if self.banned is not None and self.banned(genome):
            return False
        return self.allowed is None or self.allowed(genome)

    # --- what is scored ---------------------------------------------------------------------------

    @property
    def worth(self) -> Correlation | None:
        """How experience orders the networks that were trained here; None while there are fewer
        than 3, or without experience.
        """
        return self._surrogate.worth

    def _most_promising(self, proposal: Proposal, rng: np.random.Generator) -> Proposal:
        """A network that is larger, or by experience better, than `tournament - 1` random ones, of
        those that are allowed.
        """
        drawn = [proposal.genome, *(self.space.sample(rng) for _ in range(self.tournament - 1))]
        allowed = [genome for genome in drawn if self._may(genome)]
        return Proposal(max(allowed or drawn[:1], key=self._promise), budget=proposal.budget)

    def _promise(self, genome: Genome) -> float:
        """What a network of the opening is chosen by: the more, the better."""
        if self.prior is not None and not useless(self.worth):
            return -float(self.prior.scores(self._surrogate.read(genome)[None])[0])
        network = self.space.decode(genome)
        return float(np.log(network.params) + np.log(network.macs + 1))

    def _options(
        self, number: int, rng: np.random.Generator, pending: Sequence[Candidate], known: int
    ) -> tuple[list[Proposal], Floats]:
        """What may be trained, and what the predictor reads of it: shape (options, …).

        Of several objectives not the whole space, even where it is small: what lies far from all
        that was trained promises much to a front because little is known of it. Near what is known
        is better, see benchmarks/hypervolume.py.
        """
        whole = self._whole_space() if self._front is None else _Whole()
        if whole.options:
            most = max(1000, _AT_ONCE // known)
            if len(whole.options) <= most:
                return whole.options, whole.features
            drawn = rng.choice(len(whole.options), most, replace=False)
            return [whole.options[n] for n in drawn], whole.features[drawn]
        options = [self.strategy.ask(number, rng, pending) for _ in range(self.proposals)]
        options += [Proposal(self.space.sample(rng)) for _ in range(self.samples)]
        rows = [self._surrogate.read(option.genome) for option in options]
        for parent in self._elite():
            children, children_rows = self._children(parent)
            options += children
            rows += children_rows
        return options, stacked(rows)

    def _whole_space(self) -> _Whole:
        """Every network of the space within the limits, where it is small enough to enumerate."""
        if self._cache.whole is None:
            self._cache.whole = self._enumerated()
        return self._cache.whole

    def _enumerated(self) -> _Whole:
        genomes = list(islice(self.space.genomes() or (), _ENUMERABLE + 1))
        if len(genomes) > _ENUMERABLE:
            return _Whole()
        distinct = {self.space.key(genome): genome for genome in reversed(genomes)}.values()
        allowed = list(distinct if self.allowed is None else filter(self.allowed, distinct))
        if not allowed:
            return _Whole()
        rows = [self._surrogate.read(genome) for genome in allowed]
        return _Whole([Proposal(genome) for genome in allowed], stacked(rows))

    def _elite(self) -> list[Candidate]:
        """The best networks so far, each once, best first."""
        best: dict[str, Candidate] = {}
        for candidate in self._ordered():
            best.setdefault(candidate.key, candidate)
        return list(best.values())[: self.elite]

    def _ordered(self) -> list[Candidate]:
        """Those that were trained to their end, some of the best at least, the best first."""
        if self._front is not None:
            return self._front.ordered()
        return [candidate for _, _, candidate in self._best]

    def _children(self, parent: Candidate) -> tuple[list[Proposal], list[NDArray[Any]]]:
        """Mutants of one network, mostly one edit away, and what is read of each: the same whenever
        they are asked for, so that each is read once.

        There are more of them with every child of it that has been trained, so that they never run
        out.
        """
        wanted = self.mutants + 2 * self._bred[parent.number]
        children, rows = self._cache.children.setdefault(parent.number, ([], []))
        while len(children) < wanted:
            rng = np.random.default_rng([parent.number, len(children), _MUTANTS])
            genome = self.space.mutate(parent.proposal.genome, rng)
            children.append(Proposal(genome, (parent.number,)))
            rows.append(self._surrogate.read(genome))
        return children[:wanted], rows[:wanted]

    def _network(self, genome: Genome) -> str:
        """The key of its network, as candidates have it. Not those of all that was told are derived
        again: that would take a resumed run a millisecond each.
        """
        keys = self._cache.keys
        if genome not in keys:
            keys[genome] = self.space.decode(genome).key
        return keys[genome]


def screened_in(strategy: Strategy) -> Screened | None:
    """The screened search among strategies around each other; None where there is none."""
    inner: Any = strategy
    while inner is not None and not isinstance(inner, Screened):
        inner = getattr(inner, "strategy", None)
    return inner


@dataclass
class _Whole:
    """A space that is scored as a whole; empty where it is too large for that."""

    options: list[Proposal] = field(default_factory=list)  # each network once
    features: Floats = field(default_factory=lambda: np.empty((0, 0)))  # (options, …)


@dataclass
class _Cache:
    """What can be computed again."""

    whole: _Whole | None = None  # None: not looked at yet
    # by the parent's number: its mutants, and what is read of them
    children: dict[int, tuple[list[Proposal], list[NDArray[Any]]]] = field(default_factory=dict)
    keys: dict[Genome, str] = field(default_factory=dict)  # of networks
