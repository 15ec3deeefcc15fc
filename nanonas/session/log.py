"""The log of a run: log.txt in its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loguru import logger

from nanonas.core import Told
from nanonas.engine.study import End, Progress
from nanonas.runs.folder import RunFolder
from nanonas.session.listener import Begun, Listener
from nanonas.text import costs, duration

if TYPE_CHECKING:
    from nanonas.training.final import FinalResult


class Log(Listener):
    """Writes what happens in a session into the log."""

    def begun(self, search: Begun) -> None:
        """Where, and what is searched."""
        logger.info("{} with {}", search.folder.path, search.setup.config)

    def evaluated(self, progress: Progress, front: Sequence[Told]) -> None:
        """A line for each evaluation, and the traceback of one that failed."""
        number, evaluation = progress.told.number, progress.told.evaluation
        accuracy = "" if evaluation.accuracy is None else f" {evaluation.accuracy:.4f}"
        logger.debug(
            "#{} {}{}, {}, {}{}",
            number,
            evaluation.state.value,
            accuracy,
            costs(evaluation.metrics),
            duration(evaluation.seconds),
            f": {evaluation.reason}" if evaluation.reason else "",
        )
        if evaluation.traceback:
            logger.debug("#{} {}", number, evaluation.traceback)

    def answered(self, sentence: str) -> None:
        """What became of a request."""
        logger.info("request: {}", sentence)

    def ended(self, end: End | None) -> None:
        """How the search ended; an exception is logged by `logged`."""
        if end is not None:
            logger.info("search ended: {}", end.message)

    def trained(self, result: FinalResult | None) -> None:
        """What came of the final training."""
        if result is not None:
            logger.info("final training: {}", result)


@contextlib.contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """Sends the log of this process to the run's own file while the run goes on."""
    with contextlib.suppress(ValueError):
        # loguru's own handler, where the program has left it, would write into the live progress
        logger.remove(0)
    handler = logger.add(
        folder.log,
        filter="nanonas",
        format="{time:YYYY-MM-DD HH:mm:ss} {level: <7} {message}",
        level="DEBUG",
        errors="replace",  # of a path that is not UTF-8
    )
    try:
        yield
    except BaseException as error:
        logger.info("stopped: {}", repr(error))
        raise
    finally:
        logger.remove(handler)
