"""One writer: a lock that the system releases with its process."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanonas.errors import RunError

_LONGEST = 300  # bytes of what the lock's file says of its holder


def lock_for_writing(path: Path) -> int:
    """A file descriptor that holds the writer's lock. The system releases it with the process,
    however that ends.

    The lock is a separate file: locks on the database itself would be lost whenever any other
    descriptor of it is closed. On a network disk it holds for all machines, as far as the disk has
    locks at all: one that is mounted so that each machine has its own cannot be told from others.

    Raises:
        RunError: another process holds it, the folder cannot be written, or its disk has no locks.
    """
    try:
        descriptor = os.open(lock_file(path), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(
            f"{path.parent} cannot be written: {error.strerror}; get write permission, or choose "
            "another folder"
        ) from error
    try:
        _take_patiently(descriptor)
    except BlockingIOError as error:
        writer = os.read(descriptor, _LONGEST).decode(errors="replace")
        os.close(descriptor)
        raise RunError(
            f"{path} is being written by another process ({_printable(writer)}): wait until it "
            "ends, or stop it"
        ) from error
    except OSError as error:
        os.close(descriptor)
        raise RunError(
            f"{path.parent} lies on a disk without locks ({error.strerror}), so that two processes "
            "could write one run: choose a folder on another disk, or mount this one with locks"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"pid {os.getpid()} on {socket.gethostname()}".encode()[:_LONGEST])
    return descriptor


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Holds the writer's lock of `path`, whose folder is made where it is missing.

    Raises:
        RunError: another process holds it, or the folder cannot be made or written.
    """
    make_folder_of(path)
    descriptor = lock_for_writing(path)
    try:
        yield
    finally:
        os.close(descriptor)  # which releases it


def make_folder_of(path: Path) -> None:
    """Makes the folder that `path` lies in, where it is missing. Raises `RunError` where it
    cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{path.parent} cannot be made: {error.strerror}; choose another folder"
        ) from error


def lock_file(path: Path) -> Path:
    """The file that is locked for what is written at `path`."""
    return path.with_name(f".{path.name}.lock")


def held(path: Path) -> bool:
    """Whether a process holds the writer's lock of `path` now."""
    try:
        descriptor = os.open(lock_file(path), os.O_RDONLY)
    except OSError:
        return False  # there never was a writer, or we may not know
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a disk without locks has no writer
        return False
    finally:
        os.close(descriptor)
    return False


def _take_patiently(descriptor: int) -> None:
    """Takes the lock, even while another process is probing it."""
    try:
        _take(descriptor)
    except BlockingIOError:
        time.sleep(0.05)
        _take(descriptor)


def _printable(writer: str) -> str:
    return "".join(one for one in writer if one.isprintable()) or "it did not say which"


def _take(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
