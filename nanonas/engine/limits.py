"""What a network may cost."""

from __future__ import annotations

from dataclasses import dataclass

from nanonas.errors import ConfigError
from nanonas.networks.network import Network


@dataclass(frozen=True)
class Limits:
    """What a network may cost at most; None = no limit. Checked before anything is trained."""

    max_params: int | None = None
    max_macs: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("max_params", self.max_params), ("max_macs", self.max_macs)):
            if limit is not None and limit < 1:
                raise ConfigError(
                    f"{name} must be 1 or more, but is {limit}; leave it out for no limit"
                )

    def excess(self, network: Network) -> float:
        """By what factor the network breaks the limit that it breaks most; at most 1 when it meets
        all of them.
        """
        costs = ((network.params, self.max_params), (network.macs, self.max_macs))
        return max((cost / limit for cost, limit in costs if limit is not None), default=0.0)

    def __str__(self) -> str:
        limits = (("parameters", self.max_params), ("MACs", self.max_macs))
        return (
            " and ".join(f"at most {limit:,} {name}" for name, limit in limits if limit is not None)
            or "no limits"
        )
