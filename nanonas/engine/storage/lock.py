"""One writer: a lock that the system releases with its process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanonas.errors import RunError


def lock_for_writing(path: Path) -> int:
    """A file descriptor that holds the writer's lock. The system releases it with the process,
    however that ends.

    The lock is a separate file: locks on the database itself would be lost whenever any other
    descriptor of it is closed.
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
    except OSError as error:
        writer = os.read(descriptor, 20).decode(errors="replace")
        os.close(descriptor)
        raise RunError(
            f"{path} is being written by another process ({writer}): wait until it ends, or stop it"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"pid {os.getpid()}".encode())
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
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _take_patiently(descriptor: int) -> None:
    """Takes the lock, even while another process is probing it."""
    try:
        _take(descriptor)
    except OSError:
        time.sleep(0.05)
        _take(descriptor)


def _take(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
