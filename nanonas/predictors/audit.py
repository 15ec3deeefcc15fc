"""Whether a prediction or a count is worth anything: its rank correlation with what was measured
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
    """What each predictor, by name, had expected, and what came out: (number of the candidate,
    loss, loss) each.

    What failed or was pruned has an infinite loss; what a deadline cut is left out, and what went
    on with an earlier training: earlier versions predicted its accuracy by its learning curve.
    """
    found: dict[str, list[tuple[int, float, float]]] = {}
    for one in told:
        predicted, resumes = one.candidate.proposal.predicted, one.candidate.proposal.resumes
        if predicted is None or resumes is not None or one.evaluation.state is State.CUT:
            continue
        row = one.number, predicted.mean, _outcome(one.evaluation, objective)
        found.setdefault(predicted.by, []).append(row)
    return found


def audited(
    told: Sequence[Told], objective: Objective, window: int = WINDOW
) -> dict[str, Correlation]:
    """For each predictor, by name, how the last `window` candidates that it predicted came out; 3
    at the least.

    A prediction was made before its candidate was trained, so nothing that is counted here was
    learnt from. Failed and pruned candidates count as worse than all others: somebody who expected
    much of them was wrong.
    """
    found = predictions(told, objective)
    return _correlations(
        {name: [pair[1:] for pair in some[-window:]] for name, some in found.items()}
    )


def audited_scores(told: Sequence[Told], objective: Objective) -> dict[str, Correlation]:
    """For parameters and MACs, by name, how well they order the networks that were trained; from 3
    networks on.

    More is better, so 1 means that the largest network did best. Failed and pruned candidates count
    as in `audited`. Left out are those that went on with an earlier training, for they were picked
    by its outcome and trained for longer, and those that ended without a result to compare.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for one in told:
        evaluation, outcome = one.evaluation, _outcome(one.evaluation, objective)
        unmeasured = evaluation.state is State.COMPLETE and not np.isfinite(outcome)
        resumed = one.candidate.proposal.resumes is not None
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
    return {name: kendall(*np.array(some).T) for name, some in pairs.items() if len(some) >= 3}
