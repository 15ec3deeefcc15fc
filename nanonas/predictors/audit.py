"""Whether predictions and counts are worth anything: their rank correlations with what was measured
afterwards.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nanonas.core import Evaluation, Objective, State, Told
from nanonas.maths.ranks import Correlation, kendall

WINDOW = 100  # of the last candidates that were predicted and then trained
FREE = ("params", "macs")  # scores that cost nothing: every network has them

Row = tuple[int, float, float]
"""Number of the candidate, predicted loss, measured loss."""


@dataclass
class Audit:
    """How well each predictor ordered the last `window` candidates, by number, that it predicted;
    kept up to date as they are evaluated, in any order.

    A prediction was made before its candidate was trained, so nothing that is counted here was
    learnt from. Failed and pruned candidates count as worse than all others: to expect much of them
    was wrong.
    """

    objective: Objective = field(default_factory=Objective)
    window: int = WINDOW
    _rows: dict[str, list[Row]] = field(default_factory=dict, repr=False)  # by predictor

    def tell(self, told: Told) -> None:
        """Takes in an evaluation, if it is one of a prediction."""
        for name, row in _predicted(told, self.objective):
            rows = self._rows.setdefault(name, [])
            insort(rows, row)
            del rows[: -self.window]

    def correlations(self) -> dict[str, Correlation]:
        """By predictor, from 3 candidates on."""
        told_by_now = list(self._rows.items())  # a panel asks in a thread of its own
        return _correlations({name: [row[1:] for row in rows] for name, rows in told_by_now})


def audited(
    told: Iterable[Told], objective: Objective, window: int = WINDOW
) -> dict[str, Correlation]:
    """The correlations of an `Audit` that was told all of these."""
    audit = Audit(objective, window)
    for each in told:
        audit.tell(each)
    return audit.correlations()


def predictions(told: Iterable[Told], objective: Objective) -> dict[str, list[Row]]:
    """For each predictor, by name, what became of its predictions.

    What failed or was pruned has an infinite loss. Left out are candidates that a deadline cut, and
    those that went on with an earlier training: earlier versions predicted their accuracy by their
    learning curve.
    """
    rows: dict[str, list[Row]] = {}
    for each in told:
        for name, row in _predicted(each, objective):
            rows.setdefault(name, []).append(row)
    return rows


def _predicted(told: Told, objective: Objective) -> Iterator[tuple[str, Row]]:
    """The predictor's name and the row of a candidate that counts; nothing of any other."""
    predicted, resumes = told.candidate.proposal.predicted, told.candidate.proposal.resumes
    if predicted is None or resumes is not None or told.evaluation.state is State.CUT:
        return
    yield predicted.by, (told.number, predicted.mean, _outcome(told.evaluation, objective))


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


def _correlations(pairs: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Correlation]:
    """Of (prediction, loss), where there are 3 or more."""
    return {name: kendall(*np.array(rows).T) for name, rows in pairs.items() if len(rows) >= 3}
