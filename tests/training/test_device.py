"""Devices that are there and devices that are not. No test here needs a GPU: torch is told what to
say.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from nanonas.errors import ConfigError, DeviceError
from nanonas.machine import cores, free_memory, memory
from nanonas.training import device
from nanonas.training.device import (
    default_workers,
    fix_order,
    prepare,
    resolve_device,
    resolve_precision,
    slots,
)
from nanonas.training.measuring.latency import latency_ms


def test_a_fixed_order_is_asked_of_pytorch_only_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch, "use_deterministic_algorithms", lambda mode, warn_only: asked.append(mode)
    )
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    fix_order(False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    fix_order(True)
    assert asked == [False, True]
    assert torch.backends.cudnn.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    fix_order(False)
    assert not torch.backends.cudnn.deterministic


def with_gpus(monkeypatch: pytest.MonkeyPatch, count: int, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("gpus", "mps", "found"),
    [(0, False, "cpu"), (0, True, "mps"), (1, False, "cuda"), (2, True, "cuda")],
)
def test_auto_is_the_fastest_kind_that_is_there(
    monkeypatch: pytest.MonkeyPatch, gpus: int, mps: bool, found: str
) -> None:
    with_gpus(monkeypatch, gpus, mps)
    assert resolve_device("auto") == found


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1", "mps"])
def test_a_device_that_is_there_keeps_its_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with_gpus(monkeypatch, 2, mps=True)
    assert resolve_device(name) == name


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        (
            "cuda",
            0,
            (
                "device 'cuda' was asked for, but PyTorch sees no CUDA GPU here; use --device "
                "auto or "
                "--device cpu"
            ),
        ),
        (
            "cuda:2",
            2,
            (
                "device 'cuda:2' was asked for, but PyTorch sees 2 of them; use --device auto or "
                "--device cpu"
            ),
        ),
        (
            "mps",
            1,
            "device 'mps' was asked for, but PyTorch sees none here; use --device auto or cpu",
        ),
        ("gpu", 1, "device 'gpu' is not one of auto, cpu, cuda, cuda:N and mps"),
        ("meta", 1, "device 'meta' is not one of auto, cpu, cuda, cuda:N and mps"),
        ("", 1, "device '' is not one of auto, cpu, cuda, cuda:N and mps"),
    ],
)
def test_a_device_that_is_not_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, message: str
) -> None:
    with_gpus(monkeypatch, gpus)
    with pytest.raises(DeviceError) as error:
        resolve_device(name)
    assert str(error.value) == message


@pytest.mark.parametrize("fast", [False, True])
def test_auto_precision_is_what_the_hardware_is_fast_with(
    monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: fast)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": fast}, raising=False)
    expected = "bfloat16" if fast else "float32"
    assert resolve_precision("auto", "cuda:1") == resolve_precision("auto", "cpu") == expected
    assert resolve_precision("auto", "mps") == "float32"


def test_auto_precision_works_with_a_pytorch_that_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", "cpu") == "float32"


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_a_precision_that_was_asked_for_is_kept(name: str) -> None:
    assert resolve_precision(name, "cpu") == name


def test_a_precision_that_is_none_is_one_sentence() -> None:
    with pytest.raises(ConfigError) as error:
        resolve_precision("float16", "cpu")
    assert str(error.value) == "precision must be one of auto, float32, bfloat16, but is 'float16'"


def test_workers_share_the_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 2)
    assert slots("cuda", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert slots("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert slots("cpu", 2) == ["cpu", "cpu"]


def test_there_is_a_worker_a_core_or_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, 3)
    monkeypatch.setattr(device, "cores", lambda: 5)
    assert [default_workers(name) for name in ("cpu", "cuda", "cuda:1", "mps")] == [5, 3, 1, 1]


def test_cores_are_those_that_this_process_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 7}, raising=False)
    assert cores(tmp_path) == 3


QUOTAS: dict[str, tuple[dict[str, str], int]] = {
    "a container's own group": ({"cgroup": "0::/", "cpu.max": "200000 100000"}, 2),
    "rounded up": ({"cgroup": "0::/", "cpu.max": "150000 100000"}, 2),
    "less than one": ({"cgroup": "0::/", "cpu.max": "5000 100000"}, 1),
    "more than there are": ({"cgroup": "0::/", "cpu.max": "9900000 100000"}, 64),
    "no limit": ({"cgroup": "0::/a", "a/cpu.max": "max 100000"}, 64),
    "an ancestor's": (
        {"cgroup": "0::/a/b", "a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"},
        3,
    ),
    "a sibling's": ({"cgroup": "0::/a", "a/cpu.max": "max 100000", "b/cpu.max": "1 1"}, 64),
    "the least of several": (
        {"cgroup": "0::/a/b", "a/b/cpu.max": "800000 100000", "a/cpu.max": "400000 100000"},
        4,
    ),
    "the host's path, not mounted here": (
        {"cgroup": "0::/host/docker/1234", "cpu.max": "200000 100000"},
        2,
    ),
    "version 1": (
        {
            "cgroup": "5:memory:/a\n3:cpu,cpuacct:/a\n0::/",
            "cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n",
            "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "version 1, another name": (
        {
            "cgroup": "3:cpuacct,cpu:/host/1234",
            "cpu/cpu.cfs_quota_us": "500000",
            "cpu/cpu.cfs_period_us": "100000",
        },
        5,
    ),
    "version 1, no limit": (
        {"cgroup": "1:cpu:/", "cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
        64,
    ),
    "nonsense": ({"cgroup": "hello\n\n0::/", "cpu.max": "many 0"}, 64),
}


def written(root: Path, files: Mapping[str, str]) -> None:
    """The files of control groups, below a root of their own."""
    for name, content in files.items():
        path = root / ("proc/self" if name == "cgroup" else "sys/fs/cgroup") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize("case", QUOTAS)
def test_cores_heed_the_quotas_of_control_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: str
) -> None:
    files, expected = QUOTAS[case]
    written(tmp_path, files)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    assert cores(tmp_path) == expected


LIMITS: dict[str, tuple[dict[str, str], int | None]] = {
    "a container's own group": ({"cgroup": "0::/", "memory.max": "1048576\n"}, 2**20),
    "no limit": ({"cgroup": "0::/a", "a/memory.max": "max"}, None),
    "an ancestor's": (
        {"cgroup": "0::/a/b", "a/b/memory.max": "max", "a/memory.max": "2097152"},
        2**21,
    ),
    "version 1": (
        {"cgroup": "5:memory:/a\n3:cpu:/a", "memory/a/memory.limit_in_bytes": "3145728"},
        3 * 2**20,
    ),
    "version 1, without limit": (
        {"cgroup": "5:memory:/", "memory/memory.limit_in_bytes": "9223372036854771712"},
        None,
    ),
    "another controller's": ({"cgroup": "3:cpu:/", "cpu/memory.limit_in_bytes": "1"}, None),
    "nonsense": ({"cgroup": "hello\n0::/", "memory.max": "many"}, None),
}


@pytest.mark.parametrize("case", LIMITS)
def test_memory_heeds_the_limits_of_control_groups(tmp_path: Path, case: str) -> None:
    files, expected = LIMITS[case]
    written(tmp_path, files)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory(tmp_path) == (whole if expected is None else expected)


MB = 2**20
FREE: dict[str, tuple[dict[str, str], int]] = {
    "what a container has not used": (
        {"cgroup": "0::/", "memory.max": f"{64 * MB}\n", "memory.current": f"{24 * MB}\n"},
        40 * MB,
    ),
    "files in memory make room": (
        {
            "cgroup": "0::/",
            "memory.max": str(64 * MB),
            "memory.current": str(60 * MB),
            "memory.stat": f"anon 7\nactive_file {10 * MB}\ninactive_file {20 * MB}\nshmem 3\n",
        },
        34 * MB,
    ),
    "an ancestor's": (
        {
            "cgroup": "0::/a/b",
            "a/b/memory.max": "max",
            "a/b/memory.current": "7",
            "a/memory.max": str(8 * MB),
            "a/memory.current": str(5 * MB),
        },
        3 * MB,
    ),
    "more than it may have": (
        {"cgroup": "0::/", "memory.max": str(MB), "memory.current": str(2 * MB)},
        0,
    ),
    "version 1, with the groups below": (
        {
            "cgroup": "5:memory:/a",
            "memory/a/memory.limit_in_bytes": str(32 * MB),
            "memory/a/memory.usage_in_bytes": str(30 * MB),
            "memory/a/memory.stat": f"active_file 1\ntotal_active_file {MB}\n"
            f"total_inactive_file {2 * MB}\n",
        },
        5 * MB,
    ),
    "no limit": ({"cgroup": "0::/", "memory.max": "max", "memory.current": "9"}, 100 * MB),
    "a limit above what is free": (
        {"cgroup": "0::/", "memory.max": str(900 * MB), "memory.current": "0"},
        100 * MB,
    ),
    "a usage that is not told": ({"cgroup": "0::/", "memory.max": str(64 * MB)}, 64 * MB),
}


@pytest.mark.parametrize("case", FREE)
def test_free_memory_heeds_the_limits_of_control_groups(tmp_path: Path, case: str) -> None:
    files, expected = FREE[case]
    written(tmp_path, files)
    (tmp_path / "proc/meminfo").write_text(f"MemFree: 1 kB\nMemAvailable: {100 * 1024} kB\n")
    assert free_memory(tmp_path) == expected


def test_free_memory_that_nobody_tells_is_more_than_there_is(tmp_path: Path) -> None:
    assert free_memory(tmp_path) == 2**50


def test_preparing_sets_the_threads() -> None:
    before = torch.get_num_threads()
    prepare(1)
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_latency_is_that_of_a_warm_forward_pass_in_eval_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[torch.Size, bool]] = []

    class Noting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((x.shape, self.training))
            return x

    assert latency_ms(Noting(), (3, 8, 6), "cpu", batch_size=4, seconds=0.0) > 0
    assert seen == [(torch.Size((4, 3, 8, 6)), False)] * 15

    clock = iter(range(10_000))  # every look at it takes a second
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert latency_ms(Noting(), (3, 8, 6), "cpu", seconds=0.0) == 1000.0
