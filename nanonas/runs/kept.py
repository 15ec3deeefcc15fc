"""The weights that a run keeps: of how many networks, and how much room they take."""

from __future__ import annotations

from dataclasses import dataclass

from nanonas.analysis.record import Record
from nanonas.config.files import validated
from nanonas.config.parts import make_strategy, most_kept
from nanonas.engine.storage.events import RESUMED
from nanonas.errors import NanonasError


@dataclass(frozen=True)
class KeptWeights:
    """What lies on the disk at most, but for the weights of a front.

    Attributes:
        networks: how many have weights there.
        mebibytes: that these take, where each is as large as the largest.
        keep: what the configuration says of it.
    """

    networks: int
    mebibytes: float
    keep: str


def kept_weights(record: Record) -> KeptWeights | None:
    """The bound for a run as it was last resumed; None where its configuration does not say."""
    halves = [event.details.get("run") for event in record.events if event.kind == RESUMED]
    run = next((half for half in reversed(halves) if half), record.config.get("run"))
    try:
        config = validated({**record.config, "run": run or {}})
        strategy = make_strategy(config.search, record.space)
    except NanonasError:  # a part of it is not installed here, for instance
        return None
    counted = [
        int(entry.metrics["params"]) for entry in record.trained if "params" in entry.metrics
    ]
    if not (record.config and counted):
        return None
    largest = config.search.limits.max_params or max(counted)
    networks = most_kept(config, strategy, len(record.entries))
    return KeptWeights(networks, networks * 4 * largest / 2**20, config.run.keep)
