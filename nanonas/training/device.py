"""Where to compute, in which precision, and with how many workers and threads."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nanonas.errors import ConfigError, DeviceError
from nanonas.machine import cores, memory

PRECISIONS = ("auto", "float32", "bfloat16")

# glibc returns every large tensor to the kernel when it is freed, and the next one costs page
# faults. Keeping the memory in the process trains a separable network 1.4 times as fast, a plain
# one 1.06 times (one Zen 4 core, batch 128). The numbers are those of mallopt in malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def resolve_device(name: str) -> str:
    """The device to use: "cpu", "cuda", "cuda:0", "mps"; for "auto" the fastest kind available.

    Raises:
        DeviceError: an unknown name, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            f"device {name!r} is not one of auto, cpu, cuda, cuda:N and mps"
        ) from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= (device.index or 0):
            seen = f"PyTorch sees {count} of them" if count else "PyTorch sees no CUDA GPU here"
            raise DeviceError(
                f"device {name!r} was asked for, but {seen}; use --device auto or --device cpu"
            )
    elif device.type == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError(
                "device 'mps' was asked for, but PyTorch sees none here; use --device auto or cpu"
            )
    elif device.type != "cpu":
        raise DeviceError(f"device {name!r} is not one of auto, cpu, cuda, cuda:N and mps")
    return name


def resolve_precision(name: str, device: str) -> str:
    """The precision to use: "float32" or "bfloat16" (mixed, by autocast); for "auto" bfloat16
    where the hardware multiplies it faster.

    Raises:
        ConfigError: `name` is none of `PRECISIONS`.
    """
    if name not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, but is {name!r}")
    if name != "auto":
        return name
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif kind == "cpu":
        # PyTorch 2.10 and later; before, float32 is safe
        capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    else:
        fast = False
    return "bfloat16" if fast else "float32"


def slots(device: str, workers: int) -> list[str]:
    """The device of each worker; "cuda", which names no GPU, stands for all GPUs in turn."""
    if device == "cuda":
        return [f"cuda:{i % torch.cuda.device_count()}" for i in range(workers)]
    return [device] * workers


def default_workers(device: str) -> int:
    """One per core on "cpu", one per GPU on "cuda", else one."""
    if torch.device(device).type == "cpu":
        return cores()
    return torch.cuda.device_count() if device == "cuda" else 1


def memory_of(device: str) -> int | None:
    """Bytes of memory of a device: a GPU's own, otherwise the machine's; None if unknown."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return memory()


def prepare(threads: int) -> None:
    """Sets this process up for training: its number of threads, and memory that is kept."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU; no effect on a CPU
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):
            return  # not glibc
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 * 2**20)


def cores_of(rank: int, processes: int) -> set[int] | None:
    """The cores for one of several processes that work in step; None: any.

    Each has its own, because the system likes to wake a process where the one is that it waited
    for, and then both share a core: two processes on two cores, one of which had other work, too,
    trained at 1,900 images/s wherever they liked, and at 2,900 each on its own core (`found_149k`
    of benchmarks/recipe.py). Where a control group limits the time of cores, and not which they
    are, any of them may be better.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    ours = sorted(os.sched_getaffinity(0))
    if cores() != len(ours) or len(ours) < processes:
        return None
    begin, end = (len(ours) * place // processes for place in (rank, rank + 1))
    return set(ours[begin:end])


@contextmanager
def staying_on(cores: set[int] | None) -> Iterator[None]:
    """Keeps this thread on some cores for a while; None: anywhere."""
    if cores is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def fix_order(deterministic: bool) -> None:
    """Whether CUDA's kernels must add in a fixed order: slower, but with equal results in every
    run.

    PyTorch warns where it has no such kernel. Its matrix products need an environment variable
    before their first use,
    https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic and torch.cuda.is_available(), warn_only=True)


def synchronize(device: str) -> None:
    """Waits until the device has finished all work that was queued."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
