"""Whether a prediction or a score is worth anything: its rank correlation with what was measured afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nanonas.core import Evaluation, Floats, Objective, State, Told

WINDOW = 100  # of the last candidates that were predicted and then trained
FREE = ("params", "macs")  # scores that every network has


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b with a 95 % interval: 1 is the same order, 0 none, -1 the reverse."""

    tau: float
    low: float
    high: float
    n: int  # pairs of a prediction and a measurement

    @property
    def worthless(self) -> bool:
        """Whether enough has been seen to say so, and it was no better than chance."""
        return self.n >= 10 and self.tau <= 0

    def __str__(self) -> str:
        return f"τ {self.tau:+.2f} [{self.low:+.2f}, {self.high:+.2f}] of {self.n}"


def kendall(predicted: Floats, measured: Floats) -> Correlation:
    """The correlation of n predictions, 2 or more, with what was measured, shape (n,) each; infinities may be ties.

    Kendall 1945, https://doi.org/10.1093/biomet/33.3.239. The interval is normal with the variance of Noether's
    estimator (Hollander & Wolfe 1999, Nonparametric Statistical Methods, 8.32), which unlike the one under independence
    holds for every tau.
    """
    n = len(predicted)
    signs = [1.0 * np.greater.outer(values, values) - np.less.outer(values, values) for values in (predicted, measured)]
    concordance = (signs[0] * signs[1]).sum(axis=1)  # of each candidate with all others
    untied = np.sqrt((signs[0] ** 2).sum() * (signs[1] ** 2).sum())
    if untied == 0:
        return Correlation(0.0, -1.0, 1.0, n)
    tau = float(concordance.sum() / untied)
    spread = float(((concordance - concordance.mean()) ** 2).sum())
    variance = 2 / (n * (n - 1)) * (2 * (n - 2) / (n * (n - 1) ** 2) * spread + max(0.0, 1 - tau**2))
    half = 1.96 * max(float(np.sqrt(variance)), 1 / n)  # of a few that are all in order: not yet a certainty
    return Correlation(tau, max(-1.0, tau - half), min(1.0, tau + half), n)


def predictions(told: Sequence[Told], objective: Objective) -> dict[str, list[tuple[int, float, float]]]:
    """What each predictor, by name, had expected, and what came out: (number of the candidate, loss, loss) each.

    What failed or was pruned has an infinite loss; what a deadline cut is left out.
    """
    found: dict[str, list[tuple[int, float, float]]] = {}
    for candidate, evaluation in told:
        predicted = candidate.proposal.predicted
        if predicted is not None and evaluation.state is not State.CUT:
            one = candidate.number, predicted.mean, _outcome(evaluation, objective)
            found.setdefault(predicted.by, []).append(one)
    return found


def audited(told: Sequence[Told], objective: Objective, window: int = WINDOW) -> dict[str, Correlation]:
    """For each predictor, by name, how the last `window` candidates that it predicted came out; 3 at the least.

    A prediction was made before its candidate was trained, so nothing that is counted here was learnt from. Failed and
    pruned candidates count as worse than all others: somebody who expected much of them was wrong.
    """
    found = predictions(told, objective)
    return _correlations({name: [pair[1:] for pair in some[-window:]] for name, some in found.items()})


def audited_scores(told: Sequence[Told], objective: Objective) -> dict[str, Correlation]:
    """For each score, by name, how the networks that have it came out when they were trained; 3 at the least.

    More is better, so 1 means that the highest score did best. Parameters and MACs are everybody's; other scores are
    those of candidates that were only scored, of the same network. Failed and pruned candidates count as in `audited`;
    those that went on with an earlier training don't, for they were picked by its outcome, and trained for longer.
    """
    scored = {candidate.key: evaluation.metrics for candidate, evaluation in told if not candidate.trained}
    pairs: dict[str, list[tuple[float, float]]] = {}
    for candidate, evaluation in told:
        if not candidate.trained or candidate.proposal.resumes is not None or evaluation.state is State.CUT:
            continue
        free = {name: evaluation.metrics[name] for name in FREE if name in evaluation.metrics}
        for name, score in {**scored.get(candidate.key, {}), **free}.items():
            if np.isfinite(score):
                pairs.setdefault(name, []).append((-score, _outcome(evaluation, objective)))
    return _correlations({name: some[-10 * WINDOW :] for name, some in pairs.items()})


@dataclass(frozen=True)
class HeadStart:
    """Children that began with inherited weights, against the same networks from scratch."""

    mean: float  # of the children's accuracies minus those from scratch
    error: float  # standard error of that
    correlation: Correlation  # of the two

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} ± {100 * self.error:.1f} points, {self.correlation}"


def twins(told: Sequence[Told]) -> list[tuple[Told, Told]]:
    """Pairs of a candidate that inherited weights and the same network from scratch, in the order of the latter.

    A twin has the network of its only parent again, without inherited weights; both were trained to the end.
    """
    heirs = {one[0].number: one for one in told if one[0].proposal.inherits and _measured(one[1])}
    pairs: list[tuple[Told, Told]] = []
    for candidate, evaluation in told:
        proposal = candidate.proposal
        heir = heirs.get(proposal.parents[0]) if proposal.from_scratch and len(proposal.parents) == 1 else None
        if heir is not None and heir[0].key == candidate.key and _measured(evaluation):
            pairs.append((heir, (candidate, evaluation)))
    return pairs


def _measured(evaluation: Evaluation) -> bool:
    return evaluation.state is State.COMPLETE and evaluation.accuracy is not None


def head_start(told: Sequence[Told]) -> HeadStart | None:
    """What inheriting did to accuracies and to their order, by the twins of `strategies.inheriting`; from 3 of them on.

    Mean and standard error of the gain in accuracy over the pairs of `twins`.
    """
    pairs = [(heir.accuracy or 0.0, twin.accuracy or 0.0) for (_, heir), (_, twin) in twins(told)]
    if len(pairs) < 3:
        return None
    children, scratch = np.array(pairs).T
    gain = children - scratch
    return HeadStart(float(gain.mean()), float(gain.std(ddof=1) / len(gain) ** 0.5), kendall(children, scratch))


def _outcome(evaluation: Evaluation, objective: Objective) -> float:
    return objective.loss(evaluation) if evaluation.state is State.COMPLETE else np.inf


def _correlations(pairs: dict[str, list[tuple[float, float]]]) -> dict[str, Correlation]:
    """Of (prediction, loss), where there are 3 or more."""
    return {name: kendall(*np.array(some).T) for name, some in pairs.items() if len(some) >= 3}
