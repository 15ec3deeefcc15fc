"""Whether predictions and counts are worth anything: their rank correlations with what was measured
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nanonas.core import Evaluation, Objective, State, Told
from nanonas.maths.ranks import Correlation, kendall

WINDOW = 100  # of the last candidates that were predicted and then trained
FREE = ("params", "macs")  # scores that cost nothing: every network has them


def predictions(
    told: Sequence[Told], objective: Objective
) -> dict[str, list[tuple[int, float, float]]]:
    """For each predictor, by name: (number of the candidate, predicted loss, measured loss) each.

    What failed or was pruned has an infinite loss. Left out are candidates that a deadline cut, and
    those that went on with an earlier training: earlier versions predicted their accuracy by their
    learning curve.
    """
    rows: dict[str, list[tuple[int, float, float]]] = {}
    for each in told:
        predicted, resumes = each.candidate.proposal.predicted, each.candidate.proposal.resumes
        if predicted is None or resumes is not None or each.evaluation.state is State.CUT:
            continue
        row = each.number, predicted.mean, _outcome(each.evaluation, objective)
        rows.setdefault(predicted.by, []).append(row)
    return rows


def audited(
    told: Sequence[Told], objective: Objective, window: int = WINDOW
) -> dict[str, Correlation]:
    """For each predictor, by name, how well it ordered the last `window` candidates that it
    predicted; from 3 candidates on.

    A prediction was made before its candidate was trained, so nothing that is counted here was
    learnt from. Failed and pruned candidates count as worse than all others: to expect much of them
    was wrong.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for name, rows in predictions(told, objective).items():
        pairs[name] = [(predicted, measured) for _, predicted, measured in rows[-window:]]
    return _correlations(pairs)


def audited_scores(told: Sequence[Told], objective: Objective) -> dict[str, Correlation]:
    """For parameters and MACs, by name, how well they order the networks that were trained; from 3
    networks on.

    More is better, so 1 means that the largest network did best. Failed and pruned candidates count
    as in `audited`. Left out are those that went on with an earlier training, for they were picked
    by its outcome and trained for longer, and those that ended without a result to compare.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for each in told:
        evaluation, outcome = each.evaluation, _outcome(each.evaluation, objective)
        unmeasured = evaluation.state is State.COMPLETE and not np.isfinite(outcome)
        resumed = each.candidate.proposal.resumes is not None
        if resumed or evaluation.state is State.CUT or unmeasured:
            continue
        for name in FREE:
            if name in evaluation.metrics:
                pairs.setdefault(name, []).append((-evaluation.metrics[name], outcome))
    return _correlations({name: rows[-10 * WINDOW :] for name, rows in pairs.items()})


def _outcome(evaluation: Evaluation, objective: Objective) -> float:
    return objective.loss(evaluation) if evaluation.state is State.COMPLETE else np.inf


def _correlations(pairs: dict[str, list[tuple[float, float]]]) -> dict[str, Correlation]:
    """Of (prediction, loss), where there are 3 or more."""
    return {name: kendall(*np.array(rows).T) for name, rows in pairs.items() if len(rows) >= 3}
