"""What was once said of networks, so that it is not found out again."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, TypeVar, cast

from nanonas.analysis.record import decoded
from nanonas.core import Genome
from nanonas.spaces.base import Space

T = TypeVar("T")


def of_networks(about: Callable[..., T], space: Space, *genomes: Genome) -> T:
    """What a function says of the networks of genomes; remembered, for it takes milliseconds."""
    try:
        result: T = _remembered(about, cast(Hashable, space), genomes)
    except TypeError:  # a space of the user's own that cannot be hashed
        result = _remembered.__wrapped__(about, space, genomes)
    return result


@lru_cache(maxsize=40_000)
def _remembered(about: Callable[..., Any], space: Any, genomes: tuple[Genome, ...]) -> Any:
    return about(*(decoded(space, genome) for genome in genomes))
