"""What a network costs on this device: milliseconds and memory, of answering and of learning.

Memory is in MiB, 2^20 bytes, and float32 unless something else is said.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from nanonas.core import Shape
from nanonas.maths.intervals import median_interval
from nanonas.training.device import synchronize

_WARM = 5  # the first passes warm caches and choose kernels
_LEAST = 10  # passes that are measured


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a forward pass: the median, and its 95 % interval."""

    median: float
    low: float
    high: float
    n: int  # passes measured

    def __str__(self) -> str:
        return f"{self.median:.3g} ms ({self.low:.3g} to {self.high:.3g})"


@torch.inference_mode()
def latency(
    module: nn.Module, input_shape: Shape, device: str, batch_size: int = 1, seconds: float = 0.5
) -> Latency:
    """How long a forward pass of `batch_size` images of `input_shape` (C, H, W) takes, warm, in
    float32.

    Repeats for about `seconds`, at least 10 times, in eval mode; moves the module to the device. On
    a CPU with one thread, so that figures of several networks can be compared; leaves it at that.
    The interval is that of these repetitions, here and now; a machine that is busier in an hour has
    another median then.
    """
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    module = module.to(device).eval()
    x = torch.zeros(batch_size, *input_shape, device=device).contiguous(
        memory_format=torch.channels_last
    )
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _WARM + _LEAST or time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        module(x)
        synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return Latency(*median_interval(times[_WARM:]), n=len(times) - _WARM)


def latency_ms(
    module: nn.Module, input_shape: Shape, device: str, batch_size: int = 1, seconds: float = 0.5
) -> float:
    """The median of `latency` alone."""
    return latency(module, input_shape, device, batch_size, seconds).median


# --- memory ---------------------------------------------------------------------------------------


# --- before a training ----------------------------------------------------------------------------
