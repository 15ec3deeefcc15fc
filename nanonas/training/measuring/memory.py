"""The memory of inference and of training, in MiB (2^20 bytes), of float32 tensors by default."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.machine import memory_bytes
from nanonas.training.modules import Add, NetworkModule, Step
from nanonas.training.train import autocast

MIB = 2**20


def peak_memory(module: NetworkModule, device: str = "cpu") -> float:
    """The peak memory of inference for one image, in MiB.

    It holds the weights, the statistics of batch norms, and the largest sum of feature maps that
    are alive at once, the image among them. On CUDA it is measured, including the workspace of
    kernels but not what libraries allocate once. Elsewhere it is counted in the order in which the
    module runs: exact for tensors, without the workspace of kernels, and the same on every machine.
    """
    if torch.device(device).type == "cuda":
        return _measured_memory(module, device) / MIB
    return (_stored(module) + 4 * _largest_alive(module)) / MIB


def _largest_alive(module: NetworkModule) -> int:
    """The largest sum of the elements of feature maps that are alive at once.

    A feature map is freed after its last use; the image never, because the caller still holds it.
    """
    home = {"input": "input"}  # the step whose memory an output lies in
    for step in module.steps:
        in_place = _needs_no_memory(module, step)
        home[step.output] = home[step.inputs[0]] if in_place else step.output
    last_use: dict[str, int] = {}  # number of the step that reads it last, by home
    for number, step in enumerate(module.steps):
        last_use |= {home[name]: number for name in step.inputs}
    last_use["input"] = len(module.steps)
    alive = {"input": math.prod(module.network.input_shape)}  # elements, by home
    largest = 0
    for number, step in enumerate(module.steps):
        size = math.prod(step.shape)
        if home[step.output] == step.output:
            alive[step.output] = size
        adds_many = module.network.named[step.module].op == "add" and len(step.inputs) > 2
        partial_sum = size if adds_many else 0  # of all inputs but the last
        largest = max(largest, sum(alive.values()) + partial_sum)
        alive = {name: size for name, size in alive.items() if last_use.get(name, number) > number}
    return largest


def _needs_no_memory(module: NetworkModule, step: Step) -> bool:
    """Whether the output of a step is its input, unchanged or overwritten."""
    operation = module.get_submodule(step.module)
    identity = isinstance(operation, (nn.Dropout, Add)) and len(step.inputs) == 1
    return identity or bool(getattr(operation, "inplace", False))


@torch.inference_mode()
def _measured_memory(module: NetworkModule, device: str) -> float:
    """The peak of inference in bytes, as CUDA's allocator counts it."""
    copied = copy.deepcopy(module).to(device).eval()
    x = torch.zeros(1, *module.network.input_shape, device=device).contiguous(
        memory_format=torch.channels_last
    )
    copied(x)  # lets libraries allocate their own memory first
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    copied(x)
    return torch.cuda.max_memory_allocated(device) - before + _stored(module) + 4 * x.numel()


def _stored(module: nn.Module) -> int:
    """Bytes of the weights and of the statistics of batch norms."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors if t.is_floating_point())


def training_memory(module: NetworkModule, batch_size: int, precision: str = "float32") -> float:
    """The memory of one training step, in MiB.

    It holds the weights with their gradients and momentum, the statistics of batch norms, and all
    that autograd saves for the backward pass, each storage once. One forward pass of a copy, on the
    module's device, measures it. Not included are the workspace of kernels and the gradients of
    feature maps, which are allocated while saved tensors are freed.

    Args:
        module: left as it is.
        batch_size: images per step.
        precision: "float32", or "bfloat16" for mixed precision.
    """
    copied = copy.deepcopy(module).train()
    device = next(copied.parameters()).device
    stored = {t.untyped_storage().data_ptr() for t in (*copied.parameters(), *copied.buffers())}
    saved: dict[int, int] = {}  # bytes, by address; none is freed before the pass is over

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in stored:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    x = torch.zeros(batch_size, *module.network.input_shape, device=device)
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.zeros(batch_size, dtype=torch.int64, device=device)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        with autocast(device, precision):
            logits = copied(x)
        loss = F.cross_entropy(logits.float(), y)
    del loss  # until here it held the saved tensors
    weights = sum(4 * parameter.numel() for parameter in copied.parameters())
    return (_stored(copied) + 2 * weights + sum(saved.values())) / MIB


def process_memory() -> float | None:
    """The peak memory of this process so far, in MiB, PyTorch included; None where the system is
    not Linux.

    Not that of `resource`, which a new process inherits from the one that started it.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024  # from KiB
    return None


def device_memory(device: str) -> float | None:
    """The memory of a device in MiB: a GPU's own, otherwise what the machine, or its
    container, grants; None if unknown."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / MIB
    whole = memory_bytes()
    return None if whole is None else whole / MIB
