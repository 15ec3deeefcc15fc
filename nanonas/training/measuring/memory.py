"""Memory of inference and of training."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nanonas.training.modules import Add, NetworkModule, Step
from nanonas.training.train import autocast

MIB = 2**20


def peak_memory(module: NetworkModule, device: str = "cpu") -> float:
    """The most memory, in MiB, that a module needs at any time to answer for one image.

    Weights, the norms' statistics, and the largest sum of feature maps that are alive at once, the
    image among them. On CUDA this is measured, with what kernels need for themselves, but without
    what libraries take once and for all. Elsewhere it is counted along the order in which the
    module runs: exact for tensors, without the kernels' own memory, and the same on every machine.
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
    last_use = {
        home[name]: place for place, step in enumerate(module.steps) for name in step.inputs
    }
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
    x = torch.zeros(1, *module.network.input_shape, device=device).contiguous(
        memory_format=torch.channels_last
    )
    copied(x)  # libraries take their own memory
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    copied(x)
    return torch.cuda.max_memory_allocated(device) - before + _stored(module) + 4 * x.numel()


def _stored(module: nn.Module) -> int:
    """Bytes of the weights and of the norms' statistics."""
    return sum(
        t.numel() * t.element_size()
        for t in (*module.parameters(), *module.buffers())
        if t.is_floating_point()
    )


def training_memory(module: NetworkModule, batch_size: int, precision: str = "float32") -> float:
    """The memory, in MiB, that one training step of a batch needs: what the plan multiplies by
    workers.

    Weights with gradients, momentum and statistics, and all that autograd keeps for the backward
    pass, each piece of memory once. One forward pass finds out, of a copy, where the module is; the
    kernels' own memory and the gradients of feature maps, which come and go while what was kept is
    let go, are not in it.

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
    """The most memory, in MiB, that this process has had so far, PyTorch included; None where the
    system is not Linux.

    Not `resource`'s figure: a new process begins with that of the one that started it.
    """
    try:
        said = Path("/proc/self/status").read_text(encoding="ascii")
        return next(
            int(line.split()[1]) / 1024 for line in said.splitlines() if line.startswith("VmHWM")
        )
    except (OSError, StopIteration):
        return None


def device_memory(device: str) -> float | None:
    """All memory of a device, in MiB: a GPU's own, else the machine's; None where the system does
    not tell.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory / MIB
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / MIB
    except (AttributeError, ValueError, OSError):
        return None
