"""The latency of inference on this device, in milliseconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from nanonas.core import Shape
from nanonas.maths.intervals import median_interval
from nanonas.training.device import synchronize

_WARM_UP = 5  # passes before the measurement, which fill caches and choose kernels
_LEAST = 10  # passes that are measured at least


@dataclass(frozen=True)
class Latency:
    """How long a forward pass takes: the median, and its 95 % interval."""

    median: float  # ms
    low: float  # ms
    high: float  # ms
    n: int  # passes measured

    def __str__(self) -> str:
        return f"{self.median:.3g} ms ({self.low:.3g} to {self.high:.3g})"


@torch.inference_mode()
def latency(
    module: nn.Module, input_shape: Shape, device: str, batch_size: int = 1, seconds: float = 0.5
) -> Latency:
    """Measures a forward pass after a warm-up, in float32 and eval mode.

    On a CPU it uses one thread, and leaves it at that, so that networks can be compared. The
    interval covers these repetitions only: on a busier machine the median is another one.

    Args:
        module: moved to the device.
        input_shape: (C, H, W).
        device: to measure on.
        batch_size: images per pass.
        seconds: to repeat for; there are 10 repetitions at least.
    """
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    module = module.to(device).eval()
    x = torch.zeros(batch_size, *input_shape, device=device).contiguous(
        memory_format=torch.channels_last
    )
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _WARM_UP + _LEAST or time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        module(x)
        synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    measured = times[_WARM_UP:]
    return Latency(*median_interval(measured), n=len(measured))


def latency_ms(
    module: nn.Module, input_shape: Shape, device: str, batch_size: int = 1, seconds: float = 0.5
) -> float:
    """The median that `latency` measures, in milliseconds."""
    return latency(module, input_shape, device, batch_size, seconds).median
