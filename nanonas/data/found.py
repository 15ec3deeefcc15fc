"""What commands say of the images that they have found; who calls from Python is told nothing."""

from __future__ import annotations

from functools import lru_cache

from loguru import logger

logger.disable(__name__)  # the command line turns it on


@lru_cache(maxsize=100)  # once, however often a command asks for its images
def say(sentence: str) -> None:
    """Logs a sentence."""
    logger.info("{}", sentence)
