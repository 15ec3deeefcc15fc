"""What a network costs on this device."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn

from nanonas.core import Shape
from nanonas.training.device import synchronize


@torch.inference_mode()
def latency_ms(module: nn.Module, input_shape: Shape, device: str, batch_size: int = 1, seconds: float = 0.5) -> float:
    """Median milliseconds of a forward pass of `batch_size` images of `input_shape` (C, H, W), warm, in float32.

    Repeats for about `seconds`, at least 10 times, in eval mode; moves the module to the device. On a CPU with one
    thread, so that figures of several networks can be compared; leaves it at that.
    """
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    module = module.to(device).eval()
    x = torch.zeros(batch_size, *input_shape, device=device).contiguous(memory_format=torch.channels_last)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 15 or time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        module(x)
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[5:])  # the first ones warm caches and choose kernels
