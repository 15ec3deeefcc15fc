"""The exceptions, as a tree. Each message is one sentence: the value, what was expected, and the
way out.

NanonasError                 everything below; the command line prints it and exits with 2
├── InvalidInput (ValueError)  an argument or a file that cannot be used
│   ├── ConfigError              a key, a flag or a value of the configuration
│   ├── GenomeError              a genome, or a file that holds one
│   └── DataError                images, labels, or the place where they should be
├── DeviceError                a device that is not there, or that cannot do what was asked
│   └── DeviceLost               one that measures networks, and was there before
└── RunError                   a run's folder: another configuration or version, no space left, …
    ├── Exhausted                no network left to try within the space and its limits
    └── Unwritten                a file that could not be written: no space, no permission
"""

from __future__ import annotations


class NanonasError(Exception):
    """Anything that nanonas tells its user in one sentence."""


class InvalidInput(NanonasError, ValueError):
    """A value that cannot be used; nothing was changed."""


class ConfigError(InvalidInput):
    """A key, a flag or a value of the configuration is wrong."""


class GenomeError(InvalidInput):
    """A genome, or a file that should hold one, is no genome of its space."""


class DataError(InvalidInput):
    """Images or labels are missing, broken, or do not match."""


class DeviceError(NanonasError):
    """The device is not there, or cannot do what was asked of it."""


class DeviceLost(DeviceError):
    """The device that measures networks has gone, or is another one than before."""


class RunError(NanonasError):
    """A run's folder cannot be begun, continued or read."""


class Exhausted(RunError):
    """The space holds no further network within the limits."""


class Unwritten(RunError):
    """A file cannot be written, which is nobody's fault but the disk's."""


def reason_for(error: BaseException) -> str:
    """An exception as one line: its class and the first line of its message.

    Running out of memory is called that.
    """
    name, message = type(error).__name__, str(error).strip()
    reason = f"{name}: {message.splitlines()[0]}" if message else name
    # By name: torch's class cannot be imported here, and on a CPU torch raises a RuntimeError that
    # names its allocator.
    if name in ("MemoryError", "OutOfMemoryError") or "DefaultCPUAllocator" in message:
        return f"out of memory ({reason})"
    return reason
