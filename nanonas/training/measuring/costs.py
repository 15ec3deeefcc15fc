"""What a network costs on a device, measured before it is trained."""

from __future__ import annotations

from collections.abc import Collection

from nanonas.networks.network import Network
from nanonas.training.measuring.latency import latency
from nanonas.training.measuring.memory import peak_memory
from nanonas.training.modules import build_module


def measure(network: Network, device: str, wanted: Collection[str]) -> dict[str, float]:
    """Measures the inference of one image.

    Args:
        wanted: of "latency" and "memory"; other names are ignored.

    Returns:
        "latency", "latency_low" and "latency_high" in ms, and "memory" in MiB, as wanted.
    """
    metrics: dict[str, float] = {}
    if not {"latency", "memory"}.intersection(wanted):
        return metrics
    module = build_module(network, seed=0)
    if "memory" in wanted:
        metrics["memory"] = peak_memory(module, device)
    if "latency" in wanted:
        took = latency(module, network.input_shape, device)
        metrics |= {"latency": took.median, "latency_low": took.low, "latency_high": took.high}
    return metrics
