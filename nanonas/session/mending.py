"""Weights that others begin with, and that are damaged or gone: cut off by a disk that was full,
copied in part, deleted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from loguru import logger

from nanonas.core import Candidate, Evaluation, Evaluator, State, Told
from nanonas.errors import RunError
from nanonas.files import weights_in
from nanonas.runs.checking import about_weights
from nanonas.runs.folder import RunFolder


def damaged_weights(folder: RunFolder, told: Sequence[Told]) -> list[Told]:
    """The candidates whose file of weights is there, but not whole.

    Only files are opened, not read: a flipped bit is not seen. A file that is gone was removed by
    the search, which does not need it, or by a user who needed the space: it is made again when a
    candidate begins with it.
    """
    there = {path.stem for path in folder.weights.glob("*.safetensors")}
    return [
        one
        for one in told
        if str(one.number) in there
        and one.evaluation.state is not State.CUT  # which is trained again in any case
        and isinstance(about_weights(weights_in(folder.weights, one.number)), str)
    ]


def mend(
    wanted: Sequence[Told], told: Sequence[Told], folder: RunFolder, evaluator: Evaluator
) -> list[Evaluation]:
    """Trains candidates again for their weights; what is stored of them stays as it is. One after
    the other, for one may begin with the weights of another before it.

    Where the weights that one of them began with are gone, that one is trained again, too, and its
    weights go again.

    Args:
        told: all candidates that have an evaluation.
        evaluator: may be at work on others, but has a slot that is free.

    Returns:
        the evaluations of those others that have arrived meanwhile.

    Raises:
        RunError: the weights of one cannot be written again.
    """
    again = _with_those_before(wanted, told, folder)
    others: list[Evaluation] = []
    for one in again:
        lack = "damaged" if weights_in(folder.weights, one.number).exists() else "gone"
        logger.warning("the weights of #{} are {}; it is trained again", one.number, lack)
        evaluator.submit(replace(one.candidate, again=True))
        while (evaluation := _next(evaluator)).number != one.number:
            others.append(evaluation)
        if evaluation.state in (State.CUT, State.FAILED):
            raise RunError(
                f"the weights of #{one.number} are {lack}, and it cannot be trained again: "
                f"{evaluation.reason}; mend that, or bring the file back from a copy, and resume"
            )
    for number in {one.number for one in again}.difference(one.number for one in wanted):
        weights_in(folder.weights, number).unlink(missing_ok=True)
    return others


def _next(evaluator: Evaluator) -> Evaluation:
    evaluation = evaluator.result()
    assert evaluation is not None  # without a time limit there always is one
    return evaluation


def _with_those_before(
    wanted: Sequence[Told], told: Sequence[Told], folder: RunFolder
) -> list[Told]:
    """Candidates and, of those that they begin with, whose weights are gone; by number, so that
    each comes after those that it begins with.
    """
    by_number = {one.number: one for one in told}
    again: dict[int, Told] = {}
    waiting = list(wanted)
    while waiting:
        one = waiting.pop()
        again[one.number] = one
        waiting += [by_number[n] for n in lacking(folder, one.candidate) if n not in again]
    return [again[number] for number in sorted(again)]


def lacking(folder: RunFolder, candidate: Candidate) -> list[int]:
    """The candidates whose weights one begins with, and are gone."""
    begins_with = candidate.proposal.begins_with
    return [n for n in begins_with if not weights_in(folder.weights, n).exists()]


@dataclass
class Prepared:
    """Another evaluator, before whose candidates something is done.

    Args:
        prepare: called with a candidate; may use the evaluator, and returns the evaluations of
            others that have arrived meanwhile.
    """

    evaluator: Evaluator
    prepare: Callable[[Candidate], Iterable[Evaluation]]
    _arrived: deque[Evaluation] = field(default_factory=deque, init=False, repr=False)

    @property
    def slots(self) -> int:
        return self.evaluator.slots

    def submit(self, candidate: Candidate, deadline: float | None = None) -> None:
        self._arrived.extend(self.prepare(candidate))
        self.evaluator.submit(candidate, deadline)

    def result(self, timeout: float | None = None) -> Evaluation | None:
        return self._arrived.popleft() if self._arrived else self.evaluator.result(timeout)

    def close(self) -> None:
        self.evaluator.close()
