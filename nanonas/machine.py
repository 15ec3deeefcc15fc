"""What this machine is. Without torch, so that asking is quick."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import socket
from collections.abc import Iterator
from pathlib import Path

# Of a control group: its limit, what it holds, and how names in its memory.stat begin that count
# the groups below it, too.
_MEMORY_FILES = (
    ("memory.max", "memory.current", ""),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


def cores(root: Path = Path("/")) -> int:
    """How many cores this process may use: those it is bound to, or fewer where its control groups
    have a quota of time, rounded up, as in a container.

    Args:
        root: where /proc and /sys are.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([bound or 1, *map(math.ceil, _quotas(root))]))


def memory(root: Path = Path("/")) -> int | None:
    """How many bytes of memory this process and others may use: the machine's, or fewer where its
    control groups have a limit, as in a container. None where the system does not tell.

    Args:
        root: where /proc and /sys are.
    """
    try:
        own = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        own = 0
    limits = [own] if own > 0 else []
    return min([*limits, *(limit for limit, _ in _memory_limits(root))], default=None)


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that a program may take without pushing others out, as the system says, or
    fewer where a control group would end it before, as in a container; where the system says
    nothing, more than any machine has.

    Args:
        root: where /proc and /sys are.
    """
    free = [2**50, *(max(0, limit - used) for limit, used in _memory_limits(root))]
    words = _words(root / "proc/meminfo")
    if "MemAvailable:" in words:
        free.append(1024 * int(words[words.index("MemAvailable:") + 1]))
    return min(free)


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """What each control group around this process may hold in memory, where it has a limit, and
    what it does hold, in bytes; without the files in it, which go where room is needed.
    """
    for group in _groups(root, "memory"):
        for limit, usage, prefix in _MEMORY_FILES:
            most, used = _number(_words(group / limit)), _number(_words(group / usage))
            if most is None:  # "max" is no limit
                continue
            words = iter(_words(group / "memory.stat"))
            held = dict(zip(words, words, strict=False))  # name, number, name, number, …
            names = (f"{prefix}active_file", f"{prefix}inactive_file")
            files = sum(_number([held.get(name, "")]) or 0 for name in names)
            yield most, max(0, (used or 0) - files)


def _number(words: list[str]) -> int | None:
    """The number that a file of the system holds; None where it holds something else."""
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None


def _quotas(root: Path) -> list[float]:
    """Cores' worth of time that each control group around this process grants, where it limits."""
    found = []
    for group in _groups(root, "cpu"):
        quota = _words(group / "cpu.max") or [
            *_words(group / "cpu.cfs_quota_us"),
            *_words(group / "cpu.cfs_period_us"),
        ]
        # "max" and -1 are no limit
        if len(quota) == 2 and all(word.isdecimal() and int(word) for word in quota):
            found.append(int(quota[0]) / int(quota[1]))
    return found


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of the control groups around this process that a controller may limit."""
    mount = root / "sys/fs/cgroup"
    found: list[Path] = []
    for line in _words(root / "proc/self/cgroup", "\n"):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":  # version 2
            bases = [mount, mount / "unified"]
        elif controller in controllers.split(","):
            bases = [mount / controller, mount / controllers]
        else:
            continue
        # In a container the path may be the host's, or begin above the mount: then the mount itself
        # is the container's group, which is looked at as the last ancestor.
        inside = [name for name in path.split("/") if name not in ("", "..")]
        for base in bases:
            depths = range(len(inside), -1, -1)
            found += [base.joinpath(*inside[:depth]) for depth in depths]
    return found


def _words(path: Path, between: str | None = None) -> list[str]:
    """What a file of the system holds; nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").split(between)
    except OSError:
        return []


def processor(root: Path = Path("/")) -> str:
    """The processor's own name, as far as the system tells; of a board, whose processor has none,
    the board's, as in "Raspberry Pi 5 Model B Rev 1.0".

    Args:
        root: where /proc is.
    """
    for line in _words(root / "proc/cpuinfo", "\n"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    board = "".join(_words(root / "proc/device-tree/model", "\0"))
    return board.strip() or platform.processor() or platform.machine()


def host_names() -> tuple[str, ...]:
    """What others may call this machine, in lower case: its host name, the first part of it, that
    part with ".local" (multicast DNS), and its name as the resolver knows it.

    The resolver can take seconds.
    """
    own = socket.gethostname().lower()
    short = own.split(".")[0]
    found = (own, short, f"{short}.local", socket.getfqdn().lower()) if short else ()
    return tuple(dict.fromkeys(found))


def outside_address() -> str | None:
    """The address by which others reach this machine: the one that it sends from by its default
    route. None where it has no such route.

    Nothing is sent, and no name is looked up. The destinations are of the ranges kept for
    documentation, RFC 5737 and RFC 3849.
    """
    for family, elsewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as unused:
            unused.connect((elsewhere, 9))
            return str(unused.getsockname()[0])
    return None


def described() -> dict[str, str]:
    """The machine and the versions that figures depend on, to repeat them."""
    return {
        "hardware": f"{cores()} core{'s' if cores() > 1 else ''} of {processor()}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("torch", "numpy")},
    }


def version_of(name: str) -> str:
    """The version of an installed package; "unknown" where it is not installed as one."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # built by hand, or run from a checkout
        return "unknown"
