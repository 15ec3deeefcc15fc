"""What a network costs on this device: milliseconds and memory, of answering and of learning.

Memory is in MiB, 2^20 bytes, and float32 unless something else is said.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.core import Shape
from nanonas.spaces.network import Network
from nanonas.training.build import Add, NetworkModule, Step, build_module
from nanonas.training.device import synchronize
from nanonas.training.train import autocast

MIB = 2**20
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
def latency(module: nn.Module, input_shape: Shape, device: str, batch_size: int = 1, seconds: float = 0.5) -> Latency:
    """How long a forward pass of `batch_size` images of `input_shape` (C, H, W) takes, warm, in float32.

    Repeats for about `seconds`, at least 10 times, in eval mode; moves the module to the device. On a CPU with one
    thread, so that figures of several networks can be compared; leaves it at that. The interval is that of these
    repetitions, here and now; a machine that is busier in an hour has another median then.
    """
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    module = module.to(device).eval()
    x = torch.zeros(batch_size, *input_shape, device=device).contiguous(memory_format=torch.channels_last)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < _WARM + _LEAST or time.perf_counter() < end:
        synchronize(device)
        start = time.perf_counter()
        module(x)
        synchronize(device)
        times.append(1000 * (time.perf_counter() - start))
    return Latency(*median_interval(times[_WARM:]), n=len(times) - _WARM)


def latency_ms(module: nn.Module, input_shape: Shape, device: str, batch_size: int = 1, seconds: float = 0.5) -> float:
    """The median of `latency` alone."""
    return latency(module, input_shape, device, batch_size, seconds).median


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The median of independent values, and an interval that holds that of their distribution, whatever it is.

    From the r-th smallest to the r-th largest value, where r is the largest rank that keeps the confidence: below the
    median lie binomially many, B(n, 1/2). David & Nagaraja 2003, Order Statistics, section 7.1; for running times see
    Hoefler & Belli 2015, https://doi.org/10.1145/2807591.2807644. Fewer than six values have no such interval at
    95 %: theirs is all that they span.

    Args:
        values: one or more.
        confidence: in (0, 1).
    """
    ordered, n = sorted(values), len(values)
    rank, below = 0, math.exp(-n * math.log(2))  # the probability that at most `rank` values lie below the median
    while below <= (1 - confidence) / 2:
        rank += 1
        below += math.exp(math.lgamma(n + 1) - math.lgamma(rank + 1) - math.lgamma(n - rank + 1) - n * math.log(2))
    rank = max(rank, 1)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return median, ordered[rank - 1], ordered[n - rank]


# --- memory -----------------------------------------------------------------------------------------------------------


def peak_memory(module: NetworkModule, device: str = "cpu") -> float:
    """The most memory, in MiB, that a module needs at any time to answer for one image.

    Weights, the norms' statistics, and the largest sum of feature maps that are alive at once, the image among them.
    On CUDA this is measured, with what kernels need for themselves, but without what libraries take once and for all.
    Elsewhere it is counted along the order in which the module runs: exact for tensors, without the kernels' own
    memory, and the same on every machine.
    """
    if torch.device(device).type == "cuda":
        return _measured_memory(module, device) / MIB
    return (_stored(module) + 4 * _largest_alive(module)) / MIB


def _largest_alive(module: NetworkModule) -> int:
    """Numbers in the feature maps that are alive at once, at most.

    A map is let go after its last use; the image never, for whoever handed it over still holds it.
    """
    home = {"input": "input"}  # in which step's memory an output lies
    for step in module.steps:
        home[step.output] = home[step.inputs[0]] if _needs_no_memory(module, step) else step.output
    last_use = {home[name]: place for place, step in enumerate(module.steps) for name in step.inputs}
    last_use["input"] = len(module.steps)
    alive, largest = {"input": math.prod(module.network.input_shape)}, 0
    for place, step in enumerate(module.steps):
        size = math.prod(step.shape)
        if home[step.output] == step.output:
            alive[step.output] = size
        adds = module.network.named[step.module].op == "add" and len(step.inputs) > 2
        partial = size if adds else 0  # the sum of all inputs but the last
        largest = max(largest, sum(alive.values()) + partial)
        alive = {name: size for name, size in alive.items() if last_use.get(name, place) > place}
    return largest


def _needs_no_memory(module: NetworkModule, step: Step) -> bool:
    """Whether a step's output is its input, as it is or overwritten."""
    own = module.get_submodule(step.module)
    alone = isinstance(own, (nn.Dropout, Add)) and len(step.inputs) == 1
    return alone or bool(getattr(own, "inplace", False))


@torch.inference_mode()
def _measured_memory(module: NetworkModule, device: str) -> float:
    """Bytes, by CUDA's own count."""
    copied = copy.deepcopy(module).to(device).eval()
    x = torch.zeros(1, *module.network.input_shape, device=device).contiguous(memory_format=torch.channels_last)
    copied(x)  # libraries take their own memory
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    copied(x)
    return torch.cuda.max_memory_allocated(device) - before + _stored(module) + 4 * x.numel()


def _stored(module: nn.Module) -> int:
    """Bytes of the weights and of the norms' statistics."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()) if t.is_floating_point())


def training_memory(module: NetworkModule, batch_size: int, precision: str = "float32") -> float:
    """The memory, in MiB, that one training step of a batch needs: what the plan multiplies by workers.

    Weights with gradients, momentum and statistics, and all that autograd keeps for the backward pass, each piece of
    memory once. One forward pass finds out, of a copy, where the module is; the kernels' own memory and the gradients
    of feature maps, which come and go while what was kept is let go, are not in it.

    Args:
        precision: "float32", or "bfloat16" for mixed precision.
    """
    copied = copy.deepcopy(module).train()
    device = next(copied.parameters()).device
    own = {t.untyped_storage().data_ptr() for t in (*copied.parameters(), *copied.buffers())}
    kept: dict[int, int] = {}  # bytes, by where they begin; all of them stay until the pass is over

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.zeros(batch_size, *module.network.input_shape, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.zeros(batch_size, dtype=torch.int64, device=device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with autocast(device, precision):
            logits = copied(x)
        loss = F.cross_entropy(logits.float(), y)
    del loss  # until here, what was kept was alive
    weights = sum(4 * parameter.numel() for parameter in copied.parameters())
    return (_stored(copied) + 2 * weights + sum(kept.values())) / MIB


def process_memory() -> float | None:
    """The most memory, in MiB, that this process has had so far, PyTorch included; None where the system is not Linux.

    Not `resource`'s figure: a new process begins with that of the one that started it.
    """
    try:
        said = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) / 1024 for line in said.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return None


def device_memory(device: str) -> float | None:
    """All memory of a device, in MiB: a GPU's own, else the machine's; None where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / MIB
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MIB
    except (AttributeError, ValueError, OSError):
        return None


# --- before a training ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Costs:
    """What is measured of a candidate before it is trained, and what it may come to at most; None = no limit.

    A limit asks for its measurement.
    """

    latency: bool = False
    memory: bool = False
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None  # MiB

    def measure(self, network: Network, device: str) -> dict[str, float]:
        """What is asked for, for one image: "latency" with "latency_low" and "latency_high" in ms, "memory" in MiB."""
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
