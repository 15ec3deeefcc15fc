"""What a network costs, measured before it is trained: on this device, its latency also on
another one.
"""

from __future__ import annotations

from collections.abc import Collection

from nanonas.core import Pulse
from nanonas.networks.network import Network
from nanonas.training.graphs import onnx_to_measure
from nanonas.training.measuring.agent import Agent, Measured
from nanonas.training.measuring.latency import Latency, latency
from nanonas.training.measuring.memory import peak_memory
from nanonas.training.modules import build_module


def measure(
    network: Network,
    device: str,
    wanted: Collection[str],
    agent: Agent | None = None,
    go: Pulse = lambda: True,
) -> dict[str, float]:
    """Measures the inference of one image.

    Args:
        wanted: of "latency" and "memory"; other names are ignored.
        agent: what measures latency; None: this device.
        go: called while the agent is waited for.

    Returns:
        "latency", "latency_low" and "latency_high" in ms, and "memory" in MiB, as wanted.

    Raises:
        DeviceError: as `Agent.measure`.
    """
    metrics: dict[str, float] = {}
    if not {"latency", "memory"}.intersection(wanted):
        return metrics
    module = build_module(network, seed=0)
    if "memory" in wanted:
        metrics["memory"] = peak_memory(module, device)
    if "latency" in wanted:
        took: Latency | Measured
        if agent is None:
            took = latency(module, network.input_shape, device)
        else:
            took = agent.measure(onnx_to_measure(module), go=go)
        metrics |= {"latency": took.median, "latency_low": took.low, "latency_high": took.high}
    return metrics
