"""Where to compute, and in which precision.

Everything that depends on the machine is asked for here.
"""

from __future__ import annotations

import ctypes
import os
import sys

import torch

from nanonas.errors import ConfigError, DeviceError
from nanonas.machine import cores

PRECISIONS = ("auto", "float32", "bfloat16")

# glibc returns every large tensor to the kernel when it is freed and takes page faults to get it
# back. Memory that stays in the process trains a separable network 1.4 times as fast, a plain one
# 1.06 times (one Zen 4 core, batch 128).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def resolve_device(name: str) -> str:
    """The device to use: "cpu", "cuda:0", "mps", … for "auto" the fastest kind that is there.

    Raises:
        DeviceError: there is no such device on this machine.
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
            found = f"PyTorch sees {count} of them" if count else "PyTorch sees no CUDA GPU here"
            raise DeviceError(
                f"device {name!r} was asked for, but {found}; use --device auto or --device cpu"
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
    """ "float32" or "bfloat16" (mixed, by autocast); for "auto" bfloat16 where the hardware
    multiplies it faster.

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
        capabilities: dict[str, bool] = getattr(
            torch.cpu, "get_capabilities", dict
        )()  # PyTorch 2.10 and later
        fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    else:
        fast = False
    return "bfloat16" if fast else "float32"


def slots(device: str, workers: int) -> list[str]:
    """The device of each of `workers` workers: GPUs are taken in turn when "cuda" names none in
    particular.
    """
    if device == "cuda":
        return [f"cuda:{i % torch.cuda.device_count()}" for i in range(workers)]
    return [device] * workers


def default_workers(device: str) -> int:
    """One a core on a CPU, one a GPU, one on anything else."""
    if torch.device(device).type == "cpu":
        return cores()
    return torch.cuda.device_count() if device == "cuda" else 1


def prepare(threads: int) -> None:
    """Sets this process up for training: its number of threads, and memory that stays with it."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high")  # TF32 on a GPU; without effect on a CPU
    if sys.platform == "linux":
        try:
            mallopt = ctypes.CDLL(None).mallopt
        except (OSError, AttributeError):
            return  # not glibc
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_TOP_PAD, 64 * 2**20)


def fix_order(deterministic: bool) -> None:
    """Whether CUDA's kernels are to add in a fixed order, which is slower and has equal numbers in
    every run.

    Where PyTorch has no such kernel it warns. Its matrix products ask for an environment variable
    before their first use,
    https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic and torch.cuda.is_available(), warn_only=True)


def synchronize(device: str) -> None:
    """Waits until the device has done what it was given."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()
