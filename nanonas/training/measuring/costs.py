"""What is measured of a candidate before it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nanonas.networks.network import Network
from nanonas.training.measuring.latency import latency
from nanonas.training.measuring.memory import peak_memory
from nanonas.training.modules import build_module


@dataclass(frozen=True)
class Costs:
    """What is measured of a candidate before it is trained, and what it may come to at most; None =
    no limit.

    A limit asks for its measurement.
    """

    latency: bool = False
    memory: bool = False
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None  # MiB

    def measure(self, network: Network, device: str) -> dict[str, float]:
        """What is asked for, for one image: "latency" with "latency_low" and "latency_high" in ms,
        "memory" in MiB.
        """
        found: dict[str, float] = {}
        if not (self._timed or self._weighed):
            return found
        module = build_module(network, seed=0)
        if self._weighed:
            found["memory"] = peak_memory(module, device)
        if self._timed:
            took = latency(module, network.input_shape, device)
            found |= {"latency": took.median, "latency_low": took.low, "latency_high": took.high}
        return found

    def excess(self, measured: Mapping[str, float]) -> str | None:
        """One sentence about the limit that the measurement breaks; None when it meets all of them."""
        if self.max_latency_ms is not None and measured["latency"] > self.max_latency_ms:
            found, limit = measured["latency"], self.max_latency_ms
            return f"the latency of {found:.4g} ms is above the limit of {limit:g} ms (--max-latency-ms)"
        if self.max_memory_mb is not None and measured["memory"] > self.max_memory_mb:
            found, limit = measured["memory"], self.max_memory_mb
            return f"the memory of {found:.4g} MiB is above the limit of {limit:g} MiB (--max-memory-mb)"
        return None

    @property
    def _timed(self) -> bool:
        return self.latency or self.max_latency_ms is not None

    @property
    def _weighed(self) -> bool:
        return self.memory or self.max_memory_mb is not None
