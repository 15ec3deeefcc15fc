"""What a network may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from nanonas.errors import ConfigError
from nanonas.networks.network import Network

# What is measured: the metric, its limit's field in `Limits`, its unit, its flag.
_MEASURED = (
    ("latency", "max_latency_ms", "ms", "--max-latency-ms"),
    ("memory", "max_memory_mb", "MiB", "--max-memory-mb"),
)


@dataclass(frozen=True)
class Limits:
    """What a network may cost at most; None = no limit.

    Parameters and MACs are counted, so a study checks them before it asks for a training. Latency
    and memory are measured on the device that trains, so a trial checks them.

    Raises:
        ConfigError: a limit of 0 or less.
    """

    max_params: int | None = None
    max_macs: int | None = None  # multiply-accumulates for one image
    max_latency_ms: float | None = None  # for one image
    max_memory_mb: float | None = None  # MiB of inference, for one image

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            least = 1 if field.name in ("max_params", "max_macs") else 0
            if limit is not None and (limit < least or limit <= 0):
                expected = "1 or more" if least else "above 0"
                raise ConfigError(
                    f"{field.name} must be {expected}, but is {limit}; leave it out for no limit"
                )

    @property
    def on_counts(self) -> bool:
        """Whether parameters or MACs are limited."""
        return self.max_params is not None or self.max_macs is not None

    @property
    def on_measurements(self) -> frozenset[str]:
        """The metrics that have to be measured to be checked: of "latency" and "memory"."""
        return frozenset(
            metric for metric, name, _, _ in _MEASURED if getattr(self, name) is not None
        )

    def excess(self, network: Network) -> float:
        """The factor by which the network breaks the limit on counts that it breaks most; at most 1
        when it meets both.
        """
        costs = ((network.params, self.max_params), (network.macs, self.max_macs))
        return max((cost / limit for cost, limit in costs if limit is not None), default=0.0)

    def exceeded(self, metrics: Mapping[str, float]) -> str | None:
        """A sentence about the limit that a measurement breaks; None when it meets them.

        Args:
            metrics: those of `on_measurements`, "latency" in ms and "memory" in MiB.
        """
        for metric, name, unit, flag in _MEASURED:
            limit = getattr(self, name)
            if limit is not None and metrics[metric] > limit:
                return (
                    f"the {metric} of {metrics[metric]:.4g} {unit} is above the limit of "
                    f"{limit:g} {unit} ({flag})"
                )
        return None

    def __str__(self) -> str:
        """The limits on counts, for a sentence."""
        limits = (("parameters", self.max_params), ("MACs", self.max_macs))
        set_limits = [f"at most {limit:,} {name}" for name, limit in limits if limit is not None]
        return " and ".join(set_limits) or "no limits"
