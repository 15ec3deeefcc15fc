"""Weights that were damaged since they were written: cut off by a disk that was full, or copied in
part.
"""

from __future__ import annotations

from collections.abc import Sequence

from loguru import logger

from nanonas.core import Evaluator, State, Told
from nanonas.errors import RunError
from nanonas.runs.checking import about_weights, weights_of
from nanonas.runs.folder import RunFolder


def damaged_weights(folder: RunFolder, told: Sequence[Told]) -> list[Told]:
    """The candidates whose file of weights is there, but not whole.

    Only files are opened, not read: a flipped bit is not seen. A file that is gone was removed by
    the search, which keeps the best, or by a user who needed the space.
    """
    there = {path.stem for path in folder.weights.glob("*.safetensors")}
    return [
        one
        for one in told
        if str(one.number) in there
        and one.evaluation.state is not State.CUT  # which is trained again in any case
        and isinstance(about_weights(weights_of(folder, one.number)), str)
    ]


def mend(damaged: Sequence[Told], evaluator: Evaluator) -> None:
    """Trains candidates again for their weights; what is stored of them stays as it is. One after
    the other, for one may begin with the weights of another before it.

    Raises:
        RunError: the weights of one cannot be written again.
    """
    for told in damaged:
        logger.warning("the weights of #{} are damaged; it is trained again", told.number)
        evaluator.submit(told.candidate)
        evaluation = evaluator.result()
        assert evaluation is not None  # without a time limit there always is one
        if evaluation.state in (State.CUT, State.FAILED):
            raise RunError(
                f"the weights of #{told.number} are damaged, and it cannot be trained again: "
                f"{evaluation.reason}; remove the file to go on without it"
            )
